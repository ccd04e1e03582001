"""Models that ops hold: their files, how they are loaded, and the device they run on."""
