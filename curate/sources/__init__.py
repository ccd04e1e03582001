"""Sources: rows of any input into the pool, one file a type."""
