"""Prepare Openclipart: pictures with titles and keywords as thousands of people wrote them.

Debian ships every drawing twice, as SVG and as PNG. `prepare` lays the original PNG files down as a folder, and beside
it a table of what each SVG says of itself. Every file of the two packages is a row of the table or a refusal by name;
the packages' links, which give a file a second name, were left out when they were unpacked.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

from pipelines.materials.packages import prepare_source

IMAGES, CAPTIONS = "images", "captions.jsonl"

MAX_SVG_BYTES = 16 << 20
MAX_TEXT_CHARACTERS = 20_000
MAX_KEYWORDS = 1_000
MAX_DEPTH = 200
MAX_ENTITY_CHARACTERS = 64

_VERSION = 1
_BLOCK = 1 << 16

_PICTURES, _DRAWINGS = "openclipart-png", "openclipart-svg"


@dataclass(frozen=True)
class PreparedClipart:
    """Counts of prepared pictures. `rows` are the table's: one for each name that a PNG or an SVG has.

    `pairs` of both, `pictures_alone` (PNG without SVG: a row without a title), `drawings_alone` (SVG without PNG: a row
    whose image is missing), `untitled` (of the pairs), and `refused`: SVG files that were not read, by error.
    """

    images: Path
    captions: Path
    rows: int
    pairs: int
    pictures_alone: int
    drawings_alone: int
    untitled: int
    refused: dict[str, int]


@dataclass(frozen=True)
class ClipartCard:
    """The metadata of an SVG (Dublin Core in RDF), typing errors and all; only outer white space is taken away."""

    title: str = ""
    keywords: tuple[str, ...] = ()
    description: str = ""
    author: str = ""
    license: str = ""


class RefusedDrawingError(ValueError):
    """An SVG that is not read; `error` is its name: bad_xml, unsafe_entity or too_large."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error = error


def prepare(folder: Path, cache: Path | None = None) -> PreparedClipart:
    """Fetch Debian's two packages and lay down `folder`/source: images/ and captions.jsonl. Done once, then found.

    The table's columns: image, title, keywords (a list), description, author, license, refused. Raises
    PackageUnavailableError where Debian's packages cannot be had, and RunError while
    another command is at work in the folder.
    """
    counts = prepare_source(folder, (_PICTURES, _DRAWINGS), _VERSION, _lay_down, cache)
    return PreparedClipart(folder / "source" / IMAGES, folder / "source" / CAPTIONS, **counts)


def _lay_down(places: Mapping[str, Path], target: Path) -> dict[str, Any]:
    pictures, drawings = (
        places[name] / "usr" / "share" / "openclipart" / kind for name, kind in ((_PICTURES, "png"), (_DRAWINGS, "svg"))
    )
    return lay_down(pictures, drawings, target)


def lay_down(pictures: Path, drawings: Path, target: Path) -> dict[str, Any]:
    """Copy every PNG below `pictures` to `target`/images and write the table; returns the counts of `PreparedClipart`.

    Links are not followed, whatever they point to. The files' times are set to zero, so that the same packages make
    the same source, and with it the same pool, wherever and whenever they are unpacked.
    """
    target.mkdir(parents=True)
    png, svg = _names(pictures, ".png"), _names(drawings, ".svg")
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    with open(target / CAPTIONS, "w", encoding="utf-8") as table:
        for name in sorted(png | svg):
            card, error = _read_card(drawings / f"{name}.svg") if name in svg else (ClipartCard(), None)
            if name in png:
                _copy(pictures / f"{name}.png", target / IMAGES / f"{name}.png")
            counts["pairs" if name in png & svg else "pictures_alone" if name in png else "drawings_alone"] += 1
            counts["untitled"] += name in png & svg and not card.title
            refused.update([error] if error else [])
            row = {"image": f"{name}.png", **asdict(card), "refused": error}
            table.write(json.dumps(row, ensure_ascii=False) + "\n")
    names = ("pairs", "pictures_alone", "drawings_alone", "untitled")
    return {"rows": len(png | svg), **{name: counts[name] for name in names}, "refused": dict(sorted(refused.items()))}


def read_drawing(path: Path) -> ClipartCard:
    """Read the metadata of the SVG at `path`; of several works in it, the first. Raises RefusedDrawingError.

    The file is a stranger's: it is read in blocks no further than the metadata, nothing outside it is ever looked up,
    and an entity is refused unless it is a short plain text, so that none can grow.
    """
    if path.stat().st_size > MAX_SVG_BYTES:
        raise RefusedDrawingError("too_large", f"more than {MAX_SVG_BYTES} bytes")
    work = _Work()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = work.start, work.end
    parser.CharacterDataHandler, parser.EntityDeclHandler = work.text, _entity
    try:
        for block in _blocks(path):
            parser.Parse(block, not block)
            if work.done:
                break
    except (expat.ExpatError, UnicodeError, LookupError) as err:
        raise RefusedDrawingError("bad_xml", str(err)) from None
    return work.card()


_FIELDS = {
    ("title",): "title",
    ("description",): "description",
    ("subject", "Bag", "li"): "keyword",
    ("creator", "Agent", "title"): "author",
}


class _Work:
    """Expat's handlers: the texts of the fields below the first cc:Work."""

    def __init__(self) -> None:
        self.done = False
        self._path: list[str] = []
        self._work = 0
        self._found: dict[str, list[str]] = {}
        self._license = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._path) == MAX_DEPTH:
            raise RefusedDrawingError("too_large", f"elements more than {MAX_DEPTH} deep")
        self._path.append(name.rpartition(" ")[2])
        if self._path[-1] == "Work" and not self._work:
            self._work = len(self._path)
        elif self._inside() == ("license",):
            self._license = next((v for k, v in attributes.items() if k.endswith(" resource")), "")
        if field := _FIELDS.get(self._inside()):
            texts = self._found.setdefault(field, [])
            if len(texts) == MAX_KEYWORDS:
                raise RefusedDrawingError("too_large", f"more than {MAX_KEYWORDS} of {field}")
            texts.append("")

    def end(self, name: str) -> None:
        self.done |= len(self._path) == self._work
        self._path.pop()

    def text(self, data: str) -> None:
        field = _FIELDS.get(self._inside())
        if field and not self.done:
            texts = self._found[field]
            texts[-1] += data
            if len(texts[-1]) > MAX_TEXT_CHARACTERS:
                raise RefusedDrawingError("too_large", f"more than {MAX_TEXT_CHARACTERS} characters of {field}")

    def card(self) -> ClipartCard:
        texts = {field: [text.strip() for text in found if text.strip()] for field, found in self._found.items()}
        title, description, author = (texts.get(field, [""])[:1] for field in ("title", "description", "author"))
        first = ("".join(one) for one in (title, description, author))
        return ClipartCard(next(first), tuple(texts.get("keyword", ())), next(first), next(first), self._license)

    def _inside(self) -> tuple[str, ...]:
        """The names of the open elements below the work; none outside of it."""
        return tuple(self._path[self._work :]) if self._work else ()


def _entity(
    name: str, is_parameter: bool, value: str | None, base: str | None, system: str | None, *_: str | None
) -> None:
    # Illustrator declares its namespaces as entities: short plain texts. What nests or lies elsewhere is no such thing.
    if is_parameter or value is None or len(value) > MAX_ENTITY_CHARACTERS or "&" in value or "%" in value:
        raise RefusedDrawingError("unsafe_entity", name)


def _blocks(path: Path) -> Iterator[bytes]:
    """The file in blocks, then an empty one."""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            yield block
    yield b""


def _read_card(path: Path) -> tuple[ClipartCard, str | None]:
    try:
        return read_drawing(path), None
    except RefusedDrawingError as refused:
        return ClipartCard(), refused.error


def _names(root: Path, suffix: str) -> set[str]:
    """The plain files below `root` that end so, as relative paths without the suffix; links are passed by."""
    paths = (Path(folder, name) for folder, _, names in os.walk(root) for name in names if name.endswith(suffix))
    return {path.relative_to(root).as_posix().removesuffix(suffix) for path in paths if not path.is_symlink()}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target, follow_symlinks=False)
    os.utime(target, ns=(0, 0))
