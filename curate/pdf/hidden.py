"""Count what a page's text and its picture do not share: text that is not seen, and what is seen and is no text."""

from __future__ import annotations

import ctypes
from itertools import repeat
from typing import Any, Final

import numpy as np
import pypdfium2.raw as pdfium

from curate.page.runs import Bools, Floats
from curate.pdf.file import PageObject, PdfPage, bind_function, bounds, walk_objects
from curate.pdf.found import PdfError
from curate.text.characters import SPACE, flags_of

_TEXT, _IMAGE, _PATH = pdfium.FPDF_PAGEOBJ_TEXT, pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_PATH
_UNSEEN_MODES: Final = (pdfium.FPDF_TEXTRENDERMODE_INVISIBLE, pdfium.FPDF_TEXTRENDERMODE_CLIP)
_WHITE: Final = 250  # of 255, and more, in red, green and blue
_WITHOUT_LOOK: Final = (pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP)

_get_mode = bind_function(pdfium.FPDFTextObj_GetTextRenderMode, ctypes.c_int, ctypes.c_void_p)
_get_colour = bind_function(pdfium.FPDFPageObj_GetFillColor, ctypes.c_int, *[ctypes.c_void_p] * 5)
_is_transparent = bind_function(pdfium.FPDFPageObj_HasTransparency, ctypes.c_int, ctypes.c_void_p)
_get_text_object = bind_function(pdfium.FPDFText_GetTextObject, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_get_unicode = bind_function(pdfium.FPDFText_GetUnicode, ctypes.c_uint, ctypes.c_void_p, ctypes.c_int)
_get_origin = bind_function(
    pdfium.FPDFText_GetCharOrigin, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, *[ctypes.c_void_p] * 2
)


def count_invisible(page: PdfPage) -> int:
    """Count the characters of the text layer, spaces aside, that the picture does not show.

    They are drawn invisibly or without opacity, white where nothing is below, or an image was painted over them. What a
    path covers or clips away is not known.
    """
    unseen = _find_unseen(page)
    if not unseen:
        return 0
    layer, places = _open_characters(page)
    try:
        return sum(found in unseen for found in map(_get_text_object, repeat(_address(layer)), places))
    finally:
        pdfium.FPDFText_ClosePage(layer)


def _find_unseen(page: PdfPage) -> set[int]:
    """The handles of the page's text objects that are not seen."""
    objects = list(walk_objects(page))
    texts = [one for one in objects if one.kind == _TEXT]
    if not texts:
        return set()
    unseen = np.array([_get_mode(one.handle) in _UNSEEN_MODES for one in texts], np.bool_)
    colours_4 = np.array([_colour(one) for one in texts])
    unseen |= colours_4[:, 3] == 0
    white = np.asarray((colours_4[:, :3] >= _WHITE).all(axis=1))
    images = [one for one in objects if one.kind == _IMAGE and _covers(page, one)]
    asked = np.flatnonzero(~unseen) if images else np.flatnonzero(white & ~unseen)
    if len(asked):
        boxes = np.array([bounds(texts[place]) for place in asked.tolist()], np.float32)
        orders = [texts[place].order for place in asked.tolist()]
        below = [one for one in objects if one.kind != _TEXT and not _is_white_path(one)] if white[asked].any() else []
        unseen[asked] |= _painted(boxes, orders, images, later=True)
        unseen[asked] |= white[asked] & ~_painted(boxes, orders, below, later=False)
    return {one.handle for one, is_unseen in zip(texts, unseen.tolist(), strict=True) if is_unseen}


def _painted(boxes: Floats, orders: list[tuple[int, ...]], others: list[PageObject], *, later: bool) -> Bools:
    """Which boxes have their middle below one of the others that was painted later; or else above an earlier one."""
    found = np.zeros(len(boxes), np.bool_)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    for other in others:
        x0, y0, x1, y1 = bounds(other)
        inside = ~found & (middle > (x0, y0)).all(axis=1) & (middle < (x1, y1)).all(axis=1)
        for place in np.flatnonzero(inside).tolist():
            found[place] = (other.order > orders[place]) == later
    return found


def _colour(one: PageObject) -> tuple[int, ...]:
    """Red, green, blue and opacity of what it is filled with, 0 to 255; black where it is a pattern."""
    parts = (ctypes.c_uint * 4)(0, 0, 0, 255)
    at = ctypes.addressof(parts)
    _get_colour(one.handle, at, at + 4, at + 8, at + 12)
    return tuple(parts)


def _is_white_path(one: PageObject) -> bool:
    return one.kind == _PATH and min(_colour(one)[:3]) >= _WHITE


def _covers(page: PdfPage, one: PageObject) -> bool:
    """Whether an image hides what is below it; a stencil, which has no colours of its own, does not."""
    data = pdfium.FPDF_IMAGEOBJ_METADATA()
    image = ctypes.cast(one.handle, pdfium.FPDF_PAGEOBJECT)
    if _is_transparent(one.handle) or not pdfium.FPDFImageObj_GetImageMetadata(image, page.handle, data):
        return False
    return bool(data.bits_per_pixel != 1 or data.colorspace != pdfium.FPDF_COLORSPACE_UNKNOWN)


def count_overlaid(page: PdfPage) -> tuple[int, int]:
    """Count the characters, spaces aside, that form fields and other annotations show, and the text layer has not.

    Counted on a copy of the file in which the page was made flat, as for printing.
    """
    fields = _find_annotations(page)
    if fields is None:
        return 0, 0
    before = _count_within(page, fields)
    with page.pdf.copy().page(page.number) as copy:
        form = copy.pdf.form(needed=True)
        pdfium.FORM_OnAfterLoadPage(copy.handle, form)  # draws what came without a look of its own
        flat = pdfium.FPDFPage_Flatten(copy.handle, pdfium.FLAT_NORMALDISPLAY)
        pdfium.FORM_OnBeforeClosePage(copy.handle, form)
    if flat == pdfium.FLATTEN_FAIL:
        return 0, 0
    with page.pdf.copy().page(page.number) as copy:
        after = _count_within(copy, fields)
    in_fields, in_all = (max(0, now - then) for now, then in zip(after, before, strict=True))
    return in_fields, max(0, in_all - in_fields)


def _find_annotations(page: PdfPage) -> Floats | None:
    """The boxes of a page's form fields, in its points; None where it has no annotation that could show a character."""
    fields, shown = [], False
    for number in range(min(int(pdfium.FPDFPage_GetAnnotCount(page.handle)), page.limits.max_objects)):
        annotation = pdfium.FPDFPage_GetAnnot(page.handle, number)
        kind = pdfium.FPDFAnnot_GetSubtype(annotation)
        shown = shown or kind not in _WITHOUT_LOOK
        rect = pdfium.FS_RECTF()
        if kind == pdfium.FPDF_ANNOT_WIDGET and pdfium.FPDFAnnot_GetRect(annotation, rect):
            fields.append((rect.left, min(rect.bottom, rect.top), rect.right, max(rect.bottom, rect.top)))
        pdfium.FPDFPage_CloseAnnot(annotation)
    return np.array(fields, np.float32).reshape(-1, 4) if shown else None


def _count_within(page: PdfPage, boxes: Floats) -> tuple[int, int]:
    """The characters of a page's text layer, spaces aside, that begin within boxes, and all of them."""
    layer, places = _open_characters(page)
    try:
        origins_N2 = np.zeros((len(places), 2))
        for number, place in enumerate(places):
            at = origins_N2.ctypes.data + 16 * number
            _get_origin(_address(layer), place, at, at + 8)
    finally:
        pdfium.FPDFText_ClosePage(layer)
    inside = np.zeros(len(places), np.bool_)
    for x0, y0, x1, y1 in boxes.tolist():
        inside |= ((origins_N2 >= (x0, y0)) & (origins_N2 <= (x1, y1))).all(axis=1)
    return int(np.count_nonzero(inside)), len(places)


def _open_characters(page: PdfPage) -> tuple[Any, list[int]]:
    """A text layer, to be closed, and the places of its characters that are no spaces. Raises PdfError."""
    layer = pdfium.FPDFText_LoadPage(page.handle)
    if not layer:
        raise PdfError("damaged_page", "its text cannot be read")
    count = min(int(pdfium.FPDFText_CountChars(layer)), page.limits.max_characters)
    codes = np.fromiter(map(_get_unicode, repeat(_address(layer)), range(count)), np.uint32, count)
    return layer, np.flatnonzero(flags_of(codes) & SPACE == 0).tolist()


def _address(layer: Any) -> int | None:
    return ctypes.cast(layer, ctypes.c_void_p).value
