"""Data types of a walked page: blocks of text and images in a tree of containers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from curate.document.segments import Block
from curate.text.unspaced import UNSPACED, UNSPACED_WORD, has_unspaced

_WORD = re.compile(rf"{UNSPACED_WORD}|[^\s{UNSPACED}]+")


def count_words(text: str) -> int:
    """Count words between white space; in scripts that put none each character or cluster is one."""
    return len(_WORD.findall(text) if has_unspaced(text) else text.split())


@dataclass(slots=True)
class Container:
    """An element that holds blocks; `parent` is its place in the list of containers, -1 at the top."""

    parent: int
    kind: str
    """Its tag and class: parts of one kind side by side belong together."""
    main: bool = False
    words: int = 0
    link_words: int = 0
    plain_words: int = 0
    """Words that are neither links nor headings."""


@dataclass(slots=True)
class HtmlPiece:
    """A block of text or, with a `url`, an image; `inside` is the place of its container, `group` its list or table."""

    inside: int
    block: Block = "paragraph"
    text: str = ""
    words: int = 0
    link_words: int = 0
    links: int = 0
    group: int = -1
    tag: str = ""
    """The element that it ends with."""
    url: str = ""
    alt: str | None = None
    caption: str | None = None
    aside: int = 0
    """What `names` says of it that is beside the text."""
    stays: bool = False
    """It says the same again with reason: a definition's text, a cell's."""


@dataclass
class FoundBlocks:
    """The result of a walk: containers and pieces in document order, and counts of what was left out."""

    containers: list[Container] = field(default_factory=list)
    pieces: list[HtmlPiece] = field(default_factory=list)
    words_left_out: int = 0
    words_unscripted: int = 0
    """Words in `<noscript>`: for a reader without scripts."""
    formulas: int = 0
    images: Counter[str] = field(default_factory=Counter)
    """What became of the images seen: `kept` those that are pieces, `no_file` whose tag names no file or a stand-in
    alone, `not_shown` what is hidden or as small as a counter, `again` a second tag for the same place, `formula`."""
