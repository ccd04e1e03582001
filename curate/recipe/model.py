"""The recipe: one YAML file that says what to ingest, annotate, decide and publish, checked before it runs.

The pydantic models here are the format (`curate schema` exports them as JSON Schema). `resolve.load` checks the file
against them, and its steps against the ops.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from curate.document.segments import Block
from curate.download import DownloadSettings
from curate.llm.model import ChatModel
from curate.llm.settings import Endpoint
from curate.ops.spec import PartKind
from curate.recipe.resources import Resources, StepResources
from curate.recipe.source import KINDS, Searched, Source, Written
from curate.sample import Kind
from curate.settings import PathText, Settings, unknown_message

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_bytes(value: Any) -> Any:
    """`250MB`, `1 GiB` or a whole number of bytes, as a number of bytes."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    if found is None:
        raise ValueError(f"expected a size such as 250MB, found {value!r}")
    unit = found[2].lower() or "b"
    if unit not in _UNITS:
        raise ValueError(unknown_message("unit", found[2], _UNITS))
    return int(float(found[1]) * _UNITS[unit])


def _one_file_name(value: str) -> str:
    if not value or "/" in value or value.startswith(".") or "\0" in value:
        raise ValueError(f"{value!r} is not a plain name (no '/', no leading '.')")
    return value


Name = Annotated[str, AfterValidator(_one_file_name)]
Size = Annotated[int, Field(ge=1), BeforeValidator(parse_bytes), WithJsonSchema({"type": ["integer", "string"]})]


Scalar = bool | int | float | str | None

ELSE = "else"
"""The group of every row whose value of the rule's `by` column is not named, or that has none."""


def _names_every_row(value: Any) -> Any:
    if isinstance(value, dict) and ELSE not in value:
        raise ValueError("give `else:` as well, the number for rows of any other value, and of none")
    return value


def _schema(number: Mapping[str, Any]) -> WithJsonSchema:
    groups = {"type": "object", "required": [ELSE], "additionalProperties": number}
    return WithJsonSchema({"anyOf": [number, groups, {"type": "null"}]})


_Part = Annotated[float, Field(gt=0, le=1)]
_WHOLE = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}

Bound = Annotated[float | dict[Any, float] | None, BeforeValidator(_names_every_row), _schema({"type": "number"})]
"""A number, or one a group: `{en: 0.28, else: 0.26}`."""

Share = Annotated[_Part | dict[Any, _Part] | None, BeforeValidator(_names_every_row), _schema(_WHOLE)]
"""A share, or one a group."""


class Rule(Settings):
    """Conditions on one column; what breaks one is dropped by it. Null breaks all but `is: null` and `or_null`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    short: ClassVar[Mapping[type, str]] = {int: "min", float: "min", bool: "is", str: "is", list: "in"}

    min: Bound = Field(None, description="Keep values of at least this.")
    max: Bound = Field(None, description="Keep values of at most this.")
    in_: tuple[Scalar, ...] | None = Field(None, alias="in", description="Keep values that are in this list.")
    not_in: tuple[Scalar, ...] | None = Field(None, description="Keep values that are not in this list.")
    is_: Scalar = Field(None, alias="is", description="Keep this value; `is: null` keeps rows without a value.")
    top: Share = Field(None, description="Keep this share of the rows that come here, the largest.")
    bottom: Share = Field(None, description="Keep this share of the rows, the smallest.")
    by: str | None = Field(
        None,
        description="A column of groups: min, max, top and bottom may then say a number a group, as in "
        "{en: 0.28, else: 0.26}, and a share is taken within each group.",
    )
    of: Literal["arriving", "pool"] = Field(
        "arriving",
        description="What `top` or `bottom` is a share of: the rows that come here, or all rows of the pool that have "
        "a value, whatever rules drop of them.",
    )
    strict: Literal["datacomp"] | None = Field(
        None,
        description="`datacomp`: cut a `top` share as DataComp's published code does: at the value of rank "
        "int(rows x share) + 1, with all that equal it.",
    )
    or_null: bool = Field(False, description="Keep what has no value, too: what could not be judged.")

    def conditions(self) -> list[tuple[str, Any]]:
        """The conditions that the recipe wrote, in the order min, max, in, not_in, is, top, bottom."""
        names = ("min", "max", "in_", "not_in", "is_", "top", "bottom")
        return [(name.rstrip("_"), getattr(self, name)) for name in names if name in self.model_fields_set]

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        found = self.conditions()
        if not found:
            raise ValueError("a rule needs a condition: min, max, in, not_in, is, top or bottom")
        empty = [name for name, value in found if value is None and name != "is"]
        if empty:
            raise ValueError(f"`{empty[0]}` has no value; only `is` may be null")
        if self.top is not None and self.bottom is not None:
            raise ValueError("one rule keeps either the top or the bottom share; write two steps for both")
        return self

    @model_validator(mode="after")
    def _groups_and_shares_fit(self) -> Rule:
        grouped = [name for name, value in self.conditions() if isinstance(value, dict)]
        shares = self.top is not None or self.bottom is not None
        if grouped and self.by is None:
            raise ValueError(f"`{grouped[0]}` says a number a group; name the column of the groups: `by: COLUMN`")
        if self.by is not None and not grouped and not shares:
            raise ValueError("`by` needs a number a group, as in min: {en: 0.28, else: 0.26}, or a share of each group")
        if self.of == "pool" and not shares:
            raise ValueError("`of: pool` says what `top` or `bottom` is a share of; there is none here")
        if self.strict is not None and self.top is None:
            raise ValueError("`strict: datacomp` says how a `top` share is cut; there is none here")
        return self


RULE_CHOICES: Mapping[str, Any] = {"or_null": False, "by": None, "of": "arriving", "strict": None}
"""The fields of a rule, with their defaults, that came after the first recipes; one who says nothing of them names it
as before."""


class Rules(Settings):
    """Rules by column, all of which must hold; `any_of` holds when all rules of any of its entries do."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Rule]

    any_of: tuple[dict[str, Rule], ...] = Field(
        (), description="Sets of rules by column, of which one is enough: [{a: {min: 1}}, {b: {is: x}, c: {max: 2}}]."
    )

    @property
    def columns(self) -> Mapping[str, Rule]:
        """The rules that must hold, by column."""
        return self.__pydantic_extra__ or {}

    @model_validator(mode="after")
    def _has_a_choice(self) -> Rules:
        if len(self.any_of) == 1 or not all(self.any_of):
            raise ValueError("`any_of` is a list of two or more sets of rules: [{a: {min: 1}}, {b: {is: x}}]")
        return self

    def __bool__(self) -> bool:
        return bool(self.columns or self.any_of)


PART_CHOICES = ("over", "keep_images", "keep_paragraphs", "spare")
"""The fields of a step that are about parts of documents; a recipe that has none of them says nothing of them."""


RULES = ("keep", "keep_images", "keep_paragraphs")
"""The fields of a step that hold rules by column."""


class Step(Settings):
    """An op with its knobs, and the rules on columns that are known after it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    short: ClassVar[Mapping[type, str]] = {str: "op"}

    op: str = Field(description="An op's name (`curate ops` lists them), or your own as package.module:function.")
    name: Name | None = Field(None, description="Prefix of this step's columns, when an op is used twice.")
    knobs: dict[str, Any] = Field(default_factory=dict, alias="with", description="The op's knobs.")
    over: PartKind | None = Field(
        None, description="Run the op on each image, or each paragraph, of the document; its columns are then lists."
    )
    keep_images: Rules = Field(
        default_factory=Rules, description="Rules on images of a document: one that breaks one leaves the document."
    )
    keep_paragraphs: Rules = Field(
        default_factory=Rules, description="Rules on paragraphs of a document: one that breaks one leaves the document."
    )
    spare: tuple[Block, ...] = Field(
        (), description="Blocks that `keep_paragraphs` leaves alone: heading, list, table, code, quote."
    )
    keep: Rules = Field(default_factory=Rules, description="Rules by column, on whole rows; they come last.")
    resources: StepResources = Field(StepResources(), description="What the op's model runs on.")


class RunLimits(Settings):
    """Limits at which to give up."""

    failed: float = Field(0.5, ge=0, le=1, description="Stop when more than this share of all rows has failed.")
    op_timeout_s: float | None = Field(
        None,
        gt=0,
        description="End a call of an op, on one batch, that takes longer; the row it hangs on fails as op_timeout. "
        "Unsaid: the op's own limit, mostly 600.",
    )


class Publish(Settings):
    """Settings of how the kept rows are written."""

    shard_samples: int = Field(1000, ge=1, description="At most this many samples a tar.")
    shard_bytes: Size = Field(1_000_000_000, description="At most about this many bytes a tar, for example 250MB.")
    shuffle: bool = Field(True, description="One seeded shuffle over all kept rows; otherwise the source's order.")
    columns: tuple[str, ...] = Field((), description="Columns to carry into each sample's JSON and the index.")
    split: str | None = Field(
        None, description="A column with a list of texts, `chunks` for example: each becomes a sample of its own."
    )
    repeat: str | None = Field(
        None, description="A column with a whole number, `times_drawn` for example: each row is written that often."
    )
    image_name: Literal["one", "format"] = Field(
        "one",
        description="`one`: all images have one extension, their format's, or jpg where formats are mixed (readers "
        "look at the bytes; `datasets` opens nothing else). `format`: each has its own format's.",
    )

    def said(self) -> dict[str, Any]:
        """The settings as plain data, for fingerprints; a recipe without `repeat` says nothing of it."""
        return self.model_dump(mode="json", exclude={"repeat"} if self.repeat is None else None)


class Recipe(Settings):
    """A whole run."""

    name: Name = Field(description="The name of the dataset.")
    license: str = Field("unknown", description="The licence of the data, for its card.")
    kind: Kind = Field("caption", description="The kind of sample; what it is made from must fit (see `source`).")
    seed: int = Field(0, ge=0, description="Everything random is keyed by this seed and the sample.")
    out: PathText = Field(description="The folder for all that the run makes; one recipe, one folder.")
    source: Source
    shard_samples: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="At most this many rows of the source a pool shard, and at most 8 MB of texts or one larger text. "
        "Of `pdf`, at most this many files; a tar or a WARC is one shard, whatever it holds.",
    )
    download: DownloadSettings = Field(default_factory=DownloadSettings)
    limits: RunLimits = RunLimits()
    resources: Resources = Field(Resources(), description="What models run on; it may be said of a step, too.")
    llm: dict[Name, Endpoint] = Field(
        default_factory=dict,
        description="Chat models by a name of yours: an OpenAI-compatible endpoint each, how it may be asked, what may "
        "be spent. A step that asks one names it by its knob `llm`, unless there is one alone.",
    )
    steps: tuple[Step, ...] = ()
    publish: Publish = Publish()

    def chat_model(self, name: str | None) -> ChatModel:
        """The chat model of that name, or the only one. Raises ValueError."""
        known = list(self.llm)
        if not known:
            raise ValueError(
                "asks a chat model; name one in the recipe: `llm: {writer: {url: https://..., model: ...}}`"
            )
        if name is None and len(known) > 1:
            raise ValueError(f"missing; the recipe names several chat models: {', '.join(known)}")
        chosen = known[0] if name is None else name
        if chosen not in self.llm:
            raise ValueError(unknown_message("chat model", chosen, known))
        return ChatModel(chosen, self.llm[chosen])

    @property
    def source_chat(self) -> ChatModel | None:
        """The chat model that writes the source, or says what to search for, if one does."""
        return self.chat_model(self.source.llm) if isinstance(self.source, (Written, Searched)) else None

    @model_validator(mode="after")
    def _source_has_its_writer(self) -> Recipe:
        try:
            _ = self.source_chat
        except ValueError as err:
            said = "source.llm:" if self.llm else f"source: type {self.source.type!r}"
            raise ValueError(f"{said} {err}") from None
        return self

    @model_validator(mode="after")
    def _source_fits_kind(self) -> Recipe:
        if self.source.type not in KINDS[self.kind]:
            kinds = [kind for kind, types in KINDS.items() if self.source.type in types]
            raise ValueError(
                f"kind {self.kind} is made from a source of type {' or '.join(KINDS[self.kind])}, found"
                f" {self.source.type!r} (of which kind {' or '.join(kinds)} is made)"
            )
        if self.publish.split is not None and self.kind != "text":
            raise ValueError("publish.split: only texts can be split into several samples")
        if self.publish.split is not None and self.publish.repeat is not None:
            raise ValueError("publish.repeat: what is split cannot be repeated; do one in a recipe of its own")
        return self
