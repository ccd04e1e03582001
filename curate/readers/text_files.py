"""Open strangers' files of text: packing and encoding are read off their first bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from curate import lfs
from curate.readers.rows import PointerError, TableError

COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_OTHERS = {
    b"\xfd7zXZ\0": "xz: decompress it",
    b"PK\x03\x04": "a zip archive (or an Excel sheet): unpack it, or save it as csv",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"PAR1": "Parquet: name it .parquet",
    b"ARROW1": "an Arrow file: write it as Parquet",
    b"SQLite format 3": "an SQLite database: export its table as csv",
}
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def without_compression(name: str) -> str:
    """A file's name without the suffix of what it is packed with."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in COMPRESSED else name


def open_bytes(path: Path) -> pa.NativeFile:
    """Open a file, unpacked where its first bytes say gzip, zstd or bzip2. Raises TableError."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as err:
        raise TableError(f"{path}: cannot be opened: {err}") from None
    if lfs.is_lfs_pointer(head):
        raise PointerError(f"{path}: {lfs.REMEDY}")
    codec = next((codec for magic, codec in _PACKED.items() if head.startswith(magic)), None)
    named = COMPRESSED.get(path.suffix.lower())
    if named is not None and named != codec:
        raise TableError(f"{path}: named {path.suffix}, but its bytes are no {named}; name it as what it is")
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise TableError(f"{path}: the file is {what}")
    return pa.input_stream(str(path), compression=codec)


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open a file of text: UTF-8, or what its byte order mark says. Lines keep their ends. Raises TableError.

    Bytes that are no UTF-8 stand in it as surrogates, so that one bad row is named and the others are read.
    """
    try:
        with open_bytes(path) as stream:
            encoding = _encoding(bytes(stream.read(4)), path)
        errors = "surrogateescape" if encoding == "utf-8-sig" else "surrogatepass"
        with io.TextIOWrapper(open_bytes(path), encoding=encoding, errors=errors, newline="") as file:
            yield file
    except (OSError, pa.ArrowException, UnicodeError) as err:
        raise TableError(f"{path}: damaged or cut short: {err}; write the file again") from None


def text_encoding(path: Path) -> str:
    """The encoding that the file's first bytes tell. Raises TableError."""
    with open_bytes(path) as stream:
        return _encoding(bytes(stream.read(4)), path)


def _encoding(head: bytes, path: Path) -> str:
    found = next((encoding for mark, encoding in _MARKS.items() if head.startswith(mark)), "utf-8-sig")
    if found == "utf-8-sig" and b"\0" in head:
        order = "LE" if head[:1] != b"\0" else "BE"
        raise TableError(f"{path}: UTF-16 without its mark: `iconv -f UTF-16{order} -t UTF-8` makes it readable")
    return found
