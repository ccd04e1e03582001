"""Draw pages from texts: fonts, lines, both directions of writing, every word's box known."""
