"""Frame messages between the guard and its child: a JSON head and a payload, by length."""

from __future__ import annotations

import json
import struct
from typing import IO, Any, Final

_FRAME: Final = struct.Struct("<QQ")


def send(pipe: IO[bytes], header: dict[str, Any], payload: bytes) -> None:
    """Write a message: a header as JSON, and bytes."""
    said = json.dumps(header).encode()
    pipe.write(_FRAME.pack(len(said), len(payload)) + said)
    pipe.write(payload)
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read a message. Raises EOFError where the other side has ended."""
    header, payload = _FRAME.unpack(_exactly(pipe, _FRAME.size))
    return json.loads(_exactly(pipe, header)), _exactly(pipe, payload)


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    found = pipe.read(count)
    if len(found) < count:
        raise EOFError
    return found
