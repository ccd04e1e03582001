"""The recipe of VeCap, from pictures with tags to samples with all their texts, of which a mixture draws."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from chat_server import Reply, completion, serving
from conftest import ROOT
from train_samples import square

from curate.engine import run
from curate.mix.content import own_text, texts_under
from curate.recipe.resolve import load
from curate.stream.stream import DatasetReader

ROWS = 12


def write_pairs(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    lines = []
    for number in range(ROWS):
        name = f"{number}.png"
        (folder / "images" / name).write_bytes(square(number)[0])
        tags = ["square", "shape"] if number else []
        row = {"image": name, "title": f"Lisbon tile {number + 20}", "keywords": tags}
        lines.append(json.dumps(row | dict.fromkeys(("description", "author", "license", "refused"), "")))
    (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")


def answer(number: int, body: dict[str, Any]) -> Reply:
    """A good fusion of most rows; one refuses whenever it is asked."""
    words = body["messages"][-1]["content"]
    tile = words.partition("Lisbon tile ")[2][:2]
    said = "I'm sorry, I can't." if tile == "25" else f"A square tile from Lisbon with the shape of a {tile}."
    return Reply(body=completion(said))


def samples(folder: Path) -> list[dict[str, bytes]]:
    reader = DatasetReader("found", folder)
    try:
        return [reader.read(row)[1] for row in range(reader.rows)]
    finally:
        reader.close()


def test_all_three_texts_of_a_sample_are_published_and_the_funnel_counts_the_faults(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    with serving(answer) as server:
        places = {
            "out": tmp_path / "out",
            "source.path": tmp_path / "images",
            "source.captions": tmp_path / "captions.jsonl",
            "steps.image_size.keep.min_side.min": 16,
            "llm.writer": f"{{url: {server.url}, model: small, key: null}}",
        }
        resolved = load(ROOT / "recipes" / "vecap.yaml", [f"{name}={value}" for name, value in places.items()])
        summary = run.run(resolved, workers=0)
        assert server.requests == ROWS - 2 + 3  # no tags, no caption: nothing to fuse; three tries of the one
    fused = next(count for count in summary.funnel if count.step == "fuse")
    assert fused.tallies == {"vecap_fault": Counter({"none": ROWS - 2, "refusal": 1, "nothing_to_fuse": 1})}
    published = samples(summary.folder)
    assert len(published) == ROWS
    by_alt = {own_text(parts): texts_under(parts, "texts") for parts in published}
    assert by_alt["Lisbon tile 22"] == [
        "Lisbon tile 22",
        "a drawing of square, shape",
        "A square tile from Lisbon with the shape of a 22.",
    ]
    assert by_alt["Lisbon tile 25"] == ["Lisbon tile 25", "a drawing of square, shape"]
    assert by_alt["Lisbon tile 20"] == ["Lisbon tile 20"]
