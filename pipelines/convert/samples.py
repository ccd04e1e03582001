"""Make and check the parts of a published sample from a foreign one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate import strict_json
from curate.document.interchange import RecordError, segments_of
from curate.document.segments import Segment, is_image
from curate.download import sniff
from curate.image.files import header

_UID = re.compile(r"[0-9a-f]{32}")
_PICTURE = re.compile(r"[0-9]{1,6}\.[a-z]{3,5}")


@dataclass(frozen=True)
class FoundSample:
    """A sample on its way in."""

    uid: str
    parts: Mapping[str, bytes]


def is_uid(value: Any) -> bool:
    """Whether a value is a uid of ours."""
    return isinstance(value, str) and _UID.fullmatch(value) is not None


def document_sample(
    uid: str, origin: str, document: Sequence[Segment], images: Sequence[bytes | str | None]
) -> FoundSample:
    """An interleaved sample of a document and its images, each as bytes, or as the error by which it is absent."""
    pictures: dict[str, bytes] = {}
    segments = []
    waiting = iter(images)
    for segment in document:
        fields = {key: value for key, value in segment.items() if value is not None}
        if is_image(segment):
            fields |= _place_image(next(waiting), pictures)
        segments.append(fields)
    return FoundSample(uid, {"json": json_part({"uid": uid, "origin": origin, "segments": segments}), **pictures})


def _place_image(body: bytes | str | None, pictures: dict[str, bytes]) -> dict[str, Any]:
    """What an image segment says of its image, which joins `pictures`; or the error by which it is absent."""
    if not isinstance(body, bytes):
        return {"error": body or "missing_part"}
    ext, error = sniff(body)
    found = header(body) if ext is not None else None
    if found is None or found.error is not None:
        return {"error": error or (found.error if found else None)}
    part = f"{len(pictures)}.{ext}"
    pictures[part] = body
    return {"part": part, "width": found.width, "height": found.height}


def own_document(uid: str, metadata: Mapping[str, Any], images: Sequence[bytes | None]) -> FoundSample:
    """Restore a document that our own export wrote; `images`: those of the segments that have a part, in order."""
    named = part_names_of(metadata)
    if len(named) != len(images) or None in images or len(set(named)) != len(named):
        raise RecordError("images_out_of_step", f"{len(named)} parts, {len(images)} images")
    if not all(map(_PICTURE.fullmatch, named)):
        raise RecordError("bad_record", f"parts {named}")
    pictures = {name: body for name, body in zip(named, images, strict=True) if body is not None}
    return FoundSample(uid, {"json": json_part(metadata), **pictures})


def part_names_of(metadata: Mapping[str, Any]) -> list[str]:
    """The parts that a document's segments name, in order. Raises RecordError not_interleaved."""
    return [str(s["part"]) for s in segments_of(metadata) if "part" in s]


def picture(body: bytes | None, name: Any) -> dict[str, bytes]:
    """The part that holds a sample's one image, called `name` if that is a name of ours. Raises RecordError."""
    ext, error = sniff(body or b"")
    if body is None or ext is None:
        raise RecordError(error or "missing_image", "the sample's image")
    own = isinstance(name, str) and re.fullmatch(r"[a-z]{3,5}", name) is not None and name not in ("json", "txt")
    return {str(name) if own else ext: body}


def text_part(value: Any) -> bytes:
    """A text as the part `txt`. Raises RecordError."""
    if not isinstance(value, str):
        raise RecordError("bad_record", f"text: expected a text, found {type(value).__name__}")
    return value.encode("utf-8", "replace")


def json_part(metadata: Mapping[str, Any]) -> bytes:
    """A sample's metadata as its JSON part."""
    return strict_json.dumps(metadata).encode()
