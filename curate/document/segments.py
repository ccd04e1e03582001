"""Interleaved documents: texts and images in reading order, as one Arrow value.

A document is a list of segments. A text segment is a block of the page (`block` says which: a paragraph, a heading, a
list, a table, code); an image segment names its picture by URL and carries what the page says of it. Ops that clean a
document write a new one; the pictures themselves are another column (`curate.pool.blob.BLOB`), one entry an image
segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa

Block = Literal["paragraph", "heading", "list", "table", "code", "quote", "question", "answer", "system"]
"""What a text is in its page; the last three are turns of a conversation."""

SEGMENT = pa.struct(
    [
        pa.field("type", pa.string()),
        pa.field("text", pa.string()),
        pa.field("block", pa.string()),
        pa.field("url", pa.string()),
        pa.field("alt", pa.string()),
        pa.field("caption", pa.string()),
    ]
)
"""`type` is `text` or `image`. A text has `text` and `block`; an image `url`, absolute or a path in the source's
folder, its `alt` text and its figure's `caption` (null where the page has none)."""

DOCUMENT = pa.list_(SEGMENT)

Segment = dict[str, Any]


def text_segment(text: str, block: Block = "paragraph") -> Segment:
    """A block of text."""
    return {"type": "text", "text": text, "block": block, "url": None, "alt": None, "caption": None}


def image_segment(url: str, alt: str | None = None, caption: str | None = None) -> Segment:
    """A place where an image stands."""
    return {"type": "image", "text": None, "block": None, "url": url, "alt": alt, "caption": caption}


def is_image(segment: Segment) -> bool:
    """Whether a segment is an image's place."""
    return bool(segment["type"] == "image")


def image_urls(segments: Sequence[Segment]) -> list[str]:
    """The URLs of a document's images, in order."""
    return [str(s["url"]) for s in segments if is_image(s)]


def text_of(segments: Sequence[Segment]) -> str:
    """The document's text alone: its blocks, an empty line between them."""
    return "\n\n".join(str(s["text"]) for s in segments if not is_image(s))
