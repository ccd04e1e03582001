"""Ops: functions from a batch of samples to columns; `spec` declares them, `table` names them all.

What an op of one's own needs is here: `from curate.ops import Columns, Failed, op`. A column that holds bytes is of
type `BLOB`: an op returns `Stored` or `Absent` in it and is given `Blob`. A document is a column of type `DOCUMENT`, a
list of `Segment`, made by `text_segment` and `image_segment`. A knob that names a column, whichever op wrote it, is
annotated `EmbeddingColumn`, `NumberColumn` or `TextColumn`.
"""

from curate.document.segments import DOCUMENT, Segment, image_segment, is_image, text_segment
from curate.ops.spec import Columns, EmbeddingColumn, Failed, NumberColumn, TextColumn, group_op, op
from curate.pool.blob import BLOB, Absent, Blob, Stored

__all__ = [
    "BLOB",
    "DOCUMENT",
    "Absent",
    "Blob",
    "Columns",
    "EmbeddingColumn",
    "Failed",
    "NumberColumn",
    "Segment",
    "Stored",
    "TextColumn",
    "group_op",
    "image_segment",
    "is_image",
    "op",
    "text_segment",
]
