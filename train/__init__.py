"""The trainer: a mixture manifest in, trained weights out. Knows curate's storage and mixtures, nothing else of it."""
