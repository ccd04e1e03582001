"""Read settings files: YAML into frozen pydantic models; errors say where, what and what to do.

A wrong key, type or value is refused before anything runs. The message names the file and line, the path in
the file, what was found, what is allowed, and the nearest valid name. `key.path=value` overrides are applied
before validation, so they are checked like the file itself.
"""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

MAX_FILE_BYTES = 4 << 20
MANY = 40
MAX_VALUES = 100_000
MAX_DEPTH = 50


class SettingsError(ValueError):
    """A settings file (or an override of it) that cannot be used; the message says where, what and what to do."""


class Settings(BaseModel):
    """Base of every model that a user writes in YAML: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    short: ClassVar[Mapping[type, str]] = {}
    """The key that is most likely meant where a bare value stands in place of keys and values, by the value's type."""


S = TypeVar("S", bound=Settings)

PathText = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path in a settings file, or a pattern: seen from the current folder, as on the command line; `~` is home."""


def expand_home(argument: str) -> str:
    """An argument of a command line, `~` at the beginning of it or of its option's value being home.

    A shell does that for `-o ~/x`, and does not for `--out=~/x` nor within quotes.
    """
    option, home, rest = re.fullmatch(r"(--[\w-]+=|-\w)?(~(?=/|$))?(.*)", argument, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{option or ''}{os.path.expanduser(home or '')}{rest}"


def seen_from_here(path: Path | str) -> str:
    """Tell, of a relative path that leads nowhere, where that is; of an absolute one nothing is left to tell."""
    return "" if os.path.isabs(path) else f" (seen from the current folder: {os.path.abspath(path)})"


def load(path: Path | str, model: type[S], overrides: Sequence[str] = ()) -> S:
    """Read the YAML file `path` as `model`, after applying `a.b=value` overrides. Raises SettingsError."""
    path = Path(path).expanduser()
    data, lines = read_yaml(path)
    for override in overrides:
        _apply(data, override)
    return validate(data, model, str(path), lines)


def validate(data: Any, model: type[S], where: str, lines: Mapping[tuple[str | int, ...], int] | None = None) -> S:
    """Validate plain `data` as `model`; every fault found is in the one SettingsError raised."""
    try:
        return model.model_validate(data)
    except ValidationError as err:
        faults = [
            _sentence(fault, data, model, lines or {}) for fault in _innermost(err.errors(include_url=False), data)
        ]
        raise SettingsError("\n".join(f"{where}{line}" for line in dict.fromkeys(faults))) from None


def _innermost(faults: Sequence[Any], data: Any) -> list[Any]:
    """The faults without those of what holds them, and of the other forms that a value might have had."""
    paths = [_path_in_file(fault, data) for fault in faults]
    around = {path[:end] for path in paths for end in range(len(path))}
    plain = {path for path, fault in zip(paths, faults, strict=True) if fault["type"] not in _WANTED}
    return [
        fault
        for path, fault in zip(paths, faults, strict=True)
        if path not in around and not (fault["type"] in _WANTED and path in plain)
    ]


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    """Read the mapping in a YAML file, and the line (from 1) of each path in it. Raises SettingsError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SettingsError(f"{path}: larger than {MAX_FILE_BYTES} bytes; is this really a settings file?")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise SettingsError(f"{path}: no such file{nearest_hint(path.name, siblings)}{seen_from_here(path)}") from None
    except IsADirectoryError:
        raise SettingsError(f"{path}: is a folder; name a YAML file in it") from None
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) else err
        raise SettingsError(f"{path}: cannot be read: {reason}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise SettingsError(f"{path}{_fault_of_yaml(err)}") from None
    except RecursionError:
        raise SettingsError(f"{path}: brackets in brackets without end; is this really a settings file?") from None
    if not isinstance(data, dict) or node is None:
        raise SettingsError(f"{path}: expected `key: value` lines at the top, found {_kind(data)}")
    lines: dict[tuple[str | int, ...], int] = {}
    _walk(node, (), lines, path)
    return data, lines


def _fault_of_yaml(err: yaml.YAMLError) -> str:
    """Where in a file and why it is no YAML: what the parser says, in one line."""
    mark = getattr(err, "problem_mark", None)
    if mark is None:
        return f": not valid YAML: {err}"
    reason = ", ".join(part for part in (getattr(err, "context", None), getattr(err, "problem", None)) if part)
    return (
        f":{mark.line + 1}: not valid YAML at column {mark.column + 1}: {reason}; look at this line and the one before"
    )


def nearest_hint(name: str, allowed: Iterable[str]) -> str:
    """Suggest ` - did you mean 'x'?` when a valid name is close to `name`, else an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" - did you mean {close[0]!r}?" if close else ""


def unknown_message(what: str, name: str, allowed: Iterable[str]) -> str:
    """Describe a name that is not known: what was found, the nearest valid one, and what is allowed."""
    names = sorted(allowed)
    if len(names) > MANY:
        close = difflib.get_close_matches(name, names, n=5, cutoff=0.3)
        choice = f"none of {len(names)} names{': nearest ' if close else ''}{', '.join(close)}"
        return f"unknown {what} {name!r}{nearest_hint(name, names)} ({choice})"
    return f"unknown {what} {name!r}{nearest_hint(name, names)} (allowed: {', '.join(names) or 'none'})"


def _walk(node: yaml.Node, at: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], path: Path) -> None:
    lines[at] = node.start_mark.line + 1
    if len(lines) > MAX_VALUES:  # aliases of aliases make billions of values from a few lines
        raise SettingsError(f"{path}: more than {MAX_VALUES} values; is this really a settings file?")
    if len(at) > MAX_DEPTH:
        where = f"{path}:{node.start_mark.line + 1}: {'.'.join(map(str, at[:3]))}"
        raise SettingsError(f"{where}: values nested more than {MAX_DEPTH} deep; is this really a settings file?")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                where = f"{path}:{key.start_mark.line + 1}: {'.'.join(map(str, (*at, name)))}"
                raise SettingsError(f"{where}: the key stands twice; keep one")
            seen.add(name)
            _walk(value, (*at, name), lines, path)
            lines[(*at, name)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _walk(value, (*at, number), lines, path)


def _apply(data: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise SettingsError(f"--set {override!r}: expected key.path=value, for example steps.0.keep.min_side.min=64")
    try:
        value = yaml.safe_load(text) if text else None
    except (yaml.YAMLError, RecursionError) as err:
        raise SettingsError(f"--set {override[:80]!r}: the value is not valid YAML: {err}") from None
    *parents, last = path.strip().split(".")
    here: Any = data
    for part in parents:
        here = _step(here, part, override)
    if isinstance(here, list):
        here[_position(here, last, override)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise SettingsError(f"--set {override!r}: {'.'.join(parents)} is {_kind(here)}, it has no keys to set")


def _step(here: Any, part: str, override: str) -> Any:
    if isinstance(here, list):
        return here[_position(here, part, override)]
    if isinstance(here, dict):
        if here.get(part) is None:
            here[part] = {}
        return here[part]
    raise SettingsError(f"--set {override!r}: {part!r} lies below {_kind(here)}, which has no keys")


def _position(here: list[Any], part: str, override: str) -> int:
    """A list's entry by number, or by its `op`, `name` or `group`: `steps.clip_score.keep...` reads naturally."""
    if part.isdigit() and int(part) < len(here):
        return int(part)
    names = [str(e.get("op") or e.get("name") or e.get("group") or "") for e in here if isinstance(e, dict)]
    if names.count(part) == 1:
        return names.index(part)
    if names.count(part) > 1:
        raise SettingsError(f"--set {override!r}: {part!r} stands {names.count(part)} times; give its number (from 0)")
    labels = [name for name in names if name]
    hint = nearest_hint(part, labels) or "; give its number (from 0)"
    raise SettingsError(f"--set {override!r}: no entry {part!r} in a list of {len(here)}{hint}")


def _sentence(fault: Any, data: Any, model: type[BaseModel], lines: Mapping[tuple[str | int, ...], int]) -> str:
    at = _path_in_file(fault, data)
    line = next((lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in lines), None)
    where = f":{line}: " if line else ": "
    where += ".".join(map(str, at))
    where = where.removesuffix(": ")
    kind, found = fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        allowed = _fields_at(model, tuple(fault["loc"][:-1]))
        return f"{where}: {unknown_message('key', str(at[-1]), allowed)}"
    if kind == "missing":
        return f"{where}: missing; this key is required"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        return f"{where}: {message}"
    if kind == "union_tag_invalid":
        key, found = (fault["ctx"][name].strip("'") for name in ("discriminator", "tag"))
        return f"{where}.{key}: {unknown_message(key, found, _literals(fault))}"
    if kind == "union_tag_not_found":
        key = fault["ctx"]["discriminator"].strip("'")
        tags = sorted(tag for m in _models_at(model, tuple(fault["loc"])) for tag in _tags(m))
        return f"{where}.{key}: missing; this key is required (allowed: {', '.join(tags)})"
    message = _WANTED.get(kind, message)
    hint = nearest_hint(str(found), _literals(fault)) if kind == "literal_error" else _spelled_out(fault, at, model)
    return f"{where}: {message[0].lower() + message[1:]}, found {_kind(found)}{hint}"


_WANTED = {
    "model_type": "expected keys and values",
    "model_attributes_type": "expected keys and values",
    "dict_type": "expected keys and values",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
}
"""What pydantic says of Python's types, as it is said of a file's."""


def _spelled_out(fault: Any, at: Sequence[str | int], model: type[BaseModel]) -> str:
    """What to write instead, where a bare value stands for keys and values, or for a list."""
    kind, found, loc = fault["type"], fault.get("input"), tuple(fault["loc"])
    if kind not in _WANTED:
        return ""
    models = _models_at(model, loc)
    short: Mapping[type, str] = next((m.short for m in models if getattr(m, "short", None)), {})
    if _WANTED[kind] == "expected a list":
        if isinstance(found, dict):
            return "; begin each entry with `- `"
        return f"; write [{_brief(found, short) if short else _yaml(found)}]"
    held = [model for m in models for model in _models_in(_extras(m))]
    if kind == "dict_type" or held:
        short = short or next((getattr(m, "short", {}) for m in held), {})
        names = [name for name in (found if isinstance(found, list) else [found]) if isinstance(name, str)]
        return f"; write {{{names[0]}: {{{next(iter(short.values()))}: ...}}}}" if names and short else ""
    if short:
        brief = _brief(found, short, largest=str(at[-1]).startswith("max_"))
        named = any(at[-1] in _names_of(m) for m in models)
        if brief != _yaml(found):
            return f"; write {f'{{COLUMN: {brief}}}' if named else brief}"
    tags = [tag for m in models for tag in _tags(m)] if len(models) > 1 else []
    if tags and isinstance(found, str):
        return f"; write {{type: {found}}}" if found in tags else f"; write {{type: ..., path: {_yaml(found)}}}"
    return f"; write {{key: value}} (allowed: {', '.join(sorted({name for m in models for name in _names_of(m)}))})"


def _brief(found: Any, short: Mapping[type, str], largest: bool = False) -> str:
    """A bare value with the key that is most likely meant: {min: 64}; `> 64` and `"64"` are numbers too."""
    number = re.fullmatch(r"\s*([<>]?)=?\s*(-?[\d.]+)\s*", found) if isinstance(found, str) else None
    if number and float in short:
        largest, found = largest or number[1] == "<", yaml.safe_load(number[2])
    key = short.get(type(found))
    return f"{{{'max' if key == 'min' and largest else key}: {_yaml(found)}}}" if key else _yaml(found)


def _yaml(value: Any) -> str:
    """A value on one line, as one would write it in the file."""
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1 << 30).strip().removesuffix("\n...")
    )


def _path_in_file(fault: Any, data: Any) -> tuple[str | int, ...]:
    """The parts of pydantic's location that are keys of the file (union members' names are left out)."""
    out: list[str | int] = []
    here, loc = data, fault["loc"]
    for number, part in enumerate(loc):
        if isinstance(here, dict) and (part in here or (number == len(loc) - 1 and fault["type"] == "missing")):
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            continue
        out.append(part)
    return tuple(out)


def _fields_at(model: Any, loc: tuple[str | int, ...]) -> list[str]:
    """The keys allowed where `loc` points, following fields, containers and union members by their names."""
    return sorted({name for found in _models_at(model, loc) for name in _names_of(found)})


def _models_at(model: Any, loc: tuple[str | int, ...]) -> list[Any]:
    """The models that may stand where `loc` points."""
    here = model
    for part in loc:
        arguments = typing.get_args(here)
        if typing.get_origin(here) is dict or (arguments and isinstance(part, int)):
            here = arguments[-1] if typing.get_origin(here) is dict else arguments[0]
            continue
        models = _models_in(here)
        members = [m for m in models if isinstance(part, str) and part in (m.__name__, *_tags(m))]
        fields = [f.annotation for m in models for name, f in m.model_fields.items() if part in (name, f.alias)]
        fields += [_extras(m) for m in models if _extras(m) is not None and not fields]
        # In a union the member is named first, and a field of another member may have that very name.
        here = members[0] if members and (len(models) > 1 or not fields) else fields[0] if fields else here
    return _models_in(here)


def _extras(model: type[BaseModel]) -> Any:
    """What stands under a key that is no field of a model, where it takes such keys; else None."""
    if model.model_config.get("extra") != "allow":
        return None
    return typing.get_args(typing.get_type_hints(model)["__pydantic_extra__"])[-1]


def _names_of(model: type[BaseModel]) -> list[str]:
    """A model's keys, as they are written."""
    return [f.alias or name for name, f in model.model_fields.items()]


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    kind = model.model_fields.get("type")
    return tuple(map(str, typing.get_args(kind.annotation))) if kind else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [m for arg in typing.get_args(annotation) for m in _models_in(arg)]


def _literals(fault: Any) -> list[str]:
    context = fault.get("ctx", {})
    text = str(context.get("expected", context.get("expected_tags", "")))
    return [part.strip(" '\"") for part in text.replace(" or ", ",").split(",")]


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
