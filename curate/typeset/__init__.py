"""Pages drawn from texts: fonts, lines, both directions of writing, so that every word's box is known."""
