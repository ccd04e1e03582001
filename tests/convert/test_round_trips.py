"""Any sample, whatever is in it, comes back from another format as it was, or in the ways that docs/formats.md says."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from documents import picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published import parts_of, published

from curate.document.interchange import (
    IMAGE_TOKEN,
    RecordError,
    from_llava,
    from_mmc4,
    from_obelics,
    segments_of,
    to_llava,
    to_mmc4,
    to_obelics,
)
from curate.sample import Kind, uid_of
from pipelines.convert.bring_in import Origin, import_dataset
from pipelines.convert.export import Format, export

BODIES = [picture(8 + n, 8, seed=n, kind="PNG" if n % 2 else "JPEG") for n in range(4)]
ODD = ["", " ", "\n", "a\n\nb", "\r\n", "\t", "\x00", "\x0b\x1c\x85\u2028", "é\u0301", "<image>",
       "👩\u200d👧 🏳\ufe0f\u200d🌈", "مرحبا \u200fabc\u202e", "“one.” Two! Three", "null", '{"a": 1}',
       "\ufeff", "漢字。かな"]  # fmt: skip
texts = st.one_of(st.sampled_from(ODD), st.text(max_size=40), st.text("a.b \n", max_size=20))
roundly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@st.composite
def documents(draw: st.DrawFn, blocks: tuple[str, ...] = ("paragraph", "heading", "code")) -> dict[str, Any]:
    """A published document: its JSON, and the images that it names by number, the same image often."""
    segments: list[dict[str, Any]] = []
    parts: dict[str, bytes] = {}
    for what in draw(st.lists(st.sampled_from(["text", "image", "dead"]), max_size=draw(st.sampled_from([3, 8, 25])))):
        if what == "text":
            segments.append({"type": "text", "text": draw(texts), "block": draw(st.sampled_from(blocks))})
            continue
        alt = {"alt": alt} if (alt := draw(st.none() | texts)) else {}
        place: dict[str, Any] = {"error": "not_found"}
        if what == "image" and len(parts) < 20:
            number = draw(st.integers(0, 3))
            place = {"part": f"{len(parts)}.{'png' if number % 2 else 'jpg'}", "width": 8 + number, "height": 8}
            parts[place["part"]] = BODIES[number]
        segments.append({"type": "image", "url": f"http://a.org/{len(segments)}"} | alt | place)
    said = {"origin": draw(texts), "meta": {"n": draw(texts)}, "segments": segments}
    uid = uid_of("interleaved", json.dumps(said))
    return {"json": dumped(said | {"uid": uid}), **parts}


@st.composite
def singles(draw: st.DrawFn, kind: Kind) -> dict[str, bytes]:
    """A published pair, page or text."""
    said: dict[str, Any] = {"origin": draw(texts), "meta": draw(st.dictionaries(texts, texts, max_size=2))}
    image = {} if kind == "text" else {"png": draw(st.sampled_from(BODIES[1::2]))}
    if kind == "ocr":
        words = st.fixed_dictionaries({"text": texts, "box": st.just([1.0, 2.0, 3.5, 4.0]), "line": st.integers(0, 9)})
        said |= {"width": 9, "height": 8, "words": draw(st.lists(words, max_size=3))}
    text = draw(texts)
    uid = uid_of(kind, json.dumps(said), text)
    return {**image, "txt": text.encode(), "json": dumped(said | {"uid": uid})}


def dumped(said: dict[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, sort_keys=True).encode()


def there_and_back(kind: Kind, samples: list[dict[str, bytes]], to: Format) -> None:
    """Export and bring in again: the same samples in the same order, byte for byte."""
    unique = list({json.loads(s["json"])["uid"]: s for s in samples}.values())
    origin: dict[str, Origin] = {"energon": "energon", "datasets": "datasets", "llava": "llava"}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dataset = published(root / "dataset", kind, unique)
        export(dataset, root / "out", to)
        back = import_dataset(root / "out", root / "back", origin[to])
        assert (back.kind, back.samples, back.failed) == (kind, len(unique), {})
        assert list(parts_of(root / "back").items()) == list(parts_of(dataset).items())


@pytest.mark.parametrize("to", ["energon", "datasets"])
@roundly
@given(samples=st.lists(documents(), min_size=1, max_size=15))
def test_any_documents_come_back_byte_for_byte(to: Format, samples: list[dict[str, bytes]]) -> None:
    there_and_back("interleaved", samples, to)


@pytest.mark.parametrize("to", ["energon", "datasets"])
@pytest.mark.parametrize("kind", ["caption", "ocr", "text"])
@roundly
@given(data=st.data())
def test_any_pairs_pages_and_texts_come_back_byte_for_byte(to: Format, kind: Kind, data: st.DataObject) -> None:
    there_and_back(kind, data.draw(st.lists(singles(kind), min_size=1, max_size=15)), to)


@roundly
@given(samples=st.lists(singles("caption"), min_size=1, max_size=15))
def test_any_captions_come_back_from_llava_unless_they_hold_its_mark(samples: list[dict[str, bytes]]) -> None:
    plain = [s for s in samples if IMAGE_TOKEN.encode() not in s["txt"]]
    if plain:
        there_and_back("caption", plain, "llava")


@roundly
@given(sample=documents(blocks=("question", "answer", "system")))
def test_any_conversation_comes_back_from_llava_or_is_refused_by_name(sample: dict[str, bytes]) -> None:
    said = json.loads(sample["json"])
    try:
        entry = to_llava(said, {part: part for part in sample})
    except RecordError as err:
        refused = err.error
    else:
        refused = None
    if refused is not None:
        assert refused in ("absent_image", "image_mark_in_text", "not_a_conversation")
        return
    again = from_llava(entry)
    images = [s["part"] for s in said["segments"] if s["type"] == "image"]
    assert [s["url"] for s in again if s["type"] == "image"] == images
    spoken = "".join(s["text"] for s in said["segments"] if s["type"] == "text")
    assert bare("".join(str(s["text"]) for s in again if s["type"] == "text")) == bare(spoken)
    there_and_back("interleaved", [sample], "llava")


@roundly
@given(sample=documents())
def test_obelics_round_trip_keeps_any_paragraphs_and_images_in_order(sample: dict[str, bytes]) -> None:
    """Any document comes back from obelics with its paragraphs and images in order."""
    said = json.loads(sample["json"])
    record = through_parquet(to_obelics(said))
    again = from_obelics(record)
    expected: list[tuple[str, ...]] = []
    for segment in segments_of(said):
        if segment["type"] == "image":
            expected.append(("image", segment["url"], segment.get("alt") or ""))
        else:
            cut = re.split(r"\n\s*\n", segment["text"])
            expected += [("text", p.strip()) for p in cut if p.strip()]
    found = [("text", s["text"]) if s["type"] == "text" else ("image", s["url"], s["alt"] or "") for s in again]
    assert squeezed(found) == squeezed(expected)


def through_parquet(record: dict[str, Any]) -> dict[str, Any]:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([record]), sink)
    (back,) = pq.read_table(pa.BufferReader(sink.getvalue())).to_pylist()
    return dict(back)


def squeezed(segments: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Neighbouring texts as one, without their spaces: where one paragraph ends is told by empty lines alone."""
    found: list[tuple[str, ...]] = []
    for segment in segments:
        if segment[0] == "text" and found and found[-1][0] == "text":
            found[-1] = ("text", found[-1][1] + bare(segment[1]))
        else:
            found.append(segment if segment[0] == "image" else ("text", bare(segment[1])))
    return found


def bare(text: str) -> str:
    return "".join(text.split())


@roundly
@given(sample=documents())
def test_mmc4_round_trip_keeps_words_and_images_before_their_sentences(
    sample: dict[str, bytes],
) -> None:
    """Any document comes back from MMC4 with its words and its images before their sentences."""
    said = json.loads(sample["json"])
    try:
        record = json.loads(json.dumps(to_mmc4(said)))
    except RecordError as err:
        refused = err.error
    else:
        refused = None
    if refused is not None:
        assert refused == "no_text"
        return
    again = from_mmc4(record)
    assert [s["url"] for s in again if s["type"] == "image"] == [s["url"] for s in said["segments"] if "url" in s]
    spoken = "".join(s["text"] for s in said["segments"] if s["type"] == "text")
    assert bare("".join(str(s["text"]) for s in again if s["type"] == "text")) == bare(spoken)
    trailing = next((n for n, s in enumerate(reversed(said["segments"])) if is_spoken(s)), 0)
    kept = [s for s in said["segments"][: len(said["segments"]) - trailing] if is_spoken(s) or s["type"] == "image"]
    before = [("image", s["url"]) if s["type"] == "image" else ("text", s["text"]) for s in kept]
    found = [("image", str(s["url"])) if s["type"] == "image" else ("text", str(s["text"])) for s in again]
    if not trailing:
        assert squeezed(found) == squeezed(before)


def is_spoken(segment: dict[str, Any]) -> bool:
    return segment["type"] == "text" and bool(segment["text"].strip())
