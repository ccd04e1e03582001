"""The trainer: a mixture manifest in, trained weights out; knows curate's storage and mixtures alone."""
