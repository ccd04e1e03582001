"""Texts: the row holds the text itself; there are no further bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from curate import strict_json
from curate.download import Downloader
from curate.readers import tables, texts
from curate.recipe.source import Texts
from curate.sample import uid_of
from curate.sources.rows import (
    Row,
    expand,
    fail_row,
    field_of,
    is_bad,
    table_identity,
    table_remarks,
    table_rows,
    unreadable_row,
)

identity = table_identity


def plan_rows(source: Texts) -> Iterator[Row | str]:
    """Plan a row for each text."""
    yield from _remarks(source)
    for row in _read_documents(source):
        if isinstance(row, tables.BadRow):
            yield unreadable_row("text", row)
            continue
        meta = strict_json.dumps(row["meta"])
        uid = uid_of("text", row["origin"], row["text"], meta)
        yield {"uid": uid, "origin": row["origin"], "text": row["text"], "meta": meta}


def _remarks(source: Texts) -> Iterator[str]:
    for path in expand(source.path) if source.path is not None else ():
        if texts.kind_of(path, source.separator is not None) in texts.TABLE_SUFFIXES:
            yield from table_remarks(path, (source.text, *source.keep), source.quoting)


def _read_documents(source: Texts) -> Iterator[Row | tables.BadRow]:
    if source.path is not None:
        for path in expand(source.path):
            yield from texts.read(
                path, text=source.text, keep=source.keep, split=source.separator, quoting=source.quoting
            )
        return
    for number, row in enumerate(table_rows(source, (source.text, *source.keep)), 1):
        if isinstance(row, tables.BadRow):
            yield row
            continue
        text, meta = field_of(row, source.text), {column: row[column] for column in source.keep}
        if isinstance(text, tables.BadRow):
            yield text
        else:
            yield {"text": text, "origin": f"{source.huggingface}#{number}", "meta": meta}


def load_rows(source: Texts, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """Return the rows as they are."""
    for row in rows:
        body = row["text"].encode()
        if is_bad(row) or not body:
            yield fail_row(row, row["error"] or "empty_text", row["detail"])
        else:
            digest = hashlib.sha256(body).hexdigest()
            yield row | {"status": "success", "error": None, "nbytes": len(body), "sha256": digest}
