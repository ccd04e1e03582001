"""Texts: the row holds the text itself; there are no further bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from curate.download import Downloader
from curate.readers import tables, texts
from curate.recipe.source import Texts
from curate.sample import uid_of
from curate.sources.rows import Row, expand, fail_row, field_text, is_bad, table_identity, table_rows, unreadable_row

identity = table_identity


def plan_rows(source: Texts) -> Iterator[Row]:
    """Plan a row for each text."""
    for row in _read_documents(source):
        if isinstance(row, tables.BadRow):
            yield unreadable_row("text", row)
            continue
        meta = json.dumps(row["meta"], ensure_ascii=False, sort_keys=True, default=str)
        uid = uid_of("text", row["origin"], row["text"], meta)
        yield {"uid": uid, "origin": row["origin"], "text": row["text"], "meta": meta}


def _read_documents(source: Texts) -> Iterator[Row | tables.BadRow]:
    if source.path is not None:
        for path in expand(source.path):
            yield from texts.read(path, text=source.text, keep=source.keep, split=source.separator)
        return
    for number, row in enumerate(table_rows(source, (source.text, *source.keep)), 1):
        if isinstance(row, tables.BadRow):
            yield row
        else:
            meta = {column: row[column] for column in source.keep}
            yield {"text": field_text(row[source.text]), "origin": f"{source.huggingface}#{number}", "meta": meta}


def load_rows(source: Texts, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """Return the rows as they are."""
    for row in rows:
        body = row["text"].encode()
        if is_bad(row) or not body:
            yield fail_row(row, row["error"] or "empty_text", row["detail"])
        else:
            digest = hashlib.sha256(body).hexdigest()
            yield row | {"status": "success", "error": None, "nbytes": len(body), "sha256": digest}
