"""Resolve a recipe: check each step's op, knobs, columns and conditions, and assign fingerprints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ConfigDict, TypeAdapter, ValidationError

from curate import settings
from curate.ops.spec import CONTENT, GIVEN, OWN, READABLE, TAKEN, Spec, identity, spec_of
from curate.ops.table import find_op, ops_that_write
from curate.recipe.model import Recipe, Step
from curate.recipe.source import folder_of
from curate.sample import fingerprint
from curate.settings import SettingsError, unknown_message


@dataclass(frozen=True)
class Condition:
    """One condition of one rule: the row is kept when `column` fulfils it. Its name is `column.kind`."""

    column: str
    kind: str
    value: Any

    @property
    def name(self) -> str:
        """The condition's name in the funnel."""
        return f"{self.column}.{self.kind}"

    @property
    def is_global(self) -> bool:
        """Whether it needs all rows at once."""
        return self.kind in ("top", "bottom")


@dataclass(frozen=True)
class Resolved:
    """A step that was checked: the op, the knobs it was given, its columns' names in the recipe, its conditions.

    `key` names the folder of its columns: the op's name and the fingerprint of all that could change them.
    `chain` is the fingerprint of every decision up to and with this step. `reuse_key` is that of the op and its knobs
    alone,
    where it reads columns: of the same values it makes the same, whichever steps they came from; else None. All three
    are set by `assign_fingerprints`.
    """

    label: str
    function: Callable[..., Any]
    knobs: Mapping[str, Any]
    columns: Mapping[str, str]
    conditions: tuple[Condition, ...]
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


def assign_fingerprints(steps: Sequence[Resolved], start: str, attempts: int = 0) -> list[Resolved]:
    """The steps with their keys. `start` names the pool and its version, `attempts` counts retries of what steps fetch.

    A row op's values depend on its own identity and on the columns it reads; a group op's on every decision before it
    as well, for these say which rows it sees. What a step fetches is another after a retry: that is a decision.
    """
    found: list[Resolved] = []
    written: dict[str, tuple[str, str]] = {}
    chain = start
    for step in steps:
        reads = [[name, *written[name]] for name in sorted(read_columns(step.spec)) if name in written]
        own = identity(step.function, step.knobs)
        key = f"{step.spec.name}-{fingerprint([own, reads, chain if step.spec.is_group else ''])}"
        rules = [[c.column, c.kind, c.value] for c in step.conditions]
        again = [attempts] if attempts and step.fetches else []
        chain = fingerprint([chain, key, dict(step.columns), rules, *again])
        reuse_key = fingerprint([own, [name for name, *_ in reads]]) if reads and not step.spec.is_group else None
        found.append(replace(step, key=key, chain=chain, reuse_key=reuse_key))
        written |= {shown: (key, name) for name, shown in step.columns.items()}
    return found


def read_columns(spec: Spec) -> set[str]:
    """The columns that an op's values depend on, where earlier steps write them."""
    return {"image" if name in ("decoded", "image_bytes") else name for name in spec.reads}


def load(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe, its steps included. Raises SettingsError."""
    recipe = settings.load(path, Recipe, overrides)
    try:
        resolve(recipe, str(path))
    except SettingsError as err:
        raise _with_line(err, Path(path)) from None
    return recipe


def _with_line(err: SettingsError, path: Path) -> SettingsError:
    """The error, told with the line of the longest path in the file that it begins with."""
    said = str(err).removeprefix(f"{path}: ")
    lines = {".".join(map(str, at)): line for at, line in settings.read_yaml(path)[1].items()}
    at = max((name for name in lines if said.startswith(name)), key=len)
    return SettingsError(f"{path}:{lines[at]}: {said}")


def resolve(recipe: Recipe, where: str = "recipe") -> list[Resolved]:
    """The recipe's steps, checked against the ops. A group op's row op comes before it as a step of its own."""
    found: list[Resolved] = []
    types: dict[str, pa.DataType] = {}
    for number, step in enumerate(recipe.steps):
        at = f"{where}: steps.{number}"
        try:
            function = find_op(step.op)
        except ValueError as err:
            raise SettingsError(f"{at}.op: {err}") from None
        spec = spec_of(function)
        knobs = _checked_knobs(step, spec, at) | _given(recipe, spec)
        if spec.after is not None and not any(r.function is spec.after for r in found):
            found.append(_row_op_of(spec, knobs | _given(recipe, spec_of(spec.after)), types, at))
        columns = {c: f"{step.name}.{c}" if step.name else c for c in spec.writes}
        _check_columns(columns, spec, types, at)
        types |= {columns[c]: t for c, t in spec.writes.items()}
        conditions = _conditions(step, types, at)
        shares = {c.name for r in found for c in r.conditions if c.is_global}
        if again := [c for c in conditions if c.name in shares]:
            raise SettingsError(f"{at}.keep.{again[0].name}: an earlier step takes this share already; one is enough")
        label = step.name or spec.name
        if label in ("ingest", *(r.label for r in found)):
            raise SettingsError(f"{at}: a step is called {label!r} already; give this one another `name:`")
        found.append(Resolved(label, function, knobs, columns, conditions))
    _check_publish(recipe, types, where)
    return found


def _checked_knobs(step: Step, spec: Spec, at: str) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for knob, value in step.knobs.items():
        known = [name for name in spec.knobs if name not in GIVEN]
        if knob not in known:
            raise SettingsError(f"{at}.with.{knob}: {unknown_message(f'knob of {step.op}', knob, known)}")
        annotation = spec.knobs[knob].annotation
        try:
            checked[knob] = TypeAdapter(annotation, config=ConfigDict(strict=False)).validate_python(value)
        except ValidationError as err:
            message = err.errors(include_url=False)[0]["msg"]
            raise SettingsError(f"{at}.with.{knob}: {message}, found {value!r}") from None
    missing = [n for n, p in spec.knobs.items() if p.default is p.empty and n not in checked and n not in GIVEN]
    if missing:
        raise SettingsError(f"{at}.with.{missing[0]}: missing; {step.op} needs this knob")
    return checked


def _given(recipe: Recipe, spec: Spec) -> dict[str, Any]:
    """The knobs that an op has from the recipe as a whole."""
    given = {"download": recipe.download, "folder": folder_of(recipe.source)}
    return {name: value for name, value in given.items() if name in spec.knobs}


def _row_op_of(spec: Spec, knobs: Mapping[str, Any], types: dict[str, pa.DataType], at: str) -> Resolved:
    assert spec.after is not None
    before = spec_of(spec.after)
    _check_columns({c: c for c in before.writes}, before, types, at)
    shared = {name: value for name, value in knobs.items() if name in before.knobs}
    types |= before.writes
    return Resolved(before.name, spec.after, shared, {c: c for c in before.writes}, ())


def _check_columns(columns: Mapping[str, str], spec: Spec, types: Mapping[str, pa.DataType], at: str) -> None:
    taken = [own for own, shown in columns.items() if own in OWN or shown in TAKEN]
    if taken:
        raise SettingsError(f"{at}: op {spec.name!r} may not call a column {taken[0]!r}: the engine has that name")
    odd = [c for own, c in columns.items() if CONTENT.get(c, spec.writes[own]) != spec.writes[own]]
    if odd:
        raise SettingsError(
            f"{at}: column {odd[0]!r} is a sample's content and holds {CONTENT[odd[0]]}; give this step a `name:` to"
            " prefix its own"
        )
    twice = [c for c in columns.values() if c in types and c not in CONTENT]
    if twice:
        raise SettingsError(f"{at}: column {twice[0]!r} is written twice; give this step a `name:` to prefix its own")
    readable = {*READABLE, *types}
    unreadable = [c for c in spec.reads if c not in readable]
    if unreadable:
        found = ops_that_write(unreadable[0])
        makers = [name for name in found if set(unreadable) <= set(spec_of(find_op(name)).writes)] or found
        hint = f"put {' or '.join(makers)} before it" if makers else unknown_message("column", unreadable[0], readable)
        raise SettingsError(f"{at}: op {spec.name!r} reads {unreadable[0]!r}, which no earlier step writes: {hint}")


def _check_publish(recipe: Recipe, types: Mapping[str, pa.DataType], where: str) -> None:
    """What is published must be plain columns, and what the kind of sample consists of must be there."""
    _check_names(recipe.publish.columns, types, f"{where}: publish.columns")
    needed: dict[str, str] = {}
    if recipe.kind == "interleaved":
        needed["document"] = "html_document, for one"
    elif recipe.kind == "ocr" and recipe.source.type == "text":
        needed["image"] = "render_text"
    elif recipe.kind == "ocr":  # the row's own bytes may be a whole PDF
        needed |= {"text": "pdf_page, and page_text for scans", "image": "render_page, or render_text"}
    for column, ways in needed.items():
        if column not in types:
            raise SettingsError(f"{where}: kind: {recipe.kind} publishes {column!r}, which no step writes ({ways})")
    split = recipe.publish.split
    if split is not None and types.get(split) != pa.list_(pa.string()):
        lists = [name for name, kind in types.items() if kind == pa.list_(pa.string())]
        raise SettingsError(f"{where}: publish.split: {unknown_message('column with a list of texts', split, lists)}")


def _check_names(names: Sequence[str], types: Mapping[str, pa.DataType], at: str) -> None:
    for name in names:
        if name not in types:
            raise SettingsError(f"{at}: {unknown_message('column', name, types)}")
        kind = types[name].value_type if pa.types.is_list(types[name]) else types[name]
        if pa.types.is_nested(kind) or pa.types.is_binary(kind):
            raise SettingsError(
                f"{at}: column {name!r} holds {types[name]}, only plain values and lists of them can be published"
            )


def _conditions(step: Step, types: Mapping[str, pa.DataType], at: str) -> tuple[Condition, ...]:
    found: list[Condition] = []
    for column, rule in step.keep.items():
        if column not in types:
            raise SettingsError(f"{at}.keep.{column}: {unknown_message('column', column, types)}")
        for kind, value in rule.conditions():
            _check_condition(types[column], kind, value, f"{at}.keep.{column}.{kind}")
            found.append(Condition(column, kind, value))
    whole = [c for c in found if c.is_global]
    if len(whole) > 1:
        raise SettingsError(f"{at}.keep: one `top` or `bottom` a step, found {len(whole)}; write a step for each")
    # A share is taken of what the step's other rules leave, so it comes last whatever the order in the file.
    return tuple(sorted(found, key=lambda c: c.is_global))


def _check_condition(column: pa.DataType, kind: str, value: Any, at: str) -> None:
    numeric = pa.types.is_integer(column) or pa.types.is_floating(column)
    if kind in ("min", "max", "top", "bottom") and not numeric:
        raise SettingsError(f"{at}: the column holds {column}, `{kind}` needs numbers; use in, not_in or is")
    if pa.types.is_nested(column) or pa.types.is_binary(column):
        raise SettingsError(f"{at}: the column holds {column}, rules work on numbers, texts and booleans")
    for one in value if isinstance(value, tuple) else (value,):
        if kind in ("in", "not_in", "is") and not _fits(one, column, numeric):
            raise SettingsError(f"{at}: the column holds {column}, found {one!r}")


def _fits(value: Any, column: pa.DataType, numeric: bool) -> bool:
    if value is None:
        return True
    if pa.types.is_boolean(column):
        return isinstance(value, bool)
    if numeric:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, str)
