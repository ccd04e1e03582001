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
from curate.ops.spec import PartKind
from curate.recipe.resources import Resources, StepResources
from curate.recipe.source import KINDS, Source
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


class Rule(Settings):
    """Conditions on one column; what breaks one is dropped by it. Null breaks all but `is: null` and `or_null`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    short: ClassVar[Mapping[type, str]] = {int: "min", float: "min", bool: "is", str: "is", list: "in"}

    min: float | None = Field(None, description="Keep values of at least this.")
    max: float | None = Field(None, description="Keep values of at most this.")
    in_: tuple[Scalar, ...] | None = Field(None, alias="in", description="Keep values that are in this list.")
    not_in: tuple[Scalar, ...] | None = Field(None, description="Keep values that are not in this list.")
    is_: Scalar = Field(None, alias="is", description="Keep this value; `is: null` keeps rows without a value.")
    top: float | None = Field(None, gt=0, le=1, description="Keep this share of the rows that come here, the largest.")
    bottom: float | None = Field(None, gt=0, le=1, description="Keep this share of the rows, the smallest.")
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
    keep_images: dict[str, Rule] = Field(
        default_factory=dict, description="Rules on images of a document: one that breaks one leaves the document."
    )
    keep_paragraphs: dict[str, Rule] = Field(
        default_factory=dict, description="Rules on paragraphs of a document: one that breaks one leaves the document."
    )
    spare: tuple[Block, ...] = Field(
        (), description="Blocks that `keep_paragraphs` leaves alone: heading, list, table, code, quote."
    )
    keep: dict[str, Rule] = Field(default_factory=dict, description="Rules by column, on whole rows; they come last.")
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
    image_name: Literal["one", "format"] = Field(
        "one",
        description="`one`: all images have one extension, their format's, or jpg where formats are mixed (readers "
        "look at the bytes; `datasets` opens nothing else). `format`: each has its own format's.",
    )


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
    steps: tuple[Step, ...] = ()
    publish: Publish = Publish()

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
        return self
