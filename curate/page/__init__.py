"""Words of a printed page: their boxes, columns, and reading order."""
