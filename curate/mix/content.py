"""Texts and images of a sample in order, as a trainer reads them.

One reading for those who count (`curate index --tokenizer`) and for those who train, so that packs planned from an
index hold exactly what comes. Nothing here looks at an image's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from curate.sample import Kind

IMAGE_NAMES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
BETWEEN = "\n\n"
"""Stands between two texts that follow each other in a document."""
PICTURE = -1
"""Where an image stands, in a layout; a text is told by its tokens, a prompt as `laid_prompt` says."""
MAX_CHARACTERS = 1 << 22
"""Of one sample's texts. Longer documents are for the text pipeline to cut."""


class ContentError(ValueError):
    """A sample that does not say what its kind should; the message names what is missing."""


@dataclass(frozen=True)
class Picture:
    """An image of a sample, by the name of its part."""

    part: str


@dataclass(frozen=True)
class Prompt:
    """A text that is context and is not predicted: a question, what a system is told."""

    text: str


@dataclass(frozen=True)
class System(Prompt):
    """The words that a conversation tells its system before any other: they come first, and are never cut away."""


_PROMPTS: Mapping[object, type[Prompt]] = {"question": Prompt, "system": System}
"""Blocks of a conversation that are prompts."""

Segment = str | Prompt | Picture


def laid_prompt(tokens: int) -> int:
    """A prompt of so many tokens, as it stands in a layout."""
    return PICTURE - 1 - tokens


def is_prompt(part: int) -> bool:
    """Whether a part of a layout is a prompt."""
    return part < PICTURE


def laid_tokens(part: int) -> int:
    """The tokens of text of a part of a layout; an image has none."""
    return PICTURE - 1 - part if is_prompt(part) else max(part, 0)


def sample_segments(kind: Kind, parts: Mapping[str, bytes], chosen: str | None = None) -> list[Segment]:
    """The texts, prompts and images of a sample in order; neighbours of one kind are joined.

    `chosen` stands for its own text. Of a document, images that were not found are left out, and what its system is
    told comes first. Raises ContentError, UnicodeDecodeError, JSONDecodeError.
    """
    if kind == "interleaved":
        segments = _document(parts)
    else:
        text = own_text(parts) if chosen is None else chosen
        picture = image_name(parts) if kind in ("caption", "ocr") else None
        segments = [Picture(picture)] if picture else []
        segments += [text] if text else []
    if (size := sum(len(segment_text(s)) for s in segments if not isinstance(s, Picture))) > MAX_CHARACTERS:
        raise ContentError(f"text_too_long: {size} characters, more than {MAX_CHARACTERS}; cut such documents before")
    return segments


def part_system(segments: Sequence[Segment]) -> tuple[str, Sequence[Segment]]:
    """Part the words that a sample's system is told, empty where it is told none, from its other segments."""
    told = segments[0].text if segments and isinstance(segments[0], System) else ""
    return told, segments[1:] if told else segments


def segment_text(segment: str | Prompt) -> str:
    """The text of a segment."""
    return segment.text if isinstance(segment, Prompt) else segment


def own_text(parts: Mapping[str, bytes]) -> str:
    """The sample's part `txt`. Raises ContentError if it has none."""
    if "txt" not in parts:
        raise ContentError(f"no caption (txt) among the sample's parts ({', '.join(sorted(parts)) or 'none'})")
    return parts["txt"].decode("utf-8").strip()


def image_name(parts: Mapping[str, bytes]) -> str | None:
    """The name of the sample's image among its parts, if it has one."""
    return next((name for name in IMAGE_NAMES if name in parts), None)


def texts_under(parts: Mapping[str, bytes], key: str) -> list[str]:
    """The texts that a mixture's choice of `key` names: that part, or the text or list of texts at that dotted key of
    the JSON.

    None of them: an empty list. Raises UnicodeDecodeError, JSONDecodeError.
    """
    if key in parts and key != "json":
        return [parts[key].decode("utf-8").strip()]
    found: Any = json.loads(parts.get("json", b"{}"))
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    texts = found if isinstance(found, list) else [found]
    return [text.strip() for text in texts if isinstance(text, str)]


def _document(parts: Mapping[str, bytes]) -> list[Segment]:
    """The segments of an interleaved sample's JSON."""
    value = json.loads(parts.get("json", b"null"))
    listed = value.get("segments") if isinstance(value, dict) else None
    if not isinstance(listed, list):
        raise ContentError("no_segments: an interleaved sample has a JSON with a list of `segments`")
    told, rest = _lift_system(list(_read_segments(listed, parts)))
    out: list[Segment] = []
    for kind, run in groupby(rest, type):
        segments = list(run)
        texts = [segment_text(s) for s in segments if not isinstance(s, Picture)]
        out += [_make_segment(kind, BETWEEN.join(texts))] if texts else segments
    return [System(BETWEEN.join(told)), *out] if told else out


def _lift_system(segments: list[Segment]) -> tuple[list[str], list[Segment]]:
    """What the system is told before any other text, and all the rest; told later, it is a prompt like others."""
    first = next((n for n, s in enumerate(segments) if not isinstance(s, Picture | System)), len(segments))
    told = [s.text for s in segments[:first] if isinstance(s, System)]
    rest = [s for s in segments[:first] if not isinstance(s, System)]
    return told, rest + [Prompt(s.text) if isinstance(s, System) else s for s in segments[first:]]


def _make_segment(kind: type[Segment], text: str) -> Segment:
    return text if kind is str else kind(text)


def _read_segments(listed: list[object], parts: Mapping[str, bytes]) -> Iterator[Segment]:
    """The texts that are not empty, and the images that were found."""
    for segment in listed:
        found = _segment(segment, parts)
        if isinstance(found, Picture) or (found is not None and segment_text(found)):
            yield found


def _segment(segment: object, parts: Mapping[str, bytes]) -> Segment | None:
    """A text, a picture, or None for an image that was not found."""
    if not isinstance(segment, dict) or segment.get("type") not in ("text", "image"):
        raise ContentError("bad_segment: a segment is of type `text` or `image`")
    if segment["type"] == "text":
        text = segment.get("text")
        if not isinstance(text, str):
            raise ContentError("bad_segment: a text segment has a `text`")
        return _make_segment(_PROMPTS.get(segment.get("block"), str), text.strip())
    part = segment.get("part")
    if part is not None and (not isinstance(part, str) or part not in parts):
        raise ContentError(f"missing_image: a segment names the part {str(part)[:40]!r}, which the sample lacks")
    return None if part is None else Picture(part)
