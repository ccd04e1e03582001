"""A question about a picture is kept where its answer stands in the text around it; else its fault has a name."""

from __future__ import annotations

import json
import tarfile
from typing import Any

import pytest
from chat_server import serving
from conftest import Workplace

from curate.document.segments import image_segment, text_segment
from curate.ops.extract.picture_sections import picture_sections
from curate.ops.synth._question_faults import find_fault

TOLD = "The ferry leaves the old harbour at 7:30 every morning, and gulls follow it to the island of Rum."


@pytest.mark.parametrize(
    ("question", "answer", "fault"),
    [
        ("When does the ferry leave?", "It leaves the harbour at 7:30 every morning.", "none"),
        ("What follows the ferry?", "Gulls.", "none"),
        ("The ferry leaves the harbour.", "Yes.", "no_question"),
        ("According to the text, what follows it?", "Gulls follow it.", "asks_of_text"),
        ("What does this passage describe?", "A ferry.", "asks_of_text"),
        ("When does the ferry leave?", "It leaves at 9:15.", "ungrounded"),
        ("When is it seen?", "The ferry leaves the old harbour every morning at 8.", "ungrounded"),
        ("What is painted on the ferry?", "A yellow dragon with golden wings.", "ungrounded"),
        ("Where is the old harbour of the ferry?", "The ferry harbour.", "answer_in_question"),
    ],
)
def test_each_fault_of_a_question_has_its_name(question: str, answer: str, fault: str) -> None:
    assert find_fault(question, answer, TOLD) == fault


def test_a_section_is_the_text_under_the_same_heading_before_and_after() -> None:
    document = [
        text_segment("Ships", "heading"),
        text_segment("One two."),
        image_segment("a.png"),
        text_segment("x = 1", "code"),
        text_segment("three", "list"),
        text_segment("Planes", "heading"),
        image_segment("b.png"),
    ]
    found = picture_sections([document, []])
    assert found == {"section": [["One two.\nthree", ""], []], "section_words": [[3, 0], []]}


def asked_of(place: Workplace, answers: list[str], **knobs: Any) -> tuple[list[dict[str, Any]], int]:
    """The published segments of a page of two pictures, and how often the model was asked."""
    body = "".join(f'<h2>{n}</h2><p>On day {n}: {TOLD}</p><img src="{n}.png">' for n in "12")
    (place.src / "page.html").write_text(f"<title>Ferry</title><h1>Ferry</h1>{body}")
    for seed, name in enumerate("12"):
        (place.src / f"{name}.png").write_bytes(place.png(90, 80, seed))
    steps = [
        {"op": "html_document"},
        {"op": "picture_sections"},
        {"op": "fetch_images"},
        {"op": "picture_questions", "with": knobs, "keep_images": {"picture_fault": {"is": "none"}}},
    ]
    with serving(lambda n, body: answers[n]) as server:
        llm = {"w": {"url": server.url, "model": "small", "key": None, "concurrency": 1}}
        source = {"type": "html", "path": str(place.src)}
        done = place.run(place.recipe(kind="interleaved", llm=llm, source=source, steps=steps))
        assert done.code == 0, done.stderr
        assert done.json["written"] == {"document_by": {"small": 1}}
    with tarfile.open(place.dataset / "00000.tar") as tar:
        said = next(json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json"))  # type: ignore[arg-type]
    return said["segments"], server.requests


def test_what_is_at_fault_is_asked_again_and_a_picture_without_a_question_leaves_the_page(place: Workplace) -> None:
    sound = "Question: What follows the ferry?\nAnswer: Gulls follow it to the island."
    bad = "Question: What is it?\nAnswer: A flying saucer from another planet."
    segments, requests = asked_of(place, [sound, bad, "I cannot say.", sound], tries=3)
    assert requests == 4
    assert [one["type"] for one in segments] == ["image", "text", "text"] * 2
    place.out = place.root / "again"
    segments, requests = asked_of(place, [sound, bad, bad], tries=2)
    assert requests == 3 and [one["type"] for one in segments] == ["image", "text", "text"]
    assert [one["text"] for one in segments[1:]] == ["What follows the ferry?", "Gulls follow it to the island."]
