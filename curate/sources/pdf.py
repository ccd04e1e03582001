"""PDF files and images of pages: a sample a page; pages of a file share its bytes in the pool."""

from __future__ import annotations

import glob
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.download import sniff
from curate.image.files import header
from curate.pool.layout import Pool
from curate.readers.files import UnreadableError, read_file, read_start
from curate.readers.patterns import split_patterns
from curate.recipe.source import Pdf
from curate.sample import uid_of
from curate.sources.captions import SNIFFED, claims_image, holds_image
from curate.sources.rows import Row, expand, fail_row, file_stat_if_any, others_remark, walk_files, with_body


def identity(source: Pdf) -> Any:
    """Every file's name, size and time."""
    root, names, _ = _list_paths(source)
    return [[name, *(file_stat_if_any(root / name) or ())] for name in names]


def list_files(source: Pdf) -> list[Path]:
    """List the files."""
    root, names, _ = _list_paths(source)
    return [root / name for name in names]


def remarks(source: Pdf) -> list[str]:
    """Say which files of the folder hold no page."""
    _, _, others = _list_paths(source)
    return [others_remark("without a PDF or an image", others)] if others else []


def read_rows(source: Pdf, path: Path, pool: Pool) -> Iterator[Row]:
    """Read a row a page; a file that cannot be opened is one failed row."""
    root = _root(source)
    origin = path.relative_to(root).as_posix()
    row: Row = {"uid": uid_of("ocr", origin), "origin": origin, "text": "", "meta": "{}"}
    try:
        body = read_file(str(root), origin)
        row = with_body(row, body, _format(body, path.suffix.lower()))
        pages = _pages(body, row["ext"])
    except UnreadableError as err:
        yield fail_row(row, err.error, err.detail)
        return
    for page in range(pages):
        meta = json.dumps({"page": page, "pages": pages})
        yield row | {"uid": uid_of("ocr", origin, row["sha256"], str(page)), "meta": meta}
        row = {k: v for k, v in row.items() if k != "body"} | {"shares": True}


def _root(source: Pdf) -> Path:
    """The folder from which the files are named: the path itself, or what of it holds no wildcard."""
    path = Path(os.path.abspath(source.path))
    if path.is_dir():
        return path
    parts = [Path(os.path.abspath(pattern)).parent.parts for pattern in split_patterns(source.path)]
    plain = [itertools.takewhile(lambda part: not glob.has_magic(part), found) for found in parts]
    return Path(os.path.commonpath([Path(*found) for found in plain]))


def _list_paths(source: Pdf) -> tuple[Path, list[str], list[str]]:
    """The folder, the files' paths in it, and those of files that are left out."""
    root = _root(source)
    if not Path(source.path).is_dir():
        return root, [Path(os.path.abspath(p)).relative_to(root).as_posix() for p in expand(source.path)], []
    names = walk_files(root)
    taken = {name for name in names if _is_taken(str(root), name)}
    return root, [name for name in names if name in taken], [name for name in names if name not in taken]


def _is_taken(root: str, name: str) -> bool:
    """Whether a file says that it holds pages, or holds some; what cannot be read might."""
    if name.lower().endswith(".pdf") or claims_image(name):
        return True
    try:
        head = read_start(root, name, SNIFFED)
    except UnreadableError:
        return True
    return b"%PDF" in head[:1024] or holds_image(name, head)


def _format(body: bytes, suffix: str) -> str:
    if not body:
        raise UnreadableError("empty_file", "no bytes")
    if b"%PDF" in body[:1024]:
        return "pdf"
    ext, error = sniff(body)
    if ext is None:
        strange = "not_a_pdf" if suffix == ".pdf" else error or "not_an_image"
        raise UnreadableError(strange, "neither a PDF nor an image of a known format")
    return ext


def _pages(body: bytes, ext: str) -> int:
    """How many pages a file has. Raises UnreadableError."""
    if ext != "pdf":
        found = header(body)
        if found.error is not None:
            raise UnreadableError(found.error, found.detail)
        return max(found.frames, 1)
    from curate.pdf import PdfError, PdfLimits, count_pages

    try:
        return count_pages(body, PdfLimits())
    except PdfError as err:
        raise UnreadableError(err.error, err.detail) from None
