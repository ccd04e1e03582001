"""Images with captions beside them, as files of a folder or members of a tar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from curate import lfs, strict_json
from curate.download import sniff
from curate.image.files import CLAIMED_SUFFIXES, IMAGE_SUFFIXES
from curate.readers.files import UnreadableError
from curate.readers.rows import MARK
from curate.sample import uid_of
from curate.sources.rows import Row, fail_row, field_text, with_body

SNIFFED = 4096
"""Bytes of a file by which it is told whether it holds an image."""


def image_row(origin: str, text: str, meta: str, body: bytes) -> Row:
    """Make the row of an image and its caption, if the bytes are those of an image that can be decoded."""
    row: Row = {"origin": origin, "text": text, "meta": meta}
    ext, error = sniff(body)
    row = with_body(row, body, ext or "")
    row["uid"] = uid_of("caption", origin, row["sha256"], text)
    if not body:
        return fail_row(row | {"ext": None}, "empty_file", "the bytes are of no known image format")
    if error is not None:
        detail = lfs.REMEDY if error == "lfs_pointer" else "the bytes are of no known image format"
        return fail_row(row | {"ext": None}, error, detail)
    if ext not in IMAGE_SUFFIXES:
        return fail_row(row, "unsupported_format", f"{ext}: nothing here decodes it")
    return row


def claims_image(name: str) -> bool:
    """Whether a name says that an image is in the file: such a file is a row, whatever is in it."""
    return "." in name and name.rsplit(".", 1)[-1].lower() in CLAIMED_SUFFIXES


def holds_image(name: str, head: bytes) -> bool:
    """Whether the first bytes of a file are an image's, though its name does not say so."""
    ext, _ = sniff(head)
    if ext == "bmp":  # two letters alone, that a text may begin with
        return head[6:10] == b"\0\0\0\0"
    if ext == "tiff":  # so begin the raw files of cameras, too, whose first picture is a thumbnail
        return "." not in name.rsplit("/", 1)[-1]
    return ext is not None


def read_caption(data: bytes, where: str) -> str:
    """Read the caption that a file of text is. Raises UnreadableError."""
    return _decode(data, where).rstrip("\r\n")


def read_fields(data: bytes, where: str) -> Any:
    """Read the JSON of a sample. Raises UnreadableError."""
    text = _decode(data, where)
    try:
        return strict_json.plain(json.loads(text))
    except (ValueError, RecursionError):
        raise UnreadableError("bad_json", where) from None


def caption_of(fields: Any, key: str, where: str) -> str:
    """The caption that is under a key of a sample's JSON. Raises UnreadableError."""
    if not isinstance(fields, dict) or key not in fields:
        raise UnreadableError("missing_caption", f"{where}; no key {key!r} in its JSON")
    try:
        return field_text(fields[key])
    except strict_json.NotTextError as err:
        raise UnreadableError("not_text", f"{where}; its key {key!r} holds {err}") from None


def meta_of(fields: Any, keep: Sequence[str], where: str) -> str:
    """The keys of a sample's JSON that are kept, null where it lacks one. Raises UnreadableError."""
    if not keep:
        return "{}"
    if not isinstance(fields, dict):
        raise UnreadableError("bad_json", f"{where}; a JSON {type(fields).__name__}, expected an object")
    return strict_json.dumps({key: fields.get(key) for key in keep})


def _decode(data: bytes, where: str) -> str:
    if lfs.is_lfs_pointer(data):
        raise UnreadableError("lfs_pointer", f"{where}; {lfs.REMEDY}")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        return data.decode(encoding).removeprefix(MARK)
    except UnicodeDecodeError:
        raise UnreadableError("bad_encoding", where) from None
