"""Make questions of the annotations of vision data sets: boxes, categories, depths. No model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa

from curate.document.interchange import RecordError, parse_record
from curate.document.segments import Segment, image_segment, text_of, text_segment
from curate.mix.answers import FORMAT_PROMPTS
from curate.ops._keys import generator
from curate.ops._segments import columns_of
from curate.ops.spec import Columns, Count, Failed, Natural, Share, op
from curate.ops.synth._records import WRITES
from curate.ops.synth._scenes import KINDS, SceneMargins, SceneQuestion, ask_scene, read_scene
from curate.ops.synth._templates import letter, lettered, templated

_COUNTS = {f"{kind}_questions": pa.int32() for kind in KINDS}


@op(reads=("bytes", "uid"), writes={**WRITES, **_COUNTS, "questions": pa.int32()}, version=1, batch_size=256)
def annotation_questions(  # noqa: PLR0913 - each is a knob
    records: Sequence[bytes],
    uids: Sequence[str],
    *,
    image: str = "image",
    objects: str = "objects",
    boxes: Literal["xyxy", "xywh"] = "xyxy",
    min_gap: Share = 0.05,
    min_space: Share = 0.15,
    max_questions: Count = 3,
    seed: Natural = 0,
) -> Columns:
    """Make a conversation of a scene's annotations: CV-Bench's four kinds of question (Cambrian-1, 2406.16860, 4.1).

    A record has `width`, `height` and a list `objects` of `category`, `box` in pixels, and, where known, `depth_m`,
    `position_m` (three coordinates) and `crowd`; a `focal_px` of the record gives positions from depths. Asked is what
    has one answer: relation, of two that are alone of their kind and apart by `min_gap` of the side; count, of kinds
    without a crowd; depth order and distance, where the two differ by more than `min_space` of the larger. Of each
    kind at most `max_questions` are drawn; the answer is an option's letter, and the system is told so. Errors:
    not_json, bad_record.
    """
    margins = SceneMargins(min_gap, min_space)
    found: list[Failed | dict[str, Any]] = []
    for data, uid in zip(records, uids, strict=True):
        try:
            record = parse_record(data)
            if not isinstance(record.get(image), str):
                raise RecordError("bad_record", f"{image}: expected the path or URL of an image")
            things = read_scene(record, objects, boxes)
            asked = ask_scene(things, margins, max_questions, generator(seed, uid, "scene"))
            found.append(_row(record[image], asked, seed, uid))
        except RecordError as err:
            found.append(Failed(err.error, err.detail))
    return columns_of(found, annotation_questions)


def _row(path: str, asked: Sequence[SceneQuestion], seed: int, uid: str) -> dict[str, Any]:
    document: list[Segment] = [text_segment(FORMAT_PROMPTS[3], "system")] if asked else []
    document.append(image_segment(path))
    for turn, one in enumerate(asked):
        values = one.about | {"options": lettered(one.options)}
        document.append(text_segment(templated(one.kind, values, seed, uid, turn), "question"))
        document.append(text_segment(letter(one.right), "answer"))
    counts = {f"{kind}_questions": sum(one.kind == kind for one in asked) for kind in KINDS}
    said = {"document": document, "text": text_of(document), "image_places": 1, "questions": len(asked)}
    return said | counts
