"""Evaluates a model on a dataset: asks, scores, and says what all figures hang on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.commit import commit_text, dump_json, file_sha256
from curate.process import hold
from curate.shards.info import dataset_file
from curate.strict_json import plain
from train.evaluation.answerer import Answerer
from train.evaluation.asked_samples import AskedSamples
from train.evaluation.asking import AskedCounts, Asking, AskingPlan, EvaluationError, read_answers
from train.evaluation.dual_encoders import embed_pairs, measure_pairs
from train.evaluation.examples import Examples
from train.evaluation.figures import AnsweredQuestion, MeasuredViews, View, score
from train.evaluation.intervals import LEVEL, RESAMPLES
from train.models.dual_encoder import DualEncoder

RESULTS = "results.json"
MOST_PAIRS = 5_000
"""Pairs that a dual encoder is measured on, where no limit is given: every one is held against every other."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation: what was answered, each question's score, and the results as they stand in `results.json`."""

    answered: Sequence[AnsweredQuestion]
    scores: Sequence[float]
    results: Mapping[str, Any]


def evaluate_answers(
    answerer: Answerer,
    samples: AskedSamples,
    wanted: AskingPlan,
    folder: Path,
    identity: Mapping[str, Any],
    watch: Callable[[int], None],
) -> Evaluated:
    """Ask all questions of `samples`, score the answers, and write both to `folder`; `watch` is told how many are done.

    `identity` says what is evaluated: model, dataset, seed. Raises EvaluationError where nothing was answered.
    """
    if wanted.shots and not answerer.interleaves:
        raise EvaluationError("this model reads one picture and no examples before it; leave --shots out")
    with hold(folder), ExitStack() as open_:
        examples = None
        if wanted.shots:
            examples = open_.enter_context(closing(_examples(samples, wanted, int(identity["seed"]))))
        for done in Asking(answerer, samples, wanted, examples).ask_all(folder, identity):
            watch(done)
        answered, counts = read_answers(folder)
        if not answered:
            raise EvaluationError(_nothing(samples, wanted, counts))
        scored = score(answered, int(identity["seed"]))
        hung_on = {**identity, **asdict(wanted), "counts": asdict(counts), "blind_with": answerer.blind_with}
        results = _written({**hung_on, "bleu": scored.bleu}, scored.figures, folder)
    return Evaluated(answered, scored.scores, results)


def evaluate_pairs(
    clip: DualEncoder, dataset: Path, views: Sequence[View], folder: Path, identity: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Measure a dual encoder on the pairs of a published dataset, and write the results to `folder`.

    Raises ValueError where fewer than two can be read.
    """
    pairs = embed_pairs(clip, dataset, identity["limit"] or MOST_PAIRS, identity["label"])
    figures = measure_pairs(clip, pairs, views, identity["seed"])
    answered = len(pairs.uids)
    counts = AskedCounts(answered + pairs.unreadable, answered, pairs.unreadable, 0, answered, {})
    said = {**identity, "dataset": str(dataset), "dataset_digest": file_sha256(dataset_file(dataset)), "views": views}
    with hold(folder):
        return _written({**said, "counts": asdict(counts), "blind_with": "a grey picture"}, figures, folder)


def _examples(samples: AskedSamples, wanted: AskingPlan, seed: int) -> Examples:
    source = samples.dataset if wanted.shots_from is None else Path(wanted.shots_from)
    if source is None:
        raise EvaluationError(f"{samples.path} is a mixture; name the dataset of the examples: --shots-from DATASET")
    return Examples(source, wanted.shots, seed, wanted.prompt)


def _written(hung_on: Mapping[str, Any], figures: Sequence[MeasuredViews], folder: Path) -> Mapping[str, Any]:
    """Commit results: the figures with all that they hang on."""
    intervals = {"level": LEVEL, "resamples": RESAMPLES, "over": "samples"}
    results: Mapping[str, Any] = plain({**hung_on, "intervals": intervals, "figures": [one.plain() for one in figures]})
    commit_text(folder / RESULTS, dump_json(results))
    return results


def _nothing(samples: AskedSamples, wanted: AskingPlan, counts: AskedCounts) -> str:
    task = f" of task {wanted.task}" if wanted.task else ""
    said = f"{counts.unreadable} are unreadable and {counts.ask_nothing} ask nothing"
    why = f" ({', '.join(counts.errors)})" if counts.errors else ""
    return (
        f"{samples.path}: no question{task} in {counts.samples} samples: {said}{why}. A sample asks by a picture with a"
        " caption, by `meta.question` and `meta.answer`, or by a conversation (docs/training-evaluate.md)"
    )
