"""Questions from boxes and depths have the one right answer, whatever the scene."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.document.segments import Segment
from curate.mix.answers import FORMAT_PROMPTS, measure_answers
from curate.ops.spec import Failed
from curate.ops.synth._templates import templates
from curate.ops.synth.annotations import annotation_questions

NAMES = ("cat", "dog", "red car", "tree")


def thing(category: str, box: tuple[float, ...], **more: Any) -> dict[str, Any]:
    return {"category": category, "box": list(box), **more}


def scene(*things: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"image": "a.png", "width": 100, "height": 100, "objects": list(things), **more}


def asked(record: dict[str, Any], uid: str = "u", **knobs: Any) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Each question with the option that was right, and all columns."""
    found = annotation_questions([json.dumps(record).encode()], [uid], max_questions=99, **knobs)
    document = found["document"][0]
    assert not isinstance(document, Failed), document
    texts = [s for s in document if s["type"] == "text" and s["block"] != "system"]
    turns = [(q["text"], chosen(q["text"], a["text"])) for q, a in zip(texts[::2], texts[1::2], strict=True)]
    return turns, {name: values[0] for name, values in found.items()}


def chosen(question: str, letter: str) -> str:
    """What an option's letter stands for."""
    options = dict(re.findall(r"\(([A-Z])\) (.*?)(?= \([A-Z]\) |$| Which| One| Is that|\n)", question))
    return options[letter].strip()


def kind_of(question: str) -> str:
    """The kind of a question, by its template."""
    for kind in ("relation", "count", "depth", "distance"):
        for template in templates()[kind]:
            places = re.sub(r"\\\{[a-z]+\\\}", "(.+)", re.escape(template))
            if re.fullmatch(places, question):
                return kind
    raise AssertionError(question)


def test_left_and_right_above_and_below_are_told_of_things_apart() -> None:
    cat, dog = thing("cat", (0, 0, 20, 20)), thing("dog", (60, 50, 90, 80))
    turns, columns = asked(scene(cat, dog))
    relations = [(q, right) for q, right in turns if kind_of(q) == "relation"]
    first = {q.find("the cat") < q.find("the dog") for q, _ in relations}
    assert columns["relation_questions"] == 2 and len(relations) == 2 and first <= {True, False}
    assert sorted(right for _, right in relations) == ["above", "left"]


def test_what_overlaps_and_what_is_not_alone_of_its_kind_is_in_no_relation() -> None:
    overlapping = scene(thing("cat", (0, 0, 50, 50)), thing("dog", (40, 40, 90, 90)))
    assert asked(overlapping)[1]["relation_questions"] == 0
    twice = scene(thing("cat", (0, 0, 10, 10)), thing("cat", (20, 0, 30, 10)), thing("dog", (60, 60, 90, 90)))
    assert asked(twice)[1]["relation_questions"] == 0
    near = scene(thing("cat", (0, 0, 50, 50)), thing("dog", (54, 0, 90, 90)))
    assert asked(near)[1]["relation_questions"] == 0
    assert asked(near, min_gap=0.03)[1]["relation_questions"] == 1


def test_counts_are_the_numbers_of_boxes_and_a_crowd_is_never_counted() -> None:
    cats = [thing("cat", (10 * n, 0, 10 * n + 5, 5)) for n in range(7)]
    turns, _ = asked(scene(*cats, thing("dog", (0, 50, 9, 60)), thing("people", (50, 50, 99, 99), crowd=True)))
    counts = {re.search("cat|dog|people", q)[0]: right for q, right in turns if kind_of(q) == "count"}  # type: ignore[index]
    assert counts == {"cat": "7", "dog": "1"}


def test_depth_and_distance_follow_from_depths_and_the_focal_length() -> None:
    near, far = thing("cat", (40, 40, 60, 60), depth_m=2.0), thing("dog", (40, 40, 60, 60), depth_m=9.0)
    beside = thing("tree", (80, 40, 100, 60), depth_m=2.2)
    turns, columns = asked(scene(near, far, beside, focal_px=100))
    depths = {right for q, right in turns if kind_of(q) == "depth"}
    assert depths == {"the cat", "the tree"} and columns["depth_questions"] == 2  # .2 m is not asked
    distances = [right for q, right in turns if kind_of(q) == "distance" and "dog" not in right]
    assert columns["distance_questions"] == 3 or distances  # each seen from the third
    assert asked(scene(near, far, beside))[1]["distance_questions"] == 0  # no focal length, no space


def test_boxes_of_coco_are_corners_and_sizes() -> None:
    cat, dog = thing("cat", (0, 0, 20, 20)), thing("dog", (60, 0, 30, 20))
    turns, _ = asked(scene(cat, dog), boxes="xywh")
    assert [right for q, right in turns if kind_of(q) == "relation"] == ["left"]


def random_scene(seed: int, count: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    things = []
    for _ in range(count):
        left, top = rng.uniform(0, 80, 2)
        box = (left, top, left + rng.uniform(2, 20), top + rng.uniform(2, 20))
        position = [float(v) for v in rng.uniform(0.5, 10, 3)]
        things.append(thing(NAMES[int(rng.integers(len(NAMES)))], box, depth_m=position[2], position_m=position))
    return scene(*things)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 9))
def test_every_answer_is_right_by_an_arithmetic_of_its_own(seed: int, count: int) -> None:
    record = random_scene(seed, count)
    numbers = Counter(t["category"] for t in record["objects"])
    by_name = {f"the {t['category']}": t for t in record["objects"] if numbers[t["category"]] == 1}
    by_name |= {
        f"the {t['category']} in [{', '.join(f'{v / 100:.2f}' for v in t['box'])}]": t
        for t in record["objects"]
        if numbers[t["category"]] > 1
    }
    turns, columns = asked(record, str(seed))
    assert columns["questions"] == len(turns)
    for question, right in turns:
        kind = kind_of(question)
        others = [o for o in re.findall(r"\([A-Z]\) (the .*?)(?= \([A-Z]\)|$| Which| One)", question) if o != right]
        if kind == "count":
            name = next(n for n in NAMES if f'"{n}"' in question)
            assert right == str(numbers[name])
        if kind == "depth" and right in by_name and others and others[0] in by_name:
            assert by_name[right]["depth_m"] < by_name[others[0]]["depth_m"]
        if kind == "distance" and right in by_name and others and others[0] in by_name:
            anchors = [t for n, t in by_name.items() if n in question and n not in (right, others[0])]
            if len(anchors) == 1:
                to = [math.dist(by_name[n]["position_m"], anchors[0]["position_m"]) for n in (right, others[0])]
                assert to[0] < to[1]
        if kind == "relation":
            names = sorted((n for n in by_name if n in question), key=question.index)
            one, other = (by_name[n]["box"] for n in names)
            pairs = {"left": (one[2], other[0]), "right": (other[2], one[0])}
            pairs |= {"above": (one[3], other[1]), "below": (other[3], one[1])}
            forwards, backwards = pairs[right], {"left": "right", "right": "left", "above": "below", "below": "above"}
            assert forwards[0] < forwards[1] or pairs[backwards[right]][0] < pairs[backwards[right]][1]


def test_letters_are_even_and_the_same_seed_gives_the_same_questions() -> None:
    documents: list[list[Segment]] = []
    for n in range(200):
        record = json.dumps(random_scene(n, 6)).encode()
        found = annotation_questions([record], [str(n)])["document"][0]
        assert found == annotation_questions([b"{}", record], ["x", str(n)])["document"][1]
        assert found != annotation_questions([record], [str(n)], seed=1)["document"][0]
        documents.append(found)
    turns = [(d[n]["text"], d[n + 1]["text"]) for d in documents for n in range(2, len(d), 2)]
    pairs = Counter(letter for question, letter in turns if "(C)" not in question)
    numbers = Counter(letter for question, letter in turns if "(C)" in question)
    assert pairs.keys() == {"A", "B"} and abs(pairs["A"] - pairs["B"]) < 0.1 * pairs.total()
    assert numbers.keys() == {"A", "B", "C", "D"} and max(numbers.values()) < 1.3 * min(numbers.values())


def test_the_answers_are_letters_and_the_system_is_told_so() -> None:
    document = annotation_questions([json.dumps(random_scene(1, 6)).encode()], ["u"])["document"][0]
    assert document[0]["text"] == FORMAT_PROMPTS[3] and document[0]["block"] == "system"
    assert measure_answers(document).prompted and not measure_answers(document).bare


def test_a_scene_that_answers_nothing_is_a_picture_alone() -> None:
    columns = asked(scene())[1]
    assert columns["questions"] == 0 and [s["type"] for s in columns["document"]] == ["image"]


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        ({}, "image"),
        (scene() | {"width": 0}, "width"),
        (scene() | {"objects": 3}, "objects"),
        (scene(thing("cat", (1, 2, 3))), "objects.0.box"),
        (scene(thing("cat", (1, 2, 3, math.nan))), "objects.0.box"),
        (scene(thing("", (1, 2, 3, 4))), "category"),
        (scene(thing("cat", (1, 2, 3, 4), position_m=[1, 2])), "position_m"),
        (scene(thing("cat", (1, 2, 3, 4), depth_m="near")), "depth_m"),
    ],
)
def test_a_record_that_is_not_of_this_form_fails_and_says_where(record: dict[str, Any], detail: str) -> None:
    found = annotation_questions([json.dumps(record).encode()], ["u"])
    failed = found["document"][0]
    assert isinstance(failed, Failed) and failed.error == "bad_record" and detail in failed.detail


def test_a_crowded_scene_is_asked_about_in_bounded_time() -> None:
    crowd = [
        thing(f"thing {n}", (n % 90, n // 90, n % 90 + 5, n // 90 + 5), position_m=[n, n * n % 97, 1])
        for n in range(900)
    ]
    assert asked(scene(*crowd))[1]["questions"] > 90
