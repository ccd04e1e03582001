"""Asks a model about pictures of one's own: which words on the command line are pictures, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.image.files import CLAIMED_SUFFIXES, IMAGE_SUFFIXES, ImageError
from train.evaluation.answerer import Answerer, Manner, decoded
from train.evaluation.asking import EvaluationError

_DRAWN = re.compile(r"<h>(.*?)(?:</h>|\Z)", re.DOTALL)
_TRIGGER = "<GEN>"


@dataclass(frozen=True)
class Reply:
    """An answer about pictures. `generate`: the prompt for an image model, where the answer holds one."""

    pictures: Sequence[str]
    question: str
    answer: str
    generate: str | None

    def lines(self, named: bool) -> Iterator[str]:
        """The answer for people, behind its pictures' names if they are wanted, and the prompt on a line of its own."""
        names = f"{', '.join(self.pictures)}: " if named else ""
        if self.answer or self.generate is None:
            yield names + (self.answer or "(nothing)")
        if self.generate is not None:
            yield f"{names}prompt for an image model: {self.generate}"

    def plain(self) -> dict[str, Any]:
        """JSON-able data."""
        return asdict(self)


def ask(
    answerer: Answerer, pictures: Sequence[Path], question: str, manner: Manner, *, together: bool = False
) -> Iterator[Reply]:
    """Ask about each picture by itself, or about all of them at once; without a question, for a caption.

    Raises EvaluationError for a file that is no picture, ModelError for what the model does not read.
    """
    for some in [list(pictures)] if together or not pictures else [[one] for one in pictures]:
        text = answerer.answer([_picture(path) for path in some], question, manner)
        yield Reply([str(path) for path in some], question, *parted(text))


def parted(answer: str) -> tuple[str, str | None]:
    """(what an answer says, the prompt for an image model in it): Mini-Gemini's `<h>PROMPT</h>` (2403.18814, 3.3)."""
    found = _DRAWN.search(answer)
    if found is None:
        return answer.replace(_TRIGGER, "").strip(), None
    return _DRAWN.sub("", answer, count=1).replace(_TRIGGER, "").strip(), found[1].strip()


def sort_words(words: Sequence[str]) -> tuple[list[Path], str]:
    """(pictures, question) of what was written behind the model: files, folders of them, and the question.

    Of a folder, its files with a picture's name, in the order of their names. Raises EvaluationError.
    """
    pictures: list[Path] = []
    questions: list[str] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            pictures += _in_folder(path)
        elif path.is_file():
            pictures.append(path)
        elif path.suffix.lower().lstrip(".") in CLAIMED_SUFFIXES and " " not in word.strip():
            raise EvaluationError(f"no picture {word}; paths are seen from {Path.cwd()}")
        else:
            questions.append(word)
    if len(questions) > 1:
        raise EvaluationError(
            f"{len(questions)} questions ({questions[0]!r}, {questions[1]!r}); put the question into quotes, and check"
            " the names of pictures"
        )
    if not pictures and not questions:
        raise EvaluationError('neither a picture nor a question; say: curate ask MODEL picture.jpg "What is this?"')
    return pictures, "".join(questions).strip()


def _in_folder(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower().lstrip(".") in IMAGE_SUFFIXES)
    if not found:
        raise EvaluationError(f"{folder}: no pictures in this folder (names that end in {', '.join(IMAGE_SUFFIXES)})")
    return found


def _picture(path: Path) -> Any:
    try:
        return decoded(path.read_bytes())
    except ImageError as err:
        raise EvaluationError(f"{path} is no picture that can be read: {err}") from None
