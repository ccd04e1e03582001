"""Filter interleaved documents: their images, and their paragraphs, by published rules.

Every op writes the document that is left, and how many of its parts each rule took; a recipe's rules decide on whole
documents (their texts are measured by `obelics_text`). A column `images` keeps one entry an image segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate.document.segments import DOCUMENT, Block, Segment, image_urls, is_image, text_of
from curate.image.files import decode, header
from curate.models.fasttext import BUNDLED_LANGUAGE_MODEL, fasttext_path, load_fasttext
from curate.models.files import file_digest
from curate.ops._segments import chosen, columns_of, out_of_step, without_images, without_texts
from curate.ops.spec import Columns, Knobs, op
from curate.pool.blob import BLOB, Blob
from curate.text import stats

_JUDGED = 12
"""Words and marks below which OBELICS does not ask a paragraph for punctuation."""

URL_WORDS = ("logo", "button", "icon", "plugin", "widget", "porn", "xxx", "sex")
"""OBELICS's list; MMC4 and MM1 have the first five."""

_IMAGE_REASONS = ("absence", "format", "side", "aspect", "repeat", "colour")
_PARAGRAPH_REASONS = (
    "words",
    "char_repetition",
    "word_repetition",
    "special_characters",
    "stop_words",
    "flagged_words",
    "punctuation",
    "common_words",
)


@op(
    reads=("document", "language"),
    writes={
        "document": DOCUMENT,
        "text": pa.string(),
        "paragraphs": pa.int32(),
        "paragraphs_dropped": pa.int32(),
        **{f"dropped_by_{reason}": pa.int32() for reason in _PARAGRAPH_REASONS},
    },
    version=1,
    batch_size=64,
)
def clean_paragraphs(  # noqa: PLR0913 - a knob a rule
    documents: Sequence[list[Segment]],
    languages: Sequence[str | None],
    *,
    min_words: int | None = 4,
    max_words: int | None = 1000,
    max_char_repetition: float | None = 0.1,
    max_word_repetition: float | None = 0.1,
    max_special_characters: float | None = 0.3,
    min_stop_words: float | None = 0.3,
    max_flagged_words: float | None = 0.01,
    min_punctuation: float | None = 0.001,
    min_common_words: float | None = 0.8,
    spare: tuple[Block, ...] = (),
) -> Columns:
    """The document without paragraphs that break a rule, and how many each rule took; null switches a rule off.

    Rules and defaults are OBELICS's (Laurençon et al. 2023; `curate.text.stats` measures). A paragraph is a text
    segment; it goes by the first rule it breaks, in the order of the knobs. Punctuation is asked of paragraphs of 12
    words and marks or more; stop words and common words where the column `language` names a language with a list.
    `spare`: blocks (heading, list, table, code, quote) that no rule touches. `paragraphs`: how many are left.
    """
    bounds = [
        _Bound("words", lambda text, _: len(stats.words(text)), min_words, max_words),
        _Bound("char_repetition", lambda text, _: stats.char_repetition(text), None, max_char_repetition),
        _Bound("word_repetition", lambda text, _: stats.word_repetition(text), None, max_word_repetition),
        _Bound("special_characters", lambda text, _: stats.special_characters(text), None, max_special_characters),
        _Bound("stop_words", stats.stop_words, min_stop_words, None),
        _Bound("flagged_words", lambda text, _: stats.flagged_words(text), None, max_flagged_words),
        _Bound("punctuation", lambda text, _: stats.punctuation(text, _JUDGED), min_punctuation, None),
        _Bound("common_words", stats.common_words, min_common_words, None),
    ]
    bounds = [bound for bound in bounds if (bound.low, bound.high) != (None, None)]
    rows = [
        _cleaned(document, language, bounds, frozenset(spare))
        for document, language in zip(documents, languages, strict=True)
    ]
    return columns_of(rows, clean_paragraphs)


def _cleaned(
    document: list[Segment], language: str | None, bounds: Sequence[_Bound], spare: frozenset[str]
) -> dict[str, Any]:
    reasons = [
        None
        if segment["block"] in spare
        else next((bound.reason for bound in bounds if bound.broken_by(segment["text"], language)), None)
        for segment in document
        if not is_image(segment)
    ]
    keep = [reason is None for reason in reasons]
    left = without_texts(document, keep)
    counts = {f"dropped_by_{reason}": reasons.count(reason) for reason in _PARAGRAPH_REASONS}
    dropped = len(keep) - sum(keep)
    row = {"document": left, "text": text_of(left), "paragraphs": sum(keep), "paragraphs_dropped": dropped}
    return row | counts


@dataclass(frozen=True)
class _Bound:
    """A paragraph's measure (of text and language; None: not to be judged by it) and what it may be."""

    reason: str
    measure: Callable[[str, str | None], float | None]
    low: float | None
    high: float | None

    def broken_by(self, text: str, language: str | None) -> bool:
        value = self.measure(text, language)
        if value is None:
            return False
        return (self.low is not None and value < self.low) or (self.high is not None and value > self.high)


@op(
    reads="document",
    writes={"document": DOCUMENT, "text": pa.string(), "dropped_by_language": pa.int32()},
    version=1,
    batch_size=64,
)
class drop_foreign_paragraphs:  # noqa: N801 - ops are named as recipes name them
    """The document without paragraphs whose likeliest language is none of `languages`, or not probable enough.

    By fastText's lid.176. OBELICS has this rule with .8 for single paragraphs, and switched it off: of a few words the
    model knows little.
    """

    def __init__(
        self,
        *,
        languages: tuple[str, ...],
        min_probability: float = 0.8,
        model: str = BUNDLED_LANGUAGE_MODEL,
    ) -> None:
        self._predict = load_fasttext(fasttext_path(model))
        self._languages, self._least = frozenset(languages), min_probability

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the model file."""
        return file_digest(fasttext_path(knobs["model"]))

    def __call__(self, documents: Sequence[list[Segment]]) -> Columns:
        """One document and its text a row."""
        return columns_of([self._row(document) for document in documents], drop_foreign_paragraphs)

    def _row(self, document: list[Segment]) -> dict[str, Any]:
        keep = [self._is_ours(segment["text"]) for segment in document if not is_image(segment)]
        left = without_texts(document, keep)
        return {"document": left, "text": text_of(left), "dropped_by_language": len(keep) - sum(keep)}

    def _is_ours(self, text: str) -> bool:
        name, probability = self._predict(" ".join(text.split()))
        return name in self._languages and probability >= self._least


@op(
    reads="document",
    writes={
        "document": DOCUMENT,
        "links_kept": pa.int32(),
        "links_dropped_by_word": pa.int32(),
        "links_dropped_by_repeat": pa.int32(),
    },
    version=1,
    batch_size=256,
)
def image_links(
    documents: Sequence[list[Segment]], *, url_words: tuple[str, ...] | None = URL_WORDS, once: bool = False
) -> Columns:
    """The document without images whose URL says what they are, before any is fetched.

    `url_words`: an image whose URL holds one of them in any case goes (OBELICS, MMC4, MM1; null: none does). `once`:
    of images with one URL in a page the first stays (MM1).
    """
    words = [word.lower() for word in url_words or ()]
    rows = [_linked(document, words, once) for document in documents]
    return columns_of(rows, image_links)


def _linked(document: list[Segment], words: Sequence[str], once: bool) -> dict[str, Any]:
    seen: set[str] = set()
    reasons: list[str | None] = []
    for url in image_urls(document):
        is_data = url[:5].lower() == "data:"  # base64 spells every word some time
        if not is_data and any(word in url.lower() for word in words):
            reasons.append("word")
        elif once and url in seen:
            reasons.append("repeat")
        else:
            reasons.append(None)
        seen.add(url)
    keep = [reason is None for reason in reasons]
    counts = {f"links_dropped_by_{why}": reasons.count(why) for why in ("word", "repeat")}
    return {"document": without_images(document, keep), "links_kept": sum(keep), **counts}


@op(
    reads=("document", "images"),
    writes={
        "document": DOCUMENT,
        "images": pa.list_(BLOB),
        "images_kept": pa.int32(),
        "images_absent": pa.int32(),
        **{f"images_dropped_by_{reason}": pa.int32() for reason in _IMAGE_REASONS},
    },
    version=1,
    batch_size=16,
)
def document_images(  # noqa: PLR0913 - a knob a rule
    documents: Sequence[list[Segment]],
    images: Sequence[list[Blob]],
    *,
    min_side_px: int | None = 150,
    max_side_px: int | None = 20_000,
    max_aspect: float | None = 2.0,
    formats: tuple[str, ...] | None = ("jpg", "png", "webp"),
    once: bool = False,
    min_colour_levels: int | None = None,
    keep_absent: bool = True,
) -> Columns:
    """The document and its images without those that break a rule; defaults are OBELICS's, null switches a rule off.

    MM1: sides 100 to 10,000, aspect 2, `once` (of the same bytes in a page the first stays). MMC4: sides from 150,
    aspect 2. Flamingo: sides from 64, aspect 3, `min_colour_levels: 1` (the brightest and the darkest pixel differ by
    that in some channel). `keep_absent`: an image that could not be had keeps its place and its error. `images_kept`:
    those that are there, `images_absent`: those that are not. An image goes by the first rule it breaks: absence,
    format, side, aspect, repeat, colour. Error: images_out_of_step, when a step between changed one of the two alone.
    """
    rules = _ImageRules(min_side_px, max_side_px, max_aspect, formats, min_colour_levels, keep_absent)
    rows = [
        out_of_step(document, blobs) or _pictured(document, blobs, rules, once)
        for document, blobs in zip(documents, images, strict=True)
    ]
    return columns_of(rows, document_images)


@dataclass(frozen=True)
class _ImageRules:
    """The knobs of `document_images`."""

    min_side_px: int | None
    max_side_px: int | None
    max_aspect: float | None
    formats: tuple[str, ...] | None
    min_colour_levels: int | None
    keep_absent: bool

    def broken(self, blob: Blob) -> str | None:
        """The rule that an image breaks by itself."""
        if blob.error is not None:
            return None if self.keep_absent else "absence"
        if self.formats is not None and _format(blob) not in {_ALIKE.get(name, name) for name in self.formats}:
            return "format"
        width, height = blob.width, blob.height
        if width is None or height is None:
            found = header(blob.read())
            if found.error is not None:
                return "format"
            width, height = found.width, found.height
        return self._by_size(*sorted((width, height)))

    def _by_size(self, short: int, long: int) -> str | None:
        if self.min_side_px is not None and short < self.min_side_px:
            return "side"
        if self.max_side_px is not None and long > self.max_side_px:
            return "side"
        return "aspect" if self.max_aspect is not None and long > self.max_aspect * short else None

    def is_plain(self, blob: Blob) -> bool:
        """Whether the picture has too few levels of colour; one that does not decode has none."""
        if self.min_colour_levels is None:
            return False
        image = decode(blob.read()).image
        if image is None:
            return True
        bands_HWC = np.asarray(image)
        return int(np.ptp(bands_HWC, axis=(0, 1)).max()) < self.min_colour_levels


_ALIKE = {"jpeg": "jpg", "tiff": "tif"}


def _format(blob: Blob) -> str:
    ext = (blob.ext or "").lower()
    return _ALIKE.get(ext, ext)


def _pictured(document: list[Segment], blobs: Sequence[Blob], rules: _ImageRules, once: bool) -> dict[str, Any]:
    seen: set[str | None] = set()
    reasons: list[str | None] = []
    for blob in blobs:
        reason = rules.broken(blob)
        if reason is None and blob.error is None:
            if once and blob.sha256 in seen:
                reason = "repeat"
            elif rules.is_plain(blob):
                reason = "colour"
            seen.add(blob.sha256)
        reasons.append(reason)
    keep = [reason is None for reason in reasons]
    kept = chosen(blobs, keep)
    here = sum(blob.error is None for blob in kept)
    counts = {f"images_dropped_by_{why}": reasons.count(why) for why in _IMAGE_REASONS}
    document = without_images(document, keep)
    return {"document": document, "images": kept, "images_kept": here, "images_absent": len(kept) - here, **counts}
