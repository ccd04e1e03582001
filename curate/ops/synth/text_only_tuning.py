"""The op text_only_tuning: texts to train a model on without an image, one text standing for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from curate.ops.spec import Columns, Failed, op

Stage = Literal["reconstruct", "answer"]

_ASKED = ("context", "question", "answer")


@op(
    reads=("text", "meta"),
    writes={"text": pa.string(), "context": pa.string(), "question": pa.string()},
    version=1,
    batch_size=1024,
)
def text_only_tuning(texts: Sequence[str], metas: Sequence[Mapping[str, Any]], *, stage: Stage) -> Columns:
    """A sample of one of TOMGPT's two stages (TKDD 18(7):171): `text` is learnt, `context` is embedded where an image
    will stand, `question` is the prompt between them.

    `reconstruct`: the context is learnt itself, without a question; it is the meta's `context`, or the row's own text.
    `answer`: context, question and answer are the meta's; a row that lacks one fails as `no_question`.
    """
    rows = [_sample(text, meta, stage) for text, meta in zip(texts, metas, strict=True)]
    return {name: [row if isinstance(row, Failed) else row[at] for row in rows] for at, name in enumerate(_WRITTEN)}


_WRITTEN = ("text", "context", "question")


def _sample(text: str, meta: Mapping[str, Any], stage: Stage) -> tuple[str, str, str | None] | Failed:
    found = [meta.get(name) for name in _ASKED]
    context, question, answer = (one if isinstance(one, str) and one.strip() else None for one in found)
    if stage == "reconstruct":
        return context or text, context or text, None
    if context is None or question is None or answer is None:
        lacking = next(name for name, one in zip(_ASKED, (context, question, answer), strict=True) if one is None)
        return Failed("no_question", f"the meta has no text under {lacking!r}")
    return answer, context, question
