"""Plain data found in PDF files, what is refused, and by which name; needs no pdfium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_HEADER_BYTES: Final = 1024
"""A reader looks for "%PDF-" this far (ISO 32000-1, annex H.3.4.1 of the implementation notes)."""


@dataclass(frozen=True)
class PdfLimits:
    """Limits: files by size and pages, pages by side in points, drawings by pixels, texts by characters.

    200 inches is the largest page that PDF itself knows (ISO 32000-1, annex C.2). `max_objects` bounds what is looked
    at when shares are measured; further objects of a page are not counted.
    """

    max_bytes: int = 256 << 20
    max_pages: int = 20_000
    max_side_pt: float = 14_400
    max_pixels: int = 64_000_000
    max_characters: int = 1_000_000
    max_objects: int = 20_000


class PdfError(ValueError):
    """A file or page that cannot be read; `error` is its name.

    Of files: empty_file, not_a_pdf, pdf_too_large, encrypted_pdf, damaged_pdf, empty_pdf, too_many_pages. Of pages:
    missing_page, damaged_page, page_too_large, too_many_characters. Of either, where it is guarded: pdf_timeout,
    pdf_crashed.
    """

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error = error
        self.detail = detail


@dataclass(frozen=True)
class PageObjects:
    """Objects on a page beside its text, as boxes N x (x0, y0, x1, y1) in fractions of the page."""

    images: Floats
    paths: Floats


@dataclass(frozen=True)
class PageText:
    """A page's text layer, in the order of reading; what runs another way than most of it follows.

    `text`: its lines, words that a line's end breaks made whole. `words`: as printed, N of them; each Han character and
    kana is a word. `boxes`: N x (x0, y0, x1, y1) in fractions of the page, y downwards; as high as the font's size.
    `lines`: N numbers, from 0. `columns`: the most that stand side by side. `skew_degrees`: the usual angle of the
    writing on the page as seen, anticlockwise, above -180 to 180.
    """

    text: str
    words: list[str]
    boxes: Floats
    lines: npt.NDArray[np.int64]
    columns: int
    skew_degrees: float


@dataclass(frozen=True)
class PageLook:
    """The content of a page: its sides in points, its text layer, and the boxes of its images and paths.

    Characters, spaces aside: of the text that the picture does not show (`invisible_characters`), and that form fields
    and other annotations show beside the text; see curate.pdf.hidden.
    """

    width_pt: float
    height_pt: float
    text: PageText
    objects: PageObjects
    invisible_characters: int
    form_characters: int
    annotation_characters: int


def is_pdf(data: bytes) -> bool:
    """Whether a file says that it is a PDF, be it readable or not."""
    return b"%PDF-" in data[:_HEADER_BYTES]
