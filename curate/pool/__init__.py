"""The pool: rows, columns and bytes that a run took in or computed, as committed files."""
