"""Strict JSON of whatever values a stranger's table or file holds."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
import uuid
from typing import Any

LEVELS = 100
"""Lists and objects of a stranger's value that may lie within one another; what is written may have twice as many."""

_HALF_PAIR = re.compile("[\ud800-\udfff]")
_WRITTEN_OUT = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)


class NotTextError(ValueError):
    """A value that neither a text nor JSON can hold: bytes that are no UTF-8, a picture."""


def plain(value: Any, levels: int = LEVELS) -> Any:
    """Say a value in JSON's kinds alone. Raises NotTextError, and RecursionError for more than so many levels.

    NaN and infinities are null: JSON has no such numbers. Bytes are read as UTF-8; dates, times, decimals and UUIDs are
    texts. Half of a surrogate pair, which JSON may spell and no file can hold, is U+FFFD, as UTF-8 decoders have it.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return mend_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (dict, list, tuple)):
        if not levels:
            raise RecursionError("nested too deeply")
        if isinstance(value, dict):
            return {mend_text(str(key)): plain(entry, levels - 1) for key, entry in value.items()}
        return [plain(entry, levels - 1) for entry in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _decode(bytes(value))
    if isinstance(value, _WRITTEN_OUT):
        return str(value)
    raise NotTextError(f"a {type(value).__name__}, which is no text")


def dumps(value: Any) -> str:
    """Write a value as one line of strict JSON, its keys sorted. Raises NotTextError, RecursionError."""
    return json.dumps(plain(value, 2 * LEVELS), ensure_ascii=False, sort_keys=True, allow_nan=False)


def mend_text(text: str) -> str:
    """The text with U+FFFD where it holds half of a surrogate pair; two halves that follow one another are a pair."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _HALF_PAIR.sub("\ufffd", text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass"))
    return text


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise NotTextError(f"{len(data)} bytes that are no UTF-8") from None
