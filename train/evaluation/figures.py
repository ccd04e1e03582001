"""Figures of an evaluation: metrics of what was answered seeing, blind and with another's pictures.

CIDEr-D is given as coco-caption prints it (0 to 10; papers often say a hundred times that), BLEU as sacrebleu does (0
to 100), accuracies as shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from curate.extras import require
from train.evaluation.answers import fuzzy_match, right_choice, vqa_accuracy
from train.evaluation.cider import caption_tokens, cider_d
from train.evaluation.cv_bench import KINDS, MEMBERS, cv_bench
from train.evaluation.intervals import Draws, Estimate, Resampled
from train.evaluation.questions import Question, Task

View = Literal["seen", "blind", "shuffled"]
"""The pictures that a model was shown: its sample's own, none, another sample's."""
PEOPLE = 3
"""Answers from which on a question is scored by VQA's rule; of fewer, one of them must be matched."""


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question of the sample `uid`, which lies at `row`, and what the model said by view."""

    row: int
    uid: str
    question: Question
    said: Mapping[View, str]


@dataclass(frozen=True)
class MeasuredViews:
    """A metric of all questions of a task, or a group of them: a figure by view, and by how much seeing gains on each.

    A gain's interval is of the difference within resamples: above 0, the model needs its pictures.
    """

    task: str
    metric: str
    questions: int
    views: Mapping[View, Estimate]
    gains: Mapping[View, Estimate]

    def plain(self) -> dict[str, Any]:
        """JSON-able data."""
        return asdict(self)


@dataclass(frozen=True)
class ScoredAnswers:
    """All figures, each question's own score when seen (its first metric's), and sacrebleu's signature, if it ran."""

    figures: Sequence[MeasuredViews]
    scores: Sequence[float]
    bleu: str = ""


def score(answered: Sequence[AnsweredQuestion], seed: int) -> ScoredAnswers:
    """Every figure of the questions by their tasks. Raises MissingExtraError: BLEU is sacrebleu's."""
    figures: list[MeasuredViews] = []
    scores = [0.0] * len(answered)
    signature = ""
    for task, rule in _RULES.items():
        numbers = [n for n, one in enumerate(answered) if one.question.task == task]
        if not numbers:
            continue
        mine = [answered[n] for n in numbers]
        resampled = Resampled([one.uid for one in mine], seed)
        views = list(mine[0].said)
        by_view = {view: rule(mine, view) for view in views}
        for number, value in zip(numbers, by_view["seen"], strict=True):
            scores[number] = value
        draws = {view: _metrics(task, mine, by_view[view], resampled) for view in views}
        if task == "caption":
            signature = _add_bleu(mine, resampled, draws)
        figures += [measured(task, metric, _count(metric, mine), draws) for metric in draws["seen"]]
    return ScoredAnswers(figures, scores, signature)


def _captions(answered: Sequence[AnsweredQuestion], view: View) -> list[float]:
    references = [[caption_tokens(text) for text in one.question.references] for one in answered]
    return cider_d([caption_tokens(one.said[view]) for one in answered], references)


def _answers(answered: Sequence[AnsweredQuestion], view: View) -> list[float]:
    return [_answer_score(one.said[view], one.question.references) for one in answered]


def _answer_score(said: str, references: Sequence[str]) -> float:
    if len(references) >= PEOPLE:
        return vqa_accuracy(said, references)
    return float(any(fuzzy_match(said, reference) for reference in references))


def _choices(answered: Sequence[AnsweredQuestion], view: View) -> list[float]:
    asked = ((one.said[view], one.question) for one in answered)
    return [float(right_choice(said, q.options, q.right if q.right is not None else -1)) for said, q in asked]


_RULES: Mapping[Task, Callable[[Sequence[AnsweredQuestion], View], list[float]]] = {
    "caption": _captions,
    "answer": _answers,
    "choice": _choices,
}


def _metrics(
    task: Task, answered: Sequence[AnsweredQuestion], scores: Sequence[float], resampled: Resampled
) -> dict[str, Draws]:
    if task == "caption":
        return {"CIDEr-D": resampled.mean(scores)}
    if task == "answer":
        people = all(len(one.question.references) >= PEOPLE for one in answered)
        return {"VQA accuracy" if people else "accuracy": resampled.mean(scores)}
    kinds = [one.question.kind for one in answered]
    found = {"accuracy": resampled.mean(scores)}
    if set(kinds) & set(KINDS):
        sources = [one.question.source for one in answered]
        return found | dict(cv_bench(resampled, scores, kinds, sources))
    named = sorted(set(kinds) - {""})
    return found | {kind: resampled.mean(scores, np.array([k == kind for k in kinds])) for kind in named}


def _add_bleu(
    answered: Sequence[AnsweredQuestion], resampled: Resampled, draws: Mapping[View, dict[str, Draws]]
) -> str:
    """Put BLEU-4 (Post 1804.08771) of each view into `draws`; sacrebleu's signature."""
    require("BLEU of captions", "sacrebleu")
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(lowercase=True)
    sentences = BLEU(lowercase=True, effective_order=True)  # of a sentence only its counts are taken
    for view, found in draws.items():
        of = [sentences.sentence_score(one.said[view], list(one.question.references)) for one in answered]
        counted = np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in of], np.float64)
        order = metric.max_ngram_order
        found["BLEU-4"] = np.array(
            [
                metric.compute_bleu(
                    correct=sums[:order].astype(int).tolist(),
                    total=sums[order : 2 * order].astype(int).tolist(),
                    sys_len=int(sums[-2]),
                    ref_len=int(sums[-1]),
                    smooth_method=metric.smooth_method,
                ).score
                for sums in resampled.sums(counted)
            ]
        )
    listed = [one.question.references for one in answered]
    columns: Any = [[texts[n] if n < len(texts) else None for texts in listed] for n in range(max(map(len, listed)))]
    whole = metric.corpus_score([one.said["seen"] for one in answered], columns)
    assert abs(whole.score - draws["seen"]["BLEU-4"][0]) < 1e-6, "the parts are not the whole"
    return str(metric.get_signature())


def _count(metric: str, answered: Sequence[AnsweredQuestion]) -> int:
    """Questions that a metric is of: those of a group that has its name, or all."""
    groups = set(MEMBERS.get(metric, (metric,)))
    found = sum(bool(groups & {one.question.kind, one.question.source}) for one in answered)
    return found or len(answered)


def measured(task: str, metric: str, questions: int, draws: Mapping[View, Mapping[str, Draws]]) -> MeasuredViews:
    """A metric's figures by view, of so many questions."""
    of = {view: found[metric] for view, found in draws.items() if metric in found}
    gains: dict[View, Estimate] = {
        view: Estimate.of(of["seen"] - found) for view, found in of.items() if view != "seen"
    }
    return MeasuredViews(task, metric, questions, {view: Estimate.of(found) for view, found in of.items()}, gains)
