"""Ops: functions from a batch of samples to columns; `spec` declares them, `table` names them all.

What an op of one's own needs is here: `from curate.ops import Columns, Failed, op`.
"""

from curate.ops.spec import Columns, Failed, group_op, op

__all__ = ["Columns", "Failed", "group_op", "op"]
