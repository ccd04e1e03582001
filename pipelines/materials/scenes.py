"""Prepare scenes whose annotations are known: drawings at depths before a camera, their boxes, captions.

Twemoji's drawings (CC BY 4.0) stand on a plain ground, as large as their depth makes them; no two cover each other by
much. What `annotation_questions` asks, and what a chat model is told, can be compared with what was drawn.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curate.commit import commit_text
from pipelines.materials.drawings import Drawing, has_tone, is_flag, twemoji
from pipelines.materials.packages import prepare_source

SCENES = 400
SIZE = (384, 288)
FOCAL_PX = 300.0
THING_M = 1.0
"""The side of every drawing, whatever it shows: so its size tells its depth."""

_PACKAGES = ("twemoji", "emoji-names")
_VERSION = 1
_TRIES = 20
_MOST_COVERED = 0.1
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class PreparedScenes:
    """Counts of prepared scenes, and of the objects in them."""

    scenes: int
    objects: int


def prepare(folder: Path, cache: Path | None = None) -> PreparedScenes:
    """Draw the scenes into `folder`/source: `images`, and a record each in `scenes.jsonl`. Done once, then found.

    Raises PackageUnavailableError where the packages cannot be had, and HeldError while another command is at work in
    the folder.
    """
    return PreparedScenes(**prepare_source(folder, _PACKAGES, _VERSION, _lay_down, cache))


def _lay_down(places: Mapping[str, Path], target: Path) -> dict[str, int]:
    found = twemoji(places["twemoji"], places["emoji-names"])
    plain = [d for d in found if not has_tone(d.code) and not is_flag(d.code) and len(d.names["en"].split()) < 4]
    (target / "images").mkdir(parents=True)
    records = []
    for number in range(SCENES):
        image, record = draw_scene(plain, number)
        record["image"] = f"images/{number:04d}.png"
        image.save(target / record["image"])
        records.append(record)
    commit_text(target / "scenes.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    return {"scenes": len(records), "objects": sum(len(record["objects"]) for record in records)}


def draw_scene(drawings: Sequence[Drawing], number: int) -> tuple[Image.Image, dict[str, Any]]:
    """Draw a scene of one to four kinds of things, and tell its record; the same number, the same scene."""
    rng = np.random.default_rng(number)
    picture = Image.new("RGB", SIZE, tuple(int(v) for v in rng.integers(150, 256, 3)))
    kinds = [drawings[int(n)] for n in rng.choice(len(drawings), int(rng.integers(1, 5)), replace=False)]
    wanted = [kind for kind in kinds for _ in range(int(rng.choice([1, 1, 1, 2, 3])))]
    depths = sorted(rng.uniform(2.5, 12, len(wanted)).tolist(), reverse=True)
    objects: list[dict[str, Any]] = []
    for kind, depth in zip([wanted[n] for n in rng.permutation(len(wanted)).tolist()], depths, strict=True):
        cut = _cut_out(kind.file, max(round(FOCAL_PX * THING_M / depth), 12))
        if (box := _free_place(cut.size, [o["box"] for o in objects], rng)) is not None:
            picture.paste(cut, (box[0], box[1]), cut)
            objects.append({"category": kind.names["en"], "box": box, "depth_m": round(depth, 2)})
    record = {"width": SIZE[0], "height": SIZE[1], "focal_px": FOCAL_PX, "objects": objects}
    return picture, record | {"captions": [_caption(objects)]}


def _cut_out(file: Path, side_px: int) -> Image.Image:
    """A drawing without its margins, its longer side as said."""
    drawing = Image.open(file).convert("RGBA")
    drawing = drawing.crop(drawing.getchannel("A").getbbox())
    scale = side_px / max(drawing.size)
    return drawing.resize((max(round(drawing.width * scale), 1), max(round(drawing.height * scale), 1)))


def _free_place(size: tuple[int, int], taken: Sequence[Sequence[int]], rng: np.random.Generator) -> list[int] | None:
    """A box of this size in the picture that covers little of what is there; None where none was found."""
    for _ in range(_TRIES):
        left, top = (int(rng.integers(0, max(whole - side, 0) + 1)) for whole, side in zip(SIZE, size, strict=True))
        box = [left, top, left + size[0], top + size[1]]
        if all(_covered(box, other) <= _MOST_COVERED for other in taken):
            return box
    return None


def _covered(box: Sequence[int], other: Sequence[int]) -> float:
    """The share of the smaller of two boxes that both have."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return max(width, 0) * max(height, 0) / smaller


def _caption(objects: Sequence[Mapping[str, Any]]) -> str:
    """A scene in a sentence: what there is, and how many of it."""
    counts = Counter(o["category"] for o in objects)
    named = [f"{_NUMBERS[n]} {name}" if n == 1 else f"{_NUMBERS[n]} of {name}" for name, n in counts.items()]
    return f"A picture of {', '.join(named[:-1])} and {named[-1]}." if len(named) > 1 else f"A picture of {named[0]}."
