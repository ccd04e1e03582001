"""Resolve a recipe: check each step's op, knobs, columns and conditions, and assign fingerprints."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ConfigDict, TypeAdapter, ValidationError

from curate import settings
from curate.extras import MissingExtraError, require
from curate.llm.model import ChatModel
from curate.llm.provenance import WRITTEN
from curate.ops.spec import CONTENT, COUNTS, GIVEN, OWN, READABLE, READABLE_OF, TAKEN, PartKind, Spec, spec_of
from curate.ops.table import OPS, find_op, ops_that_write
from curate.recipe.model import ELSE, Recipe, Rule, Rules, Step
from curate.recipe.resources import StepResources
from curate.recipe.source import folder_of
from curate.recipe.steps import (
    READS_BYTES,
    AnyOf,
    Condition,
    Decision,
    Resolved,
    ResolvedRecipe,
    column_maker,
    is_numeric,
)
from curate.settings import SettingsError, unknown_message


def load(path: Path | str, overrides: Sequence[str] = ()) -> ResolvedRecipe:
    """Read and check a recipe, its steps included. Raises SettingsError."""
    recipe = settings.load(path, Recipe, overrides)
    try:
        return resolve(recipe, str(path))
    except SettingsError as err:
        raise _with_line(err, Path(path)) from None


def _with_line(err: SettingsError, path: Path) -> SettingsError:
    """The error, told with the line of the longest path in the file that it begins with."""
    said = str(err).removeprefix(f"{path}: ")
    lines = {".".join(map(str, at)): line for at, line in settings.read_yaml(path)[1].items()}
    at = max((name for name in lines if said.startswith(name)), key=len)
    return SettingsError(f"{path}:{lines[at]}: {said}")


def resolve(recipe: Recipe, where: str = "recipe") -> ResolvedRecipe:
    """Check a recipe's steps against the ops. A group op's row op comes before it as a step of its own."""
    require("a recipe", "duckdb")
    found: list[Resolved] = []
    known = _Known()
    for number, step in enumerate(recipe.steps):
        at = f"{where}: steps.{number}"
        try:
            function = find_op(step.op)
            require(f"op {step.op}", *spec_of(function).needs)
        except (ValueError, MissingExtraError) as err:
            raise SettingsError(f"{at}.op: {err}") from None
        spec = spec_of(function)
        knobs = _checked_knobs(step, spec, at)
        knobs |= _given(recipe, spec, knobs, at)
        if spec.after is not None and not any(r.function is spec.after for r in found):
            found.append(_row_op_of(spec, knobs | _given(recipe, spec_of(spec.after), knobs, at), known, at))
        columns = {c: f"{step.name}.{c}" if step.name else c for c in spec.writes}
        if step.over is not None:
            _check_over(step.over, spec, known, at)
        _check_columns(columns, spec, known, at, step.over)
        _check_chosen(spec, knobs, known, at)
        _check_text(recipe, step, {*columns.values()}, known, at)
        label = step.name or spec.name
        if label in ("ingest", *(r.label for r in found)):
            raise SettingsError(f"{at}: a step is called {label!r} already; give this one another `name:`")
        resources = _resources(recipe, step, spec, at)
        resolved = Resolved(label, function, knobs, columns, (), step.over, {}, step.spare, resources=resources)
        known.learn(resolved)
        on_parts = _part_conditions(step, known, at)
        resolved = replace(resolved, part_conditions=on_parts)
        resolved = replace(resolved, conditions=_conditions(step.keep, known.types, f"{at}.keep"))
        _check_shares(resolved, found, f"{at}.keep")
        found.append(resolved)
    _check_publish(recipe, known.types, where)
    return ResolvedRecipe(recipe, tuple(found))


@dataclass
class _Known:
    """The columns that are known after the steps so far: of rows, and with the parts they are in step with."""

    types: dict[str, pa.DataType] = field(default_factory=dict)
    parts: dict[str, tuple[PartKind, pa.DataType]] = field(default_factory=dict)
    rewritten: str | None = None
    """The step that wrote the text anew, whose paragraphs are the document's no more."""

    def learn(self, step: Resolved) -> None:
        """Add a step's columns, and those that the engine derives of documents and parts."""
        if "text" in step.columns.values():
            self.rewritten = step.label
        if "document" in step.columns.values():
            self.rewritten = None
        self.types |= {step.columns[name]: kind for name, kind in step.types.items()}
        for name, kind in step.parts.items():
            self.parts[step.columns[name]] = kind, step.types[name].value_type
        self.types |= {name: step.spec.writes[own] for name, (own, _) in step.extremes.items()}
        if "document" in step.columns.values():
            self.types |= dict.fromkeys(COUNTS, pa.int32())


def _check_over(over: PartKind, spec: Spec, known: _Known, at: str) -> None:
    """Whether the op can be run on parts of a document that is there."""
    if "document" not in known.types:
        raise SettingsError(f"{at}.over: no earlier step makes a document; html_document does, for one")
    if spec.is_group or spec.stores or spec.parts or any(name in CONTENT for name in spec.writes):
        why = "sees all rows at once" if spec.is_group else "writes a sample's content, or looks at whole documents"
        raise SettingsError(f"{at}.over: op {spec.name!r} {why}; only an op that measures can be run on parts")
    if over == "images" and READS_BYTES & set(spec.reads) and "images" not in known.types:
        raise SettingsError(
            f"{at}.over: op {spec.name!r} reads images, which no earlier step fetches: put fetch_images before it"
        )
    if over == "paragraphs" and READS_BYTES & set(spec.reads):
        raise SettingsError(f"{at}.over: op {spec.name!r} reads images; write `over: images`")


def _check_text(recipe: Recipe, step: Step, writes: set[str], known: _Known, at: str) -> None:
    """Whether a text that is written beside a document or a page's words is published, and stays as it was written."""
    of_page, of_document = f"{step.op}_page", f"{step.op}_document"
    if recipe.kind == "ocr" and "words" in {*known.types} - writes and of_page in OPS:
        raise SettingsError(
            f"{at}.op: op {step.op!r} writes a text, but a page is published with its words, which would stay as they"
            f" are: write {of_page!r} instead"
        )
    if "document" not in known.types:
        return
    if recipe.kind == "interleaved" and "text" in writes and "document" not in writes:
        instead = f"; write {of_document!r} instead" if of_document in OPS else ""
        raise SettingsError(
            f"{at}.op: op {step.op!r} writes a text, but a document is published with its own paragraphs: nothing would"
            f" change{instead}; to measure that text, give this step a `name:` to prefix it"
        )
    if known.rewritten is not None and (step.over == "paragraphs" or step.keep_paragraphs):
        raise SettingsError(
            f"{at}: step {known.rewritten!r} writes the text anew, and its paragraphs are the document's no more: put"
            " what is done to paragraphs before it"
        )


def _part_conditions(step: Step, known: _Known, at: str) -> dict[PartKind, tuple[Decision, ...]]:
    """The rules on parts, each on a column that is in step with such parts."""
    if step.spare and not step.keep_paragraphs:
        raise SettingsError(f"{at}.spare: there is no `keep_paragraphs` here that would touch them")
    found: dict[PartKind, tuple[Decision, ...]] = {}
    for kind, rules in (("images", step.keep_images), ("paragraphs", step.keep_paragraphs)):
        if not rules:
            continue
        types = {name: value for name, (of, value) in known.parts.items() if of == kind}
        conditions = _conditions(rules, types, f"{at}.keep_{kind}")
        if shares := [share for c in conditions for share in c.shares]:
            raise SettingsError(
                f"{at}.keep_{kind}.{shares[0].name}: a share is taken of rows; of parts write min or max"
            )
        found[kind] = conditions  # type: ignore[index]
    return found


def _checked_knobs(step: Step, spec: Spec, at: str) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for knob, value in step.knobs.items():
        known = [name for name in spec.knobs if name not in GIVEN]
        if knob not in known:
            raise SettingsError(f"{at}.with.{knob}: {unknown_message(f'knob of {step.op}', knob, known)}")
        annotation = spec.knobs[knob].annotation
        try:
            checked[knob] = _at_home(TypeAdapter(annotation, config=ConfigDict(strict=False)).validate_python(value))
        except ValidationError as err:
            message = err.errors(include_url=False)[0]["msg"]
            raise SettingsError(f"{at}.with.{knob}: {message}, found {value!r}") from None
    missing = [n for n, p in spec.knobs.items() if p.default is p.empty and n not in checked and n not in GIVEN]
    if missing:
        raise SettingsError(f"{at}.with.{missing[0]}: missing; {step.op} needs this knob")
    return checked


def _at_home(value: Any) -> Any:
    """A knob's value; `~/` of a path, or of several, is home."""
    if isinstance(value, str) and value.startswith("~/"):
        return os.path.expanduser(value)
    return type(value)(map(_at_home, value)) if isinstance(value, (list, tuple)) else value


def _given(recipe: Recipe, spec: Spec, knobs: Mapping[str, Any], at: str) -> dict[str, Any]:
    """The knobs that an op has from the recipe as a whole."""
    # The device comes with the placement.
    given: dict[str, Any] = {"download": recipe.download, "folder": folder_of(recipe.source)}
    given |= {"chat": _chat(recipe, spec, knobs.get("llm"), at)} if "chat" in spec.knobs else {}
    return {name: value for name, value in given.items() if name in spec.knobs}


def _chat(recipe: Recipe, spec: Spec, name: str | None, at: str) -> ChatModel:
    """The chat model of a step: the one that it names, or the recipe's only one."""
    try:
        return recipe.chat_model(name)
    except ValueError as err:
        said = f".op: op {spec.name!r}" if not recipe.llm else ".with.llm:"
        raise SettingsError(f"{at}{said} {err}") from None


def _resources(recipe: Recipe, step: Step, spec: Spec, at: str) -> StepResources:
    """What the recipe says of a step's resources: the step's own words before those for all."""
    said = step.resources.model_fields_set
    if said and spec.runs_on == "cpu":
        raise SettingsError(f"{at}.resources: op {spec.name!r} runs on the processor alone; it has no such choices")
    every = {name: getattr(recipe.resources, name) for name in StepResources.model_fields}
    return StepResources(**every | {name: getattr(step.resources, name) for name in said})


def _row_op_of(spec: Spec, knobs: Mapping[str, Any], known: _Known, at: str) -> Resolved:
    assert spec.after is not None
    before = spec_of(spec.after)
    _check_columns({c: c for c in before.writes}, before, known, at)
    shared = {name: value for name, value in knobs.items() if name in before.knobs}
    step = Resolved(before.name, spec.after, shared, {c: c for c in before.writes}, ())
    known.learn(step)
    return step


def _check_columns(
    columns: Mapping[str, str], spec: Spec, known: _Known, at: str, over: PartKind | None = None
) -> None:
    types = known.types
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
    of_parts = READABLE_OF[over] if over else ()
    readable = {*types} if spec.is_group else {*READABLE, *of_parts, *types}
    unreadable = [c for c in spec.reads if c not in readable]
    if unreadable:
        found = ops_that_write(unreadable[0])
        makers = [name for name in found if set(unreadable) <= set(spec_of(find_op(name)).writes)] or found
        of = [kind for kind, names in READABLE_OF.items() if set(unreadable) <= {*names, *types}]
        hint = f"put {' or '.join(makers)} before it" if makers else unknown_message("column", unreadable[0], readable)
        hint = f"write `over: {of[0]}`, where it is of each of a document's parts" if of and not over else hint
        raise SettingsError(f"{at}: op {spec.name!r} reads {unreadable[0]!r}, which no earlier step writes: {hint}")


def _check_chosen(spec: Spec, knobs: Mapping[str, Any], known: _Known, at: str) -> None:
    """Whether each column that a knob names is there, and holds what the op needs."""
    for knob, column in spec.names(knobs).items():
        where, wanted = f"{at}.with.{knob}", spec.chosen[knob]
        if column not in known.types:
            makers = ops_that_write(column)
            hint = f"put {' or '.join(makers)} before it" if makers else unknown_message("column", column, known.types)
            raise SettingsError(f"{where}: no earlier step writes {column!r}: {hint}")
        if column in known.parts:
            raise SettingsError(
                f"{where}: column {column!r} has an entry for each of a document's parts; op {spec.name!r} needs"
                f" {wanted.what}, one a row"
            )
        if not wanted.fits(known.types[column]):
            raise SettingsError(
                f"{where}: column {column!r} holds {known.types[column]}; op {spec.name!r} needs {wanted.what}"
            )


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
    repeat = recipe.publish.repeat
    if repeat is not None and not pa.types.is_integer(types.get(repeat, pa.null())):
        counts = [name for name, kind in types.items() if pa.types.is_integer(kind)]
        raise SettingsError(f"{where}: publish.repeat: {unknown_message('column of whole numbers', repeat, counts)}")
    split = recipe.publish.split
    if split is not None and types.get(split) != pa.list_(pa.string()):
        lists = [name for name, kind in types.items() if kind == pa.list_(pa.string())]
        raise SettingsError(f"{where}: publish.split: {unknown_message('column with a list of texts', split, lists)}")


def _check_names(names: Sequence[str], types: Mapping[str, pa.DataType], at: str) -> None:
    for name in names:
        if name not in types:
            raise SettingsError(f"{at}: {unknown_message('column', name, types)}")
        kind = types[name]
        while pa.types.is_list(kind):
            kind = kind.value_type
        if (pa.types.is_nested(kind) and kind != WRITTEN) or pa.types.is_binary(kind):
            raise SettingsError(
                f"{at}: column {name!r} holds {types[name]}; plain values, lists of them and who wrote a text can be"
                " published"
            )


def _conditions(rules: Rules, types: Mapping[str, pa.DataType], at: str) -> tuple[Decision, ...]:
    found: list[Decision] = [c for column, rule in rules.columns.items() for c in _of_rule(column, rule, types, at)]
    if rules.any_of:
        found.append(
            AnyOf(
                tuple(
                    tuple(c for column, rule in one.items() for c in _of_rule(column, rule, types, f"{at}.any_of.{n}"))
                    for n, one in enumerate(rules.any_of)
                )
            )
        )
    # A share is taken of what the step's other rules leave, so it comes last whatever the order in the file.
    return tuple(sorted(found, key=lambda c: c.is_global))


def _of_rule(column: str, rule: Rule, types: Mapping[str, pa.DataType], at: str) -> Iterator[Condition]:
    at = f"{at}.{column}"
    if column not in types:
        raise SettingsError(f"{at}: {unknown_message('column', column, types)}")
    if rule.by is not None:
        _check_by(rule.by, types, f"{at}.by")
    for kind, value in rule.conditions():
        numbers = tuple(value.items()) if isinstance(value, dict) else value
        _check_condition(types[column], kind, () if isinstance(value, dict) else value, f"{at}.{kind}")
        if isinstance(value, dict):
            _check_groups(value, types[str(rule.by)], f"{at}.{kind}")
        share = kind in ("top", "bottom")
        by = rule.by if share or isinstance(value, dict) else None
        of_pool, strict = share and rule.of == "pool", rule.strict if kind == "top" else None
        yield Condition(column, kind, numbers, rule.or_null, by, of_pool, strict, types[column])


def _check_by(by: str, types: Mapping[str, pa.DataType], at: str) -> None:
    if by not in types:
        raise SettingsError(f"{at}: {unknown_message('column', by, types)}")
    kind = types[by]
    if not (pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind)):
        raise SettingsError(f"{at}: the column holds {kind}; groups are named by texts, whole numbers or booleans")


def _check_groups(numbers: Mapping[Any, float], by: pa.DataType, at: str) -> None:
    """Whether each group that is named is a value that the column of groups may have."""
    for group in numbers:
        if group != ELSE and (group is None or not _fits(group, by, is_numeric(by))):
            quoted = f"; if it is a text, quote it: '{_PLAIN[group]}'" if group in (True, False) else ""
            raise SettingsError(f"{at}: `by` names a column that holds {by}, found {group!r}{quoted}")


_PLAIN = {True: "yes", False: "no"}
"""The texts that YAML takes for truth values: `no` is Norwegian, too."""


def _check_shares(step: Resolved, before: Sequence[Resolved], at: str) -> None:
    """Whether a step's shares are new, and those of the pool are of columns that every row has."""
    taken = {share.name for other in before for share in other.shares}
    for share in step.shares:
        if share.name in taken:
            raise SettingsError(f"{at}.{share.name}: an earlier step takes this share already; one is enough")
        taken.add(share.name)
        for column in share.columns if share.of_pool else ():
            made = column_maker([*before, step], column)
            if made is None:
                raise SettingsError(f"{at}.{column}: counted anew at every step; `of: pool` needs a column of an op")
            if drops := [other.label for other in before[:made] if other.conditions or other.part_conditions]:
                raise SettingsError(
                    f"{at}.{share.column}.of: a share of the pool needs {column!r} of every row, and step {drops[0]!r}"
                    f" drops rows before it is computed: put the step that computes it before, or write `of: arriving`"
                )


def _check_condition(column: pa.DataType, kind: str, value: Any, at: str) -> None:
    numeric = is_numeric(column)
    if pa.types.is_nested(column) or pa.types.is_binary(column):
        parts = "; of a list with an entry a part, write keep_images or keep_paragraphs" * pa.types.is_list(column)
        raise SettingsError(f"{at}: the column holds {column}, rules work on numbers, texts and booleans{parts}")
    if kind in ("min", "max", "top", "bottom") and not numeric:
        raise SettingsError(f"{at}: the column holds {column}, `{kind}` needs numbers; use in, not_in or is")
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
