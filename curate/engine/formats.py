"""Sample formats of each kind: the parts of a published sample, as webdataset readers see them.

    caption      {uid}.jpg|png|...  {uid}.txt  {uid}.json
    ocr          {uid}.jpg|png|...  {uid}.txt  {uid}.json  (words with their boxes in pixels of the image)
    interleaved  {uid}.json (segments in order)  {uid}.0.jpg  {uid}.1.png  ...
    text         {uid}.txt  {uid}.json

`docs/formats.md` shows an example of each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate import strict_json
from curate.document.segments import is_image
from curate.image.files import IMAGE_SUFFIXES, header
from curate.pool.payloads import Read
from curate.sample import Kind
from curate.shards import DatasetInfo, ShardReader

Row = Mapping[str, Any]
"""A kept row: `uid`, `origin`, `text`, `meta` (JSON), the place of its bytes, and the content of its kind."""

CONTENT: Mapping[Kind, tuple[str, ...]] = {
    "caption": (),
    "ocr": ("words",),
    "interleaved": ("title", "document", "images"),
    "text": (),
}
"""The columns that a kind of sample consists of, besides text and bytes."""


def sample_parts(kind: Kind, row: Row, values: dict[str, Any], read: Read) -> dict[str, bytes]:
    """Make the parts of a sample, by name; `values` are the columns that the recipe carries along."""
    fields = {"uid": row["uid"], "origin": row["origin"], "meta": json.loads(row["meta"] or "{}")} | values
    if kind == "interleaved":
        return _interleaved_parts(row, fields, read)
    text = row["text"].encode()
    if kind == "text":
        return {"txt": text, "json": _sample_json(fields | {"sha256": hashlib.sha256(text).hexdigest()})}
    image = read(row["tar"], row["offset"], row["nbytes"], row["sha256"])
    fields |= {"sha256": row["sha256"], "format": row["ext"]}
    if kind == "ocr":
        fields |= _page_json(image, row.get("words"), fields["meta"])
    return {row["image_name"]: image, "txt": text, "json": _sample_json(fields)}


def _page_json(image: bytes, words: Sequence[Row] | None, meta: Row) -> dict[str, Any]:
    """Size, page number and words of a page image; boxes are left, top, right and bottom in pixels."""
    found = header(image)
    size = (found.width, found.height) * 2
    there = [dict(w) | {"box": [round(v * s, 1) for v, s in zip(w["box"], size, strict=True)]} for w in words or ()]
    return {"width": found.width, "height": found.height, "words": there} | {
        name: meta[name] for name in ("page", "pages") if name in meta
    }


def _interleaved_parts(row: Row, fields: dict[str, Any], read: Read) -> dict[str, bytes]:
    """The JSON first, then the images that are there, numbered in the order of the document."""
    pictures: dict[str, bytes] = {}
    segments: list[dict[str, Any]] = []
    found = iter(row.get("images") or ())
    for segment in row["document"] or ():
        if not is_image(segment):
            segments.append({k: segment[k] for k in ("type", "text", "block")})
            continue
        blob = next(found, None) or {"error": "not_fetched"}
        if blob["error"] is None:
            part = f"{len(pictures)}.{blob['ext']}"
            pictures[part] = read(blob["tar"], blob["offset"], blob["nbytes"], blob["sha256"])
            place = {"part": part, "width": blob["width"], "height": blob["height"], "sha256": blob["sha256"]}
        else:
            place = {"error": blob["error"]}
        segments.append({k: segment[k] for k in ("type", "url", "alt", "caption")} | place)
    title = {"title": row["title"]} if row.get("title") else {}
    return {"json": _sample_json(fields | title | {"segments": segments})} | pictures


def _sample_json(fields: Mapping[str, Any]) -> bytes:
    """The sample's JSON, without nulls, NaN and empty lists: `datasets` infers types from the first five samples."""
    filled = _is_filled(strict_json.plain(fields, 2 * strict_json.LEVELS))
    return json.dumps(filled, ensure_ascii=False, sort_keys=True, allow_nan=False).encode()


def _is_filled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _is_filled(v) for k, v in value.items() if v is not None and v != [] and v != {}}
    return [_is_filled(v) for v in value] if isinstance(value, list) else value


def part_names(folder: Path, info: DatasetInfo) -> list[str]:
    """The names of all parts that samples have, from the indexes alone."""
    names: set[str] = set()
    for shard in info.shards:
        with ShardReader(folder / shard.tar, folder / shard.index) as reader:
            column = reader.table.column("parts").combine_chunks()
            names |= set(column.flatten().field("name").unique().to_pylist())
    return sorted(names)


def is_picture(part: str) -> bool:
    """Whether a part is an image by its name: `jpg`, `0.png`."""
    return part.rsplit(".", 1)[-1] in IMAGE_SUFFIXES
