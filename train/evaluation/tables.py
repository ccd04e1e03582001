"""Results of an evaluation in words and as a table, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unicodedata import category

from rich.table import Table

VIEW_WORDS: Mapping[str, str] = {"seen": "seeing", "blind": "blind", "shuffled": "another's"}


def visible(text: str) -> str:
    """A model's or a stranger's text that steers neither a page nor a terminal: what it might, shows as U+FFFD."""
    return "".join(c if c in "\n\t" or category(c)[0] != "C" else "\ufffd" for c in text)


def figure_table(results: Mapping[str, Any]) -> Table:
    """A row a metric: the figure with its interval, its twins, and what seeing gains on the better of them.

    It fits a line of 80 characters; the intervals of twins stand in the JSON and on the page.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    views = list(results["figures"][0]["views"])
    for name in ("task", "metric", "asked", *(VIEW_WORDS[view] for view in views), *(["gain"] if views[1:] else [])):
        table.add_column(name, justify="left" if name in ("task", "metric") else "right", overflow="fold")
    for one in results["figures"]:
        seen, *twins = (one["views"][view] for view in views)
        cells = [figure_words(seen), *(f"{twin['value']:.3g}" for twin in twins)]
        gain = [figure_words(better_twin(one))] if twins else []
        table.add_row(one["task"], one["metric"], f"{one['questions']:,}", *cells, *gain)
    return table


def better_twin(figure: Mapping[str, Any]) -> Mapping[str, float]:
    """The gain of seeing on the better of its twins."""
    found: Mapping[str, float] = min(figure["gains"].values(), key=lambda gain: gain["value"])
    return found


def figure_words(figure: Mapping[str, Any]) -> str:
    """A figure with its interval: `0.512 [0.48, 0.544]`; without one where nothing could be drawn."""
    if figure["low"] is None:
        return f"{figure['value']:.3g}"
    return f"{figure['value']:.3g} [{figure['low']:.3g}, {figure['high']:.3g}]"


def count_words(counts: Mapping[str, Any]) -> str:
    """The counts in words; they add up."""
    return (
        f"{counts['questions']:,} questions. Of {counts['samples']:,} samples {counts['answered']:,} were answered,"
        f" {counts['unreadable']:,} are unreadable, {counts['ask_nothing']:,} ask nothing."
    )


def notes(results: Mapping[str, Any]) -> str:
    """All that the figures hang on, in words."""
    twins = "; gain: on the better twin, blind or shown another sample's pictures" if results["views"][1:] else ""
    blind = f" Blind, the model was given {results['blind_with']}." if "blind" in results["views"] else ""
    bleu = f" BLEU: {results['bleu']}." if results.get("bleu") else ""
    return (
        f"With 95 % intervals, by {results['intervals']['resamples']:,} draws of samples{twins}; seed"
        f" {results['seed']}."
        f"{blind}{bleu} Model {results['model_digest'][:16]}, dataset {results['dataset_digest'][:16]}."
    )
