"""The op question_fault: what is wrong with a question and its answer by a text, without asking a model."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from curate.ops.spec import Columns, op
from curate.ops.synth._question_faults import find_fault
from curate.ops.synth._tries import SOUND


@op(
    reads=("context", "question", "text"),
    writes={"question_fault": pa.string()},
    version=1,
    batch_size=1024,
    tally=("question_fault",),
)
def question_fault(contexts: Sequence[str], questions: Sequence[str | None], answers: Sequence[str]) -> Columns:
    """The name of what is wrong with a question and its answer by the context, `none` where nothing is, or no question.

    no_question (it ends without a question mark), asks_of_text, answer_in_question (the answer says nothing that the
    question did not), ungrounded (of the answer's words of four letters and more less than .7 stand in the context or
    the question, or one of its numbers does not). Of languages that part words by spaces.
    """
    rows = zip(contexts, questions, answers, strict=True)
    return {"question_fault": [SOUND if q is None else find_fault(q, a, f"{c}\n{q}") for c, q, a in rows]}
