"""Write the report of a run: the HTML page, the data card, and a README beside the tars."""

from __future__ import annotations

from pathlib import Path

from curate.commit import commit_text, dump_json, read_json
from curate.engine.run import Summary
from curate.engine.runner import decisions_folder
from curate.pool.funnel import check_funnel
from curate.report import card, page
from curate.report.examples import PAGE_SIDE_PX, SIDE_PX, survey
from curate.report.readme import README, plain
from curate.sample import fingerprint

VERSION = 8
"""Raised when the page or the card changes, so that a finished run gets the new ones."""


def write(summary: Summary) -> list[Path]:
    """Write `report.html` and `data_card.md` below the run's `out` folder, unless they are there; returns both.

    A README.md beside the tars says what lies in them, for `datasets`. The same run gives the same bytes.
    `reported.json` holds the key of the run they tell of, and is written last.
    """
    out = Path(summary.recipe.out)
    paths = [out / "report.html", out / "data_card.md"]
    done, key = out / "reported.json", _key(summary)
    beside = summary.folder / README
    if all(p.exists() for p in (done, beside, *paths)) and read_json(done)["key"] == key:
        return paths
    check_funnel(summary.funnel)
    side_px = PAGE_SIDE_PX if summary.recipe.kind == "ocr" else SIDE_PX
    seen = survey(summary.pool, decisions_folder(summary.recipe, summary.key), summary.steps, summary.funnel, side_px)
    done.unlink(missing_ok=True)
    commit_text(paths[0], page.render(summary, seen))
    commit_text(paths[1], card.render(summary, seen))
    commit_text(beside, plain(summary.folder, summary.dataset, summary.recipe.license))
    commit_text(done, dump_json({"key": key}))
    return paths


def _key(summary: Summary) -> str:
    """What the two files hang on: the run's decisions, its counts, what was published, and this code's version."""
    said = summary.to_json()
    for count in said["funnel"]:
        del count["computed"], count["reused"]
    choices = summary.recipe.model_dump(mode="json", by_alias=True, exclude={"out": True, "source": {"path"}})
    return fingerprint([VERSION, said, choices, summary.dataset.model_dump(mode="json")])
