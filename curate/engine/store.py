"""Bytes that ops bring, pages that they draw and pictures that they fetch, kept in tars beside their columns."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from curate.ops.spec import Failed
from curate.pool.blob import BLOB, Absent, Blob, Stored
from curate.pool.layout import Pool
from curate.recipe.steps import Resolved
from curate.shards import ShardWriter

MAX_DETAIL = 500
"""Characters kept of what is said of an absent image."""

Answers = Mapping[int, Failed | dict[str, Any]]


class PayloadStore:
    """The tar of the bytes that a step's op brings for a shard: begun with the first, committed before the columns."""

    def __init__(self, pool: Pool, step: Resolved, shard: int) -> None:
        self._columns = step.spec.stored
        paths = (pool.stored(step.key, shard, attempt) for attempt in itertools.count())
        # Never one that is there: rows of other columns, which took these over, may name what is in it.
        self._path = next(path for path in paths if not path.exists())
        self._name = self._path.relative_to(pool.folder).as_posix()
        self._stack = ExitStack()
        self._writer: ShardWriter | None = None

    def __enter__(self) -> PayloadStore:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def keep(self, uid: Callable[[int], str], answers: Answers) -> dict[int, Failed | dict[str, Any]]:
        """The answers, with the place of the bytes where the bytes were."""
        return {n: a if isinstance(a, Failed) else a | self._placed(uid(n), a) for n, a in answers.items()}

    def _placed(self, uid: str, answer: Mapping[str, Any]) -> dict[str, Any]:
        numbers = itertools.count()
        found: dict[str, Any] = {}
        for name in self._columns:
            value = answer[name]
            several = isinstance(value, Sequence)
            places = [self._place(f"{uid}-{next(numbers)}", v) for v in (value if several else [value])]
            found[name] = places if several else places[0]
        return found

    def _place(self, name: str, value: Stored | Absent | Blob | None) -> dict[str, Any] | None:
        if value is None:
            return None
        if isinstance(value, Blob):  # an earlier op's, passed on
            return {field.name: getattr(value, field.name) for field in BLOB}
        place: dict[str, Any] = dict.fromkeys(BLOB.names)
        if isinstance(value, Absent):
            return place | {"error": value.error, "detail": value.detail[:MAX_DETAIL]}
        if self._writer is None:
            self._writer = self._stack.enter_context(ShardWriter(self._path, indexed=False))
        (part,) = self._writer.add(name, {value.ext: value.data})
        digest = hashlib.sha256(value.data).hexdigest()
        size = {"width": value.width, "height": value.height}
        return (
            place
            | {"tar": self._name, "offset": part.offset, "nbytes": part.size, "ext": value.ext, "sha256": digest}
            | size
        )
