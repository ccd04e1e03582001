"""The guard's child: the one process that has pdfium, and that a stranger's file may end."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from typing import Any

from curate.image.files import encoded
from curate.pdf.file import PdfFile, PdfPage, find_objects, open_pdf, render
from curate.pdf.found import PdfError, PdfLimits
from curate.pdf.hidden import count_invisible, count_overlaid
from curate.pdf.text import read_text
from curate.pdf.wire import receive, send


class _Reader:
    """The open file, or why it does not open, and what can be asked of it."""

    def __init__(self, limits: PdfLimits) -> None:
        self._limits = limits
        self._pdf: PdfFile | PdfError = PdfError("empty_file", "nothing was opened")

    def open(self, data: bytes) -> None:
        if isinstance(self._pdf, PdfFile):
            self._pdf.close()
        try:
            self._pdf = open_pdf(data, self._limits)
        except PdfError as error:
            self._pdf = error

    def answer(self, wanted: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Answer as numbers and as bytes. Raises PdfError."""
        if isinstance(self._pdf, PdfError):
            raise self._pdf
        if wanted["do"] == "pages":
            return {"pages": self._pdf.pages}, b""
        with self._pdf.page(wanted["page"]) as page:
            return _looked(page) if wanted["do"] == "look" else _drawn(page, wanted)


def _looked(page: PdfPage) -> tuple[dict[str, Any], bytes]:
    layer, found = read_text(page), find_objects(page)
    words = "\n".join(layer.words).encode()
    header = {
        "width_pt": page.width_pt,
        "height_pt": page.height_pt,
        "words_bytes": len(words),
        "words": len(layer.words),
        "images": len(found.images),
        "paths": len(found.paths),
        "columns": layer.columns,
        "characters": [count_invisible(page), *count_overlaid(page)],
        "skew_degrees": layer.skew_degrees,
    }
    arrays = [a.tobytes() for a in (layer.boxes, found.images, found.paths, layer.lines)]
    return header, b"".join([words, *arrays, layer.text.encode()])


def _drawn(page: PdfPage, wanted: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    image = render(page, wanted["long_side_px"])
    file = encoded(image, wanted["format"], wanted["quality"])
    return {"width": image.width, "height": image.height}, file


def serve() -> None:
    """Answer requests until the pipe ends. What takes too long ends the process, by a signal."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    said, _ = receive(requests)
    reader = _Reader(PdfLimits(**said["limits"]))
    resource.setrlimit(resource.RLIMIT_AS, (said["memory_bytes"],) * 2)
    send(answers, {}, b"")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # from here on it is strangers' files that end it
    with contextlib.suppress(EOFError):
        while True:
            wanted, data = receive(requests)
            signal.setitimer(signal.ITIMER_PROF, said["seconds"])
            if not wanted["same"]:
                reader.open(data)
            try:
                header, payload = reader.answer(wanted)
            except PdfError as error:
                header, payload = {"error": error.error, "detail": error.detail}, b""
            signal.setitimer(signal.ITIMER_PROF, 0)
            send(answers, header, payload)
