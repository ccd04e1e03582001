"""Bytes as a column's value: pages that an op renders, pictures that it fetches.

An op returns `Stored` (or `Absent`) in a column of type `BLOB` or a list of them; the engine writes the bytes into a
tar beside the column, and a later op reads `Blob`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

BLOB = pa.struct(
    [
        ("tar", pa.string()),
        ("offset", pa.int64()),
        ("nbytes", pa.int64()),
        ("ext", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("error", pa.string()),
        ("detail", pa.string()),
    ]
)
"""Where the bytes lie (`tar` is relative to the pool), or the error by which they are not there."""


IMAGES = "curate:images"
"""The key of a pool's record, as JSON, under which the images that came with it lie: a `BLOB` by each one's name."""


@dataclass(frozen=True)
class Stored:
    """Bytes to be kept; `ext` is their format's, `width` and `height` are an image's, in pixels."""

    data: bytes
    ext: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Absent:
    """In the place of a `Stored` that could not be had: the row lives on, and the error's name is kept there."""

    error: str
    detail: str = ""


@dataclass(frozen=True)
class Blob:
    """Bytes that lie in the pool: the fields of `BLOB`, and `read`, which brings them; none in one that an op made."""

    tar: str | None
    offset: int | None
    nbytes: int | None
    ext: str | None
    sha256: str | None
    width: int | None
    height: int | None
    error: str | None
    detail: str | None
    reader: Callable[[str, int, int, str | None], bytes] | None = field(default=None, repr=False, compare=False)

    def read(self) -> bytes:
        """The bytes, where there is no `error`. Raises OSError when the pool's file is gone, or not what it was."""
        assert self.tar is not None and self.offset is not None and self.nbytes is not None, f"absent: {self.error}"
        assert self.reader is not None, "made by an op, to be passed on"
        return self.reader(self.tar, self.offset, self.nbytes, self.sha256)
