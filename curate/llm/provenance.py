"""Provenance of a synthetic text, as a column beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curate.llm.chat import Answer
from curate.llm.prompts import PromptTemplate

WRITTEN = pa.struct(
    {
        "model": pa.string(),
        "prompt": pa.string(),
        "prompt_digest": pa.string(),
        "parameters": pa.string(),
        "finish": pa.string(),
        "input_tokens": pa.int64(),
        "output_tokens": pa.int64(),
        "nano_usd": pa.int64(),
        "seconds": pa.float64(),
        "at": pa.float64(),
    }
)
"""The type of such a column: the model as it called itself, the prompt and the first digits of its SHA-256, the
parameters as JSON, how the answer ended, its tokens, what it cost in billionths of a dollar when it was paid for, the
seconds that it took, and when it was answered (seconds since 1970). All are the kept answer's: they are the same
whether this run asked for it or found it."""


def written_by(prompt: PromptTemplate, parameters: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """An entry of such a column. `parameters`: those of the request, `max_tokens` among them."""
    return {
        "model": answer.model,
        "prompt": prompt.name,
        "prompt_digest": prompt.digest,
        "parameters": json.dumps(dict(parameters), sort_keys=True),
        "finish": answer.finish,
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "nano_usd": answer.nano_usd,
        "seconds": answer.seconds,
        "at": answer.at,
    }
