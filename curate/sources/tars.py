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
from curate.sources.captions import (
    SNIFFED,
    caption_of,
    claims_image,
    holds_image,
    image_row,
    meta_of,
    read_caption,
    read_fields,
)
from curate.sources.rows import MAX_TEXT_BYTES, Row, expand, fail_row, file_stat


def identity(source: Tars) -> Any:
    """Every tar's path, size and time: rows point into it, so that elsewhere it is another."""
    return [[os.path.abspath(p), *file_stat(p)] for p in expand(source.path)]


def list_files(source: Tars) -> list[Path]:
    """List the tars."""
    return expand(source.path)


def read_rows(source: Tars, tar: Path, pool: Pool) -> Iterator[Row]:
    """Read a row a sample, pointing into the tar; a fault of the tar, or one without samples, is a failed row."""
    blobs = Blobs(pool)
    found = None
    for found in scan_tar(tar):
        if isinstance(found, TarFault):
            yield _fault(tar, found)
        else:
            yield _SampleParts(source, tar, found, blobs).row()
    if found is None:
        yield _fault(tar, TarFault("empty_tar", "no sample is in it", 0))
    blobs.close()


def _fault(tar: Path, fault: TarFault) -> Row:
    origin = f"{tar.name}#{fault.offset}"
    row: Row = {"uid": uid_of("caption", origin, fault.error), "origin": origin, "text": "", "meta": "{}"}
    return fail_row(row, fault.error, fault.detail)


class _SampleParts:
    """The parts of one sample of a tar, read as the source says."""

    def __init__(self, source: Tars, tar: Path, sample: TarSample, blobs: Blobs) -> None:
        self.source, self.tar, self.blobs = source, str(tar), blobs
        self.origin = f"{tar.name}#{sample.key}"
        self.parts = {part.name.lower(): part for part in sample.parts}
        self.where = f"parts: {', '.join(self.parts)}"

    def row(self) -> Row:
        """The sample's row."""
        row: Row = {"uid": uid_of("caption", self.origin), "origin": self.origin, "text": "", "meta": "{}"}
        try:
            image = self._image()
            text, meta = self._caption()
        except UnreadableError as err:
            return fail_row(row, err.error, err.detail)
        row = image_row(self.origin, text, meta, self.blobs.read(self.tar, image.offset, image.size, None))
        del row["body"]
        return row | {"tar": self.tar, "offset": image.offset, "nbytes": image.size}

    def _image(self) -> Part:
        """The part that the source names, or the one that is an image. Raises UnreadableError."""
        if self.source.image is not None:
            named = [name for name in self.source.image.lower().split(";") if name in self.parts]
            if not named:
                raise UnreadableError("missing_image", f"{self.where}; source.image names none of them")
            return self.parts[named[0]]
        candidates = (
            [name for name in self.parts if name in IMAGE_SUFFIXES],
            [name for name in self.parts if claims_image(f".{name}")],
            [name for name in self.parts if self._holds_image(name)],
        )
        found = next(filter(None, candidates), [])
        if len(found) > 1:
            shown = ", ".join(found)
            raise UnreadableError("several_images", f"{shown}: name the one that is meant in source.image")
        if not found:
            raise UnreadableError("missing_image", self.where)
        return self.parts[found[0]]

    def _holds_image(self, name: str) -> bool:
        part = self.parts[name]
        return holds_image(name, self.blobs.read(self.tar, part.offset, min(part.size, SNIFFED), None))

    def _caption(self) -> tuple[str, str]:
        """The caption and the meta. Raises UnreadableError."""
        name, _, key = self.source.text.partition(":")
        fields = None
        if "json" in self.parts and (name == "json" or self.source.keep):
            fields = read_fields(self._read("json"), self.where)
        meta = meta_of(fields, self.source.keep, self.where) if "json" in self.parts else "{}"
        if name == "json":
            return caption_of(fields, key, self.where), meta
        return read_caption(self._read(name), self.where), meta

    def _read(self, name: str) -> bytes:
        part = self.parts.get(name)
        if part is None:
            raise UnreadableError("missing_caption", self.where)
        if part.size > MAX_TEXT_BYTES:
            raise UnreadableError("text_too_large", self.where)
        return self.blobs.read(self.tar, part.offset, part.size, None)
