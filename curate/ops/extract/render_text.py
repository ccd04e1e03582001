"""Draw pages from texts, with the exact box of every word."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.commit import file_sha256
from curate.image.files import encoded
from curate.ops.spec import Columns, Count, Failed, Knobs, Natural, Share, op
from curate.page.words import WORDS, words_column
from curate.pool.blob import BLOB, Stored
from curate.typeset.fonts import Fonts, TypesetError, can_shape
from curate.typeset.pages import clean_text, draw_style, fits_columns, prepare_text, sample_rng, typeset

_QUALITY = 90
_SUFFIXES = (".ttf", ".otf", ".ttc")
_DRAWN = {
    "image": BLOB,
    "text": pa.string(),
    "words": WORDS,
    "word_count": pa.int32(),
    "drawn_share": pa.float32(),
    "font_px": pa.int32(),
    "skew_degrees": pa.float32(),
}


@op(reads=("uid", "text"), writes=_DRAWN, version=2, batch_size=16)
class render_text:  # noqa: N801 - ops are named as recipes name them
    """A page drawn from each text, as a JPEG: `text` and `words` are what stands on it, `words` with exact boxes.

    fonts: TrueType and OpenType files, folders of them, or globs. One that lacks the fewest of the text's characters is
    taken, of several by chance, and others for what it lacks; without any the one that Pillow brings, for ASCII
    letters. `curate prepare fonts` lays down some for 140 scripts in work/fonts. Paragraphs run from the side where
    their script begins, and words stand in the order in which they are read. page_px: width and height. font_px: the
    least and the largest size. wear: how far pages are turned, blurred, tinted, stained and noisy, 0 (black on white)
    to 1. vertical: of the Chinese and Japanese pages, the share whose lines run from top to bottom. drawn_share: of the
    text's characters, those that found room. All chance is of `seed` and the uid. Errors: empty_text, no_glyph (in no
    font), needs_shaping (scripts from right to left or with joined letters, on a machine without FriBiDi).
    """

    def __init__(
        self,
        *,
        fonts: tuple[str, ...] = (),
        page_px: tuple[Count, Count] = (1000, 1400),
        font_px: tuple[Count, Count] = (16, 34),
        wear: Share = 0.5,
        vertical: Share = 0.0,
        seed: Natural = 0,
    ) -> None:
        self._fonts = Fonts([path.read_bytes() for path in _files(fonts)])
        if not 0 <= vertical <= 1:
            raise ValueError(f"op render_text: vertical: {vertical}, expected a share of pages, 0 to 1")
        self._page_px, self._font_px, self._wear, self._seed = page_px, font_px, wear, seed
        self._vertical = vertical

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """The digests of the fonts, and whether scripts that need it can be shaped."""
        return " ".join([*(file_sha256(path) for path in _files(knobs["fonts"])), *(["shaped"] if can_shape() else [])])

    def __call__(self, uids: Sequence[str], texts: Sequence[str]) -> Columns:
        """One page a text."""
        rows = [self._row(uid, text) for uid, text in zip(uids, texts, strict=True)]
        return {name: [row if isinstance(row, Failed) else row[name] for row in rows] for name in _DRAWN}

    def _row(self, uid: str, text: str) -> Failed | dict[str, Any]:
        try:
            chance = sample_rng(self._seed, uid)
            style = draw_style(chance, self._font_px, self._wear)
            whole = clean_text(text)
            columns = chance.random() < self._vertical and fits_columns(whole)
            fit = prepare_text(whole, style, self._page_px, columns)
            fit, face = self._fonts.typeface(fit, style.font_px, chance, columns)
            sheet = typeset(fit, face, style, self._page_px)
        except TypesetError as error:
            return Failed(error.error, error.detail)
        return {
            "image": Stored(encoded(sheet.image, "jpg", _QUALITY), "jpg", *sheet.image.size),
            "text": sheet.text,
            "words": words_column(sheet.words, sheet.boxes, sheet.lines),
            "word_count": len(sheet.words),
            "drawn_share": sheet.share * len(fit) / len(whole),
            "font_px": style.font_px,
            "skew_degrees": style.degrees,
        }


def _files(fonts: Sequence[str]) -> list[Path]:
    """The files that paths, folders and globs name, by their digests, whose order no machine's folders change."""
    found: set[Path] = set()
    for pattern in fonts:
        named = [Path(name) for name in glob.glob(pattern, recursive=True)]
        inside = [path for folder in named if folder.is_dir() for path in folder.rglob("*")]
        fitting = [path for path in inside if path.suffix.lower() in _SUFFIXES]
        files = [path for path in (*named, *fitting) if path.is_file()]
        if not files:
            raise ValueError(
                f"op render_text: fonts: no font lies at {pattern}; give .ttf, .otf or .ttc files, folders or globs"
            )
        found.update(files)
    return sorted(found, key=file_sha256)
