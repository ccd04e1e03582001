"""Declare ops: `op`, `group_op`, and the `identity` that their fingerprint is made of.

An op looks at a batch of samples and returns columns; it never decides. It is a plain function, or a class where
a model must be held: knobs are keyword-only, annotated and JSON-able, and enter the fingerprint of its columns.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar

import pyarrow as pa
from pydantic import Field

from curate.document.segments import DOCUMENT
from curate.page.words import WORDS
from curate.pool.blob import BLOB
from curate.settings import seen_from_here

Columns = Mapping[str, Sequence[Any]]
"""Columns by name: a list, numpy or Arrow array each, one entry a row, None for null."""

Count = Annotated[int, Field(ge=1)]
"""A knob that counts something of which there is at least one."""

Natural = Annotated[int, Field(ge=0)]
"""A knob that counts something of which there may be none."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A knob that is a share or a probability."""

Amount = Annotated[float, Field(ge=0)]
"""A knob that is a measure, not negative."""

Knobs = Mapping[str, Any]
"""Every knob of an op by its name, those that a recipe leaves out by their defaults."""

PartKind = Literal["images", "paragraphs"]
PART_KINDS: tuple[PartKind, ...] = ("images", "paragraphs")
"""The parts of a document: its image segments, its text segments."""

READABLE = ("uid", "text", "meta", "origin", "bytes", "image_bytes", "decoded", "image", "blob")
"""What every op can read: see `Spec.reads`."""

READABLE_OF: Mapping[PartKind, tuple[str, ...]] = {
    "images": ("image", "decoded", "image_bytes", "blob", "url", "alt", "caption"),
    "paragraphs": ("text", "block"),
}
"""What a step with `over` reads of each part, beside the row's own columns. An image that is absent is seen by ops that
read its `blob`, or nothing of its file."""

COUNTS = ("paragraphs", "images_kept", "images_absent")
"""What every document has for a rule and for publishing: how many paragraphs are left, how many images that are there
(places of images, before any was fetched), and how many that are absent."""

CONTENT: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "image": BLOB,
    "document": DOCUMENT,
    "images": pa.list_(BLOB),
    "words": WORDS,
}
"""Columns that are the sample's content, and what they hold: a later step's takes the place of an earlier one's, and of
the source's. `words` are a page's, with their boxes."""

OWN = ("row", "error", "detail", "inputs", "part_error", "part_detail")
"""Names in every file of columns, which no op may give one of its own."""

TAKEN = ("uid", "meta", "origin", "bytes", "image_bytes", "decoded", "tar", "ext", "offset", "nbytes", "sha256",
         "order", "image_name", "content", "content_at", "content_bytes", "content_size")  # fmt: skip
"""What a row is read by and published from: no step's column takes the place of one."""

GIVEN = ("download", "folder")
"""Knobs that no recipe writes: an op that has them is given the recipe's download settings and its source's folder."""


@dataclass(frozen=True)
class Failed:
    """Put in any slot of a returned column, this fails the row with the named error (snake_case)."""

    error: str
    detail: str = ""


@dataclass(frozen=True)
class Spec:
    """The declaration of an op, as the engine sees it.

    `reads`: its positional arguments: `uid`, `text`, `origin`, `meta` (a dict), `bytes` (of the source's file),
    `image` (decoded, RGB; a row that does not decode fails before the op), `decoded` (curate.image.files.Decoded: every
    row), `image_bytes` (undecoded), `blob` (where the image's file lies, to be passed on), or a column that an earlier
    step writes; one called `text` or `image` stands before the source's own. `writes`: its columns and their Arrow
    types. `version`: raised when the op's values change. `batch_size`: rows a call. `after`: for a group op, the row op
    whose columns it reads. A class may have a `close`, and a static `identity(knobs)`: what names the files that it
    reads, by every knob. `parts`: its columns that hold a list with an entry for each image, or each paragraph, of the
    document. `timeout_s`: the seconds that a call on a batch may take, 0 for no limit; a recipe's
    `limits.op_timeout_s` goes before it.
    """

    name: str
    reads: tuple[str, ...]
    writes: Mapping[str, pa.DataType]
    version: int
    batch_size: int = 64
    after: Callable[..., Any] | None = None
    summary: str = ""
    knobs: Mapping[str, inspect.Parameter] = field(default_factory=dict)
    parts: Mapping[str, PartKind] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    timeout_s: float = 600.0

    @property
    def is_group(self) -> bool:
        """Whether the op sees all rows at once."""
        return self.after is not None

    @property
    def stored(self) -> tuple[str, ...]:
        """The op's columns that hold bytes (see curate.pool.blob)."""
        return tuple(name for name, kind in self.writes.items() if kind in (BLOB, pa.list_(BLOB)))

    @property
    def stores(self) -> bool:
        """Whether the op brings bytes along."""
        return bool(self.stored)


F = TypeVar("F", bound=Callable[..., Any])


def op(  # noqa: PLR0913 - keywords, each a field of Spec
    *,
    reads: str | Sequence[str],
    writes: Mapping[str, pa.DataType],
    version: int,
    batch_size: int = 64,
    parts: Mapping[str, PartKind] | None = None,
    needs: tuple[str, ...] = (),
    timeout_s: float = 600.0,
) -> Callable[[F], F]:
    """Declare a row op: its values depend on each row alone, bit for bit, whatever rows share its batch."""
    names = (reads,) if isinstance(reads, str) else tuple(reads)
    own_parts = dict(parts or {})
    return _declare(Spec("", names, dict(writes), version, batch_size, None, "", {}, own_parts, needs, timeout_s))


def group_op(
    *,
    after: Callable[..., Any],
    writes: Mapping[str, pa.DataType],
    version: int,
    parts: Mapping[str, PartKind] | None = None,
) -> Callable[[F], F]:
    """Declare a group op: `f(inputs, outputs, scratch, *, knobs)` over one Parquet file a shard, out of core.

    Each input holds the admitted rows of a shard: `uid`, `nbytes`, `sha256` and the columns of `after`. The op
    writes the output of the same number with `uid` and its own columns, the same rows in the same order.
    """
    return _declare(Spec("", (), dict(writes), version, 0, after, parts=dict(parts or {}), needs=spec_of(after).needs))


def _declare(spec: Spec) -> Callable[[F], F]:
    def declare(function: F) -> F:
        signature = inspect.signature(function, eval_str=True)
        knobs = {n: p for n, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
        summary = (inspect.getdoc(function) or "").split("\n\n", 1)[0].replace("\n", " ")
        function.spec = replace(spec, name=function.__name__, summary=summary, knobs=knobs)  # type: ignore[attr-defined]
        return function

    return declare


def spec_of(function: Callable[..., Any]) -> Spec:
    """The declaration of an op."""
    found = function.spec  # type: ignore[attr-defined]
    assert isinstance(found, Spec)
    return found


def identity(function: Callable[..., Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of an op with its knobs, as plain data: name, version, columns, every knob, its files' digest."""
    spec = spec_of(function)
    full = {name: knobs.get(name, p.default) for name, p in spec.knobs.items()}
    said: dict[str, Any] = {"knobs": {name: _knob_data(name, value) for name, value in full.items()}}
    files = _files_of(function, spec.name, full)
    before = identity(spec.after, _knobs_for(spec.after, knobs)) if spec.after else None
    writes = {name: str(kind) for name, kind in spec.writes.items()}
    said |= {"version": spec.version, "writes": writes, "files": files, "after": before}
    mine = getattr(function, "__module__", "").startswith("curate.")
    return {"op": spec.name if mine else f"{function.__module__}:{spec.name}"} | said


def _files_of(function: Callable[..., Any], name: str, knobs: Knobs) -> str:
    """The digest of the files that an op reads. Raises ValueError, with the op's name, where one cannot be had."""
    own = getattr(function, "identity", None)
    try:
        return str(own(knobs)) if own else ""
    except OSError as err:
        what = f"{err.filename}: {err.strerror}{seen_from_here(err.filename)}" if err.filename else str(err)
        raise ValueError(f"op {name}: {what}") from err
    except ValueError as err:
        raise ValueError(f"op {name}: {str(err).removeprefix(f'op {name}: ')}") from err


def _knob_data(name: str, value: Any) -> Any:
    """A knob as plain data. Where the source's folder lies changes nothing: its files are part of the pool's name."""
    if name in GIVEN:
        return value.identity() if hasattr(value, "identity") else None
    return value


def _knobs_for(function: Callable[..., Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in knobs.items() if name in spec_of(function).knobs}
