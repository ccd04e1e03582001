"""Read folders of real pages with known main text, and score a text against it.

Five layouts are read, none is part of this project:

- `NAME.html` beside `NAME.txt` (and, if images count, `NAME.images`: one link a line);
- `ground-truth.json` (`articleBody` by name) and `html/NAME.html.gz`: scrapinghub/article-extraction-benchmark;
- `ground-truth/NAME.json` (`ground_truth.main_content`) and `html/NAME.html.gz`: WCXB's `dev` and `test`;
- `NAME/source.html` and `NAME/expected.html`: mozilla/readability's `test/test-pages`, its images expected too;
- `evaldata.json` and pages in `cache` and `eval`: adbar/trafilatura's `tests`; of each, some snippets alone are known.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_SHINGLE = 4
_BLOCKS = re.compile(r"(?:p|div|h\d|li|[ou]l|t(?:able|r|d|h)|blockquote|pre|section|article|fig\w+|br|d[tdl])")


@dataclass(frozen=True)
class Labelled:
    """A page, its main text, the images that belong to it (of each the names its file may have), or known snippets."""

    name: str
    html: bytes
    text: str
    images: tuple[frozenset[str], ...] = ()
    within: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


def read(folder: Path) -> Iterator[Labelled]:
    """The pages of a folder in one of the layouts, by name; a page without a known text is none."""
    if (folder / "ground-truth.json").is_file():
        found = json.loads((folder / "ground-truth.json").read_text("utf-8"))
        texts = {name: each.get("articleBody", "") for name, each in found.items()}
        yield from _zipped(folder, texts)
    elif (folder / "ground-truth").is_dir():
        truths = ((path, json.loads(path.read_text("utf-8"))) for path in (folder / "ground-truth").glob("*.json"))
        yield from _zipped(folder, {path.stem: each["ground_truth"].get("main_content") or "" for path, each in truths})
    elif (folder / "evaldata.json").is_file():
        yield from _snippets(folder, json.loads((folder / "evaldata.json").read_text("utf-8")))
    elif any(folder.glob("*/expected.html")):
        for path in sorted(folder.glob("*/expected.html")):
            text, images = _expected(path.read_text("utf-8"))
            yield Labelled(path.parent.name, (path.parent / "source.html").read_bytes(), text, images)
    else:
        for path in sorted(folder.glob("*.html")):
            if path.with_suffix(".txt").is_file():
                yield _plain(path)


def write(pages: Iterator[Labelled], folder: Path) -> int:
    """The pages in the plain layout; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for page in pages:
        count += 1
        (folder / f"{page.name}.html").write_bytes(page.html)
        (folder / f"{page.name}.txt").write_text(page.text, "utf-8")
        if page.images:
            lines = ("\t".join(sorted(names)) for names in page.images)
            (folder / f"{page.name}.images").write_text("\n".join(lines), "utf-8")
    return count


def _zipped(folder: Path, texts: dict[str, str]) -> Iterator[Labelled]:
    for name, text in sorted(texts.items()):
        path = folder / "html" / f"{name}.html.gz"
        if text and path.is_file():
            yield Labelled(name, gzip.decompress(path.read_bytes()), text)


def _snippets(folder: Path, found: dict[str, Any]) -> Iterator[Labelled]:
    for each in found.values():
        path = next((p for p in (folder / "cache" / each["file"], folder / "eval" / each["file"]) if p.is_file()), None)
        if path:
            yield Labelled(path.stem, path.read_bytes(), "", (), tuple(each["with"]), tuple(each["without"]))


def _plain(path: Path) -> Labelled:
    images = path.with_suffix(".images")
    lines = images.read_text("utf-8").splitlines() if images.is_file() else []
    names = tuple(frozenset(map(file_name, line.split("\t"))) for line in lines)
    return Labelled(path.stem, path.read_bytes(), path.with_suffix(".txt").read_text("utf-8"), names)


def _expected(html: str) -> tuple[str, tuple[frozenset[str], ...]]:
    """The text of a page that holds nothing but its main part, and its images."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(html)
    said, images = [], []
    assert tree.root is not None
    for node in tree.root.traverse(include_text=True):
        if _BLOCKS.fullmatch(node.tag or ""):
            said.append("\n")
        elif node.tag == "-text":
            said.append(node.text_content or "")
        elif node.tag == "img":
            images.append(_names(node.attributes.get("src"), node.attributes.get("srcset")))
    return "".join(said), tuple(names for names in images if names)


def _names(src: str | None, srcset: str | None) -> frozenset[str]:
    links = [src or "", *(part.split()[0] for part in re.split(r",\s+", srcset or "") if part.split())]
    return frozenset(name for name in map(file_name, links) if name)


def file_name(link: str) -> str:
    """Name a file by its link, without hosts, folders and sizes asked for."""
    return unquote(link.strip()).partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2].lower()


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def against(found: str, wanted: str) -> dict[str, float]:
    """Word F1, precision and recall of one page, and what the article benchmark's F1 over shingles is made of."""
    got, known = words(found), words(wanted)
    hit = sum((Counter(got) & Counter(known)).values())
    shingles, wanted_shingles = _shingles(got), _shingles(known)
    both = sum((shingles & wanted_shingles).values())
    return {
        "word_f1": 2 * hit / max(1, len(got) + len(known)),
        "word_precision": hit / max(1, len(got)),
        "word_recall": hit / max(1, len(known)),
        "shingle_precision": both / shingles.total() if got else math.nan,
        "shingle_recall": both / max(1, wanted_shingles.total()),
    }


def means(scores: list[dict[str, float]]) -> dict[str, float]:
    """Means over pages; `shingle_f1` is of the means; as in the article benchmark, no answer has no precision."""
    found = {name: statistics.fmean(v for each in scores if (v := each[name]) == v) for name in scores[0]}
    precision, recall = found["shingle_precision"], found["shingle_recall"]
    return found | {"shingle_f1": 2 * precision * recall / max(precision + recall, 1e-9)}


def _shingles(tokens: list[str]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[n : n + _SHINGLE]) for n in range(max(1, len(tokens) - _SHINGLE + 1)) if tokens)
