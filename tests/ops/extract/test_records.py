"""Ready sets' records become documents, whatever strangers put into them, and go back to what they were."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from documents import failed_with, row, shown
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.document import interchange
from curate.document.segments import is_image
from curate.ops.extract.records import llava_document, mmc4_document, obelics_document
from curate.text.sentences import sentence_spans

OBELICS = {
    "images": ["https://a.org/1.jpg", None, "https://a.org/2.jpg", "https://a.org/3.jpg", None],
    "metadata": json.dumps([{"src": "https://a.org/1.jpg", "alt_text": "A dog"}, None, {"src": "x"}, {}, None]),
    "general_metadata": json.dumps({"url": "https://a.org/page", "warc_filename": "crawl-data/x.warc.gz"}),
    "texts": [None, "First paragraph.\n\nSecond one.", None, None, "The end."],
}
MMC4 = {
    "url": "http://www.example.org/locks.html",
    "text_list": ["When you lock the door, all others lock.", "Press the switch.", "It is red.", "Then unlock it."],
    "image_info": [
        {"image_name": "b.jpg", "raw_url": "http://e.org/90.jpg", "matched_text_index": 2, "matched_sim": 0.27,
         "face_detections": None},
        {"image_name": "a.jpg", "raw_url": "http://e.org/91.jpg", "matched_text_index": 1, "matched_sim": 0.32,
         "face_detections": None},
    ],
    "similarity_matrix": [[0.2, 0.3, 0.2, 0.1], [0.1, 0.2, 0.1, 0.1]],
    "could_have_url_duplicate": 0,
}  # fmt: skip
LLAVA = {
    "id": "000000033471",
    "image": "coco/train2017/000000033471.jpg",
    "conversations": [
        {"from": "human", "value": "<image>\nWhat are the colors of the bus?"},
        {"from": "gpt", "value": "White and red."},
        {"from": "human", "value": "Where is it?"},
        {"from": "gpt", "value": "At a stop."},
    ],
}


def encoded(record: Any) -> list[bytes]:
    return [json.dumps(record).encode()]


def sample(document: list[dict[str, Any]], origin: str, **more: Any) -> dict[str, Any]:
    """What a document looks like in a published sample's JSON."""
    parts = iter(range(100))
    segments = [
        {k: v for k, v in s.items() if v is not None} | ({"part": f"{next(parts)}.jpg"} if is_image(s) else {})
        for s in document
    ]
    return {"uid": "0" * 32, "origin": origin, "segments": segments, **more}


def test_obelics_row_becomes_a_document_in_its_order_with_its_alt_texts() -> None:
    found = row(obelics_document(encoded(OBELICS)))
    assert shown(found["document"]) == [
        "https://a.org/1.jpg", "First paragraph.", "Second one.", "https://a.org/2.jpg", "https://a.org/3.jpg",
        "The end.",
    ]  # fmt: skip
    assert found["document"][0]["alt"] == "A dog"
    assert (found["text"], found["image_places"]) == ("First paragraph.\n\nSecond one.\n\nThe end.", 3)
    assert interchange.page_url(OBELICS) == "https://a.org/page"


def test_obelics_row_comes_back_as_it_was() -> None:
    document = row(obelics_document(encoded(OBELICS)))["document"]
    back = interchange.to_obelics(sample(document, "https://a.org/page"))
    assert (back["images"], back["texts"]) == (OBELICS["images"], OBELICS["texts"])
    assert [m and m.get("alt_text") for m in json.loads(back["metadata"])] == ["A dog", None, None, None, None]
    assert json.loads(back["general_metadata"])["url"] == interchange.page_url(OBELICS)
    assert row(obelics_document(encoded(back)))["document"] == document


def test_mmc4_line_becomes_a_document_and_comes_back() -> None:
    """An MMC4 line becomes a document with each image before its sentence and comes back."""
    found = row(mmc4_document(encoded(MMC4)))
    assert shown(found["document"]) == [
        "When you lock the door, all others lock.", "http://e.org/91.jpg", "Press the switch.", "http://e.org/90.jpg",
        "It is red. Then unlock it.",
    ]  # fmt: skip
    back = interchange.to_mmc4(sample(found["document"], MMC4["url"], similarities=[0.32, 0.27]))  # type: ignore[arg-type]
    assert (back["url"], back["text_list"]) == (MMC4["url"], MMC4["text_list"])
    kept = ("raw_url", "matched_text_index", "matched_sim")
    there = {tuple(info[k] for k in kept) for info in MMC4["image_info"]}  # type: ignore[index, union-attr]
    assert {tuple(info[k] for k in kept) for info in back["image_info"]} == there
    assert row(mmc4_document(encoded(back)))["document"] == found["document"]


def test_llava_conversation_becomes_questions_and_answers_and_comes_back() -> None:
    document = row(llava_document(encoded(LLAVA)))["document"]
    assert [(s["type"], s["block"]) for s in document] == [
        ("image", None), ("text", "question"), ("text", "answer"), ("text", "question"), ("text", "answer"),
    ]  # fmt: skip
    published = sample(document, "x") | {"uid": LLAVA["id"]}
    assert interchange.to_llava(published, {"0.jpg": LLAVA["image"]}) == LLAVA  # type: ignore[dict-item]
    several = LLAVA | {"image": ["a.jpg", "b.jpg"]}
    assert failed_with(llava_document(encoded(several))) == "image_marks_differ"
    text_alone = {"id": "t", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}
    assert interchange.to_llava(sample(row(llava_document(encoded(text_alone)))["document"], "x"), {}) == text_alone | {
        "id": "0" * 32
    }


def test_energons_json_is_two_lists_in_step() -> None:
    document = row(obelics_document(encoded(OBELICS)))["document"]
    published = sample(document, "x")
    published["segments"][3].pop("part")
    written = interchange.to_energon(published)
    assert written == {
        "images": ["0.jpg", None, "2.jpg", None],
        "texts": [None, "First paragraph.\n\nSecond one.", None, "The end."],
    }
    assert shown(interchange.from_obelics(written)) == [
        "0.jpg", "First paragraph.", "Second one.", "2.jpg", "The end.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (b"{", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"[]", "bad_record"),
        (b"{}", "bad_record"),
        (b'{"images": [], "texts": "no"}', "bad_record"),
        (b'{"images": ["a"], "texts": []}', "bad_record"),
        (b'{"images": [5], "texts": [null]}', "bad_record"),
        (b'{"images": [%s], "texts": [%s]}' % (b"null," * 20_000 + b"null", b'"a",' * 20_000 + b'"b"'),
         "too_many_segments"),
        (b'{"images": [null], "texts": [%s]}' % json.dumps("a\n\n" * 30_000).encode(), "too_many_segments"),
    ],
)  # fmt: skip
def test_broken_obelics_row_fails_by_name(record: bytes, error: str) -> None:
    assert failed_with(obelics_document([record])) == error


@pytest.mark.parametrize("index", [-1, 4, None, "1", True, 1.0])
def test_mmc4_image_matched_to_no_sentence_fails_by_name(index: Any) -> None:
    bad = MMC4 | {"image_info": [{"raw_url": "http://a/", "matched_text_index": index}]}
    assert failed_with(mmc4_document(encoded(bad))) == "bad_record"


def test_lone_surrogate_in_a_record_can_be_stored() -> None:
    record = b'{"images": [null, "http://a/\\ud800"], "texts": ["half \\ud83d", null]}'
    found = row(obelics_document([record]))
    assert shown(found["document"]) == ["half ?", "http://a/?"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["images", "texts", "metadata", "text_list", "image_info", "raw_url", "matched_text_index", "image",
         "conversations", "from", "value", "general_metadata", "url"]) | st.text(), inner, max_size=6),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_record_of_any_content_is_a_document_or_a_named_error(record: Any) -> None:
    """Whatever a record holds, it is a document or a named error."""
    data = json.dumps(record).encode()
    for op in (obelics_document, mmc4_document, llava_document):
        found = row(op([data]))
        assert len(found) == 3
    if isinstance(record, dict):
        interchange.page_url(record)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two! Three?  Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met J. R. Roe. They left.", ["Dr. Smith met J. R. Roe.", "They left."]),
        ('He said "Go." Then 3.5 km.', ['He said "Go."', "Then 3.5 km."]),
        ("今日は。明日は！はい", ["今日は。", "明日は！", "はい"]),
        ("a line\nanother line", ["a line", "another line"]),
        ("यह एक वाक्य है। यह दूसरा है।", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == found


@given(st.text(alphabet="aA .!?。\n\"'b5"))
def test_sentences_hold_every_visible_character_once_and_in_order(text: str) -> None:
    found = sentence_spans(text)
    assert "".join("".join(text[a:b].split()) for a, b in found) == "".join(text.split())
    assert all(a < b for a, b in found) and all(b <= c for (_, b), (c, _) in pairwise(found))
