"""Read the text layer of a PDF page: words with boxes in reading order, columns, skew."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from types import TracebackType
from typing import Any, Final

import numpy as np
import pypdfium2.raw as pdfium

from curate.page.reading_order import reading_order
from curate.page.runs import Bools, Floats, Ints, run_members
from curate.page.words import join_lines
from curate.pdf.file import PdfPage, bind_function
from curate.pdf.found import PageText, PdfError
from curate.pdf.lines import BROKEN, NOTHING, LaidWords, find_lines
from curate.text.characters import DOT, SPACE, UNREADABLE, WHOLE_WORD, Codes, Flags, codes_of, flags_of, is_leftwards

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
    """Read the text layer of a page, empty where it has none. Raises PdfError too_many_characters, damaged_page.

    Text that runs sideways or upside down is read on the page turned back, as pdfium sorts what it takes for a line
    from left to right; what runs as most does comes first, then each other way by itself.
    """
    with _Layer(page) as layer:
        quarters, skew = layer.directions()
        if not quarters.any():
            return _order(layer.words, layer.flags, page, skew)
    ways = sorted(set(quarters.tolist()), key=lambda way: (way != _usual(quarters), way))
    parts = []
    for way in ways:
        with page.turned(way), _Layer(page) as layer:
            upright, _ = layer.directions()
            part = _order(_only(layer.words, upright == 0), layer.flags, page, skew)
        parts.append(replace(part, boxes=_turn_back(part.boxes, way)))
    return _join(parts)


class _Layer:
    """A page's text layer: its characters' `flags`, and its `words` that are on the page. Raises PdfError."""

    def __init__(self, page: PdfPage) -> None:
        self._page = page
        self._layer = pdfium.FPDFText_LoadPage(page.handle)
        if not self._layer:
            raise PdfError("damaged_page", "its text cannot be read")
        try:
            self._handle = ctypes.cast(self._layer, ctypes.c_void_p).value
            self.flags, self.words = self._read()
        except PdfError:
            self.close()
            raise

    def _read(self) -> tuple[Flags, LaidWords]:
        text = _characters(self._page, self._layer, self._handle)
        codes = codes_of(text)
        flags = flags_of(codes)
        if (flags & UNREADABLE).any():
            text = _replace_controls(text, codes)
        spans_N3 = _words(codes, flags)
        boxes = self._page.to_fractions(_boxes(self._handle, spans_N3))
        words = LaidWords(text, spans_N3, boxes)
        if boxes.size and (boxes.min() < 0 or boxes.max() > 1):  # what lies beside the page is not printed
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            seen = np.asarray(((centres > 0) & (centres < 1)).all(axis=1))
            words = _only(words, seen)
        return flags, words

    def directions(self) -> tuple[Ints, float]:
        """By how many quarters each word is turned anticlockwise as it is seen, and the usual angle in degrees."""
        spans_N3 = self.words.spans
        if not len(spans_N3):
            return np.zeros(0, np.int64), 0.0
        apart = np.append(True, spans_N3[1:, 0] > spans_N3[:-1, 1])  # Han runs on as it began
        asked = spans_N3[apart, 0].tolist()
        clockwise = np.fromiter(map(_get_angle, repeat(self._handle), asked), np.float64, len(asked))
        angles = -np.rad2deg(clockwise)[np.cumsum(apart) - 1]
        rotation = int(pdfium.FPDFPage_GetRotation(self._page.handle))
        quarters = (np.floor(angles / 90 + 0.5).astype(np.int64) - rotation) % 4
        usual = _usual(quarters)
        aside = np.sort((angles[quarters == usual] - 90 * (rotation + usual) + 180) % 360 - 180)
        return quarters, 180 - (180 - 90 * usual - float(aside[len(aside) // 2])) % 360

    def close(self) -> None:
        pdfium.FPDFText_ClosePage(self._layer)

    def __enter__(self) -> _Layer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _usual(quarters: Ints) -> int:
    return int(np.bincount(quarters).argmax())


def _only(words: LaidWords, kept: Bools) -> LaidWords:
    """The words that are kept, and spaces in place of the others; what is kept stays where it is."""
    characters = list(words.text)
    for first, end, _ in words.spans[~kept].tolist():
        characters[first:end] = " " * (end - first)
    return LaidWords("".join(characters), words.spans[kept], np.clip(words.boxes[kept], 0, 1))


def _order(words: LaidWords, flags: Flags, page: PdfPage, skew: float) -> PageText:
    """The words in the order of reading; `flags` are those of the text's characters."""
    if not len(words.spans):
        return PageText("", [], words.boxes, np.zeros(0, np.int64), 0, 0.0)
    size = np.array([page.width_pt, page.height_pt] * 2, np.float32)
    leftwards = is_leftwards(flags)
    laid, lines = find_lines(replace(words, boxes=words.boxes * size), leftwards=leftwards)
    spans_N3 = laid.spans
    wordy = flags[spans_N3[:, 0]] & flags[spans_N3[:, 1] - 1] & DOT == 0
    runs, columns = reading_order(laid.boxes, lines, leftwards=leftwards, wordy=wordy)
    order = run_members(runs)
    counts = runs[:, 1] - runs[:, 0]
    ends = np.cumsum(counts)
    from_to = spans_N3[order[ends - counts], 0].tolist(), spans_N3[order[ends - 1], 1].tolist()
    text = join_lines([laid.text[first:end] for first, end in zip(*from_to, strict=True)], BROKEN).replace(NOTHING, "")
    printed = _printed_words(laid.text, spans_N3)
    shown = [printed[n] for n in order.tolist()]
    if (flags & UNREADABLE).any():
        text, shown = _pair_surrogates(text), list(map(_pair_surrogates, shown))
    boxes = np.clip(laid.boxes[order] / size, 0, 1)
    return PageText(text, shown, boxes, np.repeat(np.arange(len(runs)), counts), columns, skew)


def _turn_back(boxes: Floats, quarters: int) -> Floats:
    """Boxes in fractions of a page that was turned clockwise by so many quarters, on the page as it is."""
    for _ in range(quarters):
        x0, y0, x1, y1 = boxes.T
        boxes = np.stack([y0, 1 - x1, y1, 1 - x0], axis=1)
    return boxes


def _join(parts: Sequence[PageText]) -> PageText:
    """Parts of a page one after the other; of the first one columns and skew are the page's."""
    counts = [int(part.lines[-1]) + 1 for part in parts]
    lines = [part.lines + start for part, start in zip(parts, np.cumsum([0, *counts[:-1]]), strict=True)]
    return replace(
        parts[0],
        text="\n".join(part.text for part in parts),
        words=[word for part in parts for word in part.words],
        boxes=np.concatenate([part.boxes for part in parts]),
        lines=np.concatenate(lines),
    )


def _replace_controls(text: str, codes: Codes) -> str:
    """The text with U+FFFD for control characters, which in a text layer are glyphs whose font does not say more."""
    controls = ((codes < 0x20) & (flags_of(codes) & SPACE == 0)) | ((codes >= 0x7F) & (codes < 0xA0) & (codes != 0x85))
    shown = np.where(controls, ord(_UNKNOWN), codes).astype("<u4")
    return shown.tobytes().decode("utf-32-le", "surrogatepass")


def _pair_surrogates(text: str) -> str:
    """The text with one character for each surrogate pair, which pdfium counts as two, and U+FFFD for single ones."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _characters(page: PdfPage, layer: Any, handle: int | None) -> str:
    """One character for each of pdfium's, which may be half of a surrogate pair.

    U+FFFD where a glyph has none, `BROKEN` for a hyphen that breaks a word.
    """
    count = int(pdfium.FPDFText_CountChars(layer))
    if count > page.limits.max_characters:
        raise PdfError("too_many_characters", f"{count} on the page; at most {page.limits.max_characters} are read")
    units = np.zeros(2 * count + 2, np.uint16)  # a character may be two of them, and a zero ends them
    written = _get_text(handle, 0, count, units.ctypes.data)
    text = units[: max(written - 1, 0)].tobytes().decode("utf-16-le", "replace")
    if len(text) != count:  # pairs, or characters that pdfium left out, so that places do not agree
        text = "".join(map(_character, map(_get_unicode, repeat(handle), range(count))))
    return text.replace(f"{NOTHING}\r\n", f"{BROKEN}\r\n")


def _character(code: int) -> str:
    if code == 2:  # how pdfium keeps the hyphen that it writes as `BROKEN`
        return BROKEN
    return chr(code) if 0 < code <= 0x10FFFF else _UNKNOWN


def _words(codes: Codes, flags: Flags) -> Ints:
    """Words as N x (first character, end, number of the line): what stands between spaces, Han and kana one by one."""
    kinds = flags & (SPACE | WHOLE_WORD)
    over = np.flatnonzero((codes == 10) | (codes == ord(BROKEN)))
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
    shown = text.replace(BROKEN, "-")
    words = shown.split()
    if len(words) < len(spans):  # some are not set apart by spaces
        words = [shown[first:end] for first, end in zip(spans[:, 0].tolist(), spans[:, 1].tolist(), strict=True)]
    return [word.replace(NOTHING, "") for word in words] if NOTHING in text else words
