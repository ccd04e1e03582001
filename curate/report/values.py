"""The values that rules looked at, as the report draws them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass
class ShownValues:
    """A column's values in the rows that a step took in (NaN or None: no value), and which broke a rule there.

    `of`: rows, or the images or paragraphs of documents.
    """

    column: str
    numbers: npt.NDArray[np.float64] | None
    texts: list[str | None]
    ended: npt.NDArray[np.bool_]
    of: str = "rows"


def shown_values(column: str, values: pa.Array, ended: npt.NDArray[np.bool_], of: str = "rows") -> ShownValues:
    """Make numbers of a numeric column, texts of any other; `ended` are those that a rule ended."""
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return ShownValues(column, numbers, [], ended, of)
    texts = [None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values.to_pylist()]
    return ShownValues(column, None, texts, ended, of)


def join_values(parts: Sequence[ShownValues]) -> ShownValues:
    """Put the values of several shards together."""
    numbers = [p.numbers for p in parts if p.numbers is not None]
    texts = [t for p in parts for t in p.texts]
    ended = np.concatenate([p.ended for p in parts])
    return ShownValues(parts[0].column, np.concatenate(numbers) if numbers else None, texts, ended, parts[0].of)
