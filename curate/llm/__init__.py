"""Chat models behind any OpenAI-compatible endpoint: paid for once, within a budget.

`Gateway` answers requests from its store, or sends them. What failed is told by name: a request's own fault is a
`Failure`, what the whole endpoint lacks is raised and ends the run.
"""
