"""Bench PDF pages with words, boxes and reading order beside pypdfium2 alone; memory over many pages.

    python bench/pdf.py [--files 60] [--runs 3] [--pages 100000]

Real files from Debian (`apt-get update` first): the installation guide in 18 languages and documents of publishers (two
columns, mathematics, tables), every so many of their files. Each way opens a file, reads all its pages and closes it;
the ways take turns file by file, and the processor time of the fastest of --runs counts.

- pypdfium2, rectangles: `get_text_range` and `get_rect` for each of `count_rects`: the text, and boxes of runs of it.
- pypdfium2, characters: `get_text_range` and `get_charbox` for each character: what words could be made from.
- curate.pdf: `read_text`, in this process: words, their boxes, lines, columns, text.
- curate.pdf with pictures and lines: the same with `find_objects`.
- curate.pdf, guarded: `PdfGuard.look`, both by a child process, over a pipe; the time of both processes, the start too.

Then --pages pages are read by `read_text` and `find_objects`, round and round; resident memory is told as it goes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pypdfium2

from curate.pdf import PdfGuard, PdfLimits
from curate.pdf.file import PdfPage, find_objects, open_pdf
from curate.pdf.text import read_text
from pipelines.materials.packages import fetch

MATERIALS = ("installation-guide-amd64", "texlive-publishers-doc")


def documents(count: int) -> list[bytes]:
    """PDF files, every so many of both materials' 828."""
    folders = [fetch(name) for name in MATERIALS]
    paths = sorted(p for folder in folders for p in folder.rglob("*") if p.name.endswith((".pdf", ".pdf.gz")))
    found = [path.read_bytes() for path in paths[:: max(1, len(paths) // count)]]
    return [gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data for data in found]


def bare(boxes: Callable[[Any], object]) -> Callable[[bytes], int]:
    """pypdfium2 alone: each page's text, and boxes as `boxes` asks for them."""

    def read(data: bytes) -> int:
        pdf = pypdfium2.PdfDocument(data)
        for number in range(len(pdf)):
            page = pdf[number]
            text = page.get_textpage()
            text.get_text_range()
            boxes(text)
            text.close()
            page.close()
        pages = len(pdf)
        pdf.close()
        return pages

    return read


def ours(look: Callable[[PdfPage], object]) -> Callable[[bytes], int]:
    """Each page as `look` looks at it."""

    def read(data: bytes) -> int:
        with open_pdf(data) as pdf:
            for number in range(pdf.pages):
                with pdf.page(number) as page:
                    look(page)
            return pdf.pages

    return read


layout = ours(lambda page: (read_text(page), find_objects(page)))

WAYS: dict[str, Callable[[bytes], int]] = {
    "pypdfium2, rectangles": bare(lambda text: [text.get_rect(at) for at in range(text.count_rects())]),
    "pypdfium2, characters": bare(lambda text: [text.get_charbox(at) for at in range(text.count_chars())]),
    "curate.pdf": ours(read_text),
    "curate.pdf with pictures and lines": layout,
}


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(work: Callable[[], object]) -> float:
    before = processor_seconds()
    work()
    return processor_seconds() - before


def guarded(files: list[bytes]) -> None:
    guard = PdfGuard(PdfLimits())
    for data in files:
        for number in range(guard.pages(data)):
            guard.look(data, number)
    guard.close()


def speed(files: list[bytes], runs: int) -> None:
    seconds = dict.fromkeys(WAYS, 0.0)
    for data in files:
        for name, way in WAYS.items():
            seconds[name] += min(timed(partial(way, data)) for _ in range(runs))
    seconds["curate.pdf, guarded"] = min(timed(partial(guarded, files)) for _ in range(runs))
    pages = sum(map(WAYS["pypdfium2, rectangles"], files))
    for name, took in seconds.items():
        ratio = seconds["pypdfium2, rectangles"] / took
        figures = {"way": name, "files": len(files), "pages": pages, "pages_a_second": round(pages / took, 1)}
        print(json.dumps(figures | {"of_pypdfium2": round(ratio, 2)}), flush=True)


def memory(files: list[bytes], pages: int) -> None:
    done, started = 0, time.monotonic()
    milestones = [pages * share // 10 for share in range(1, 11)]
    while done < pages:
        for data in files:
            done += layout(data)
            if milestones and done >= milestones[0]:
                milestones = [one for one in milestones if one > done]
                resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
                print(json.dumps({"pages": done, "resident_mb": resident >> 20}), flush=True)
    print(json.dumps({"pages": done, "pages_a_second": round(done / (time.monotonic() - started), 1)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pages", type=int, default=100_000)
    asked = parser.parse_args()
    files = documents(asked.files)
    speed(files, asked.runs)
    memory(files, asked.pages)


if __name__ == "__main__":
    main()
