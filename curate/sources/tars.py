"""Webdataset tars that another tool wrote: the pool's rows point into them, nothing is copied."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.image.files import IMAGE_SUFFIXES
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.readers.files import UnreadableError
from curate.recipe.source import Tars
from curate.sample import uid_of
from curate.shards import Part, TarFault, TarSample, scan_tar
from curate.sources.folder import image_row, read_caption
from curate.sources.rows import MAX_TEXT_BYTES, Row, expand, fail_row, file_stat


def identity(source: Tars) -> Any:
    """Every tar's path, size and time: rows point into it, so that elsewhere it is another."""
    return [[os.path.abspath(p), *file_stat(p)] for p in expand(source.path)]


def list_files(source: Tars) -> list[Path]:
    """List the tars."""
    return expand(source.path)


def read_rows(source: Tars, tar: Path, pool: Pool) -> Iterator[Row]:
    """Read a row a sample, pointing into the tar; a fault of the tar is a failed row."""
    blobs = Blobs(pool)
    for found in scan_tar(tar):
        if isinstance(found, TarFault):
            origin = f"{tar.name}#{found.offset}"
            row: Row = {"uid": uid_of("caption", origin, found.error), "origin": origin, "text": "", "meta": "{}"}
            yield fail_row(row, found.error, found.detail)
        else:
            yield _row(source, tar, found, blobs)
    blobs.close()


def _row(source: Tars, tar: Path, sample: TarSample, blobs: Blobs) -> Row:
    origin = f"{tar.name}#{sample.key}"
    parts = {p.name.lower(): p for p in sample.parts}
    row: Row = {"uid": uid_of("caption", origin), "origin": origin, "text": "", "meta": "{}"}
    where = f"parts: {', '.join(parts)}"
    image = next((parts[s] for s in IMAGE_SUFFIXES if s in parts), None)
    if image is None:
        return fail_row(row, "missing_image", where)
    try:
        text, meta = _read_caption(source, str(tar), parts, blobs, where)
    except UnreadableError as err:
        return fail_row(row, err.error, err.detail)
    row = image_row(origin, text, meta, blobs.read(str(tar), image.offset, image.size, None))
    del row["body"]
    return row | {"tar": str(tar), "offset": image.offset, "nbytes": image.size}


def _read_caption(source: Tars, tar: str, parts: dict[str, Part], blobs: Blobs, where: str) -> tuple[str, str]:
    part_name, _, key = source.text.partition(":")
    text, meta = _read_part(tar, parts.get(part_name), (key, source.keep), blobs, where)
    json_part = parts.get("json")
    if part_name == "json" or not source.keep or json_part is None:
        return text, meta
    return text, _read_part(tar, json_part, (source.keep[0], source.keep), blobs, where)[1]


def _read_part(
    tar: str, part: Part | None, what: tuple[str, tuple[str, ...]], blobs: Blobs, where: str
) -> tuple[str, str]:
    if part is None:
        raise UnreadableError("missing_caption", where)
    if part.size > MAX_TEXT_BYTES:
        raise UnreadableError("text_too_large", where)
    return read_caption(blobs.read(tar, part.offset, part.size, None), part.name.lower() == "json", *what, where)
