"""Make conversations of records: what ops that do so have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from curate.document.interchange import Record, RecordError, parse_record
from curate.document.segments import DOCUMENT, Segment, is_image, text_of, text_segment
from curate.ops.spec import Failed

WRITES = {"document": DOCUMENT, "text": pa.string(), "image_places": pa.int32()}
"""The columns of an op that makes a conversation of a record."""


def generation_turns(request: str, prompt: str, reply: str = "") -> list[Segment]:
    """The turn in which a picture is asked for. Raises RecordError: mark_in_text."""
    for text in (request, prompt, reply):
        if found := [mark for mark in ("<GEN>", "<h>", "</h>") if mark in text]:
            raise RecordError("mark_in_text", f"{found[0]} stands in {text[:80]!r}")
    answer = f"{reply} <h>{prompt}</h>" if reply else f"<h>{prompt}</h>"
    return [text_segment(f"{request} <GEN>", "question"), text_segment(answer, "answer")]


def document_row(data: bytes, make: Callable[[Record], list[Segment]]) -> Failed | dict[str, Any]:
    """The values of WRITES of one record, or its failure."""
    try:
        found = make(parse_record(data))
    except RecordError as err:
        return Failed(err.error, err.detail)
    return {"document": found, "text": text_of(found), "image_places": sum(map(is_image, found))}
