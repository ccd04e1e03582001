"""Read the annotation files of COCO as tables of captions: a row an annotation, with its image's file name.

Lin et al., Microsoft COCO, 2014: one JSON object whose `images` have `id` and `file_name`, and whose `annotations` have
`image_id` and `caption`. The file is read twice, an entry at a time; the names of its images are held.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from curate.readers.rows import BadRow, Row, TableError, require_columns, row_of
from curate.readers.text_files import open_text

IMAGE, TEXT = "file_name", "caption"
"""The columns of an image's path and its caption."""

_READ = 1 << 20
_MAX_ENTRY = 64 << 20
_GAP = re.compile(r"[\s,]*")
_KEY = re.compile(r'\s*,?\s*"((?:[^"\\]|\\.)*)"\s*:\s*')


def is_coco(path: Path) -> bool:
    """Whether a JSON file is one object, and not a list, whose first bytes name parts of such a file."""
    with open_text(path) as file:
        head = file.read(4096).lstrip()
    return head.startswith("{") and re.search(r'"(info|images|annotations|licenses)"\s*:\s*[\[{]', head) is not None


def read_coco(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    """Read the rows: every field of an annotation, and those of its image; `id` is the annotation's. Raises TableError.

    An annotation whose image the file does not describe is a BadRow.
    """
    images = {image.get("id"): image for image in _entries(path, "images")}
    seen: set[str] = set()
    for number, annotation in enumerate(_entries(path, "annotations")):
        where = f"{path.name}: annotation {number}"
        image = images.get(annotation.get("image_id"))
        if image is None:
            raw = json.dumps(annotation, ensure_ascii=False)
            yield BadRow("bad_row", f"{where}: no image has the id {annotation.get('image_id')!r}", raw)
            continue
        found = image | annotation
        seen.update(found)
        yield row_of({column: found.get(column) for column in columns}, columns, where)
    if seen:
        require_columns(columns, sorted(seen), path)


def _entries(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """The objects of one of the file's lists."""
    with open_text(path) as file:
        text = _Waiting(file, path)
        text.skip("{")
        while (name := text.key()) is not None:
            if not text.skip("["):
                text.value()
                continue
            while not text.skip("]"):
                entry = text.value()
                if name == key and isinstance(entry, dict):
                    yield entry


class _Waiting:
    """The text of a file from where it was read to, a piece at a time."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._at = "", 0
        self._decoder = json.JSONDecoder()

    def skip(self, mark: str) -> bool:
        """Step over a bracket, if it comes next."""
        self._step()
        found = self._text.startswith(mark, self._at)
        self._at += found
        return found

    def key(self) -> str | None:
        """Step over the next key and its colon; None at the end of the object."""
        while (found := _KEY.match(self._text, self._at)) is None or found.end() == len(self._text):
            if self.skip("}"):
                return None
            if not self._more():
                raise TableError(f"{self._path}: damaged or cut short; is it JSON?")
        self._at = found.end()
        return found[1]

    def value(self) -> Any:
        """Step over the next value, and give it."""
        self._step()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as err:
                if len(self._text) - self._at > _MAX_ENTRY or not self._more():
                    raise TableError(f"{self._path}: damaged or cut short: {err}; is it JSON?") from None
                continue
            if end < len(self._text) or not self._more():  # a number may go on
                self._at = end
                return found

    def _step(self) -> None:
        """Step over what stands between entries."""
        self._at = _GAP.match(self._text, self._at).end()  # type: ignore[union-attr]
        while self._at == len(self._text) and self._more():
            self._at = _GAP.match(self._text, self._at).end()  # type: ignore[union-attr]

    def _more(self) -> bool:
        piece = self._file.read(_READ)
        self._text, self._at = self._text[self._at :] + piece, 0
        return bool(piece)
