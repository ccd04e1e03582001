"""Models that ops hold: where their files are, how they are loaded, and on which device they run."""
