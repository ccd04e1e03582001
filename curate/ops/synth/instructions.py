"""Make conversations of annotated records by rule: templates around what they say, prompts to draw."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from curate.document.interchange import Record, RecordError
from curate.document.segments import Segment, image_segment, text_segment
from curate.ops._segments import columns_of
from curate.ops.spec import Columns, Natural, op
from curate.ops.synth._records import WRITES, document_row, generation_turns
from curate.ops.synth._templates import letter, lettered, templated

Task = Literal["caption", "description", "question", "choice", "ask", "read"]
MAX_OCR_TOKENS = 128
"""Of an image; the first in the order in which they come."""


@op(reads=("bytes", "uid"), writes=WRITES, version=1, batch_size=256)
def instruction_document(  # noqa: PLR0913 - each is a knob
    records: Sequence[bytes],
    uids: Sequence[str],
    *,
    task: Task,
    image: str = "image",
    question: str = "question",
    answer: str = "answer",
    options: str = "options",
    ocr: str | None = None,
    seed: Natural = 0,
) -> Columns:
    """Make a conversation of a record of an annotated set, by one of 10 to 12 templates of its task, drawn a turn.

    InstructBLIP (Dai et al. 2305.06500): `caption` and `description` answer with the text under the key `answer`,
    `read` with the text of the image; `question` asks what stands under `question`; `choice` shows `options`, and
    answers with the letter of the one that `answer` is, or has the number of; `ask` asks for the question. Of lists a
    turn is made of each entry. `ocr`: the key of words seen in the image, which stand in the first question. `image`:
    the key of its path or URL. Errors: not_json, bad_record.
    """
    keys = {"image": image, "question": question, "answer": answer, "options": options, "ocr": ocr or ""}
    found = [
        document_row(data, partial(_instructions, keys, task, seed, uid))
        for data, uid in zip(records, uids, strict=True)
    ]
    return columns_of(found, instruction_document)


@op(reads="bytes", writes=WRITES, version=1, batch_size=256)
def generation_document(
    records: Sequence[bytes], *, request: str = "request", prompt: str = "prompt", reply: str = "reply"
) -> Columns:
    """Make a conversation that ends in a prompt for a text-to-image model: Mini-Gemini's (Li et al. 2403.18814, 3.3).

    The question is what stands under the key `request`, and `<GEN>`; the answer what stands under `reply`, if anything
    does, and the `prompt` within `<h>` and `</h>`. Errors: not_json, bad_record; mark_in_text where a text has one of
    these marks itself.
    """
    keys = {"question": request, "answer": prompt, "reply": reply}
    found = [document_row(data, partial(_generation, keys)) for data in records]
    return columns_of(found, generation_document)


class _Fields:
    """The fields of a record, by what they are for."""

    def __init__(self, record: Record, keys: dict[str, str]) -> None:
        self._record, self._keys = record, keys

    def text(self, what: str) -> str:
        """A text. Raises RecordError."""
        return _text(self._record.get(self._keys[what]), self._keys[what])

    def optional(self, what: str) -> str:
        """A text, or an empty one."""
        return self.text(what) if self._record.get(self._keys[what]) is not None else ""

    def texts(self, what: str) -> list[str]:
        """Texts: a list, or one. Raises RecordError."""
        found, key = self._record.get(self._keys[what]), self._keys[what]
        return [_text(each, key) for each in (found if isinstance(found, list) else [found])]

    def lists(self, what: str) -> list[list[str]]:
        """Lists of texts: a list of lists, or one list. Raises RecordError."""
        found, key = self._record.get(self._keys[what]), self._keys[what]
        if not isinstance(found, list) or not found:
            raise RecordError("bad_record", f"{key}: expected a list of options")
        return [[_text(o, key) for o in each] for each in (found if isinstance(found[0], list) else [found])]

    def words(self) -> list[str]:
        """The words seen in the image."""
        found = self._record.get(self._keys["ocr"]) if self._keys["ocr"] else None
        listed = found.split() if isinstance(found, str) else (found or [])
        return [" ".join(_text(word, self._keys["ocr"]).split()) for word in listed][:MAX_OCR_TOKENS]


def _generation(keys: dict[str, str], record: Record) -> list[Segment]:
    fields = _Fields(record, keys)
    return generation_turns(fields.text("question"), fields.text("answer"), fields.optional("reply"))


def _instructions(keys: dict[str, str], task: Task, seed: int, uid: str, record: Record) -> list[Segment]:
    fields = _Fields(record, keys)
    answers = fields.texts("answer")
    questions = fields.texts("question") if task in ("question", "choice", "ask") else [""] * len(answers)
    options = fields.lists("options") if task == "choice" else [[]] * len(answers)
    if not len(answers) == len(questions) == len(options):
        raise RecordError("bad_record", f"{len(questions)} questions, {len(answers)} answers, {len(options)} options")
    found = [image_segment(path) for path in fields.texts("image")]
    for turn, (question, answer, shown) in enumerate(zip(questions, answers, options, strict=True)):
        values = {"question": question, "answer": answer, "options": lettered(shown)}
        asked = templated(task, values, seed, uid, turn)
        said = {"ask": question, "choice": _chosen(answer, shown)}.get(task, answer)
        words = fields.words() if not turn else []
        asked += f"\nWords seen in the image: {', '.join(words)}" if words else ""
        found += [text_segment(asked, "question"), text_segment(said, "answer")]
    return found


def _chosen(answer: str, options: list[str]) -> str:
    """The letter of the right option. Raises RecordError where the answer is none of them."""
    if not options:
        return ""
    if answer in options:
        return letter(options.index(answer))
    number = int(answer) if answer.isdecimal() else ord(answer.strip("().").upper()[:1] or " ") - ord("A")
    if not (0 <= number < len(options) and (answer.isdecimal() or len(answer.strip("().")) == 1)):
        raise RecordError("bad_record", f"the answer {answer[:80]!r} is none of the {len(options)} options")
    return letter(number)


def _text(value: object, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise RecordError("bad_record", f"{key}: expected a text, found {type(value).__name__}")
    return " ".join(str(value).split("\0")).strip()
