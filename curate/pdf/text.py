"""Read the text layer of a PDF page: words with boxes in reading order, columns, skew."""

from __future__ import annotations

import ctypes
import math
from collections import deque
from itertools import repeat
from typing import Any, Final

import numpy as np
import pypdfium2.raw as pdfium

from curate.page.reading_order import reading_order
from curate.page.runs import Floats, Ints, run_members
from curate.page.words import join_lines
from curate.pdf.file import PdfPage, bind_function
from curate.pdf.found import PageText, PdfError
from curate.text.characters import DOT, SPACE, UNREADABLE, WHOLE_WORD, Codes, Flags, codes_of, flags_of, is_leftwards

_SAMPLED_ANGLES: Final = 16
_OWN_LINE: Final = 0.3  # of a word's height: so much lower or higher than the last word, and back, is another line
_BROKEN: Final = "\ufffe"
"""What pdfium writes for the hyphen at the end of a line whose word goes on in the next."""

_SOFT_HYPHEN: Final = "\xad"
_UNKNOWN: Final = "\ufffd"

_get_text = bind_function(pdfium.FPDFText_GetText, ctypes.c_int, ctypes.c_void_p, *[ctypes.c_int] * 2, ctypes.c_void_p)
_get_unicode = bind_function(pdfium.FPDFText_GetUnicode, ctypes.c_uint, ctypes.c_void_p, ctypes.c_int)
_get_box = bind_function(
    pdfium.FPDFText_GetLooseCharBox, None
)  # without types of arguments, which cost half of each call
_get_angle = bind_function(pdfium.FPDFText_GetCharAngle, ctypes.c_float, ctypes.c_void_p, ctypes.c_int)

_FOUND_P4: Final = np.zeros((4096, 4), np.float32)
_PLACES: Final = [ctypes.byref(ctypes.c_float.from_address(_FOUND_P4.ctypes.data + 16 * n)) for n in range(4096)]
"""Where boxes are written by pdfium, in which one thread at a time may be: made once, for that takes as long as asking
for a box."""


def read_text(page: PdfPage) -> PageText:
    """Read the text layer of a page, empty where it has none. Raises PdfError too_many_characters, damaged_page."""
    layer = pdfium.FPDFText_LoadPage(page.handle)
    if not layer:
        raise PdfError("damaged_page", "its text cannot be read")
    try:
        return _read(page, layer)
    finally:
        pdfium.FPDFText_ClosePage(layer)


def _read(page: PdfPage, layer: Any) -> PageText:
    handle = ctypes.cast(layer, ctypes.c_void_p).value
    text = _characters(page, layer, handle)
    codes = codes_of(text)
    flags = flags_of(codes)
    odd = bool((flags & UNREADABLE).any())
    if odd:
        text = _replace_controls(text, codes)
    spans_N3 = _words(codes, flags)
    boxes = page.to_fractions(_boxes(handle, spans_N3))
    if boxes.size and (boxes.min() < 0 or boxes.max() > 1):  # what lies beside the page is not printed
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        seen = ((centres > 0) & (centres < 1)).all(axis=1)
        text = _blank_words(text, spans_N3[~seen])
        spans_N3, boxes = spans_N3[seen], np.clip(boxes[seen], 0, 1)
    if not len(spans_N3):
        return PageText("", [], boxes, np.zeros(0, np.int64), 0, 0.0)
    skew = _skew_degrees(page, handle, spans_N3[:, 0])
    leftwards = is_leftwards(flags)
    lines = _lines(spans_N3, boxes, leftwards)
    points = boxes * np.array([page.width_pt, page.height_pt] * 2, np.float32)
    wordy = flags[spans_N3[:, 0]] & flags[spans_N3[:, 1] - 1] & DOT == 0
    runs, columns = reading_order(points, lines, leftwards=leftwards, wordy=wordy)
    words = _printed_words(text, spans_N3)
    if runs is not lines:
        order = run_members(runs)
        spans_N3, boxes = spans_N3[order], boxes[order]
        words = [words[n] for n in order.tolist()]
    counts = runs[:, 1] - runs[:, 0]
    ends = np.cumsum(counts)
    from_to = zip(spans_N3[ends - counts, 0].tolist(), spans_N3[ends - 1, 1].tolist(), strict=True)
    whole = join_lines([text[first:end] for first, end in from_to], _BROKEN).replace(_SOFT_HYPHEN, "")
    if odd:
        whole, words = _pair_surrogates(whole), list(map(_pair_surrogates, words))
    return PageText(
        whole,
        words,
        boxes,
        np.repeat(np.arange(len(runs)), counts),
        columns,
        skew,
    )


def _replace_controls(text: str, codes: Codes) -> str:
    """The text with U+FFFD for control characters, which in a text layer are glyphs whose font does not say more."""
    controls = ((codes < 0x20) & (flags_of(codes) & SPACE == 0)) | ((codes >= 0x7F) & (codes < 0xA0) & (codes != 0x85))
    shown = np.where(controls, ord(_UNKNOWN), codes).astype("<u4")
    return shown.tobytes().decode("utf-32-le", "surrogatepass")


def _pair_surrogates(text: str) -> str:
    """The text with one character for each surrogate pair, which pdfium counts as two, and U+FFFD for single ones."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _blank_words(text: str, spans: Ints) -> str:
    """The text with spaces in place of some words; all others stay where they are."""
    characters = list(text)
    for first, end, _ in spans.tolist():
        characters[first:end] = " " * (end - first)
    return "".join(characters)


def _lines(spans: Ints, boxes: Floats, leftwards: bool) -> Ints:
    """The runs of words that are on one line: L x (first word, end).

    pdfium goes on in the same line where a writer went back to begin the next one a little lower; here it ends.
    """
    ends = spans[1:, 2] != spans[:-1, 2]
    back = boxes[1:, 0] > boxes[:-1, 2] if leftwards else boxes[1:, 2] < boxes[:-1, 0]
    back &= ~ends
    if back.any():
        shift = np.abs(boxes[1:, [1, 3]].sum(axis=1) - boxes[:-1, [1, 3]].sum(axis=1))
        ends |= back & (shift > 2 * _OWN_LINE * (boxes[:-1, 3] - boxes[:-1, 1]))
    first = (np.flatnonzero(ends) + 1).tolist()
    return np.array([[0, *first], [*first, len(spans)]]).T


def _characters(page: PdfPage, layer: Any, handle: int | None) -> str:
    """One character for each of pdfium's, which may be half of a surrogate pair.

    U+FFFD where a glyph has none, `_BROKEN` for a hyphen that breaks a word.
    """
    count = int(pdfium.FPDFText_CountChars(layer))
    if count > page.limits.max_characters:
        raise PdfError("too_many_characters", f"{count} on the page; at most {page.limits.max_characters} are read")
    units = np.zeros(2 * count + 2, np.uint16)  # a character may be two of them, and a zero ends them
    written = _get_text(handle, 0, count, units.ctypes.data)
    text = units[: max(written - 1, 0)].tobytes().decode("utf-16-le", "replace")
    if len(text) != count:  # pairs, or characters that pdfium left out, so that places do not agree
        text = "".join(map(_character, map(_get_unicode, repeat(handle), range(count))))
    return text.replace(f"{_SOFT_HYPHEN}\r\n", f"{_BROKEN}\r\n")


def _character(code: int) -> str:
    if code == 2:  # how pdfium keeps the hyphen that it writes as `_BROKEN`
        return _BROKEN
    return chr(code) if 0 < code <= 0x10FFFF else _UNKNOWN


def _words(codes: Codes, flags: Flags) -> Ints:
    """Words as N x (first character, end, number of the line): what stands between spaces, Han and kana one by one."""
    kinds = flags & (SPACE | WHOLE_WORD)
    over = np.flatnonzero((codes == 10) | (codes == ord(_BROKEN)))
    edges = (kinds[1:] != kinds[:-1]) | (kinds[1:] == WHOLE_WORD)
    edges[over[over < len(edges)]] = True
    bounds = np.concatenate([[0], np.flatnonzero(edges) + 1, [len(codes)]])
    starts, ends = bounds[:-1], bounds[1:]
    inside = kinds[starts] & SPACE == 0 if len(codes) else np.zeros(len(starts), np.bool_)
    starts, ends = starts[inside], ends[inside]
    return np.stack([starts, ends, np.searchsorted(over, starts)], axis=1)


def _boxes(handle: int | None, spans: Ints) -> Floats:
    """The boxes of words in the page's points: what holds the first and the last character of each."""
    starts, lasts = spans[:, 0], spans[:, 1] - 1
    longer = starts != lasts
    asked = np.concatenate([starts, lasts[longer]])
    sides_M4 = np.zeros((len(asked), 4), np.float32)  # left, top, right, bottom
    page, at = ctypes.c_void_p(handle), asked.tolist()
    for start in range(0, len(at), len(_PLACES)):
        part = at[start : start + len(_PLACES)]
        _FOUND_P4[: len(part)] = 0  # pdfium writes nothing for a character that it does not know
        deque(map(_get_box, repeat(page), part, _PLACES), maxlen=0)
        sides_M4[start : start + len(part)] = _FOUND_P4[: len(part)]
    boxes = sides_M4[:, [0, 3, 2, 1]]
    found, last = boxes[: len(spans)], boxes[len(spans) :]
    found[longer, :2] = np.minimum(found[longer, :2], last[:, :2])
    found[longer, 2:] = np.maximum(found[longer, 2:], last[:, 2:])
    return found


def _printed_words(text: str, spans: Ints) -> list[str]:
    """The words as they are seen."""
    shown = text.replace(_BROKEN, "-")
    words = shown.split()
    if len(words) < len(spans):  # some are not set apart by spaces
        words = [shown[first:end] for first, end in zip(spans[:, 0].tolist(), spans[:, 1].tolist(), strict=True)]
    return [word.replace(_SOFT_HYPHEN, "") for word in words] if _SOFT_HYPHEN in text else words


def _skew_degrees(page: PdfPage, handle: int | None, starts: Ints) -> float:
    sample = starts[:: max(1, len(starts) // _SAMPLED_ANGLES)].tolist()
    angles = sorted(_get_angle(handle, place) for place in sample)
    turned = 90 * int(pdfium.FPDFPage_GetRotation(page.handle))
    return (math.degrees(angles[len(angles) // 2]) - turned + 180) % 360 - 180
