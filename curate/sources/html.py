"""HTML files of a folder: a sample a page, its bytes as they came."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from curate.download import Downloader, sniff
from curate.readers.files import UnreadableError, read_file, read_start
from curate.recipe.source import HtmlFiles
from curate.sample import fingerprint, uid_of
from curate.sources.rows import Row, fail_row, folder_identity, others_remark, plan_files, with_body

SUFFIXES = ("html", "htm", "xhtml")
MAX_PAGE_BYTES = 32 << 20
SNIFFED = 4096


def identity(source: HtmlFiles) -> Any:
    """Every file's name, size and time: the images are read later, and are part of the source."""
    return folder_identity(Path(source.path))


def plan_rows(source: HtmlFiles) -> Iterator[Row | str]:
    """Plan a row for each page: for what says that it is one, and for what is one."""
    others: list[str] = []
    yield from plan_files("interleaved", Path(source.path), lambda name: _is_page(source.path, name), others)
    if others:
        yield others_remark("that are no page", others)


def _is_page(folder: str, name: str) -> bool:
    if name.rsplit(".", 1)[-1].lower() in SUFFIXES:
        return True
    try:
        return sniff(read_start(folder, name, SNIFFED))[1] == "html_instead_of_image"
    except UnreadableError:
        return True


def companion_files(source: HtmlFiles) -> Callable[[list[Row]], Any]:
    """The identity of the whole folder: the pictures that a page shows are known when it is read."""
    all_of_it = fingerprint(identity(source))
    return lambda rows: all_of_it


def load_rows(source: HtmlFiles, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """Load the pages of rows."""
    return (_read(source, row) for row in rows)


def _read(source: HtmlFiles, row: Row) -> Row:
    if row["error"] is not None:
        return fail_row(row, row["error"], row["detail"])
    row = row | {"uid": uid_of("interleaved", row["origin"]), "text": "", "meta": "{}"}
    try:
        body = read_file(source.path, row["origin"], MAX_PAGE_BYTES)
    except UnreadableError as err:
        return fail_row(row, err.error, err.detail)
    row = with_body(row, body, "html")
    return row | {"uid": uid_of("interleaved", row["origin"], row["sha256"])}
