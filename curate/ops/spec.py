"""Declare ops: `op`, `group_op`, and the `identity` that their fingerprint is made of.

An op looks at a batch of samples and returns columns; it never decides. It is a plain function, or a class where
a model must be held: knobs are keyword-only, annotated and JSON-able, and enter the fingerprint of its columns.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar, get_args

import pyarrow as pa
from pydantic import Field

from curate.document.segments import DOCUMENT
from curate.llm.provenance import WRITTEN
from curate.models.devices import CPU, Device, Precision
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


Mass = Annotated[float, Field(gt=0, le=1)]
"""A knob of nucleus sampling: the share of the probability that is drawn from."""

Temperature = Annotated[float, Field(ge=0, le=2)]
"""A knob of sampling, as chat models' endpoints take it."""


@dataclass(frozen=True)
class ColumnOf:
    """Mark a knob as the name of a column that an earlier step writes, and the op reads.

    `what` it holds, in words; `fits` tells of a type whether it is such a column's.
    """

    what: str
    fits: Callable[[pa.DataType], bool]


def _is_embedding(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_floating(kind.value_type))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


EmbeddingColumn = Annotated[str, ColumnOf("an embedding, which is a list of floats", _is_embedding)]
"""A knob that names a column of embeddings, whichever op wrote it."""

NumberColumn = Annotated[str, ColumnOf("a number", _is_number)]
"""A knob that names a column of numbers, a score for example."""

TextColumn = Annotated[str, ColumnOf("a text", pa.types.is_string)]
"""A knob that names a column of texts, a language for example."""

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
    "title": pa.string(),
}
"""Columns that are the sample's content, and what they hold: a later step's takes the place of an earlier one's, and of
the source's. `words` are a page's, with their boxes; a `title` is a document's."""

OWN = ("row", "error", "detail", "inputs", "part_error", "part_detail")
"""Names in every file of columns, which no op may give one of its own."""

TAKEN = ("uid", "meta", "origin", "bytes", "image_bytes", "decoded", "tar", "ext", "offset", "nbytes", "sha256",
         "order", "image_name", "content", "content_at", "content_bytes", "content_size", "any_of")  # fmt: skip
"""What a row is read by and published from, and a word of rules: no step's column takes the place of one."""

GIVEN = ("download", "folder", "device", "chat")
"""Knobs that no recipe writes: an op that has them is given the recipe's download settings, its source's folder, the
device that the driver chose for its model, and the chat model that the step names by its knob `llm`."""

RunsOn = Literal["cpu", "accelerator"]


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
    step writes; one called `text` or `image` stands before the source's own. `chosen`: the knobs that name further
    columns, which come after those in the order of the knobs. `writes`: its columns and their Arrow types. `version`:
    raised when the op's values change. `batch_size`: rows a call. `is_group`: it sees all rows at once. `after`: for a
    group op, a row op that is its own: the engine puts it before, and its columns are read, too. A class may have a
    `close`, and a static `identity(knobs)`: what names the files that it reads, by every knob. `parts`: its columns
    that hold a list with an entry for each image, or each paragraph, of the document. `timeout_s`: the seconds that a
    call on a batch may take, 0 for no limit; a recipe's `limits.op_timeout_s` goes before it.

    `runs_on`: an op on an accelerator has the knob `device` (curate.models.devices.Device), which is a CPU where none
    is to be had. `memory_gb`: what it takes of a device's memory (10^9 bytes), weights and work. `device_batch`: rows
    of every call there; a short one is filled up with copies of its last row, so that all are of one shape, and all are
    halved when memory runs out. None: calls of `batch_size` rows, and the op gives its passes a shape.
    `tally`: columns of a few different texts, of which the funnel says how many rows have each.
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
    is_group: bool = False
    chosen: Mapping[str, ColumnOf] = field(default_factory=dict)
    runs_on: RunsOn = "cpu"
    memory_gb: float = 2.0
    device_batch: int | None = None
    tally: tuple[str, ...] = ()

    def names(self, knobs: Knobs) -> dict[str, str]:
        """The columns that the knobs name, by knob; one that names none is left out."""
        said = {knob: knobs.get(knob, self.knobs[knob].default) for knob in self.chosen}
        return {knob: column for knob, column in said.items() if column is not None}

    @property
    def written_by(self) -> tuple[str, ...]:
        """The op's columns that say which model wrote a text."""
        return tuple(name for name, kind in self.writes.items() if kind == WRITTEN)

    @property
    def stored(self) -> tuple[str, ...]:
        """The op's columns that hold bytes (see curate.pool.blob)."""
        return tuple(name for name, kind in self.writes.items() if kind in (BLOB, pa.list_(BLOB)))

    @property
    def stores(self) -> bool:
        """Whether the op brings bytes along."""
        return bool(self.stored)


@dataclass(frozen=True)
class Tower:
    """The network that made vectors: its name, the same wherever it lies, and their width where it is known."""

    name: str
    dims: int | None


@dataclass(frozen=True)
class Maker:
    """The maker of a column that an op reads: the op, its knobs, and the name that it gives the column.

    A class may have a static `towers(knobs)`, the Tower of each of its columns of vectors; and one that reads them a
    static `fits(knobs, makers)`, which raises ValueError, before anything runs, where what made a column, by its name
    in `reads` or by the knob that names it, is not what the op is for.
    """

    function: Callable[..., Any]
    knobs: Knobs
    column: str


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
    runs_on: RunsOn = "cpu",
    memory_gb: float = 2.0,
    device_batch: int | None = None,
    tally: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Declare a row op: its values depend on each row alone, bit for bit, whatever rows share its batch.

    A class may split its call for accelerators: `prepare` makes of the arguments of one row what the device is to have
    (in threads, ahead of it), `compute` makes columns of a list of that; its `__call__` is the two in turn.
    """
    names = (reads,) if isinstance(reads, str) else tuple(reads)
    own_parts = dict(parts or {})
    spec = Spec("", names, dict(writes), version, batch_size, None, "", {}, own_parts, needs, timeout_s)
    return _declare(replace(spec, runs_on=runs_on, memory_gb=memory_gb, device_batch=device_batch, tally=tally))


def group_op(
    *,
    writes: Mapping[str, pa.DataType],
    version: int,
    after: Callable[..., Any] | None = None,
    reads: Sequence[str] = (),
    parts: Mapping[str, PartKind] | None = None,
    needs: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Declare a group op: `f(inputs, outputs, scratch, *, knobs)` over one Parquet file a shard, out of core.

    Each input holds the admitted rows of a shard: `uid`, `nbytes`, `sha256`, the columns of `after`, those of `reads`,
    and each that a knob names, called as the knob is. The op writes the output of the same number with `uid` and its
    own columns, the same rows in the same order.
    """
    needs = (*needs, *(spec_of(after).needs if after else ()))
    own_parts = dict(parts or {})
    return _declare(Spec("", tuple(reads), dict(writes), version, 0, after, "", {}, own_parts, needs, is_group=True))


def _declare(spec: Spec) -> Callable[[F], F]:
    def declare(function: F) -> F:
        signature = inspect.signature(function, eval_str=True)
        knobs = {n: p for n, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
        summary = (inspect.getdoc(function) or "").split("\n\n", 1)[0].replace("\n", " ")
        if (spec.runs_on == "accelerator") != ("device" in knobs):
            raise ValueError(
                f"op {function.__name__!r}: `runs_on` an accelerator and a knob `device: Device` go together"
            )
        chosen = {n: kind for n, p in knobs.items() if (kind := _column_kind(p.annotation)) is not None}
        if taken := [name for name in chosen if name in (*OWN, *TAKEN)]:
            raise ValueError(f"{function.__name__}: a knob that names a column may not be called {taken[0]!r}")
        function.spec = replace(  # type: ignore[attr-defined]
            spec, name=function.__name__, summary=summary, knobs=knobs, chosen=chosen
        )
        return function

    return declare


def _column_kind(annotation: Any) -> ColumnOf | None:
    """The mark of a knob that names a column, in `Annotated[...]` or `Annotated[...] | None`; None of another knob."""
    for one in (annotation, *get_args(annotation)):
        found = [mark for mark in getattr(one, "__metadata__", ()) if isinstance(mark, ColumnOf)]
        if found:
            return found[0]
    return None


def spec_of(function: Callable[..., Any]) -> Spec:
    """The declaration of an op."""
    found = function.spec  # type: ignore[attr-defined]
    assert isinstance(found, Spec)
    return found


def identity(function: Callable[..., Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of an op with its knobs, as plain data: name, version, columns, every knob, its files' digest."""
    spec = spec_of(function)
    full = all_knobs(function, knobs)
    device = full.pop("device", CPU)
    if "chat" in full:
        full.pop("llm", None)  # its name in the recipe changes no answer
    said: dict[str, Any] = {"knobs": {name: _knob_data(name, value) for name, value in full.items()}}
    files = f"{_settled(device, full)}{_files_of(function, spec.name, full)}"
    before = identity(spec.after, _knobs_for(spec.after, knobs)) if spec.after else None
    writes = {name: str(kind) for name, kind in spec.writes.items()}
    said |= {"version": spec.version, "writes": writes, "files": files, "after": before}
    said |= {"device": device.kind} if device.kind != CPU.kind else {}
    mine = getattr(function, "__module__", "").startswith("curate.")
    return {"op": spec.name if mine else f"{function.__module__}:{spec.name}"} | said


def check_fits(function: Callable[..., Any], knobs: Knobs, makers: Mapping[str, Maker]) -> None:
    """Check that an op is for what made the columns that it reads (see `Maker`). Raises ValueError."""
    if own := getattr(function, "fits", None):
        with _named(spec_of(function).name):
            own(all_knobs(function, knobs), makers)


def all_knobs(function: Callable[..., Any], knobs: Knobs) -> dict[str, Any]:
    """Every knob of an op, those that are not given by their defaults."""
    return {name: knobs.get(name, p.default) for name, p in spec_of(function).knobs.items()}


def _files_of(function: Callable[..., Any], name: str, knobs: Knobs) -> str:
    """The digest of the files that an op reads. Raises ValueError, with the op's name, where one cannot be had."""
    own = getattr(function, "identity", None)
    with _named(name):
        return str(own(knobs)) if own else ""


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say an op's name of what its files are not."""
    try:
        yield
    except OSError as err:
        what = f"{err.filename}: {err.strerror}{seen_from_here(err.filename)}" if err.filename else str(err)
        raise ValueError(f"op {name}: {what}") from err
    except ValueError as err:
        raise ValueError(f"op {name}: {str(err).removeprefix(f'op {name}: ')}") from err


def _settled(device: Device, knobs: Knobs) -> str:
    """What `precision: auto` means on the op's device; any other value is a knob like others."""
    wanted: Precision | None = knobs.get("precision")
    return f"{device.settle(wanted)} " if wanted == "auto" else ""


def _knob_data(name: str, value: Any) -> Any:
    """A knob as plain data. Where the source's folder lies changes nothing: its files are part of the pool's name."""
    if name in GIVEN:
        return value.identity() if hasattr(value, "identity") else None
    return value


def _knobs_for(function: Callable[..., Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in knobs.items() if name in spec_of(function).knobs}
