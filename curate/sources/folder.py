"""Folders of images, each with a caption beside it or in one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from curate.download import Downloader
from curate.readers import tables
from curate.readers.files import UnreadableError, find_file, read_file, read_start
from curate.recipe.source import Folder
from curate.sample import uid_of
from curate.sources.captions import (
    SNIFFED,
    caption_of,
    claims_image,
    holds_image,
    image_row,
    meta_of,
    read_caption,
    read_fields,
)
from curate.sources.rows import (
    MAX_TEXT_BYTES,
    Row,
    caption_row,
    expand,
    fail_row,
    file_stat_if_any,
    folder_identity,
    hash_files,
    others_remark,
    plan_files,
    table_remarks,
)

SIDECARS = (".txt", ".json")
"""What a caption beside an image ends in; the first that is there is read, in capitals as well."""

_OTHER_SPELLINGS = {".txt": (".TXT", ".Txt"), ".json": (".JSON", ".Json")}
_WHERE = "look at the .txt or .json beside the image"


def identity(source: Folder) -> Any:
    """The tables' names and hashes, and every file's name, size and time."""
    return [hash_files(source.captions) if source.captions else None, folder_identity(Path(source.path))]


def plan_rows(source: Folder) -> Iterator[Row | str]:
    """Plan a row for each image, or for each row of the table."""
    if source.captions is None:
        yield from _plan_images(Path(source.path))
        return
    columns = (source.image, source.text, *source.keep)
    for path in expand(source.captions):
        yield from table_remarks(path, columns, source.quoting)
        for row in tables.read(path, columns, source.quoting):
            yield caption_row(row, source.image, source.text, source.keep)


def _plan_images(root: Path) -> Iterator[Row | str]:
    """A row for what says that it is an image, and for what is one; captions of theirs go with them."""
    with_images: set[str] = set()

    def is_image(name: str) -> bool:
        stem = os.path.splitext(name)[0]
        if _is_sidecar(name) and stem in with_images:
            return False
        if not claims_image(name) and not _is_image(root, name):
            return False
        with_images.add(stem)
        return True

    others: list[str] = []
    yield from plan_files("caption", root, is_image, others)
    left = [name for name in others if not _is_sidecar(name) or os.path.splitext(name)[0] not in with_images]
    if left:
        yield others_remark("without an image and beside none", left)


def _is_sidecar(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SIDECARS


def _is_image(root: Path, name: str) -> bool:
    """Whether a file without an image's name holds one; what cannot be read might, and is a row."""
    try:
        return holds_image(name, read_start(str(root), name, SNIFFED))
    except UnreadableError:
        return True


def companion_files(source: Folder) -> Callable[[list[Row]], Any]:
    """The images of rows and, without a table, the files beside them: size and time of each."""

    def files(rows: list[Row]) -> Any:
        names = [row["origin"] for row in rows if not row.get("error")]
        images = [find_file(source.path, name) if "\0" not in name else name for name in names]
        if source.captions:
            return list(map(file_stat_if_any, images))
        stems = [os.path.splitext(image)[0] for image in images]
        usual = [file_stat_if_any(stem + suffix) for stem in stems for suffix in SIDECARS]
        others = [
            found
            for stem in stems
            for suffix in SIDECARS
            for path in _spellings(source.path, stem, suffix)
            if path != stem + suffix and (found := file_stat_if_any(path))
        ]
        return [*map(file_stat_if_any, images), *usual, *others]

    return files


def load_rows(source: Folder, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """Load the images of rows."""
    return (_read(source, row) for row in rows)


def _read(source: Folder, row: Row) -> Row:
    if row["error"] is not None:
        return fail_row(row, row["error"], row["detail"])
    try:
        body = read_file(source.path, row["origin"])
        text, meta = row["text"], row["meta"]
        if source.captions is None:
            text, meta = _read_sidecars(source, row["origin"])
        return image_row(row["origin"], text, meta, body)
    except UnreadableError as err:
        uid = uid_of("caption", row["origin"], row["text"] or "")
        return fail_row(row | {"uid": uid}, err.error, err.detail)


def _read_sidecars(source: Folder, image: str) -> tuple[str, str]:
    """The caption and the meta beside an image. Raises UnreadableError."""
    stem = os.path.splitext(image)[0]
    text, about = (_find_sidecar(source.path, stem, suffix) for suffix in SIDECARS)
    if text is None and about is None:
        raise UnreadableError("missing_caption", _WHERE)
    fields = None
    if about is not None and (text is None or source.keep):
        fields = read_fields(_read_sidecar(source.path, about), _WHERE)
    meta = "{}" if about is None else meta_of(fields, source.keep, _WHERE)
    if text is None:
        return caption_of(fields, source.text, _WHERE), meta
    return read_caption(_read_sidecar(source.path, text), _WHERE), meta


def _read_sidecar(folder: str, name: str) -> bytes:
    try:
        return read_file(folder, name, MAX_TEXT_BYTES)
    except UnreadableError as err:
        raise UnreadableError(err.error.replace("file_too_large", "text_too_large"), _WHERE) from None


def _find_sidecar(folder: str, stem: str, suffix: str) -> str | None:
    """The name of the file of a suffix beside an image; None where there is none. Raises UnreadableError for two."""
    found = _spellings(folder, stem, suffix)
    if len(found) > 1:
        raise UnreadableError("two_captions", f"{' and '.join(found)} are both beside the image; keep one")
    return found[0] if found else None


def _spellings(folder: str, stem: str, suffix: str) -> list[str]:
    """The names of the files there are, each once also where the disk takes all spellings for one."""
    found: dict[int, str] = {}
    for spelt in (suffix, *_OTHER_SPELLINGS[suffix]):
        path = find_file(folder, stem + spelt)
        if os.path.lexists(path):
            found.setdefault(os.lstat(path).st_ino, stem + spelt)
    return list(found.values())
