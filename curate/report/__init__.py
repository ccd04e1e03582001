"""The report of a run: the funnel as an HTML page with examples of every rule, and the data card."""
