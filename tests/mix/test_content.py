"""What a sample is taken to say: the same for those who count and those who train, hostile JSON named."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from train_samples import page

from curate.mix.content import ContentError, Picture, Prompt, System, sample_segments, texts_under
from curate.tokens.encoders import encoder


def document(*segments: Any) -> dict[str, bytes]:
    return {"json": json.dumps({"segments": list(segments)}).encode(), "0.jpg": b"", "1.jpg": b""}


TEXT = {"type": "text", "text": " one "}


def test_document_is_its_texts_and_images_in_order() -> None:
    parts, said = page(3)
    found = sample_segments("interleaved", {**parts, "json": json.dumps(said).encode()})
    assert [s.part for s in found if isinstance(s, Picture)] == sorted(parts)
    assert not any(isinstance(a, str) and isinstance(b, str) for a, b in itertools.pairwise(found))


def test_image_that_was_not_found_is_left_out_and_texts_around_it_are_one() -> None:
    absent = {"type": "image", "url": "https://a/b.png", "error": "http_404"}
    found = sample_segments(
        "interleaved", document(TEXT, absent, {"type": "text", "text": "two"}, {"type": "text", "text": ""})
    )
    assert found == ["one\n\ntwo"]


def turn(block: str, text: str) -> dict[str, str]:
    return {"type": "text", "text": text, "block": block}


def test_conversations_questions_are_prompts_and_its_answers_are_said() -> None:
    picture = {"type": "image", "part": "0.jpg"}
    asked = [turn("question", "What is it?"), turn("answer", "A cat."), turn("question", "And now?")]
    parts = document(turn("system", "Be brief."), picture, *asked, turn("answer", "A dog."))
    assert sample_segments("interleaved", parts) == [
        System("Be brief."),
        Picture("0.jpg"),
        Prompt("What is it?"),
        "A cat.",
        Prompt("And now?"),
        "A dog.",
    ]


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({}, "no_segments"),
        ({"json": b"[]"}, "no_segments"),
        ({"json": b'{"segments": {}}'}, "no_segments"),
        (document("text"), "bad_segment"),
        (document({"type": "text"}), "bad_segment"),
        (document({"type": "video"}), "bad_segment"),
        (document({"type": "image", "part": "2.jpg"}), "missing_image"),
        (document({"type": "image", "part": ["0.jpg"]}), "missing_image"),
        (document({"type": "text", "text": "x" * ((1 << 22) + 1)}), "text_too_long"),
    ],
)
def test_document_that_is_none_is_named(parts: dict[str, bytes], error: str) -> None:
    with pytest.raises(ContentError, match=f"^{error}: "):
        sample_segments("interleaved", parts)


def test_captions_pages_and_texts_say_their_own() -> None:
    parts = {"jpg": b"", "txt": b" a cat \n", "json": b"{}"}
    assert sample_segments("caption", parts) == sample_segments("ocr", parts) == [Picture("jpg"), "a cat"]
    assert sample_segments("text", parts) == ["a cat"]
    assert sample_segments("caption", parts, "chosen") == [Picture("jpg"), "chosen"]
    assert sample_segments("ocr", {"png": b"", "txt": b""}) == [Picture("png")]
    with pytest.raises(ContentError, match="no caption"):
        sample_segments("caption", {"jpg": b""})


def test_texts_are_found_as_a_part_or_under_a_dotted_key() -> None:
    parts = {"vecap": b" a ", "json": b'{"a": {"b": ["x", 3, "y "]}, "c": "z"}'}
    found = [texts_under(parts, key) for key in ("vecap", "a.b", "c", "a", "a.b.c", "json")]
    assert found == [["a"], ["x", "y"], ["z"], [], [], []]


@pytest.mark.parametrize("name", ["bytes", "simple"])
def test_any_text_is_spelled_in_bounded_time(name: str) -> None:
    encode = encoder(name)
    assert encode is not None
    assert encode("") == []
    spelled = encode("\ud800 \x00 <end_of_text> &lt;start_of_text> 🍎")
    assert spelled and max(spelled) < {"bytes": 256, "simple": 49_406}[name]
    assert len(encode("x" * 100_000)) > 1000


def test_tokenizer_that_is_not_known_spells_nothing() -> None:
    assert encoder("gpt") is None
