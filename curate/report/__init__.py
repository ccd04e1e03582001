"""The report of a run: the funnel as an HTML page with examples of every rule, and the data card."""

from __future__ import annotations

from pathlib import Path

from curate.run import Summary


def write(summary: Summary) -> list[Path]:
    """Write the report of a run below its `out` folder; returns the files."""
    return []
