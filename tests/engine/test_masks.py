"""Personal data is masked where samples are published: the pool stays, images and rules on parts stay in step."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

from conftest import Workplace, errors
from documents import picture

PAGE = """<html><head><title>Mail of jane@example.org</title></head><body><article><h1>One</h1>
<p>This is a long paragraph that says: write to jane@example.org or to joe@example.org, whoever of them is there.</p>
<p><img src="w20.png" alt="by jane@example.org"></p>
<p>Another paragraph of this page says nothing of anybody, and stands here for its length, word by word by word.</p>
<figure><img src="w50.png" alt="wide"><figcaption>Call +49 30 901820 for this picture</figcaption></figure>
<p><img src="w40.png" alt="third"></p>
</article></body></html>"""
MASKS = [{"op": "mask_pii_document"}, {"op": "mask_pii_title"}]


def samples(place: Workplace) -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    """The JSON of each published sample, and its images by their part."""
    found = []
    for tar in sorted(place.dataset.glob("*.tar")):
        with tarfile.open(tar) as file:
            parts = {member.name.partition(".")[2]: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]
        found.append((json.loads(parts.pop("json")), parts))
    return found


def tars(place: Workplace) -> dict[str, str]:
    pools = place.out.glob("pool-*/**/*.tar")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pools}


def test_masked_document_is_published_with_its_own_images(place: Workplace) -> None:
    (place.src / "a.html").write_text(PAGE)
    for wide in (20, 40, 50):
        (place.src / f"w{wide}.png").write_bytes(picture(wide, 30, seed=wide))
    source = {"type": "html", "path": str(place.src)}
    narrow = {"op": "image_file", "over": "images", "keep_images": {"max_side": {"max": 45}}}
    before = [{"op": "html_document"}, {"op": "fetch_images"}, narrow]
    count = {"op": "text_basic", "over": "paragraphs", "keep_paragraphs": {"word_count": {"min": 3}}}

    def recipe(*steps: dict[str, Any]) -> Path:
        publish = {"columns": [name for name in ("masked", "masked_email", "title_masked") if "mask" in str(steps)]}
        return place.recipe(kind="interleaved", source=source, steps=list(steps), publish=publish)

    assert place.run(recipe(*before, count)).code == 0
    ((plain, pictures),) = samples(place)
    pool = tars(place)
    assert place.run(recipe(*before, *MASKS, count)).code == 0
    ((masked, same_pictures),) = samples(place)
    assert same_pictures == pictures and len(pictures) == 2
    assert tars(place) == pool, "the pool is never written anew"
    said = json.dumps(masked["segments"])
    assert "example.org" not in said and "901820" not in said and said.count("<EMAIL>") == 3
    assert masked["title"] == "Mail of <EMAIL>"
    assert (masked["masked"], masked["masked_email"], masked["title_masked"]) == (3, 3, 1)
    unmasked = [s.get("part") or s.get("block") for s in plain["segments"]]
    assert [s.get("part") or s.get("block") for s in masked["segments"]] == unmasked


def test_masked_page_is_published_with_masked_words(place: Workplace) -> None:
    (place.root / "texts.jsonl").write_text(json.dumps({"text": "Write to jane@example.org\nor call +49 30 901820."}))
    source = {"type": "text", "path": str(place.root / "texts.jsonl")}
    steps = [{"op": "render_text"}, {"op": "mask_pii_page"}]
    assert place.run(place.recipe(kind="ocr", source=source, steps=steps)).code == 0
    ((page, parts),) = samples(place)
    assert parts["txt"] == b"Write to <EMAIL>\nor call <PHONE>."
    assert [word["text"] for word in page["words"]] == ["Write", "to", "<EMAIL>", "or", "call", "<PHONE>."]


def test_mask_that_would_leave_what_is_published_is_refused_with_the_one_that_does_not(place: Workplace) -> None:
    (place.root / "texts.jsonl").write_text('{"text": "x"}\n')
    source = {"type": "text", "path": str(place.root / "texts.jsonl")}
    steps = [{"op": "render_text"}, {"op": "mask_pii"}]
    errors(place.run(place.recipe(kind="ocr", source=source, steps=steps)), ["steps.1.op", "'mask_pii_page'"])
    source = {"type": "html", "path": str(place.src)}
    steps = [{"op": "html_document"}, {"op": "mask_pii"}]
    errors(place.run(place.recipe(kind="interleaved", source=source, steps=steps)), ["'mask_pii_document' instead"])
