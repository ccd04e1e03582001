"""Make documents of published sets' records: OBELICS rows, MMC4 lines, LLaVA conversations.

The pool keeps the record as it came, as JSON; these ops read it. The images are fetched as those of a page are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from curate.document.interchange import (
    Record,
    RecordError,
    from_chat,
    from_llava,
    from_mmc4,
    from_obelics,
    parse_record,
)
from curate.document.segments import DOCUMENT, Segment, is_image, text_of
from curate.ops._segments import columns_of
from curate.ops.spec import Columns, Failed, op

_WRITES = {"document": DOCUMENT, "text": pa.string(), "image_places": pa.int32()}


@op(reads="bytes", writes=_WRITES, version=1)
def obelics_document(records: Sequence[bytes]) -> Columns:
    """The document of an OBELICS row: `images` and `texts` in step, cut into paragraphs at empty lines.

    Laurençon et al., OBELICS, 2023. `image_places`: how many images it names. Errors: not_json, bad_record,
    too_many_segments.
    """
    return columns_of([_document(data, from_obelics) for data in records], obelics_document)


@op(reads="bytes", writes=_WRITES, version=1)
def mmc4_document(records: Sequence[bytes]) -> Columns:
    """The document of an MMC4 line: each image before the sentence that it was matched to.

    Zhu et al., Multimodal C4, 2023. Errors: not_json, bad_record, too_many_segments.
    """
    return columns_of([_document(data, from_mmc4) for data in records], mmc4_document)


@op(reads="bytes", writes=_WRITES, version=1)
def llava_document(records: Sequence[bytes]) -> Columns:
    """The document of a LLaVA conversation: questions and answers, an image where its mark stands.

    Liu et al., Visual Instruction Tuning, 2023. Errors: not_json, bad_record, image_marks_differ, too_many_segments.
    """
    return columns_of([_document(data, from_llava) for data in records], llava_document)


@op(reads="bytes", writes=_WRITES, version=1)
def chat_document(records: Sequence[bytes]) -> Columns:
    """The document of a conversation: `messages`, `conversations`, or pairs of `user` and `assistant` in `texts`.

    Laurençon et al., What matters when building vision-language models, 2024 (The Cauldron). Errors: not_json,
    bad_record, image_marks_differ, too_many_segments.
    """
    return columns_of([_document(data, from_chat) for data in records], chat_document)


def _document(data: bytes, read: Callable[[Record], list[Segment]]) -> Failed | dict[str, Any]:
    try:
        found = read(parse_record(data))
    except RecordError as err:
        return Failed(err.error, err.detail)
    return {"document": found, "text": text_of(found), "image_places": sum(map(is_image, found))}
