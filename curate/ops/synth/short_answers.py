"""Measure the answers of conversations, find sources of bare short ones, tell them their format prompt.

Cambrian-1 (Tong et al. 2406.16860, 5.3 and its table of response formatting prompts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.document.segments import DOCUMENT, Segment, text_of, text_segment
from curate.mix.answers import (
    DATASET_PROMPTS,
    SHORT_WORDS,
    Answers,
    format_prompt,
    measure_answers,
    published_prompts,
)
from curate.ops import _groups
from curate.ops.spec import Columns, Count, Knobs, Share, TextColumn, group_op, op

_COUNTS = ("answers", "short_answers", "short_answer_words", "letter_answers", "number_answers", "unanswerable_answers")


@op(
    reads=("document", "meta"),
    writes={
        **dict.fromkeys(_COUNTS, pa.int32()),
        "longest_answer": pa.int32(),
        "short_prompted": pa.bool_(),
        "answer_source": pa.string(),
    },
    version=1,
    batch_size=256,
)
def answer_lengths(
    documents: Sequence[Sequence[Segment]],
    metas: Sequence[Mapping[str, Any]],
    *,
    source: str = "",
    short_words: Count = SHORT_WORDS,
) -> Columns:
    """Measure a conversation's answers: how many, how many short ones (`short_words` at most), letters, numbers.

    `short_answer_words` are those of all short ones, `longest_answer` those of one. `short_prompted`: whether a
    question, or what the system is told, asks for short answers (curate.mix.answers). `answer_source`: the key
    `source` of the row's meta, empty without one.
    """
    found = [measure_answers(document, short_words) for document in documents]
    names = [str(meta.get(source, "")) if source else "" for meta in metas]
    return {
        "answers": [a.count for a in found],
        "short_answers": [a.short for a in found],
        "short_answer_words": [a.words for a in found],
        "letter_answers": [a.letters for a in found],
        "number_answers": [a.numbers for a in found],
        "unanswerable_answers": [a.unanswerable for a in found],
        "longest_answer": [a.longest for a in found],
        "short_prompted": [a.prompted for a in found],
        "answer_source": names,
    }


@group_op(
    after=answer_lengths,
    writes={
        "source_short_share": pa.float32(),
        "format_prompt": pa.string(),
        "answers_short_without_prompt": pa.bool_(),
    },
    version=1,
)
def short_answer_sources(  # noqa: PLR0913 - each is a knob
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    source: str = "",
    short_words: Count = SHORT_WORDS,
    min_short_share: Share = 0.5,
    dataset: str = "",
) -> None:
    """Find the sources whose answers are short, and propose the format prompt of each. Cambrian-1 (2406.16860, 5.3).

    A source is what one `answer_source` names (all rows, where `source` is unsaid). `source_short_share`: of its
    answers. `format_prompt`: null where that is below `min_short_share`; else the published prompt of the data set of
    the source's name, or of `dataset`, or the one that fits its answers. `answers_short_without_prompt`: the source is
    short, most answers of the row are, and it brings no prompt.
    """
    with _groups.database(scratch) as db:
        columns = ", ".join(("uid", "answer_source", "short_prompted", *_COUNTS))
        _groups.gather_inputs(db, "conversations", inputs, columns)
        sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in _COUNTS)
        query = f"SELECT answer_source, {sums} FROM conversations GROUP BY answer_source ORDER BY answer_source"
        db.execute("CREATE TABLE sources (answer_source VARCHAR, share FLOAT, prompt VARCHAR)")
        for name, *counts in db.execute(query).fetchall():
            share, prompt = _propose(_as_answers(counts), name or dataset, min_short_share)
            db.execute("INSERT INTO sources VALUES (?, ?, ?)", [name, share, prompt])
        answer = (
            "SELECT uid, share AS source_short_share, prompt AS format_prompt,"
            " coalesce(prompt IS NOT NULL AND NOT short_prompted AND 2 * short_answers > answers, false)"
            " AS answers_short_without_prompt"
            " FROM conversations JOIN sources USING (answer_source) ORDER BY shard, row"
        )
        _groups.write_outputs(db, answer, inputs, outputs, short_answer_sources.spec.writes)  # type: ignore[attr-defined]


def _as_answers(counts: Sequence[int]) -> Answers:
    count, short, words, letters, numbers, unanswerable = counts  # in the order of _COUNTS
    return Answers(count, short, words, letters=letters, numbers=numbers, unanswerable=unanswerable)


def _propose(answers: Answers, name: str, least: float) -> tuple[float | None, str | None]:
    """The share of a source's answers that are short, and the prompt that it needs."""
    if not answers.count:
        return None, None
    share = answers.short / answers.count
    return share, format_prompt(answers, name) if share >= least else None


@op(
    reads="document",
    writes={"document": DOCUMENT, "text": pa.string(), "prompt_added": pa.bool_()},
    version=1,
    batch_size=256,
)
class add_format_prompt:  # noqa: N801 - ops are named as recipes name them
    """Tell a conversation's system in which form to answer, unless it says so itself: Cambrian-1's format prompts.

    The prompt is the row's in the column `prompt` (that `short_answer_sources` writes; none where it is null), or the
    published one of `dataset` (2406.16860, appendix). A stream puts what a system is told where it puts the mixture's
    own `system` (curate.stream.sequences): both ways give the same sample.
    """

    def __init__(self, *, dataset: str = "", prompt: TextColumn | None = None) -> None:
        self._dataset = dataset

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Check that one of the two is said. Raises ValueError."""
        if bool(knobs["dataset"]) == (knobs["prompt"] is not None):
            raise ValueError("say either `prompt`, a column of prompts, or `dataset`, one that has a published prompt")
        if knobs["dataset"] and not published_prompts(knobs["dataset"]):
            raise ValueError(
                f"no prompt was published for {knobs['dataset']!r}; there are {', '.join(DATASET_PROMPTS)}"
            )
        return ""

    def __call__(self, documents: Sequence[list[Segment]], prompts: Sequence[str | None] | None = None) -> Columns:
        """The documents, each with its prompt before all."""
        found = [self._tell(d, prompts[n] if prompts is not None else None) for n, d in enumerate(documents)]
        return {
            "document": found,
            "text": [text_of(document) for document in found],
            "prompt_added": [len(new) > len(old) for new, old in zip(found, documents, strict=True)],
        }

    def _tell(self, document: list[Segment], prompt: str | None) -> list[Segment]:
        answers = measure_answers(document)
        wanted = format_prompt(answers, self._dataset) if self._dataset else prompt
        if not wanted or answers.prompted or not answers.count:
            return document
        return [text_segment(wanted, "system"), *document]
