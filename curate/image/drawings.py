"""Draw SVG files as PNG, each in a process of its own: a stranger's drawing may ask for all of a machine."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from curate.image.drawings_child import REFUSED, TOO_LARGE
from curate.image.files import ImageError

SECONDS = 20
MEMORY_BYTES = 2 << 30
"""Processor time and address space of one drawing's process."""

MAX_SVG_BYTES = 8 << 20

_COSTLY = (TOO_LARGE, *(-sign for sign in (signal.SIGXCPU, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)))

_LINKED = re.compile(rb"<(?:[\w-]+:)?(?:image|feImage)\b[^>]*\bhref\s*=\s*[\"'](?!\s*(?:#|data:))", re.IGNORECASE)
_PROGRAM = "import sys; sys.path[:] = {path!r}; from curate.image.drawings_child import draw; sys.exit(draw(*{said!r}))"


def draw_svg(data: bytes, side_px: int, fonts: Sequence[str] = ()) -> bytes:
    """Draw an SVG on white, `side_px` wide, as a PNG. `fonts`: files or folders; no others are used, and a text whose
    font is not there is left out.

    Raises ImageError: image_too_large, linked_picture (it shows a file that lies elsewhere), image_too_costly (more
    than SECONDS or MEMORY_BYTES), decode_error.
    """
    if len(data) > MAX_SVG_BYTES:
        raise ImageError("image_too_large", f"an SVG of {len(data)} bytes; {MAX_SVG_BYTES} are allowed")
    if _LINKED.search(data):
        raise ImageError("linked_picture", "the drawing shows a picture of another file")
    said = (side_px, SECONDS, MEMORY_BYTES, [str(Path(font).resolve()) for font in fonts])
    program = _PROGRAM.format(path=[str(Path(entry).resolve()) for entry in sys.path], said=said)
    with tempfile.TemporaryDirectory() as empty:  # what it names by a relative path is not there
        done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, cwd=empty, check=False)
    if done.returncode == REFUSED:
        raise ImageError("decode_error", done.stderr.decode("utf-8", "replace").strip()[-200:])
    if done.returncode in _COSTLY:
        raise ImageError("image_too_costly", f"more than {SECONDS} s or {MEMORY_BYTES >> 30} GB to draw")
    if done.returncode != 0:  # this machine's fault, not the drawing's
        told = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise OSError(f"the process that draws an SVG ended with {done.returncode}: {told}")
    return done.stdout
