"""Leaks of evaluation sets in the report: every hit beside what leaked, and one entry in the card."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from PIL import Image

from curate.engine.run import Summary, run
from curate.recipe.model import Recipe
from curate.recipe.resolve import resolve
from curate.report.write import write

LEAKS = 10


def shade(number: int) -> Image.Image:
    return Image.radial_gradient("L").resize((96, 64)).rotate(9 * number).convert("RGB")


def decontaminated(root: Path, steps: list[dict[str, Any]]) -> Summary:
    """Ten pictures of the pool lie in the evaluation set: half in a folder, half in a tar."""
    (root / "pool").mkdir()
    (root / "evaluation").mkdir()
    with tarfile.open(root / "evaluation" / "more.tar", "w") as tar:
        for number in range(LEAKS + 1):
            image = shade(number)
            image.save(root / "pool" / f"{number}.png")
            (root / "pool" / f"{number}.txt").write_text(f"picture {number}")
            name = root / ("evaluation" if number % 2 else ".") / f"item {number}.png"
            if number < LEAKS:
                image.save(name)
                if number % 2 == 0:
                    tar.add(name, f"deep/{name.name}")
    source = {"type": "folder", "path": str(root / "pool")}
    said = {"name": "pool", "out": str(root / "out"), "source": source, "shard_samples": 16, "steps": steps}
    return run(resolve(Recipe.model_validate(said)), workers=0)


def test_every_leak_stands_beside_the_evaluation_picture_and_the_card_counts_them(tmp_path: Path) -> None:
    leaked = {"op": "leaked_images", "with": {"evaluation": [str(tmp_path / "evaluation")]}}
    summary = decontaminated(tmp_path, [leaked | {"keep": {"leaked_from": {"is": None}}}])
    dropped = summary.funnel[-1].dropped["leaked_from.is"]
    assert dropped >= LEAKS
    page, card = (path.read_text() for path in write(summary))
    hits = page.partition("leaked_from.is</h4>")[2].partition("</ul>")[0].split("<li>")[1:]
    assert len(hits) == dropped, "all of them, not a few examples"
    assert all(hit.count("<img") == 2 for hit in hits)
    assert f"| images | `evaluation` | {LEAKS + 1} | {dropped} |" in card


def test_the_card_says_that_nothing_was_compared_with_an_evaluation_set(tmp_path: Path) -> None:
    summary = decontaminated(tmp_path, [{"op": "image_size"}])
    assert "Neither texts nor images were compared with an evaluation set" in write(summary)[1].read_text()
