"""Pages drawn from texts: published as printed pages whose words and boxes are exactly known."""

from __future__ import annotations

import json

from conftest import Workplace, errors

from curate.image.files import header
from curate.shards import ShardReader, load_dataset


def test_texts_become_printed_pages_with_the_boxes_of_their_words(place: Workplace) -> None:
    words = "The lamp was lit at dusk and stood in the window until the boats were home."
    (place.root / "texts.jsonl").write_text("".join(json.dumps({"text": f"{n}: {words}"}) + "\n" for n in range(3)))
    source = {"type": "text", "path": str(place.root / "texts.jsonl")}
    found = place.run(place.recipe(kind="ocr", source=source, steps=[{"op": "render_text"}]))
    assert found.code == 0, found.stderr
    (shard,) = load_dataset(place.dataset).shards
    with ShardReader(place.dataset / shard.tar, place.dataset / shard.index) as reader:
        for row in range(len(reader)):
            parts = reader.read(row)
            said, text = json.loads(parts["json"]), parts["txt"].decode()
            assert [w["text"] for w in said["words"]] == text.split() and words.split()[3] in text
            page = header(next(data for name, data in parts.items() if name not in ("txt", "json")))
            assert (page.width, page.height) == (said["width"], said["height"])
            assert all(0 <= w["box"][0] < w["box"][2] <= said["width"] for w in said["words"])


def test_texts_without_a_drawing_are_no_printed_pages(place: Workplace) -> None:
    (place.root / "texts.jsonl").write_text('{"text": "words"}\n')
    recipe = place.recipe(kind="ocr", source={"type": "text", "path": str(place.root / "texts.jsonl")}, steps=[])
    errors(place.run(recipe), ["kind", "'image'", "render_text"])
