"""Questions that a scene's annotations answer: where, how many, what is nearer, and to what.

CV-Bench's four kinds (Cambrian-1, Tong et al. 2406.16860, 4.1): relation and count in the picture's plane, depth order
and distance in space. What is ambiguous is not asked. No model, and chance only through the generator that is given.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from curate.document.interchange import Record, RecordError

Kind = Literal["relation", "count", "depth", "distance"]
KINDS: tuple[Kind, ...] = ("relation", "count", "depth", "distance")
COUNT_OPTIONS = 4
MAX_COUNT = 20
"""More of a kind than a person counts at a glance is not asked for."""
MAX_THINGS = 24
"""Of a scene so many, drawn, are set against each other: triples of all would be millions."""


@dataclass(frozen=True)
class SceneObject:
    """An object of a scene: its box as left, top, right, bottom, shares of the picture; in metres, where known, its
    depth and its position."""

    category: str
    box: tuple[float, float, float, float]
    depth_m: float | None
    position_m: tuple[float, float, float] | None
    crowd: bool


@dataclass(frozen=True)
class SceneQuestion:
    """A question to be put into words: what it is about, its options, and which of them is right."""

    kind: Kind
    about: dict[str, str]
    options: list[str]
    right: int


@dataclass(frozen=True)
class SceneMargins:
    """Margins by which an answer must be clear: a gap as a share of the picture's side, depths and distances as a share
    of the larger one."""

    gap: float
    space: float


def read_scene(record: Record, objects: str, form: str) -> list[SceneObject]:
    """The objects of a record with `width` and `height`. Raises RecordError: bad_record."""
    width, height = (_number(record.get(side), side) for side in ("width", "height"))
    listed = record.get(objects)
    if not isinstance(listed, list) or min(width, height) <= 0:
        raise RecordError("bad_record", f"expected a width and a height above 0, and a list of {objects}")
    focal = record.get("focal_px")
    return [_thing(one, f"{objects}.{n}", (width, height), form, focal) for n, one in enumerate(listed)]


def describe_scene(record: Record, form: str) -> list[str]:
    """Tell of a scene's objects in words, a line each: where its box lies and how much it fills, the largest first.

    LLaVA (2304.08485) tells the numbers; a small model repeats them as if they were seen. Raises RecordError.
    """
    things = read_scene(record, "objects", form)
    return ["In it are:", *(f"- {t.category}: {_place(t)}" for t in sorted(things, key=_area, reverse=True))]


def _area(thing: SceneObject) -> float:
    left, top, right, bottom = thing.box
    return max(right - left, 0.0) * max(bottom - top, 0.0)


def _place(thing: SceneObject) -> str:
    """A box in words, by the thirds of the picture in which its middle lies."""
    left, top, right, bottom = thing.box
    across = ("left", "centre", "right")[min(int((left + right) / 2 * 3), 2)]
    down = ("top", "middle", "bottom")[min(int((top + bottom) / 2 * 3), 2)]
    place = "in the centre" if (across, down) == ("centre", "middle") else f"{down} {across}"
    size = ", large" if _area(thing) > 0.2 else ", small" if _area(thing) < 0.03 else ""
    return place + size


def _thing(one: Any, where: str, size: tuple[float, float], form: str, focal: Any) -> SceneObject:
    if not isinstance(one, dict) or not isinstance(one.get("category"), str) or not one["category"].strip():
        raise RecordError("bad_record", f"{where}: expected an object with a `category`")
    box, position = one.get("box"), one.get("position_m")
    if not isinstance(box, list) or len(box) != 4:
        raise RecordError("bad_record", f"{where}.box: expected four numbers")
    left, top, right, bottom = (_number(value, f"{where}.box") for value in box)
    if form == "xywh":
        right, bottom = left + right, top + bottom
    sides = (left / size[0], top / size[1], right / size[0], bottom / size[1])
    shares = tuple(min(max(value, 0.0), 1.0) for value in sides)
    depth = None if one.get("depth_m") is None else _number(one["depth_m"], f"{where}.depth_m")
    if position is not None:
        position = tuple(_number(value, f"{where}.position_m") for value in position)
    elif depth is not None and focal is not None:
        position = _unprojected(((left + right) / 2, (top + bottom) / 2), size, depth, _number(focal, "focal_px"))
    if position is not None and len(position) != 3:
        raise RecordError("bad_record", f"{where}.position_m: expected three numbers")
    return SceneObject(one["category"].strip(), shares, depth, position, bool(one.get("crowd")))  # type: ignore[arg-type]


def _unprojected(
    centre: tuple[float, float], size: tuple[float, float], depth_m: float, focal_px: float
) -> tuple[float, float, float] | None:
    """Where the middle of a box lies in space, seen by a pinhole camera that looks at the picture's middle."""
    if focal_px <= 0:
        return None
    across, down = ((c - s / 2) * depth_m / focal_px for c, s in zip(centre, size, strict=True))
    return across, down, depth_m


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecordError("bad_record", f"{where}: expected a number, found {str(value)[:40]!r}")
    return float(value)


def ask_scene(
    things: Sequence[SceneObject], margins: SceneMargins, most: int, chance: np.random.Generator
) -> list[SceneQuestion]:
    """At most `most` questions of each kind, drawn from all that the annotations answer; options in a drawn order."""
    seen = [t for t in things if t.box[2] > t.box[0] and t.box[3] > t.box[1]]
    crowds = {t.category for t in seen if t.crowd}
    clear = [t for t in seen if t.category not in crowds]
    alone = {c for c, n in Counter(t.category for t in clear).items() if n == 1}
    some = [clear[n] for n in sorted(chance.permutation(len(clear))[:MAX_THINGS].tolist())]
    makers: dict[Kind, Callable[[], Iterator[SceneQuestion]]] = {
        "relation": lambda: _relations([t for t in some if t.category in alone], margins.gap),
        "count": lambda: _counts([t.category for t in clear], chance),
        "depth": lambda: _depths(some, alone, margins.space),
        "distance": lambda: _distances(some, alone, margins.space),
    }
    found: list[SceneQuestion] = []
    for kind in KINDS:
        possible = list(makers[kind]())
        drawn = chance.permutation(len(possible))[:most].tolist()
        found += [_shuffled(possible[n], chance) for n in drawn]
    return found


def _relations(things: Sequence[SceneObject], gap: float) -> Iterator[SceneQuestion]:
    """Of two that are alone of their kind, and apart along one axis by more than the gap."""
    for one, other in combinations(things, 2):
        for axis, sides in ((0, ["left", "right"]), (1, ["above", "below"])):
            after, before = one.box[axis] - other.box[axis + 2], other.box[axis] - one.box[axis + 2]
            if max(after, before) > gap:
                about = {"a": f"the {one.category}", "b": f"the {other.category}"}
                yield SceneQuestion("relation", about, sides, int(after > before))


def _counts(categories: Sequence[str], chance: np.random.Generator) -> Iterator[SceneQuestion]:
    for category, count in sorted(Counter(categories).items()):
        if count <= MAX_COUNT:
            near = [n for n in range(max(count - 3, 0), count + 4) if n != count]
            others = chance.choice(near, COUNT_OPTIONS - 1, replace=False).tolist()
            yield SceneQuestion("count", {"a": category}, [str(n) for n in (count, *others)], 0)


def _depths(things: Sequence[SceneObject], alone: set[str], space: float) -> Iterator[SceneQuestion]:
    for one, other in combinations([t for t in things if t.depth_m is not None and t.depth_m > 0], 2):
        near, far = sorted((one.depth_m or 0.0, other.depth_m or 0.0))
        if far - near > space * far:
            yield SceneQuestion("depth", {}, [_named(one, alone), _named(other, alone)], int(other.depth_m == near))


def _distances(things: Sequence[SceneObject], alone: set[str], space: float) -> Iterator[SceneQuestion]:
    placed = [t for t in things if t.position_m is not None]
    for anchor in placed:
        others = [(t, math.dist(t.position_m or (), anchor.position_m or ())) for t in placed if t is not anchor]
        for (one, to_one), (other, to_other) in combinations(others, 2):
            if abs(to_one - to_other) > space * max(to_one, to_other):
                options = [_named(one, alone), _named(other, alone)]
                yield SceneQuestion("distance", {"a": _named(anchor, alone)}, options, int(to_other < to_one))


def _named(thing: SceneObject, alone: set[str]) -> str:
    """A thing in words: by its box, too, where there are others of its kind."""
    if thing.category in alone:
        return f"the {thing.category}"
    return f"the {thing.category} in [{', '.join(f'{value:.2f}' for value in thing.box)}]"


def _shuffled(asked: SceneQuestion, chance: np.random.Generator) -> SceneQuestion:
    """The same with its options in another order: a sorted list of numbers would tell which is likely right."""
    order = chance.permutation(len(asked.options)).tolist()
    return SceneQuestion(asked.kind, asked.about, [asked.options[n] for n in order], order.index(asked.right))
