"""The steps of a recipe as they were resolved: ops, columns, conditions, and the fingerprints of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from curate.llm.model import ChatModel
from curate.models.devices import CPU, Device
from curate.ops.spec import READABLE_OF, Maker, PartKind, Spec, all_knobs, check_fits, identity, spec_of
from curate.recipe.model import ELSE, Recipe
from curate.recipe.resources import StepResources
from curate.sample import fingerprint

Groups = tuple[tuple[Any, float], ...]
"""A number a group: pairs of a value of the `by` column and its number; `ELSE` stands for all other values."""


@dataclass(frozen=True)
class Condition:
    """One condition of one rule: a row, or a part, is kept when `column` fulfils it.

    `or_null`: what has no value is kept too. `by`: the column of groups, where `value` may be `Groups`. `of_pool`: a
    share is of all rows of the pool that have a value. `strict`: whose quirks a share has. `type`: that of a value.
    """

    column: str
    kind: str
    value: Any
    or_null: bool = False
    by: str | None = None
    of_pool: bool = False
    strict: str | None = None
    type: pa.DataType | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The condition's name in the funnel: `column.kind`, and what it is by, of, and as whose code."""
        of = "_of_pool" * self.of_pool
        by = f"_by_{self.by}" if self.by else ""
        return f"{self.column}.{self.kind}{of}{by}{f'_as_{self.strict}' if self.strict else ''}"

    @property
    def is_global(self) -> bool:
        """Whether it needs all rows at once."""
        return self.kind in ("top", "bottom")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values decide."""
        return (self.column, self.by) if self.by else (self.column,)

    @property
    def shares(self) -> tuple[Condition, ...]:
        """Itself, where it needs all rows at once."""
        return (self,) if self.is_global else ()

    def number_of(self, group: Any) -> Any:
        """The number that holds for a group, by its value of the `by` column."""
        if not isinstance(self.value, tuple) or self.kind in ("in", "not_in"):
            return self.value
        numbers = {(type(value), value): number for value, number in self.value}
        return numbers.get((type(group), group), numbers[str, ELSE])

    def to_json(self) -> list[Any]:
        """The deciding values, as plain data."""
        said = [self.column, self.kind, self.value, *([True] if self.or_null else [])]
        further = {"by": self.by, "of_pool": self.of_pool, "strict": self.strict}
        return [*said, *([further] if any(further.values()) else [])]


@dataclass(frozen=True)
class AnyOf:
    """A row, or a part, is kept when all conditions of any of these hold."""

    alternatives: tuple[tuple[Condition, ...], ...]

    @property
    def name(self) -> str:
        """The rule's name in the funnel: `any_of(clip_score.min, language.is+language_probability.min)`."""
        return f"any_of({', '.join('+'.join(c.name for c in one) for one in self.alternatives)})"

    @property
    def is_global(self) -> bool:
        """Whether it needs all rows at once."""
        return bool(self.shares)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values decide."""
        return tuple(dict.fromkeys(name for one in self.alternatives for c in one for name in c.columns))

    @property
    def shares(self) -> tuple[Condition, ...]:
        """Those of its conditions that need all rows at once."""
        return tuple(c for one in self.alternatives for c in one if c.is_global)

    def to_json(self) -> list[Any]:
        """The deciding values, as plain data."""
        return ["any_of", *([c.to_json() for c in one] for one in self.alternatives)]


Decision = Condition | AnyOf
"""What drops a row or a part by one name."""


@dataclass(frozen=True)
class Placement:
    """Place of a step's model, as the driver settled it.

    `gpu_fraction` (None: by memory), `cpus` (None: shared out) are a worker's; `batch`: rows of every call on an
    accelerator, None where the op gives its passes a shape.
    """

    device: Device = CPU
    memory_gb: float = 0.0
    gpu_fraction: float | None = None
    cpus: int | None = None
    batch: int | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether it runs on the processor."""
        return self.device.kind == CPU.kind

    @property
    def group(self) -> tuple[object, ...]:
        """Traits that steps have in common which run in one worker."""
        return (True,) if self.on_cpu else (self.device.kind, self.gpu_fraction, self.cpus)


@dataclass(frozen=True)
class Resolved:
    """A step that was checked: the op, the knobs it was given, its columns' names in the recipe, its conditions.

    `over`: the parts of a document that the op is run on, one at a time; `part_conditions`: rules on parts, by their
    kind; `spare`: blocks of paragraphs that no such rule touches.
    `key` names the folder of its columns: the op's name and the fingerprint of all that could change them.
    `chain` is the fingerprint of every decision up to and with this step. `reuse_key` is that of the op and its knobs
    alone, where it reads columns: of the same values it makes the same, whichever steps they came from; else None. All
    three are set by `assign_fingerprints`. `resources` are what the recipe says of the step, `placement` what the
    driver makes of that.
    """

    label: str
    function: Callable[..., Any]
    knobs: Mapping[str, Any]
    columns: Mapping[str, str]
    conditions: tuple[Decision, ...]
    over: PartKind | None = None
    part_conditions: Mapping[PartKind, tuple[Decision, ...]] = field(default_factory=dict)
    spare: tuple[str, ...] = ()
    key: str = ""
    chain: str = ""
    reuse_key: str | None = None
    resources: StepResources = field(default_factory=StepResources)
    placement: Placement = field(default_factory=Placement)

    @property
    def spec(self) -> Spec:
        """The op's declaration."""
        return spec_of(self.function)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of what the op is given of each row: what it declares, then the columns that its knobs name."""
        return (*self.spec.reads, *self.spec.names(self.knobs).values())

    @property
    def fetches(self) -> bool:
        """Whether the op asks servers for bytes, which another attempt may bring."""
        return "download" in self.spec.knobs and self.spec.stores

    @property
    def chat(self) -> ChatModel | None:
        """The chat model that the op asks, if it asks one."""
        found = self.knobs.get("chat")
        assert found is None or isinstance(found, ChatModel)
        return found

    @property
    def asks(self) -> bool:
        """Whether the op asks servers, which wait for nobody's processor."""
        return self.fetches or self.chat is not None

    @property
    def parts(self) -> Mapping[str, PartKind]:
        """Its own columns that hold a list with an entry a part."""
        return dict.fromkeys(self.columns, self.over) if self.over else self.spec.parts

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """The types of its own columns as they are kept."""
        return {name: pa.list_(kind) if self.over else kind for name, kind in self.spec.writes.items()}

    @property
    def shares(self) -> list[Condition]:
        """Its conditions that need all rows at once; all of them see the same rows."""
        return [share for decision in self.conditions for share in decision.shares]

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
    makers: dict[str, Maker] = {}
    of_parts: set[str] = set()
    chain, parts = start, ""
    for step in steps:
        reads = [
            [name, *written[name], *([parts] if parts and name in of_parts else [])]
            for name in sorted(read_columns(step.reads, step.over))
            if name in written
        ]
        named = {name: name for name in step.spec.reads} | step.spec.names(step.knobs)
        check_fits(step.function, step.knobs, {knob: makers[name] for knob, name in named.items() if name in makers})
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
        known = all_knobs(step.function, step.knobs)
        makers |= {shown: Maker(step.function, known, name) for name, shown in step.columns.items()}
        of_parts |= {step.columns[name] for name in step.parts}
        if "document" in step.columns.values():
            of_parts, parts = {"document", "text", *of_parts}, ""
        if on_parts:
            parts = fingerprint([parts, key, on_parts])
    return found


def read_columns(reads: Sequence[str], over: PartKind | None = None) -> set[str]:
    """The columns that an op's values depend on, by what it reads, where earlier steps write them."""
    if over is None:
        return {"image" if name in READS_BYTES else name for name in reads}
    rows = {name for name in reads if name not in READABLE_OF[over]}
    return {"document", *(["images"] if READS_BYTES & set(reads) else []), *rows}


def column_maker(steps: Sequence[Resolved], column: str) -> int | None:
    """The number of the step that writes a column of values; None where the engine counts it."""
    made = [n for n, step in enumerate(steps) if column in step.columns.values() or column in step.extremes]
    return made[0] if made else None


def chats_of(steps: Sequence[Resolved]) -> tuple[ChatModel, ...]:
    """The chat models that these steps ask, each once."""
    return tuple(dict.fromkeys(step.chat for step in steps if step.chat is not None))


READS_BYTES = frozenset(("image", "decoded", "image_bytes", "blob"))
"""What an op reads of an image that was fetched."""


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe with its steps as they were resolved: what a run, a retry and a dry run are handed."""

    recipe: Recipe
    steps: tuple[Resolved, ...]

    @property
    def chats(self) -> tuple[ChatModel, ...]:
        """The chat models that a run asks, each once: the one that writes its source, and those of its steps."""
        writer = self.recipe.source_chat
        return tuple(dict.fromkeys((*((writer,) if writer else ()), *chats_of(self.steps))))


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
