"""Measure a worker's memory over shards of growing size: `bench/memory.py [PAGES...]`.

A WARC is one shard, whatever its size, and its pages become documents whose texts later steps read, a group op before
them or not, until they are published. Each size is one WARC of made-up pages (30 kB of HTML each), run by the real
command line in one process; the peak of its memory is told, and a page's part in it: the peak of the largest less that
of the smallest over the pages between them. A shard that is held whole costs each page about three times its text;
one that is streamed costs its small columns.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

SIZES = (2_000, 8_000)
STEPS = [
    {"op": "html_document"},
    {"op": "language"},
    {"op": "gopher_quality", "keep": {"gopher_words": {"min": 20}}},
    # A group op: what comes after it reads documents that an earlier stage made.
    {"op": "image_url_counts", "keep_images": {"image_url_counts": {"max": 10}}},
    {"op": "obelics_paragraph", "over": "paragraphs", "keep_paragraphs": {"paragraph_words": {"min": 4, "max": 1000}}},
]


def write_warc(path: Path, pages: int) -> None:
    """A WARC of `pages` pages, each a gzip member of its own."""
    chance = Random(7)
    words = ["".join(chance.choices("abcdefghijklmnoprstuvw", k=chance.randrange(2, 10))) for _ in range(5000)]
    with open(path, "wb") as file:
        for number in range(pages):
            chance = Random(number)
            paragraphs = [" ".join(chance.choices(words, k=110)) for _ in range(40)]
            body = f"<title>{number}</title><article>" + "".join(f"<p>The {p} and the end.</p>\n" for p in paragraphs)
            file.write(gzip.compress(_record(f"https://example.org/{number}", body.encode()), 1, mtime=0))


def _record(url: str, body: bytes) -> bytes:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Date: 2026-01-02T03:04:05Z\r\nWARC-Target-URI: {url}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def measure(pages: int, folder: Path) -> dict[str, Any]:
    """Run the recipe over a WARC of so many pages; its peak memory, its time and what it kept."""
    warc, out = folder / f"{pages}.warc.gz", folder / f"out-{pages}"
    write_warc(warc, pages)
    source = {"type": "warc", "path": str(warc)}
    settings = {"name": "bench", "kind": "interleaved", "out": str(out), "source": source, "steps": STEPS}
    recipe = folder / f"{pages}.yaml"
    recipe.write_text(json.dumps(settings))
    start = time.perf_counter()
    curate = str(Path(sys.executable).with_name("curate"))
    command = [curate, "run", str(recipe), "--inline"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run of {pages} pages failed")
    samples = json.loads((out / "dataset" / "dataset.json").read_text())["samples"]
    return {"pages": pages, "kept": samples, "peak_MiB": used.ru_maxrss / 1024, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=int, default=SIZES, help="sizes of the WARC, in pages")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found = []
    for pages in args.pages:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(pages, Path(folder)))
        print(" ".join(f"{k} {v:.0f}" for k, v in found[-1].items()), flush=True)
    first, last = found[0], found[-1]
    if len(found) > 1:
        grown = (last["peak_MiB"] - first["peak_MiB"]) * 1024 / (last["pages"] - first["pages"])
        print(f"a page more: {grown:.1f} KiB of memory")


if __name__ == "__main__":
    main()
