"""How good filters are on labelled pools of real pictures and texts: no row of the table falls below its floor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.models.packages import PackageUnavailableError
from pipelines.faults import plant, pools
from pipelines.faults.rows import COPIES_ROWS, ROWS, FilterRow
from pipelines.faults.table import CLEAN, Item, removed_by, score, score_copies

SIZE = 40


def made(name: str, home: Path) -> tuple[pools.Pool, dict[str, Any]]:
    try:
        return pools.pool(name, SIZE, home)
    except PackageUnavailableError as err:
        pytest.skip(str(err))


WITH_PICTURES = ("pictures", "pairs")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name.startswith(WITH_PICTURES) else name
    for name in dict.fromkeys(row.pool for row in ROWS)
]


@pytest.mark.parametrize("name", NAMES)
def test_no_filter_of_rows_falls_below_its_floor(name: str, tmp_path: Path) -> None:
    items, knobs = made(name, tmp_path)
    for row in (row for row in ROWS if row.pool == name and row.is_here):
        found = score(row.op, row.keep, row.fault, items, {**row.knobs, **knobs})
        figures = (found.recall, found.precision or 0.0, 1.0 if found.auc is None else found.auc)
        assert all(figure >= least for figure, least in zip(figures, row.floor, strict=True)), (row.fault, found)


@pytest.mark.slow
@pytest.mark.parametrize("row", COPIES_ROWS, ids=lambda row: row.pool)
def test_no_finder_of_copies_falls_below_its_floor(row: Any) -> None:
    try:
        items = pools.COPIES_POOLS[row.pool](SIZE)
    except PackageUnavailableError as err:
        pytest.skip(str(err))
    told = score_copies(row.op, items, removed_by(row.op, items, row.knobs))
    assert told["all"].recall >= row.floor[0] and (told["all"].precision or 0) >= row.floor[1], told["all"]
    assert min(scored.recall for scored in told.values()) >= row.least, told


def test_a_filter_that_drops_at_random_is_told_from_one_that_knows() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh "), 60)) for _ in range(400)]
    items = [Item(f"{n}", CLEAN if n % 2 else "long", text=text * (1 if n % 2 else 2)) for n, text in enumerate(texts)]
    knows = score("text_basic", {"characters": {"max": 90}}, "long", items, {})
    guesses = score("text_basic", {"letter_share": {"min": 0.999}}, "long", items, {})
    assert (knows.recall, knows.precision, knows.auc) == (1.0, 1.0, 1.0)
    assert guesses.recall == 0.0 and guesses.precision is None and guesses.auc == pytest.approx(0.5, abs=0.01)


def test_what_is_removed_for_a_stranger_counts_against_precision() -> None:
    items = [Item("a", of="a"), Item("a", "copy", of="a"), Item("b", of="b"), Item("b", "copy", of="b")]
    told = score_copies("who", items, {items[1].uid: items[0].uid, items[3].uid: items[0].uid})["all"]
    assert (told.recall, told.precision) == (0.5, 0.5)


def test_every_kind_of_copy_is_planted_and_is_another_file() -> None:
    grey = Image.effect_mandelbrot((160, 120), (-2, -1.5, 1, 1.5), 60)
    image = Image.merge("RGB", (grey, grey.rotate(180), grey.transpose(Image.Transpose.FLIP_TOP_BOTTOM)))
    copies = {kind: plant.copy_of(image, kind, np.random.default_rng(3)) for kind in plant.COPIES}
    assert len(set(copies.values())) == len(plant.COPIES) == 9
    assert copies == {kind: plant.copy_of(image, kind, np.random.default_rng(3)) for kind in plant.COPIES}


def test_edits_touch_the_share_of_words_that_is_said() -> None:
    words = [f"w{n}" for n in range(200)]
    for share in pools.EDITS:
        changed = plant.edited(" ".join(words), share, ["other"], np.random.default_rng(1)).split()
        assert len([word for word in words if changed.count(word) != 1]) == round(200 * share)


def test_each_row_has_a_rule_that_a_recipe_can_say() -> None:
    from curate.recipe.model import Step

    for row in ROWS:
        Step.model_validate({"op": row.op, "with": dict(row.knobs), "keep": {c: dict(r) for c, r in row.keep.items()}})
    assert isinstance(ROWS[0], FilterRow)
