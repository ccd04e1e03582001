"""WARC files: a sample a saved page, its bytes as they were served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate import tables, warc
from curate.pool import Pool
from curate.sample import uid_of
from curate.source import Warc
from curate.sources.rows import Row, expand, failed, stat, with_body


def identity(source: Warc) -> Any:
    """Every file's name, size and time."""
    return [[p.name, *stat(p)] for p in expand(source.path)]


def files(source: Warc) -> list[Path]:
    """The files."""
    return expand(source.path)


def read(source: Warc, path: Path, pool: Pool) -> Iterator[Row]:
    """A row a page; where the file is damaged, a failed row and the end."""
    for found in warc.pages(path):
        if isinstance(found, warc.Damage):
            origin = f"{path.name}#{found.offset}"
            row: Row = {"uid": uid_of("interleaved", origin), "origin": origin, "text": "", "meta": "{}"}
            yield failed(row, "corrupt_warc", found.detail)
            return
        meta = json.dumps({"content_type": found.content_type, "date": found.date}, sort_keys=True)
        url = tables.printable(found.url)
        row = {"uid": uid_of("interleaved", url, found.date), "origin": url, "text": "", "meta": meta}
        if found.error is not None or not found.body:
            yield failed(row, found.error or "empty_page", found.detail)
        else:
            row = with_body(row, found.body, "html")
            yield row | {"uid": uid_of("interleaved", url, found.date, row["sha256"])}
