"""Questions that published samples ask of a model, with the answers that they hold to be right.

    a picture and its text (caption, ocr)        what is to be said of it: its captions are the references
    the same with `meta.question`                that question, `meta.answer` or `meta.answers`, `meta.choices`
    a conversation (interleaved)                 each of its questions, after what was said before, as in training

Of a conversation with one question the meta may have `answers` and `choices`, too. `meta.task` and `meta.source` group
questions (CV-Bench's kinds and sources of pictures).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from curate.mix.answers import FORMAT_PROMPTS
from curate.mix.content import (
    ContentError,
    Picture,
    Prompt,
    Segment,
    image_name,
    own_text,
    sample_segments,
    texts_under,
)
from curate.sample import Kind
from train.evaluation.answers import LETTERS, right_option, shown_options

Task = Literal["caption", "answer", "choice"]


@dataclass(frozen=True)
class Question:
    """A question: what comes before its answer, as training has it, and what a right one says.

    `options` of a choice, of which `right` is the number. `kind`, `source`: the groups it belongs to, in lower case.
    """

    task: Task
    asked: Sequence[Segment]
    references: Sequence[str]
    options: Sequence[str] = ()
    right: int | None = None
    kind: str = ""
    source: str = ""

    @property
    def text(self) -> str:
        """The question alone, without what was said before."""
        return next((part.text for part in reversed(self.asked) if isinstance(part, Prompt)), "")


def sample_questions(kind: Kind, parts: Mapping[str, bytes], references: Sequence[str] = ()) -> list[Question]:
    """The questions of a sample; of `references` are the keys under which captions lie beside its own text.

    None of a sample that asks nothing. Raises ContentError and what else a sample's damage raises.
    """
    meta = _meta(parts)
    if kind == "interleaved":
        turns = list(_turns(sample_segments(kind, parts)))
        given = meta if len(turns) == 1 else {name: meta.get(name) for name in ("task", "source")}
        return [_question(asked, [answer], given) for asked, answer in turns]
    picture = image_name(parts)
    if picture is None:
        return []
    if isinstance(question := meta.get("question"), str) and question.strip():
        answers = _texts(meta.get("answer")) or ([] if _texts(meta.get("answers")) else [own_text(parts)])
        return [_question([Picture(picture), Prompt(question.strip())], answers, meta)]
    captions = [own_text(parts), *(text for key in references for text in texts_under(parts, key))]
    captions = [text for text in dict.fromkeys(captions) if text]
    return [Question("caption", (Picture(picture),), captions)] if captions else []


def _turns(segments: Sequence[Segment]) -> Iterator[tuple[Sequence[Segment], str]]:
    """(what comes before, answer) of each answer of a conversation."""
    asked = False
    for number, segment in enumerate(segments):
        if isinstance(segment, str) and asked:
            yield segments[:number], segment
        asked = type(segment) is Prompt or (asked and isinstance(segment, Picture))


def _question(asked: Sequence[Segment], answers: Sequence[str], meta: Mapping[str, Any]) -> Question:
    """The question with its right answers, those of the meta where there are some."""
    references = _texts(meta.get("answers")) or list(answers)
    prompt = next(part for part in reversed(asked) if isinstance(part, Prompt))
    shown, given = shown_options(prompt.text), _texts(meta.get("choices"))
    options = given or list(shown)
    right = right_option(references[0], options) if options else None
    if given and right is None:
        raise ContentError(f"bad_choice: the answer {references[0][:40]!r} is none of the {len(given)} choices")
    if given and not shown:
        asked = [_with_options(prompt.text, given) if part is prompt else part for part in asked]
    kind, source = (str(meta.get(name) or "").lower() for name in ("task", "source"))
    if right is None:
        return Question("answer", asked, references, (), None, kind, source)
    return Question("choice", asked, references, options, right, kind, source)


def _with_options(text: str, options: Sequence[str]) -> Prompt:
    """A question with its options behind it, and the words that ask for a letter."""
    listed = " ".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    return Prompt(f"{text.strip()}\n{listed}\n{FORMAT_PROMPTS[3]}")


def _meta(parts: Mapping[str, bytes]) -> dict[str, Any]:
    value = json.loads(parts.get("json", b"{}"))
    meta = value.get("meta") if isinstance(value, dict) else None
    return meta if isinstance(meta, dict) else {}


def _texts(value: object) -> list[str]:
    """The texts in a text, a list of texts or of objects with an `answer` (as VQAv2 has them)."""
    listed = value if isinstance(value, list) else [value]
    texts = [one.get("answer") if isinstance(one, dict) else one for one in listed]
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()]
