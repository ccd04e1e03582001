"""Real pages: a manual as a reader's eye sees it, and pages of many kinds whose main text is known."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

from curate.html import HtmlPage, parse
from pipelines.materials.packages import PackageUnavailableError, fetch

PAGES = ROOT / "tests" / "pages"
LABELLED = sorted(PAGES.glob("*.html"))
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
NEVER = ("Report a documentation error", "Report a bug", "images/prev.png", "images/home.png", "Table of Contents")


def words(text: str) -> Counter[str]:
    return Counter(word.lower() for word in _WORD.findall(text))


def kept(page: HtmlPage) -> str:
    """The text of a page and what stands below its images."""
    return "\n".join(each["text"] or each["caption"] or "" for each in page.segments)


@cache
def quality(path: Path) -> tuple[float, float]:
    """Word F1 of what is kept, and the share of it that the page's author would not call its text."""
    wanted = words(path.with_suffix(".txt").read_text())
    found = words(kept(parse(path.read_bytes(), "https://example.org/x/")))
    return 2 * (found & wanted).total() / (found.total() + wanted.total()), (found - wanted).total() / found.total()


@pytest.mark.parametrize("path", LABELLED, ids=lambda path: path.stem)
def test_main_text_of_a_page_is_kept_and_little_else(path: Path) -> None:
    f1, left = quality(path)
    assert f1 >= 0.9, f"{path.stem}: {f1:.3f}"
    assert left <= 0.15, f"{path.stem}: {left:.3f}"


def test_boilerplate_is_at_most_a_twentieth_of_what_is_kept() -> None:
    """Over all kinds of pages at most a twentieth of what is kept is boilerplate."""
    scores = [quality(path) for path in LABELLED]
    assert sum(f1 for f1, _ in scores) / len(scores) >= 0.97
    assert sum(left for _, left in scores) / len(scores) <= 0.03


IMAGES = {
    "blog-en": ["https://example.org/wp-content/uploads/2023/11/grinder-before.jpg"],
    "news-de": ["https://www.landbote.example/region/bilder/bruecke-1600.webp"],
    "shop-fr": ["https://cdn.feuille.example/tsuru-1_800x.jpg", "https://cdn.feuille.example/tsuru-2_800x.jpg"],
    "wiki-es": ["https://img.mar.example/thumb/Faro.jpg/500px-Faro.jpg", "https://img.mar.example/Lente.jpg"],
    "spa-pt": ["https://example.org/_next/image?url=%2Fchapada.jpg&w=2048", "https://example.org/i/poco-1280.jpg"],
    "gallery-en": [f"https://example.org/large/{n}.jpg" for n in (1, 2, 3)],
    "museum-fr": ["https://example.org/oeuvres/1932-7_grand.jpg"],
    "listing-en": ["https://example.org/img/spawn.jpg"],
}


@pytest.mark.parametrize("name", IMAGES)
def test_pictures_of_a_page_are_kept_at_their_largest_and_no_others(name: str) -> None:
    page = parse((PAGES / f"{name}.html").read_bytes(), "https://example.org/x/")
    assert [each["url"] for each in page.segments if each["type"] == "image"] == IMAGES[name]


# The manual


@dataclass
class Expected:
    """What a reader saw on one page: texts, and images as `#path`, in order; captions; words that must not be there."""

    page: str
    items: list[str] = field(default_factory=list)
    captions: list[tuple[str, str]] = field(default_factory=list)
    never: list[str] = field(default_factory=list)


def expectations() -> Iterator[Expected]:
    found: Expected | None = None
    for line in (PAGES / "gimp-help.expected").read_text().splitlines():
        if line.startswith("@"):
            if found:
                yield found
            found = Expected(line[1:])
        elif found is None:
            assert line.startswith("# "), line
        elif line.startswith("! "):
            found.never.append(line[2:])
        else:
            item, _, caption = line.partition(" | ") if line.startswith("#") else (line, "", "")
            found.items.append(item)
            if caption:
                found.captions.append((item[1:], caption))
    assert found is not None
    yield found


EXPECTED = list(expectations())


@cache
def manual() -> Path:
    try:
        return fetch("gimp-help-en") / "usr/share/gimp/2.0/help/en"
    except PackageUnavailableError as err:
        pytest.skip(f"the manual cannot be had: {err}")


def read(name: str) -> HtmlPage:
    return parse((manual() / name).read_bytes(), name)


def lines_of(page: HtmlPage) -> list[str]:
    """Every line of text as a reader takes it up, and `#path` for an image below images/."""
    lines: list[str] = []
    for each in page.segments:
        text = f"#{each['url'].removeprefix('images/')}" if each["type"] == "image" else each["text"]
        marker = r"^\s*(-|\d+\.)? *" if each["block"] == "list" else r"^\s+"
        lines += [re.sub(marker, "", line) for line in text.split("\n")]
    return lines


def images_of(page: HtmlPage) -> list[str]:
    return [each["url"].removeprefix("images/") for each in page.segments if each["type"] == "image"]


def first_missing(lines: list[str], items: list[str]) -> str | None:
    """The first item that does not follow the one before it: every text item begins a line or a cell of a table."""
    at = 0
    for item in items:
        while at < len(lines) and not (item == lines[at] if item[0] == "#" else lines[at].startswith(item)):
            at += 1
        if at == len(lines):
            return item
        at += 1
    return None


def test_fifty_pages_were_read() -> None:
    assert len({each.page for each in EXPECTED}) == len(EXPECTED) == 50


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda each: each.page)
def test_page_of_the_manual_reads_as_it_reads_in_a_browser(expected: Expected) -> None:
    page = read(expected.page)
    assert first_missing(lines_of(page), expected.items) is None
    assert images_of(page) == [item[1:] for item in expected.items if item[0] == "#"]
    whole = kept(page)
    assert not [each for each in (*expected.never, *NEVER) if each in whole]
    found = [(each["url"].removeprefix("images/"), each["caption"] or "") for each in page.segments if each["url"]]
    for url, words_of_it in expected.captions:
        assert any(name == url and words_of_it in caption for name, caption in found), (url, words_of_it)


@pytest.mark.slow
def test_every_page_of_the_manual_is_read_and_every_image_is_a_file_of_it() -> None:
    pages = [read(path.name) for path in sorted(manual().glob("*.html"))]
    images = [each for page in pages for each in page.segments if each["type"] == "image"]
    assert len(pages) == 685
    assert all((manual() / each["url"]).is_file() for each in images)
    assert len(images) > 2600
    assert sum(each["caption"] is not None for each in images) > 1700


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "de"])
def test_guide_that_is_published_as_text_too_says_the_same(language: str) -> None:
    try:
        folder = fetch("installation-guide-amd64") / "usr/share/doc/installation-guide-amd64" / language
    except PackageUnavailableError as err:
        pytest.skip(f"the guide cannot be had: {err}")
    pages = [path for path in folder.glob("*.html") if path.name != "index.html"]  # the one of contents alone
    found = words("\n".join(kept(parse(path.read_bytes(), path.name)) for path in pages))
    wanted = words(gzip.decompress((folder / f"install.{language}.txt.gz").read_bytes()).decode())
    assert 2 * (found & wanted).total() / (found.total() + wanted.total()) >= 0.97
    assert (found - wanted).total() <= 0.001 * found.total()
