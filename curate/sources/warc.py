"""WARC files: a sample a saved page, its bytes as they were served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.extras import require
from curate.pool.layout import Pool
from curate.readers import tables
from curate.recipe.source import Warc
from curate.sample import uid_of
from curate.sources.rows import Row, expand, fail_row, file_stat, with_body


def identity(source: Warc) -> Any:
    """Every file's name, size and time."""
    return [[p.name, *file_stat(p)] for p in expand(source.path)]


def list_files(source: Warc) -> list[Path]:
    """List the files."""
    return expand(source.path)


def read_rows(source: Warc, path: Path, pool: Pool) -> Iterator[Row]:
    """Read a row a page, and a failed one for each record that could not be read."""
    require("source warc", "fastwarc")
    from curate.readers import warc

    for found in warc.read_pages(path):
        origin = tables.make_printable(found.url or f"{path.name}#{found.offset}")
        row: Row = {"uid": uid_of("interleaved", origin, f"{path.name}#{found.offset}"), "origin": origin, "text": ""}
        if isinstance(found, warc.WarcFault):
            yield fail_row(row | {"meta": "{}"}, found.error, found.detail)
            continue
        meta = {"content_type": found.content_type, "date": found.date, **found.notices}
        row["meta"] = tables.make_printable(json.dumps(meta, sort_keys=True))
        if not found.data:
            yield fail_row(row, "empty_page", "the archive holds no bytes of it")
            continue
        row = with_body(row, found.data, "html")
        yield row | {"uid": uid_of("interleaved", origin, found.date, row["sha256"])}
