"""Run pdfium in a process of its own: a file that crashes, hangs or fills memory costs one row.

A bomb of a kilobyte can ask for all the memory there is (drawings that reuse drawings, streams that unpack a
thousandfold), and pdfium offers no way to stop. So the work is done by a child with limits set by the operating system,
which is started again when it died.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from functools import cache
from io import BytesIO
from typing import Any, Final

import numpy as np

from curate.extras import require
from curate.image.files import Format
from curate.pdf.found import PageLook, PageObjects, PageText, PdfError, PdfLimits
from curate.pdf.wire import receive, send

SECONDS: Final = 30.0
MEMORY_BYTES: Final = 2 << 30
"""Processor time for one page, and address space, that the child may use."""

_PROGRAM: Final = "import sys; sys.path[:] = {path!r}; from curate.pdf import child; child.serve()"


class PdfGuard:
    """A child that reads PDF files; the last one stays open, known by the identity of its bytes. Threads take turns.

    Errors are those of `PdfError`, with pdf_timeout and pdf_crashed for files that it could not survive. What it finds
    depends on the file alone: one that made a used child crash is tried again with a fresh one.
    """

    def __init__(self, limits: PdfLimits, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
        self._limits, self._seconds, self._memory_bytes = limits, seconds, memory_bytes
        self._child: subprocess.Popen[bytes] | None = None
        self._open: bytes | None = None
        self._used = False
        self._turn = threading.Lock()

    def pages(self, data: bytes) -> int:
        """Count the pages of a file."""
        found, _ = self._ask(data, {"do": "pages"})
        return int(found["pages"])

    def look(self, data: bytes, page: int) -> PageLook:
        """Read the text layer of a page, counted from 0, and where its images and paths are."""
        found, payload = self._ask(data, {"do": "look", "page": page})
        parts = BytesIO(payload)
        words = parts.read(found["words_bytes"]).decode()
        count, images, paths = found["words"], found["images"], found["paths"]
        boxes, image_boxes, path_boxes = (
            np.frombuffer(parts.read(16 * rows), np.float32).reshape(rows, 4) for rows in (count, images, paths)
        )
        lines = np.frombuffer(parts.read(8 * count), np.int64)
        text = parts.read().decode()
        listed = words.split("\n") if count else []
        layer = PageText(text, listed, boxes, lines, found["columns"], found["skew_degrees"])
        objects = PageObjects(image_boxes, path_boxes)
        return PageLook(found["width_pt"], found["height_pt"], layer, objects, *found["characters"])

    def draw(self, data: bytes, page: int, long_side_px: int, format: Format, quality: int) -> tuple[bytes, int, int]:
        """Draw a page as an image file: the file, its width and height in pixels."""
        wanted = {"do": "draw", "page": page, "long_side_px": long_side_px, "format": format, "quality": quality}
        found, payload = self._ask(data, wanted)
        return payload, found["width"], found["height"]

    def close(self) -> None:
        """End the child."""
        child, self._child, self._open = self._child, None, None
        if child is not None:
            child.kill()
            child.communicate()

    def __del__(self) -> None:
        self.close()

    def _ask(self, data: bytes, wanted: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        with self._turn:
            found, payload = self._ask_child(data, wanted)
        if "error" in found:
            raise PdfError(found["error"], found["detail"])
        return found, payload

    def _ask_child(self, data: bytes, wanted: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        fresh = self._child is None or not self._used
        try:
            found, payload = self._exchange(data, wanted)
        except (EOFError, BrokenPipeError):
            error = self._why_it_died()
            if fresh or error.error == "pdf_timeout":
                raise error from None
            return self._ask_child(data, wanted)
        self._used = True
        return found, payload

    def _exchange(self, data: bytes, wanted: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        child = self._child = self._child or self._start()
        assert child.stdin is not None and child.stdout is not None
        same = self._open is data
        send(child.stdin, wanted | {"same": same}, b"" if same else data)
        self._open = data
        return receive(child.stdout)

    def _start(self) -> subprocess.Popen[bytes]:
        require("a PDF file", "pypdfium2")
        self._open, self._used = None, False
        child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each thread would take address space
        )
        assert child.stdin is not None and child.stdout is not None
        limits = {"limits": asdict(self._limits), "seconds": self._seconds, "memory_bytes": self._memory_bytes}
        send(child.stdin, limits, b"")
        try:
            receive(child.stdout)
        except EOFError:
            raise RuntimeError("the process that reads PDF files does not start: its error is printed above") from None
        return child

    def _why_it_died(self) -> PdfError:
        assert self._child is not None
        child = self._child
        self.close()
        if child.returncode == -signal.SIGPROF:
            return PdfError("pdf_timeout", f"more than {self._seconds:g} s of processor time for a page")
        ended = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit code {child.returncode}"
        return PdfError("pdf_crashed", f"{ended}; at most {self._memory_bytes >> 20} MB of memory were allowed")


def shared_guard(limits: PdfLimits) -> PdfGuard:
    """This process's own guard for these limits: ops that read one file one after the other share it."""
    return _guard_of(limits, os.getpid())


@cache
def _guard_of(limits: PdfLimits, process: int) -> PdfGuard:
    return PdfGuard(limits)


def count_pages(data: bytes, limits: PdfLimits) -> int:
    """Count the pages of a file, by the guard. Raises PdfError."""
    return shared_guard(limits).pages(data)
