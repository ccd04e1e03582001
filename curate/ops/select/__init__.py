"""Choose among all rows by what the others are: clusters, target sets, draws, balance."""
