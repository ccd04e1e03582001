"""WARC files: a sample a saved page, its bytes as they were served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate import strict_json
from curate.pool.layout import Pool
from curate.readers import warc
from curate.readers.warc_records import WarcFault
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
    for found in warc.read_pages(path):
        place = f"{path.name}#{found.offset}"
        origin = strict_json.mend_text(found.url or place)
        row: Row = {"uid": uid_of("interleaved", origin, place), "origin": origin, "text": "", "meta": "{}"}
        if isinstance(found, WarcFault):
            # In one compressed member several may lie: what is wrong with each tells them apart.
            uid = uid_of("interleaved", origin, place, found.error, found.detail)
            yield fail_row(row | {"uid": uid}, found.error, found.detail)
            continue
        meta = {"content_type": found.content_type, "date": found.date, **found.notices}
        if found.truncated:
            meta["truncated"] = found.truncated
        row["meta"] = strict_json.dumps(meta)
        if not found.data:
            yield fail_row(row, "empty_page", "the archive holds no bytes of it")
            continue
        row = with_body(row, found.data, "html")
        yield row | {"uid": uid_of("interleaved", origin, found.date, row["sha256"])}
