"""The op meta_text: a text that came with a sample beside its own, as a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.ops.spec import Columns, Count, op


@op(reads="meta", writes={"meta_text": pa.string()}, version=1, batch_size=1024)
def meta_text(metas: Sequence[Mapping[str, Any]], *, key: str, before: str = "", most: Count = 20) -> Columns:
    """Text under a key of the source's meta, with `before` in front; of a list its first `most` texts, with commas.

    Tags that people gave a picture (`before: "a drawing of "`) can stand in for a caption. Null where there is none.
    """
    found = [_text(meta.get(key), most) for meta in metas]
    return {"meta_text": [f"{before}{text}" if text else None for text in found]}


def _text(value: Any, most: int) -> str:
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    folded = (" ".join(text.split()) for text in texts if isinstance(text, str))
    return ", ".join([text for text in folded if text][:most])
