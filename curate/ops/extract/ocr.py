"""Read page images by OCR, choose between text layer and OCR, and compare both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from PIL.Image import Image

from curate.ops.spec import Columns, Failed, Knobs, Natural, Share, op
from curate.page import ocr as engines
from curate.page.ocr import Engine, OcrError, OcrReading
from curate.page.words import WORDS, word_recall, words_column

_ENGLISH = ("eng",)
_READ = {
    "ocr_text": pa.string(),
    "ocr_words": WORDS,
    "ocr_word_count": pa.int32(),
    "ocr_confidence": pa.float32(),
}
_PAGE = {
    "text": pa.string(),
    "words": WORDS,
    "word_count": pa.int32(),
    "text_source": pa.string(),
    "text_confidence": pa.float32(),
}


@op(reads="image", writes=_READ, version=3, batch_size=8, timeout_s=3600)
class ocr:  # noqa: N801 - ops are named as recipes name them
    """Read every page by an OCR engine, into columns of its own: to compare with a text layer, or to look at.

    engine: rapidocr (the extra `docs`: Latin letters, Han, kana) or tesseract (its program must be on the PATH), with
    `languages` by its names. Lines of a confidence below `min_confidence` are left out. ocr_confidence: the mean over
    characters, 0 to 1; null where nothing was read. Errors: ocr_timeout, ocr_failed.
    """

    def __init__(
        self, *, engine: Engine = "rapidocr", languages: tuple[str, ...] = _ENGLISH, min_confidence: Share = 0.5
    ) -> None:
        self._read = engines.load_engine(engine, languages, min_confidence)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """The engine's version and models."""
        return engines.engine_identity(knobs["engine"], knobs["languages"])

    def __call__(self, images: Sequence[Image]) -> Columns:
        """One reading a page."""
        return _columns([_read_page(self._read, image) for image in images], _READ)


@op(reads=("image", "text", "words", "text_layer_noise"), writes=_PAGE, version=3, batch_size=8, timeout_s=3600)
class page_text:  # noqa: N801 - ops are named as recipes name them
    """The text of a page: its text layer where that is good, else what an OCR engine reads on its image.

    Good is a layer of `min_words` words or more, whose text_layer_noise (see pdf_page) is at most `max_noise`.
    text_source: `layer` or `ocr`; text_confidence: of OCR, null for a text layer. A page on which nothing can be read
    has an empty text. The engine and its knobs are those of `ocr`.
    """

    def __init__(
        self,
        *,
        min_words: Natural = 1,
        max_noise: Share = 0.2,
        engine: Engine = "rapidocr",
        languages: tuple[str, ...] = _ENGLISH,
        min_confidence: Share = 0.5,
    ) -> None:
        self._min_words, self._max_noise = min_words, max_noise
        self._read = engines.load_engine(engine, languages, min_confidence)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """The engine's version and models."""
        return engines.engine_identity(knobs["engine"], knobs["languages"])

    def __call__(
        self,
        images: Sequence[Image],
        texts: Sequence[str],
        words: Sequence[Sequence[Mapping[str, Any]]],
        noises: Sequence[float],
    ) -> Columns:
        """One text a page."""
        pages = zip(images, texts, words, noises, strict=True)
        return _columns([self._page(*page) for page in pages], _PAGE)

    def _page(
        self, image: Image, text: str, words: Sequence[Mapping[str, Any]], noise: float
    ) -> Failed | dict[str, Any]:
        if len(words) >= self._min_words and noise <= self._max_noise:
            layer = {"text": text, "words": list(words), "word_count": len(words)}
            return layer | {"text_source": "layer", "text_confidence": None}
        found = _read_page(self._read, image)
        if isinstance(found, Failed):
            return found
        return {name.replace("ocr_", "", 1): value for name, value in found.items() if name != "ocr_confidence"} | {
            "text_source": "ocr",
            "text_confidence": found["ocr_confidence"],
        }


@op(reads=("text", "ocr_text"), writes={"text_agreement": pa.float32()}, version=2)
def text_agreement(texts: Sequence[str], read: Sequence[str]) -> Columns:
    """The share of the text layer's words, repeats counted, that the OCR engine read too, 0 to 1; null without words.

    Words are runs of letters and digits after Unicode's NFKC and case folding; in scripts without spaces, characters or
    clusters (`curate.text.unspaced`).
    """
    return {"text_agreement": [word_recall(text, found) for text, found in zip(texts, read, strict=True)]}


def _read_page(read: engines.Read, image: Image) -> Failed | dict[str, Any]:
    try:
        found = read(image)
    except OcrError as error:
        return Failed(error.error, error.detail)
    return _row(found)


def _row(found: OcrReading) -> dict[str, Any]:
    return {
        "ocr_text": found.text,
        "ocr_words": words_column(found.words, found.boxes, found.lines, found.confidences),
        "ocr_word_count": len(found.words),
        "ocr_confidence": found.confidence,
    }


def _columns(rows: Sequence[Failed | dict[str, Any]], names: Mapping[str, pa.DataType]) -> Columns:
    return {name: [row if isinstance(row, Failed) else row[name] for row in rows] for name in names}
