"""The identity of a sample: its kind, its uid, and the fingerprint of plain data."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

Kind = Literal["caption", "interleaved", "ocr", "text"]


def uid_of(kind: str, *parts: str | bytes) -> str:
    """The 128-bit uid of a sample as 32 lowercase hex digits: BLAKE2b over its kind and parts, each length-prefixed.

    The same input has the same uid for ever: `parts` are the sample's origin and content as they were given,
    never a position, a time or a worker.
    """
    digest = hashlib.blake2b(digest_size=16, person=b"curate.uid.1")
    for part in (kind, *parts):
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """16 hex digits that name plain data (what JSON can hold): equal data, equal name."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
