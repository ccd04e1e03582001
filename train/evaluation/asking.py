"""Asks a model all questions of a dataset, and keeps the answers: a line of JSON a sample, as they come.

What was answered before the process ended is not asked again. `asking.json` beside the answers says of what they are;
another model, dataset or manner of asking is refused there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from curate.commit import commit_text, dump_json, read_json
from curate.image.files import ImageError
from curate.mix.content import Picture, Prompt, Segment, System
from curate.stream.reading import UNREADABLE, StreamError
from train.evaluation.answerer import Answerer, Asked, Manner, decoded
from train.evaluation.asked_samples import AskedSamples, Parts
from train.evaluation.examples import Examples
from train.evaluation.figures import AnsweredQuestion, View
from train.evaluation.questions import Question, Task, sample_questions

ANSWERS, ASKING = "answers.jsonl", "asking.json"
TOGETHER = 32
"""Questions asked between two writes."""


class EvaluationError(ValueError):
    """An evaluation that cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class AskingPlan:
    """Choice of what is asked, and how. `task`: questions of this alone. `prompt`: asked of each picture of a pair.

    `shots` examples of the dataset `shots_from` stand before each question; None: of the same dataset.
    """

    views: Sequence[View] = ("seen", "blind", "shuffled")
    task: Task | None = None
    references: Sequence[str] = ()
    prompt: str = ""
    shots: int = 0
    shots_from: str | None = None
    manner: Manner = field(default_factory=Manner)


@dataclass(frozen=True)
class AskedCounts:
    """Numbers of samples: all, answered, unreadable, such as ask nothing; and of questions.

    `errors`: of unreadable samples, how many had each.
    """

    samples: int
    answered: int
    unreadable: int
    ask_nothing: int
    questions: int
    errors: Mapping[str, int]


@dataclass(frozen=True)
class _Posed:
    """A question of the sample `uid`, the manyeth of it, with what each view shows."""

    uid: str
    turn: int
    question: Question
    shown: Mapping[View, Asked]


@dataclass(frozen=True)
class Asking:
    """Puts the questions of samples to a model, behind `examples` where there are some."""

    answerer: Answerer
    samples: AskedSamples
    wanted: AskingPlan
    examples: Examples | None = None

    def ask_all(self, folder: Path, identity: Mapping[str, Any]) -> Iterator[int]:
        """Ask what is not answered in `folder` yet; yields how many samples are done, as it goes.

        `identity`: what the answers hang on beside what is wanted. Raises EvaluationError, ModelError.
        """
        done = _take_up(folder, dump_json({**identity, **asdict(self.wanted)}))
        yield done
        with (folder / ANSWERS).open("a", encoding="utf-8") as file:
            while done < len(self.samples):
                lines: list[dict[str, Any]] = []
                posed: list[_Posed] = []
                while done < len(self.samples) and len(posed) < TOGETHER:
                    line, more = self._pose(done)
                    lines.append(line)
                    posed += more
                    done += 1
                said = iter(self._answer(posed))
                for line in lines:
                    for one in line.get("questions", ()):
                        one["said"] = next(said)
                file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
                file.flush()
                yield done

    def _pose(self, row: int) -> tuple[dict[str, Any], list[_Posed]]:
        """(the sample's line, its questions as they will be asked)."""
        uid = ""
        try:
            uid, kind, parts = self.samples.read(row)
            questions = sample_questions(kind, parts, self.wanted.references)
            wanted = [one for one in questions if self.wanted.task in (None, one.task)]
            posed = [_Posed(uid, turn, one, self._views(row, uid, one, parts)) for turn, one in enumerate(wanted)]
        except (EvaluationError, StreamError):
            raise
        except UNREADABLE as err:
            error = err.error if isinstance(err, ImageError) else f"{type(err).__name__}: {err}"[:200]
            return {"row": row, "uid": uid, "unreadable": error}, []
        return {"row": row, "uid": uid, "questions": [_plain(one) for one in wanted]}, posed

    def _views(self, row: int, uid: str, question: Question, parts: Parts) -> dict[View, Asked]:
        """What each view shows of a question: examples keep their pictures but from the blind. Raises ImageError."""
        prompted = self.wanted.prompt and question.task == "caption"
        asked = [*question.asked, Prompt(self.wanted.prompt)] if prompted else question.asked
        pictures = [parts[part.part] for part in asked if isinstance(part, Picture)]
        before = self._before(uid)
        found: dict[View, Asked] = {"seen": [*before, *_shown(asked, [decoded(data) for data in pictures])]}
        if "blind" in self.wanted.views:
            found["blind"] = self.answerer.without_pictures(found["seen"])
        if "shuffled" in self.wanted.views:
            found["shuffled"] = [*before, *_shown(asked, self._others(row, pictures))]
        return found

    def _before(self, uid: str) -> Asked:
        """The examples before a sample's question. Raises EvaluationError where there are too few."""
        try:
            return self.examples.before(uid) if self.examples else []
        except ValueError as err:
            raise EvaluationError(str(err)) from None

    def _others(self, row: int, pictures: Sequence[bytes]) -> Sequence[Image.Image]:
        others = self.samples.others_pictures(row, pictures) if pictures else []
        if others is None:
            raise EvaluationError(
                f"no other sample near row {row} of {self.samples.path} has other pictures to show in its stead; say"
                " --no-shuffled, or evaluate on more samples"
            )
        return others

    def _answer(self, posed: Sequence[_Posed]) -> list[dict[View, str]]:
        """What the model says to each question, by view."""
        names = [f"{one.uid}/{one.turn}" for one in posed]
        said: list[dict[View, str]] = [{} for _ in posed]
        for view in self.wanted.views:
            texts = self.answerer.answer_all([one.shown[view] for one in posed], self.wanted.manner, names)
            for one, text in zip(said, texts, strict=True):
                one[view] = text
        return said


def read_answers(folder: Path) -> tuple[list[AnsweredQuestion], AskedCounts]:
    """The questions that were answered in a folder, and the counts."""
    found: list[AnsweredQuestion] = []
    errors: Counter[str] = Counter()
    samples = answered = 0
    with (folder / ANSWERS).open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            samples += 1
            errors.update([line["unreadable"]] if "unreadable" in line else [])
            questions = line.get("questions", [])
            answered += bool(questions)
            for one in questions:
                said = one.pop("said")
                asked = [_segment(part) for part in one.pop("asked")]
                found.append(AnsweredQuestion(line["row"], line["uid"], Question(asked=asked, **one), said))
    bad = errors.total()
    return found, AskedCounts(samples, answered, bad, samples - answered - bad, len(found), dict(errors))


def _shown(asked: Sequence[Segment], pictures: Sequence[Image.Image]) -> Asked:
    """Texts and pictures in order."""
    left = iter(pictures)
    return [next(left) if isinstance(part, Picture) else part for part in asked]


def _plain(question: Question) -> dict[str, Any]:
    """JSON-able data of a question."""
    return {**asdict(question), "asked": [_said(part) for part in question.asked]}


_NAMES: Mapping[type, str] = {Picture: "part", System: "system", Prompt: "question"}


def _said(segment: Segment) -> str | dict[str, str]:
    """JSON-able data of a segment: a text, or an object that names what it is."""
    if isinstance(segment, str):
        return segment
    return {_NAMES[type(segment)]: segment.part if isinstance(segment, Picture) else segment.text}


def _segment(said: str | Mapping[str, str]) -> Segment:
    if isinstance(said, str):
        return said
    found: Segment = next(kind(said[name]) for kind, name in _NAMES.items() if name in said)
    return found


def _take_up(folder: Path, identity: str) -> int:
    """How many samples are answered in the folder already, what was half written cut away."""
    kept, answers = folder / ASKING, folder / ANSWERS
    if kept.exists() and (differing := _differing(read_json(kept), json.loads(identity))):
        raise EvaluationError(
            f"{folder} holds the answers of another evaluation, which differs in {', '.join(differing)}; name another"
            " --out, or remove that folder"
        )
    commit_text(kept, identity)
    whole = []
    if answers.exists():
        whole = [line for line in answers.read_text(encoding="utf-8").split("\n")[:-1] if line.endswith("}")]
    commit_text(answers, "".join(f"{line}\n" for line in whole))
    return len(whole)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
