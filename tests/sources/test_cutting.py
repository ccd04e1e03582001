"""A source is cut into shards by rows and by bytes, so that a worker never holds more than a few megabytes of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Workplace
from pdfs import line, pdf

LARGEST = 8 << 20


def texts(place: Workplace, rows: list[dict[str, Any]]) -> Path:
    path = place.root / "texts.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def bytes_of_shards(place: Workplace) -> list[int]:
    """What the texts of each planned shard, with all else that the source says of its rows, take as UTF-8."""
    found = []
    for path in place.out.glob("pool-*/planned/*.parquet"):
        rows = pq.read_table(path).to_pylist()
        found.append(sum(len(v.encode()) for row in rows for v in row.values() if isinstance(v, str)))
    return sorted(found)


@pytest.mark.parametrize("letter", ["a", "ж", "語"])
def test_long_texts_are_cut_by_their_bytes_in_whatever_script(place: Workplace, letter: str) -> None:
    each = 1_000_000 // len(letter.encode())
    path = texts(place, [{"text": f"{n} {letter * each}"} for n in range(20)])
    source = {"type": "text", "path": str(path)}
    planned = place.curate("run", place.recipe(kind="text", source=source, shard_samples=10_000), "--dry-run", "--json")
    assert planned.json["rows"] == 20
    sizes = bytes_of_shards(place)
    assert len(sizes) == 3 and sum(sizes) > 20_000_000 and max(sizes) <= LARGEST


def test_text_that_is_larger_than_a_shard_stands_alone(place: Workplace) -> None:
    path = texts(place, [{"text": "a"}, {"text": "b" * (LARGEST + 1)}, {"text": "c"}])
    recipe = place.recipe(kind="text", source={"type": "text", "path": str(path)})
    assert place.curate("run", recipe, "--dry-run", "--json").json["shards"] == 3


def test_what_is_kept_of_a_row_and_its_url_count_as_its_text_does(place: Workplace) -> None:
    for n, long in enumerate(("note", "url")):
        rows = [{"url": f"http://a.org/{n}", "text": str(n), "note": ""} | {long: f"http://a.org/{'x' * 3_000_000}"}
                for n in range(6)]  # fmt: skip
        source = {"type": "urls", "path": str(texts(place, rows)), "keep": ["note"]}
        place.out = place.root / str(n)
        assert place.curate("run", place.recipe(source=source), "--dry-run").code == 0
        assert len(sizes := bytes_of_shards(place)) == 3 and max(sizes) <= LARGEST


def test_files_of_pages_are_cut_by_shard_samples(place: Workplace) -> None:
    for number in range(7):
        (place.src / f"{number}.pdf").write_bytes(pdf(line(f"page {number}", 50, 700)))
    source, steps = {"type": "pdf", "path": str(place.src)}, [{"op": "pdf_page"}, {"op": "render_page"}]
    recipe = place.recipe(kind="ocr", source=source, steps=steps, shard_samples=3)
    planned = place.curate("run", recipe, "--dry-run", "--json")
    assert planned.code == 0 and planned.json["shards"] == 3, planned.stderr


def test_pool_that_was_cut_into_larger_shards_is_gone_on_from(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As earlier versions cut it: its plan is read, and nothing is taken in or computed again."""
    path = texts(place, [{"text": f"{n} {'word ' * 200_000}"} for n in range(12)])
    recipe = place.recipe(kind="text", source={"type": "text", "path": str(path)}, steps=[{"op": "text_basic"}])
    with monkeypatch.context() as earlier:
        earlier.setattr("curate.sources.ingest.SHARD_BYTES", 64 << 20)
        assert place.run(recipe).code == 0
    published = place.published()
    assert len(bytes_of_shards(place)) == 2, "ten rows a shard"
    again = place.run(recipe)
    assert {line["computed"] for line in again.steps.values()} == {0} and place.published() == published
