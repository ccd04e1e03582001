"""Read Energon's tars as samples: interleaved, an image and a text, or a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from curate.document.interchange import RecordError, from_obelics, parse_record
from curate.document.segments import is_image
from curate.engine.formats import is_picture
from curate.sample import Kind, uid_of
from curate.shards import Part, TarFault, TarLimits, TarSample, scan_tar
from pipelines.convert.export import ConvertError
from pipelines.convert.samples import (
    FoundSample,
    document_sample,
    is_uid,
    json_part,
    own_document,
    part_names_of,
    picture,
)

MAX_JSON_BYTES = 16 << 20
LIMITS = TarLimits(parts=4096)


def kind_of_tars(files: Sequence[Path]) -> Kind:
    """The kind that the first whole sample of tars tells by its parts. Raises ConvertError."""
    for path in files:
        with open(path, "rb") as file:
            for sample in scan_tar(path, LIMITS):
                if isinstance(sample, TarSample) and (kind := _kind_of(_Parts(sample, file))):
                    return kind
    raise ConvertError(f"{files[0]}: no sample has a json with images or segments, or a txt; nothing tells its kind")


def from_tar(tar: Path, kind: Kind, failed: Counter[str]) -> Iterator[FoundSample]:
    """Read the samples of a tar; those that cannot be read are counted by their errors."""
    with open(tar, "rb") as file:
        for sample in scan_tar(tar, LIMITS):
            if isinstance(sample, TarFault):
                failed[sample.error] += 1
                continue
            try:
                yield _sample(tar, kind, _Parts(sample, file))
            except RecordError as err:
                failed[err.error] += 1


class _Parts:
    """The parts of a sample in a tar, read one by one."""

    def __init__(self, sample: TarSample, file: IO[bytes]) -> None:
        self.key, self.file = sample.key, file
        self.by_name: Mapping[str, Part] = {part.name: part for part in sample.parts}

    @property
    def picture(self) -> str | None:
        """The name of its first image."""
        return next(filter(is_picture, self.by_name), None)

    def read(self, name: str) -> bytes | None:
        """The bytes of a part; None where there is none."""
        part = self.by_name.get(name.lower())
        if part is None:
            return None
        self.file.seek(part.offset)
        return self.file.read(part.size)

    def json(self) -> bytes:
        """The part `json`. Raises RecordError."""
        if "json" not in self.by_name or self.by_name["json"].size > MAX_JSON_BYTES:
            raise RecordError("missing_json" if "json" not in self.by_name else "json_too_large", self.key)
        return self.read("json") or b""


def _kind_of(parts: _Parts) -> Kind | None:
    try:
        metadata = parse_record(parts.json()) if "json" in parts.by_name else {}
    except RecordError:
        return None
    if "segments" in metadata or {"images", "texts"} <= set(metadata):
        return "interleaved"
    if "txt" not in parts.by_name:
        return None
    return "text" if parts.picture is None else "ocr" if {"width", "height"} <= set(metadata) else "caption"


def _sample(tar: Path, kind: Kind, parts: _Parts) -> FoundSample:
    origin = f"{tar.name}#{parts.key}"
    if kind == "interleaved":
        return _interleaved(parts, origin)
    return _plain(kind, parts, origin)


def _interleaved(parts: _Parts, origin: str) -> FoundSample:
    body = parts.json()
    metadata = parse_record(body)
    if is_uid(parts.key) and "segments" in metadata:
        return own_document(parts.key, metadata, [parts.read(name) for name in part_names_of(metadata)])
    document = from_obelics(metadata)
    uid = parts.key if is_uid(parts.key) else uid_of("interleaved", origin, body)
    named = [str(s["url"]) for s in document if is_image(s)]
    return document_sample(uid, origin, document, [parts.read(name) for name in named])


def _plain(kind: Kind, parts: _Parts, origin: str) -> FoundSample:
    """An image and its text, or a text; what the JSON of another project says becomes `meta`."""
    text, name = parts.read("txt"), parts.picture
    if text is None:
        raise RecordError("missing_text", parts.key)
    image = {} if kind == "text" else picture(parts.read(name) if name else None, name)
    metadata = parse_record(parts.json()) if "json" in parts.by_name else {}
    own = is_uid(parts.key) and metadata.get("uid") == parts.key
    uid = parts.key if is_uid(parts.key) else uid_of(kind, origin, text, *image.values())
    fields = metadata if own else {"uid": uid, "origin": origin} | ({"meta": metadata} if metadata else {})
    return FoundSample(uid, {**image, "txt": text.decode("utf-8", "replace").encode(), "json": json_part(fields)})
