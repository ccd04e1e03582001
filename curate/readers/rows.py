"""Rows of strangers' tables: what a table gives, or a named error in its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate import strict_json
from curate.settings import unknown_message

MAX_ROW_BYTES = 16 << 20
MARK = "\ufeff"
"""A byte order mark that stands before a text: never a part of it."""


class TableError(ValueError):
    """A table that cannot be used at all."""


class MissingColumnError(TableError):
    """A table without a wanted column: where, which, and those that it has."""

    def __init__(self, where: object, column: str, found: Iterable[str]) -> None:
        self.where, self.column, self.found = where, column, sorted(set(found))
        super().__init__(f"{where}: {unknown_message('column', column, self.found)}")


class PointerError(TableError):
    """A file that git-lfs holds elsewhere."""


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read: the error's name, what was wrong, and the row as far as it goes."""

    error: str
    detail: str
    raw: str


Row = dict[str, Any]


def row_of(values: Mapping[str, Any], columns: Sequence[str], where: str, raw: str = "") -> Row | BadRow:
    """Make the row of a table's values, as JSON can say them (`curate.strict_json`); null for a column without one.

    `raw`: the row as it stands in the file, to be shown where that fails. Errors: not_text, bad_row.
    """
    row: Row = {}
    for name in columns:
        try:
            row[name] = strict_json.plain(values.get(name))
        except strict_json.NotTextError as err:
            return BadRow("not_text", f"{where}: column {name!r} holds {err}", excerpt(raw))
        except RecursionError:
            return BadRow(
                "bad_row", f"{where}: column {name!r} has more than {strict_json.LEVELS} levels", excerpt(raw)
            )
    return row


def is_utf8(text: str) -> bool:
    """Whether no byte of what was decoded to `text` failed to be UTF-8 (such bytes stand in it as surrogates)."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def excerpt(text: str, most: int = 2000) -> str:
    """Make an excerpt for an error's detail or a report, which says so where it is cut: never a value that is read."""
    shown = text[:most].encode("utf-8", "replace").decode("utf-8")
    return shown if len(text) <= most else f"{shown}... ({len(text):,} characters)"


def require_columns(columns: Sequence[str], found: Sequence[str], where: object) -> None:
    """Raise TableError for a column that a table lacks, or has twice."""
    for name in columns:
        if name not in found:
            raise MissingColumnError(where, name, found)
        if list(found).count(name) > 1:
            raise TableError(f"{where}: the column {name!r} stands twice; give each its own name")
