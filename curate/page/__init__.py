"""The words of a printed page: where each stands, in which columns, and in which order they are read."""
