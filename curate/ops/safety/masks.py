"""Mask personal data in what is published: texts, documents and their titles, pages with their words.

The pool is not touched: what is masked is a column that stands for the sample's content. What is found is what `pii`
finds (`curate.text.personal_data`). Pictures are not looked at, nor image URLs, `origin` and `meta`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa

from curate.document.segments import DOCUMENT, Segment, text_of
from curate.ops.spec import Columns, op
from curate.page.words import WORDS
from curate.text.personal_data import KINDS, Finding, find_personal_data, replace_spans

Word = dict[str, Any]

MASKED = {f"masked_{kind}": pa.int32() for kind in KINDS} | {"masked": pa.int32()}
"""How many findings of each kind were masked, and of all."""


@op(reads="text", writes={"text": pa.string(), **MASKED}, version=4)
def mask_pii(texts: Sequence[str], *, kinds: list[str] = list(KINDS)) -> Columns:  # noqa: B006 - never changed
    """The text that later steps read, each finding of `kinds` as its name in angle brackets: <EMAIL>, <IP>, <PHONE>."""
    masks = [_Masks(kinds) for _ in texts]
    return {"text": [mask.text(text) for mask, text in zip(masks, texts, strict=True)], **_counted(masks)}


@op(reads="document", writes={"document": DOCUMENT, "text": pa.string(), **MASKED}, version=1)
def mask_pii_document(
    documents: Sequence[list[Segment]],
    *,
    kinds: list[str] = list(KINDS),  # noqa: B006 - never changed
) -> Columns:
    """The document that later steps read: findings masked as by `mask_pii` in its texts, and in alt texts and captions.

    Segments stay in number and order, so that images and what is in step with them stay where they are.
    """
    masks = [_Masks(kinds) for _ in documents]
    masked = [
        [{key: mask.text(value) if key in ("text", "alt", "caption") else value for key, value in each.items()}
         for each in document]
        for mask, document in zip(masks, documents, strict=True)
    ]  # fmt: skip
    return {"document": masked, "text": [text_of(document) for document in masked], **_counted(masks)}


@op(reads="title", writes={"title": pa.string(), "title_masked": pa.int32()}, version=1)
def mask_pii_title(titles: Sequence[str | None], *, kinds: list[str] = list(KINDS)) -> Columns:  # noqa: B006 - never changed
    """The title that a document is published with, masked as by `mask_pii`, and how many findings were."""
    masks = [_Masks(kinds) for _ in titles]
    masked = [mask.text(title) for mask, title in zip(masks, titles, strict=True)]
    return {"title": masked, "title_masked": [mask.counts.total() for mask in masks]}


@op(reads=("text", "words"), writes={"text": pa.string(), "words": WORDS, **MASKED}, version=1)
def mask_pii_page(
    texts: Sequence[str],
    words: Sequence[list[Word] | None],
    *,
    kinds: list[str] = list(KINDS),  # noqa: B006 - never changed
) -> Columns:
    """A page's text and words, masked in step as by `mask_pii`: what is found in one of both is masked in the other.

    Words of one finding become one, whose box is around theirs; on another line, one more. The page's picture still
    shows them. Counted are findings in the text.
    """
    masks = [_Masks(kinds) for _ in texts]
    rows = [_page(mask, text, each or []) for mask, text, each in zip(masks, texts, words, strict=True)]
    return {"text": [text for text, _ in rows], "words": [masked for _, masked in rows], **_counted(masks)}


class _Masks:
    """Masks the texts of one sample, and counts what was masked. Raises ValueError for a kind that there is not."""

    def __init__(self, kinds: Sequence[str]) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"mask_pii: unknown kind {unknown[0]!r} (allowed: {', '.join(KINDS)})")
        self._kinds = kinds
        self.counts: Counter[str] = Counter()

    def find(self, text: str) -> list[Finding]:
        return [finding for finding in find_personal_data(text) if finding.kind in self._kinds]

    def text(self, text: str | None) -> str | None:
        """The text masked, its findings counted."""
        return None if text is None else self.replace(text, self.find(text))

    def replace(self, text: str, findings: Sequence[Finding]) -> str:
        self.counts.update(finding.kind for finding in findings)
        return replace_spans(text, findings, _name)


def _name(finding: Finding) -> str:
    return f"<{finding.kind.upper()}>"


def _counted(masks: Sequence[_Masks]) -> Columns:
    return {f"masked_{kind}": [mask.counts[kind] for mask in masks] for kind in KINDS} | {
        "masked": [mask.counts.total() for mask in masks]
    }


def _page(mask: _Masks, text: str, words: Sequence[Word]) -> tuple[str, list[Word]]:
    lines = [" ".join(str(word["text"]) for word in line) for _, line in groupby(words, lambda word: word["line"])]
    printed = "\n".join(lines)
    in_text, in_words = mask.find(text), mask.find(printed)
    values = {(f.kind, of[f.begin : f.end]) for of, found in ((text, in_text), (printed, in_words)) for f in found}
    masked = mask.replace(text, _with_values(text, in_text, values))
    return masked, list(_masked_words(words, printed, _with_values(printed, in_words, values)))


def _with_values(text: str, findings: Sequence[Finding], values: Iterable[tuple[str, str]]) -> list[Finding]:
    """The findings, and wherever else one of the values stands, however its words are spaced."""
    found = list(findings)
    for kind, value in sorted(values, key=lambda each: (-len(each[1]), each)):
        pattern = r"\s+".join(map(re.escape, value.split()))
        for place in re.finditer(rf"(?<!\w){pattern}(?!\w)", text):
            if all(place.end() <= f.begin or f.end <= place.start() for f in found):
                found.append(Finding(kind, place.start(), place.end()))
    return sorted(found, key=lambda finding: finding.begin)


def _masked_words(words: Sequence[Word], printed: str, findings: Sequence[Finding]) -> Iterator[Word]:
    """The words, those of one line that a finding joins as one; `printed` has them all, a character between two."""
    places, at = [], 0
    for word in words:
        places.append((at, at + len(word["text"])))
        at = places[-1][1] + 1
    held: list[int] = []
    for number, (word, (begin, _)) in enumerate(zip(words, places, strict=True)):
        joined = held and words[held[0]]["line"] == word["line"] and any(f.begin < begin < f.end for f in findings)
        if held and not joined:
            yield _joined([words[n] for n in held], places[held[0]][0], printed[: places[held[-1]][1]], findings)
            held = []
        held.append(number)
    if held:
        yield _joined([words[n] for n in held], places[held[0]][0], printed[: places[held[-1]][1]], findings)


def _joined(words: Sequence[Word], begin: int, printed: str, findings: Sequence[Finding]) -> Word:
    """One word of these, which stand from `begin` to the end of `printed`, its findings masked."""
    end = len(printed)
    inside = [
        Finding(f.kind, max(f.begin, begin) - begin, min(f.end, end) - begin)
        for f in findings
        if f.begin < end and begin < f.end
    ]
    if not inside:
        return words[0]
    masked = replace_spans(printed[begin:], inside, _name)
    return {**words[0], "text": masked, "box": _around([word["box"] for word in words])}


def _around(boxes: Sequence[Sequence[float]]) -> list[float]:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return [min(lefts), min(tops), max(rights), max(bottoms)]
