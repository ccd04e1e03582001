"""The steps of a recipe as they were resolved: ops, columns, conditions, and the fingerprints of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from curate.ops.spec import READABLE_OF, PartKind, Spec, identity, spec_of
from curate.recipe.model import Recipe
from curate.sample import fingerprint


@dataclass(frozen=True)
class Condition:
    """One condition of one rule: a row, or a part, is kept when `column` fulfils it. Its name is `column.kind`.

    `or_null`: what has no value is kept too. `type`: that of a value.
    """

    column: str
    kind: str
    value: Any
    or_null: bool = False
    type: pa.DataType | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The condition's name in the funnel."""
        return f"{self.column}.{self.kind}"

    @property
    def is_global(self) -> bool:
        """Whether it needs all rows at once."""
        return self.kind in ("top", "bottom")

    def to_json(self) -> list[Any]:
        """The deciding values, as plain data."""
        return [self.column, self.kind, self.value, *([True] if self.or_null else [])]


@dataclass(frozen=True)
class Resolved:
    """A step that was checked: the op, the knobs it was given, its columns' names in the recipe, its conditions.

    `over`: the parts of a document that the op is run on, one at a time; `part_conditions`: rules on parts, by their
    kind; `spare`: blocks of paragraphs that no such rule touches.
    `key` names the folder of its columns: the op's name and the fingerprint of all that could change them.
    `chain` is the fingerprint of every decision up to and with this step. `reuse_key` is that of the op and its knobs
    alone, where it reads columns: of the same values it makes the same, whichever steps they came from; else None. All
    three are set by `assign_fingerprints`.
    """

    label: str
    function: Callable[..., Any]
    knobs: Mapping[str, Any]
    columns: Mapping[str, str]
    conditions: tuple[Condition, ...]
    over: PartKind | None = None
    part_conditions: Mapping[PartKind, tuple[Condition, ...]] = field(default_factory=dict)
    spare: tuple[str, ...] = ()
    key: str = ""
    chain: str = ""
    reuse_key: str | None = None

    @property
    def spec(self) -> Spec:
        """The op's declaration."""
        return spec_of(self.function)

    @property
    def fetches(self) -> bool:
        """Whether the op asks servers for bytes, which another attempt may bring."""
        return "download" in self.spec.knobs and self.spec.stores

    @property
    def parts(self) -> Mapping[str, PartKind]:
        """Its own columns that hold a list with an entry a part."""
        return dict.fromkeys(self.columns, self.over) if self.over else self.spec.parts

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """The types of its own columns as they are kept."""
        return {name: pa.list_(kind) if self.over else kind for name, kind in self.spec.writes.items()}

    @property
    def decides_parts(self) -> bool:
        """Whether parts may leave a document here: dropped by a rule, or failed by the op."""
        return self.over is not None or any(self.part_conditions.values())

    @property
    def extremes(self) -> Mapping[str, tuple[str, bool]]:
        """Of numbers of parts, the columns of the largest and smallest of a row: whose they are, and which it is."""
        numeric = [name for name, kind in self.spec.writes.items() if self.over and is_numeric(kind)]
        return {
            _extreme_name(self.columns[name], which): (name, which == "max")
            for name in numeric
            for which in ("max", "min")
        }


def _extreme_name(shown: str, which: str) -> str:
    """`max_nsfw` of `nsfw`, `page.max_nsfw` of `page.nsfw`."""
    prefix, dot, own = shown.rpartition(".")
    return f"{prefix}{dot}{which}_{own}"


def assign_fingerprints(steps: Sequence[Resolved], start: str, attempts: int = 0) -> list[Resolved]:
    """The steps with their keys. `start` names the pool and its version, `attempts` counts retries of what steps fetch.

    A row op's values depend on its own identity and on the columns it reads; a group op's on every decision before it
    as well, for these say which rows it sees. What is read of a document depends on the decisions on its parts. What a
    step fetches is another after a retry: that is a decision.
    """
    found: list[Resolved] = []
    written: dict[str, tuple[str, str]] = {}
    of_parts: set[str] = set()
    chain, parts = start, ""
    for step in steps:
        reads = [
            [name, *written[name], *([parts] if parts and name in of_parts else [])]
            for name in sorted(read_columns(step.spec, step.over))
            if name in written
        ]
        own = identity(step.function, step.knobs)
        lifted = [step.over] if step.over else []
        key = f"{step.spec.name}-{fingerprint([own, reads, chain if step.spec.is_group else '', *lifted])}"
        again = [attempts] if attempts and step.fetches else []
        rules = {kind: [c.to_json() for c in conditions] for kind, conditions in step.part_conditions.items()}
        on_parts = [[step.over, rules, sorted(step.spare)]] if step.decides_parts else []
        kept = [c.to_json() for c in step.conditions]
        chain = fingerprint([chain, key, dict(step.columns), kept, *again, *on_parts])
        reuse = fingerprint([own, [name for name, *_ in reads], *lifted]) if reads and not step.spec.is_group else None
        found.append(replace(step, key=key, chain=chain, reuse_key=reuse))
        written |= {shown: (key, name) for name, shown in step.columns.items()}
        of_parts |= {step.columns[name] for name in step.parts}
        if "document" in step.columns.values():
            of_parts, parts = {"document", "text", *of_parts}, ""
        if on_parts:
            parts = fingerprint([parts, key, on_parts])
    return found


def read_columns(spec: Spec, over: PartKind | None = None) -> set[str]:
    """The columns that an op's values depend on, where earlier steps write them."""
    if over is None:
        return {"image" if name in READS_BYTES else name for name in spec.reads}
    rows = {name for name in spec.reads if name not in READABLE_OF[over]}
    return {"document", *(["images"] if READS_BYTES & set(spec.reads) else []), *rows}


READS_BYTES = frozenset(("image", "decoded", "image_bytes", "blob"))
"""What an op reads of an image that was fetched."""


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe with its steps as they were resolved: what a run, a retry and a dry run are handed."""

    recipe: Recipe
    steps: tuple[Resolved, ...]


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
