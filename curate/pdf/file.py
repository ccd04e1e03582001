"""Open PDF files within limits, draw pages, and measure what lies on a page (pdfium).

Nothing here guards against a file that makes pdfium itself crash, run for ever or eat the memory, as a few hundred
bytes can: `curate.pdf.guard` does these things in a process that may die.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from itertools import repeat
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pypdfium2.raw as pdfium
from PIL import Image

from curate.pdf.found import Floats, PageObjects, PdfError, PdfLimits, is_pdf

Placement = npt.NDArray[np.float64]

_UNIT: Final = 1 << 24  # device pixels a side when a page's transform is asked for: pdfium answers in whole ones


def bind_function(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Bind one of pdfium's functions for thousands of calls: handles are integers, the interpreter keeps its lock."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return ctypes.PYFUNCTYPE(result, *arguments)(address)


_get_object = bind_function(pdfium.FPDFPage_GetObject, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_get_in_form = bind_function(pdfium.FPDFFormObj_GetObject, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong)
_get_type = bind_function(pdfium.FPDFPageObj_GetType, ctypes.c_int, ctypes.c_void_p)
_count_in_form = bind_function(pdfium.FPDFFormObj_CountObjects, ctypes.c_int, ctypes.c_void_p)
_get_matrix = bind_function(pdfium.FPDFPageObj_GetMatrix, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_to_device = bind_function(
    pdfium.FPDF_PageToDevice,
    ctypes.c_int,
    ctypes.c_void_p,
    *[ctypes.c_int] * 5,
    *[ctypes.c_double] * 2,
    *[ctypes.c_void_p] * 2,
)
_get_bounds = bind_function(pdfium.FPDFPageObj_GetBounds, ctypes.c_int, *[ctypes.c_void_p] * 5)


class PdfFile:
    """An open file; `pages` is their count. Close it, or use it in a `with`. One thread at a time may be in pdfium."""

    def __init__(self, data: bytes, limits: PdfLimits) -> None:
        self.limits = limits
        self._data = data  # pdfium reads from it as long as the file is open
        self._handle: Any = _load(data, limits)
        self._form: Any = None
        self._copy: PdfFile | None = None
        self.pages = int(pdfium.FPDF_GetPageCount(self._handle))
        try:
            if self.pages < 1:
                raise PdfError("empty_pdf", "the file has no pages")
            if self.pages > limits.max_pages:
                raise PdfError("too_many_pages", f"{self.pages}; at most {limits.max_pages} are read")
        except PdfError:
            self.close()
            raise

    def page(self, number: int) -> PdfPage:
        """Page `number`, counted from 0; close it before the file. Raises PdfError."""
        if not 0 <= number < self.pages:
            raise PdfError("missing_page", f"page {number} of {self.pages}, counted from 0")
        handle = pdfium.FPDF_LoadPage(self._handle, number)
        if not handle:
            raise PdfError("damaged_page", f"page {number} cannot be read")
        page = PdfPage(handle, self, number)
        if min(page.width_pt, page.height_pt) <= 0:
            page.close()
            raise PdfError("damaged_page", f"page {number} has no size")
        return page

    def copy(self) -> PdfFile:
        """The file opened once more, to change pages of it that this one leaves as they are; closed with it."""
        if self._copy is None:
            self._copy = PdfFile(self._data, self.limits)
        return self._copy

    def form(self, *, needed: bool = False) -> Any:
        """Open the form's drawing handle, once; None where the file has no form and none is needed."""
        if self._form is None and (needed or pdfium.FPDF_GetFormType(self._handle) != pdfium.FORMTYPE_NONE):
            self._form_info = pdfium.FPDF_FORMFILLINFO(version=2)  # pdfium keeps a pointer to it
            self._form = pdfium.FPDFDOC_InitFormFillEnvironment(self._handle, self._form_info)
            if self._form:
                pdfium.FPDF_SetFormFieldHighlightAlpha(self._form, 0)
        return self._form

    def close(self) -> None:
        """Give the file's memory back."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None
        if self._form:
            pdfium.FPDFDOC_ExitFormFillEnvironment(self._form)
            self._form = None
        if self._handle:
            pdfium.FPDF_CloseDocument(self._handle)
            self._handle = None
            self._data = b""

    def __enter__(self) -> PdfFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class PdfPage:
    """An open page: its sides in points as a reader sees it, after its rotation."""

    def __init__(self, handle: Any, pdf: PdfFile, number: int) -> None:
        self.handle = handle
        self.pdf = pdf
        self.number = number
        self.limits = pdf.limits
        self.width_pt = float(pdfium.FPDF_GetPageWidthF(handle))
        self.height_pt = float(pdfium.FPDF_GetPageHeightF(handle))

    def to_fractions(self, boxes: Floats) -> Floats:
        """Boxes N x (x0, y0, x1, y1) in the page's own points, y upwards, as fractions of the page as seen, y down."""
        (x0, y0), (x1, y1), (x2, y2) = (self._device(x, y) for x, y in ((0, 0), (1000, 0), (0, 1000)))
        if abs(x1 - x0) > abs(x2 - x0):
            columns, scale = [0, 1, 2, 3], (x1 - x0, y2 - y0)
        else:  # turned by a quarter: what ran across runs down
            columns, scale = [1, 0, 3, 2], (x2 - x0, y1 - y0)
        fractions = boxes[:, columns]
        fractions *= np.array(scale * 2, np.float32) / (1000 * _UNIT)
        fractions += np.array((x0, y0) * 2, np.float32) / _UNIT
        for one, other in ((0, 2), (1, 3)):
            if scale[one] < 0:
                fractions[:, [one, other]] = fractions[:, [other, one]]
        return fractions

    @contextlib.contextmanager
    def turned(self, quarters: int) -> Iterator[None]:
        """Turn the page clockwise by so many quarters, as if its file said so."""
        before = int(pdfium.FPDFPage_GetRotation(self.handle))
        try:
            self._set_rotation((before + quarters) % 4)
            yield
        finally:
            self._set_rotation(before)

    def _set_rotation(self, quarters: int) -> None:
        pdfium.FPDFPage_SetRotation(self.handle, quarters)
        self.width_pt = float(pdfium.FPDF_GetPageWidthF(self.handle))
        self.height_pt = float(pdfium.FPDF_GetPageHeightF(self.handle))

    def _device(self, x: float, y: float) -> tuple[int, int]:
        place = (ctypes.c_int * 2)()
        at = ctypes.addressof(place)
        _to_device(ctypes.cast(self.handle, ctypes.c_void_p).value, 0, 0, _UNIT, _UNIT, 0, x, y, at, at + 4)
        return place[0], place[1]

    def close(self) -> None:
        """Give the page's memory back."""
        if self.handle:
            pdfium.FPDF_ClosePage(self.handle)
            self.handle = None

    def __enter__(self) -> PdfPage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


_DEFAULT_LIMITS: Final = PdfLimits()


def open_pdf(data: bytes, limits: PdfLimits = _DEFAULT_LIMITS) -> PdfFile:
    """Open a file. Raises PdfError: see there for the names. A file that opens without a password is not encrypted."""
    return PdfFile(data, limits)


def _load(data: bytes, limits: PdfLimits) -> Any:
    if not data:
        raise PdfError("empty_file", "zero bytes")
    if not is_pdf(data):
        raise PdfError("not_a_pdf", f"starts with {data[:16]!r}")
    if len(data) > limits.max_bytes:
        raise PdfError("pdf_too_large", f"{len(data)} bytes; at most {limits.max_bytes} are read")
    handle = pdfium.FPDF_LoadMemDocument64(data, len(data), None)
    if handle:
        return handle
    if pdfium.FPDF_GetLastError() in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
        raise PdfError("encrypted_pdf", "it asks for a password")
    raise PdfError("damaged_pdf", "no objects can be found in it")


def render(page: PdfPage, long_side_px: int) -> Image.Image:
    """Render the page as RGB on white, its longer side exactly so many pixels; with annotations and filled form fields.

    Raises PdfError page_too_large: a side above the limit in points, or more pixels than the limit.
    """
    limits = page.limits
    longest = max(page.width_pt, page.height_pt)
    if longest > limits.max_side_pt:
        size = f"{page.width_pt:g} x {page.height_pt:g} points"
        raise PdfError("page_too_large", f"{size}; at most {limits.max_side_pt:g} a side are drawn")
    width, height = (max(1, round(side / longest * long_side_px)) for side in (page.width_pt, page.height_pt))
    if width * height > limits.max_pixels:
        raise PdfError("page_too_large", f"{width} x {height} pixels; at most {limits.max_pixels} are drawn")
    pixels_HW3 = np.full((height, width, 3), 255, np.uint8)
    bitmap = pdfium.FPDFBitmap_CreateEx(width, height, pdfium.FPDFBitmap_BGR, pixels_HW3.ctypes.data, 3 * width)
    try:
        _draw(page, bitmap, width, height)
    finally:
        pdfium.FPDFBitmap_Destroy(bitmap)
    return Image.fromarray(pixels_HW3)


def _draw(page: PdfPage, bitmap: Any, width: int, height: int) -> None:
    where = (0, 0, width, height, 0, pdfium.FPDF_REVERSE_BYTE_ORDER | pdfium.FPDF_ANNOT)
    pdfium.FPDF_RenderPageBitmap(bitmap, page.handle, *where)
    form = page.pdf.form()
    if form:
        pdfium.FORM_OnAfterLoadPage(page.handle, form)
        pdfium.FPDF_FFLDraw(form, bitmap, page.handle, *where)
        pdfium.FORM_OnBeforeClosePage(page.handle, form)


def find_objects(page: PdfPage) -> PageObjects:
    """Find the boxes of a page's images and paths, also of those in forms (reused drawings), where these are placed."""
    found: dict[int, list[Floats]] = {pdfium.FPDF_PAGEOBJ_IMAGE: [], pdfium.FPDF_PAGEOBJ_PATH: []}
    for one in walk_objects(page):
        if one.kind in found:
            found[one.kind].append(bounds(one))
    images, paths = (
        np.clip(page.to_fractions(np.array(boxes, np.float32).reshape(-1, 4)), 0, 1) for boxes in found.values()
    )
    return PageObjects(images, paths)


class PageObject(NamedTuple):
    """An object on a page: pdfium's kind and handle, and where it is placed.

    `order`: its place in what holds it, before that the place of the form that it is in: those with a greater one are
    painted later.
    """

    kind: int
    handle: int
    order: tuple[int, ...]
    placement_33: Placement


def walk_objects(page: PdfPage) -> Iterator[PageObject]:
    """Walk a page's objects, those in forms too, as many as the limit says."""
    top = ctypes.cast(page.handle, ctypes.c_void_p).value
    count = int(pdfium.FPDFPage_CountObjects(page.handle))
    ahead: list[tuple[Callable[..., Any], Any, int, Placement, tuple[int, ...]]] = [
        (_get_object, top, count, np.eye(3), ())
    ]
    left = page.limits.max_objects
    while ahead and left > 0:
        get, parent, count, placement_33, before = ahead.pop()
        handles = list(map(get, repeat(parent), range(min(count, left))))
        left -= len(handles)
        for place, (handle, kind) in enumerate(zip(handles, map(_get_type, handles), strict=True)):
            order = (*before, place)
            if kind == pdfium.FPDF_PAGEOBJ_FORM:
                placed_33 = _matrix(handle) @ placement_33
                ahead.append((_get_in_form, handle, int(_count_in_form(handle)), placed_33, order))
            else:
                yield PageObject(kind, handle, order, placement_33)


def _matrix(handle: int) -> Placement:
    """A form's placement, for points as rows (x, y, 1)."""
    numbers = (ctypes.c_float * 6)(1, 0, 0, 1, 0, 0)
    _get_matrix(handle, ctypes.addressof(numbers))
    a, b, c, d, e, f = numbers
    return np.array([[a, b, 0], [c, d, 0], [e, f, 1]])


def bounds(one: PageObject) -> Floats:
    """The box (x0, y0, x1, y1) of an object in the page's own points, y upwards."""
    sides = (ctypes.c_float * 4)()  # left, bottom, right, top
    start = ctypes.addressof(sides)
    _get_bounds(one.handle, start, start + 4, start + 8, start + 12)
    x0, y0, x1, y1 = sides
    corners_43 = np.array([[x0, y0, 1], [x0, y1, 1], [x1, y0, 1], [x1, y1, 1]]) @ one.placement_33
    box: Floats = np.concatenate([corners_43[:, :2].min(axis=0), corners_43[:, :2].max(axis=0)]).astype(np.float32)
    return box
