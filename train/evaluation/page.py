"""The HTML page of an evaluation: its figures, and pictures with what was asked, answered and held to be right.

One file without scripts: pictures are data URIs, the style is allowed by its hash alone, and everything that strangers
or a model wrote goes through the template's escaping.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate.extras import require
from curate.image.scaled import scaled_image
from curate.mix.content import Picture
from curate.stream.reading import UNREADABLE
from train.evaluation.asked_samples import AskedSamples
from train.evaluation.evaluate import Evaluated
from train.evaluation.figures import AnsweredQuestion
from train.evaluation.tables import VIEW_WORDS, better_twin, count_words, figure_words, notes, visible

EXAMPLES = 12
"""Of each group: worst, best, drawn."""
SIDE_PX = 240
PICTURES = 4
"""Of one question, at most."""
CHARACTERS = 600

_TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class AnswerExample:
    """A question as the page shows it; texts are cut, not yet escaped, and pictures are data URIs."""

    pictures: Sequence[str]
    score: str
    tone: str
    asked: str
    references: str
    said: Sequence[tuple[str, str]]
    uid: str


def render(evaluated: Evaluated, samples: AskedSamples, seed: int) -> str:
    """The whole page."""
    require("the page of an evaluation", "jinja2")
    import jinja2

    env = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    text = _TEMPLATE.read_text(encoding="utf-8")
    style = text.partition("<style>")[2].partition("</style>")[0]
    results, figures = evaluated.results, evaluated.results["figures"]
    return (
        env.from_string(text).render(
            style_hash=f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}",
            model=str(results["model"]),
            dataset=str(results["dataset"]),
            counts=count_words(results["counts"]),
            views=list(figures[0]["views"]),
            view_words=VIEW_WORDS,
            figures=figures,
            figure_words=figure_words,
            better_twin=better_twin,
            notes=notes(results),
            groups=_groups(evaluated, samples, seed),
        )
        + "\n"
    )


def _groups(evaluated: Evaluated, samples: AskedSamples, seed: int) -> list[tuple[str, str, list[AnswerExample]]]:
    """The worst, the best and drawn questions, each question in one group at most."""
    scores = np.asarray(evaluated.scores)
    drawn = np.random.default_rng(seed).permutation(len(scores))
    ranked = drawn[np.argsort(scores[drawn], kind="stable")].tolist()
    each = min(EXAMPLES, (len(ranked) + 2) // 3)
    worst, best = ranked[:each], ranked[max(each, len(ranked) - each) :][::-1]
    others = [n for n in drawn.tolist() if n not in {*worst, *best}][:each]
    groups = (
        ("Worst", "The lowest scores; among equal ones drawn by seed.", worst),
        ("Best", "The highest scores.", best),
        ("Drawn", "By seed, whatever their scores.", others),
    )
    top = max(float(scores.max()), 1e-9)
    return [
        (title, words, [_example(evaluated.answered[n], float(scores[n]), top, samples) for n in numbers])
        for title, words, numbers in groups
        if numbers
    ]


def _example(one: AnsweredQuestion, score: float, top: float, samples: AskedSamples) -> AnswerExample:
    question = one.question
    references = list(dict.fromkeys(question.references))
    if question.right is not None:
        references = [f"{chr(ord('A') + question.right)}: {question.options[question.right]}"]
    return AnswerExample(
        pictures=_pictures(one, samples),
        score=f"{score:.2f}",
        tone="good" if score >= top / 2 else "bad",
        asked=_cut(question.text) or "(a caption)",
        references=_cut("\n".join(references)),
        said=[(view, _cut(text)) for view, text in one.said.items()],
        uid=one.uid[:12],
    )


def _pictures(one: AnsweredQuestion, samples: AskedSamples) -> list[str]:
    """Small JPEGs of what was shown, as data URIs."""
    try:
        _, _, parts = samples.read(one.row)
        shown = [parts[part.part] for part in one.question.asked if isinstance(part, Picture)]
        return [_thumbnail(data) for data in shown[:PICTURES]]
    except UNREADABLE:  # it was readable when it was asked: the dataset has changed since
        return []


def _thumbnail(data: bytes) -> str:
    """Raises ImageError."""
    picture = scaled_image(data, 2 * SIDE_PX)
    picture.thumbnail((SIDE_PX, SIDE_PX))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _cut(text: str) -> str:
    return visible(text[:CHARACTERS]) + ("…" if len(text) > CHARACTERS else "")
