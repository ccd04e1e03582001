"""Read images by an OCR engine: words with boxes, lines and confidences, in reading order.

Both run on one thread, so that the same pixels give the same words whatever else the machine does.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from PIL import Image

from curate.commit import file_sha256
from curate.page.reading_order import reading_order
from curate.page.runs import Floats, run_members
from curate.page.words import join_lines, split_words
from curate.text.characters import codes_of, flags_of, is_leftwards, is_whole_word

Engine = Literal["rapidocr", "tesseract"]

SECONDS: Final = 300.0
_LARGEST_PX: Final = 4096
_WITHOUT_SPACES: Final = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF))
_NEAR: Final = 0.5  # of the height of a line's letters: what stands closer has no space between
_TESSERACT_WORD: Final = "5"  # the level of a word in its table


class OcrError(ValueError):
    """A page that an engine could not read; `error` is its name: ocr_timeout, ocr_failed."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error = error
        self.detail = detail


class EngineMissingError(ValueError):
    """An engine, or a language of it, that is not installed; the message says what to do."""


@dataclass(frozen=True)
class OcrReading:
    """The reading of an engine, in reading order.

    `text`: line by line. `words`: N of them, with `boxes` N x (x0, y0, x1, y1) in fractions of the image, the numbers
    of their `lines`, from 0, and the engine's `confidences`, 0 to 1.
    """

    text: str
    words: list[str]
    boxes: Floats
    lines: list[int]
    confidences: list[float]

    @property
    def confidence(self) -> float | None:
        """The mean over the words' characters; None where nothing was read."""
        sizes = [len(word) for word in self.words]
        return float(np.average(self.confidences, weights=sizes)) if self.words else None


class _Word(NamedTuple):
    text: str
    box: tuple[float, float, float, float]
    confidence: float
    spaced: bool  # from the word before it on its line


Read = Callable[[Image.Image], OcrReading]


def load_engine(engine: Engine, languages: Sequence[str], min_confidence: float) -> Read:
    """Load the function that reads an image, lines below `min_confidence` left out. Raises EngineMissingError.

    `languages` are Tesseract's names (eng, deu, chi_sim); RapidOCR's model reads Latin letters, Han and kana.
    """
    read = _rapidocr() if engine == "rapidocr" else _tesseract(_command(), languages)
    return lambda image: _order_reading(read(image), image.size, min_confidence)


def engine_identity(engine: Engine, languages: Sequence[str]) -> str:
    """The identity of an engine's own files: versions, and for Tesseract the digest of each language's model."""
    if engine == "rapidocr":
        _rapidocr()
        return f"rapidocr {version('rapidocr')}, onnxruntime {version('onnxruntime')}"
    tesseract = _command_output([_command(), "--version"]).split("\n")[0]
    return "; ".join([tesseract, *(f"{name} {_digest(name)}" for name in languages)])


def _order_reading(lines: list[list[_Word]], size: tuple[int, int], min_confidence: float) -> OcrReading:
    """The lines that are believed, in the order of reading."""
    good = [line for line in lines if line and np.mean([word.confidence for word in line]) >= min_confidence]
    if not good:
        return OcrReading("", [], np.zeros((0, 4), np.float32), [], [])
    words = [word for line in good for word in line]
    boxes = np.array([word.box for word in words], np.float32)
    ends = np.cumsum([len(line) for line in good])
    spans = np.stack([np.append(0, ends[:-1]), ends], axis=1)
    leftwards = is_leftwards(flags_of(codes_of("".join(word.text for word in words))))
    runs = reading_order(boxes, spans, leftwards=leftwards, drawn=False).runs
    ordered = [words[n] for n in run_members(runs).tolist()]
    fractions = np.clip(np.array([word.box for word in ordered], np.float32) / (size * 2), 0, 1).astype(np.float32)
    return OcrReading(
        join_lines(["".join(_join_words(words[first:end])) for first, end in runs.tolist()]),
        [word.text for word in ordered],
        fractions,
        np.repeat(np.arange(len(runs)), runs[:, 1] - runs[:, 0]).tolist(),
        [word.confidence for word in ordered],
    )


def _join_words(words: Sequence[_Word]) -> Iterator[str]:
    for number, word in enumerate(words):
        yield f" {word.text}" if number and word.spaced else word.text


@cache
def _rapidocr() -> Callable[[Image.Image], list[list[_Word]]]:
    """RapidOCR with the models in its package, on one thread."""
    try:
        from rapidocr import RapidOCR
    except ImportError as err:
        remedy = 'pip install "curate-mm[docs]", or set engine: tesseract'
        raise EngineMissingError(f"engine rapidocr: {err}; {remedy}") from None
    one_thread = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    sizes = {"Global.max_side_len": _LARGEST_PX, "Global.text_score": 0.0}
    engine = RapidOCR(params={**one_thread, **sizes, "Global.log_level": "critical"})

    def read(image: Image.Image) -> list[list[_Word]]:
        pixels_HW3 = np.asarray(image)[:, :, ::-1]
        try:
            found = engine(pixels_HW3, use_cls=False, return_word_box=True, return_single_char_box=True)
            lines = zip(found.txts, found.word_results, strict=True) if found.txts else ()
            return [list(_from_letters(text, letters)) for text, letters in lines]
        except Exception as err:  # it has no errors of its own, and raises nearly anything on odd pictures
            raise OcrError("ocr_failed", f"{type(err).__name__}: {err}") from err

    return read


def _from_letters(text: str, letters: Sequence[tuple[str, float, Any]]) -> Iterator[_Word]:
    """The words of a line whose letters are known with their boxes, spaces left out."""
    boxes = np.array([[*np.min(corners, axis=0), *np.max(corners, axis=0)] for _, _, corners in letters])
    place = np.cumsum([not c.isspace() for c in text]) - 1
    for first, end in split_words(text):
        own = slice(place[first], place[end - 1] + 1)
        box = np.concatenate([boxes[own, :2].min(axis=0), boxes[own, 2:].max(axis=0)])
        sure = float(np.mean([letter[1] for letter in letters[own]]))
        yield _Word(text[first:end], tuple(box.tolist()), sure, text[first - 1 : first].isspace())


def _command() -> str:
    found = shutil.which("tesseract")
    if found is None:
        remedy = "install it (Debian: apt install tesseract-ocr), or set engine: rapidocr"
        raise EngineMissingError(f"engine tesseract: no `tesseract` on the PATH; {remedy}")
    return found


def _command_output(command: Sequence[str]) -> str:
    return subprocess.run(
        command, check=False, capture_output=True, encoding="utf-8", errors="replace", timeout=60
    ).stdout


def _digest(language: str) -> str:
    """Of a language's model. Raises EngineMissingError."""
    head, *names = _command_output([_command(), "--list-langs"]).splitlines()
    if language not in names:
        raise EngineMissingError(
            f"engine tesseract: language {language!r} is not installed, only {', '.join(names)}; "
            f"Debian: apt install tesseract-ocr-{language.replace('_', '-')}"
        )
    return file_sha256(Path(head.split('"')[1]) / f"{language}.traineddata")


def _tesseract(command: str, languages: Sequence[str]) -> Callable[[Image.Image], list[list[_Word]]]:
    """Tesseract's own program, a process a page, on one thread."""
    for language in languages:
        _digest(language)
    arguments = [command, "stdin", "stdout", "-l", "+".join(languages), "tsv"]

    def read(image: Image.Image) -> list[list[_Word]]:
        image.save(file := io.BytesIO(), "PPM")
        try:
            done = subprocess.run(
                arguments,
                check=False,
                input=file.getvalue(),
                capture_output=True,
                timeout=SECONDS,
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            )
        except subprocess.TimeoutExpired:
            raise OcrError("ocr_timeout", f"more than {SECONDS:g} s for a page") from None
        if done.returncode:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word said"])[-1]
            raise OcrError("ocr_failed", f"tesseract ended with {done.returncode}: {last}")
        return list(_from_table(done.stdout.decode(errors="replace")))

    return read


def _from_table(table: str) -> Iterator[list[_Word]]:
    """The lines of Tesseract's table, one row a word."""
    rows = (line.split("\t") for line in table.splitlines())
    written = (row for row in rows if row[0] == _TESSERACT_WORD and row[11].strip())
    for _, line in groupby(written, key=lambda row: row[1:5]):
        words: list[_Word] = []
        cells = list(line)
        near = _NEAR * float(np.median([int(row[9]) for row in cells]))
        for row in cells:
            text, confidence = row[11].strip(), float(row[10]) / 100
            left, top, width, height = map(int, row[6:10])
            for first, end in split_words(text):
                share = [left + width * at / len(text) for at in (first, end)]
                joined = words and _is_joined(words[-1], text[first], share[0] - words[-1].box[2] < near)
                box = (share[0], float(top), share[1], float(top + height))
                words.append(_Word(text[first:end], box, confidence, not first and not joined))
        yield words


def _is_joined(word: _Word, character: str, near: bool) -> bool:
    """Whether no space parts a word from what Tesseract takes for the next.

    Han and kana stand by themselves; of Thai, Lao, Burmese and Khmer it makes words of letters, and a gap is a space.
    """
    before = word.text[-1]
    if is_whole_word(before) or is_whole_word(character):
        return True
    return near and all(any(first <= ord(c) <= last for first, last in _WITHOUT_SPACES) for c in (before, character))
