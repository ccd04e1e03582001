"""Make the tiny dual encoder's data: drawings by several hands, framed names as their captions.

Twemoji's drawings are never among them: they are what the model is measured on. One thing in ten (`held_out`) is left
out in every hand, so that things it never saw can be told apart from drawings it never saw.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.commit import dump_json
from curate.sample import uid_of
from curate.shards import DatasetInfo, ShardInfo, ShardWriter, save_dataset
from pipelines.materials.drawings import FRAMES, has_tone, held_out, is_flag, plain_code
from pipelines.materials.packages import MATERIALS, fetch

HANDS = ("noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat", "fxemoji", "emojione")
"""Materials, each one hand's drawings. Sets under share-alike licences are left out on purpose."""

SIDE_PX = 72
SHARD_SAMPLES = 4000
THINGS_WEIGHT = 0.85
"""Share of the mixture that shows things without skin tones."""

_KEY = re.compile(r"[^a-z0-9]")


@dataclass(frozen=True)
class Named:
    """A thing's English name and tags, as emojibase gives them."""

    name: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Sketch:
    """One hand's drawing of a thing, as SVG text."""

    hand: str
    code: str
    svg: str


def write_pairs(folder: Path, cache: Path | None = None) -> tuple[DatasetInfo, DatasetInfo]:
    """Write the training pairs below `folder`: the datasets `things`, without skin tones, and `tones`, with them.

    A sample is one drawing, its captions listed in its JSON. Raises PackageUnavailableError. The
    same packages and renderer make the same bytes.
    """
    names = named_things(fetch("emojibase", cache))
    sketches = [sketch for hand in HANDS for sketch in sketches_of(hand, fetch(hand, cache), names)]
    seen = [sketch for sketch in sketches if not held_out(sketch.code)]
    things = [sketch for sketch in seen if not has_tone(sketch.code)]
    tones = [sketch for sketch in seen if has_tone(sketch.code)]
    return _write(folder / "things", things, names), _write(folder / "tones", tones, names)


def drawn_codes(hand: str, cache: Path | None = None) -> list[str]:
    """The things of a hand's drawings that are trained on, one code a drawing."""
    names = named_things(fetch("emojibase", cache))
    return [sketch.code for sketch in sketches_of(hand, fetch(hand, cache), names) if not held_out(sketch.code)]


def captions(hand: str, code: str, named: Named) -> list[str]:
    """Draw the captions of a drawing: the name in each frame, twice bare, with tags, and tags alone; by its key.

    The first is the name in a frame; a name without tags stands in their place.
    """
    key = hashlib.blake2b(f"{hand}/{code}".encode(), digest_size=8).digest()
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    found = [frame.format(named.name) for frame in FRAMES["en"]] + [named.name] * 2
    for count in (1, 2):
        tags = [str(tag) for tag in rng.permutation(np.array(named.tags, dtype=str))]
        found += [" ".join([named.name, *tags[:count]]), " ".join(tags[: count + 1]) or named.name]
    return found


def named_things(package: Path) -> dict[str, Named]:
    """Plain code -> name and tags of every thing, skin tones included."""
    found: dict[str, Named] = {}
    entries = json.loads((package / "package" / "en" / "data.json").read_text(encoding="utf-8"))
    for entry in entries:
        tags = tuple(entry.get("tags", ()))
        for variant in (entry, *entry.get("skins", ())):
            code = plain_code(variant["hexcode"])
            name = variant["label"].removeprefix("flag: ")
            name = f"the flag of {name}" if is_flag(code) else name.replace(":", "").replace(",", "")
            found[code] = Named(name, tags)
    return found


def sketches_of(hand: str, package: Path, names: Mapping[str, Named]) -> Iterator[Sketch]:
    """A hand's drawings of things that have a name; `package` is an icon set in Iconify's JSON format."""
    icons: dict[str, Any] = json.loads((package / "package" / "icons.json").read_text(encoding="utf-8"))
    codes = _codes_by_icon(package, names)
    for name, icon in sorted(icons["icons"].items()):
        code = codes.get(name) or codes.get(_key(name))
        if code is not None:
            width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
            yield Sketch(hand, code, _svg(icon["body"], width, height))


def _codes_by_icon(package: Path, names: Mapping[str, Named]) -> dict[str, str]:
    """Icon name -> plain code, from the set's own table; for sets that have none, also names without punctuation."""
    by_key = {_key(named.name): code for code, named in reversed(list(names.items()))}
    table: dict[str, str] = json.loads((package / "package" / "chars.json").read_text(encoding="utf-8"))
    by_icon = {icon: plain_code(code) for code, icon in reversed(list(table.items()))}
    return by_key | {icon: code for icon, code in by_icon.items() if code in names}


def _key(name: str) -> str:
    name = name.lower().replace("flag-for-", "the-flag-of-").replace("’", "")
    return _KEY.sub("", name.replace("-skin-tone", "").replace(" skin tone", ""))


def _svg(body: str, width: float, height: float) -> str:
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="0 0 {width} {height}" width="{SIDE_PX}" height="{SIDE_PX}">{body}</svg>'


def _write(folder: Path, sketches: Sequence[Sketch], names: Mapping[str, Named]) -> DatasetInfo:
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[ShardInfo] = []
    for number, start in enumerate(range(0, len(sketches), SHARD_SAMPLES)):
        with ShardWriter(folder / f"{number:05d}.tar") as writer:
            for sketch in sketches[start : start + SHARD_SAMPLES]:
                _add(writer, sketch, names[sketch.code])
        shards.append(writer.info)
    samples, size = sum(s.samples for s in shards), sum(s.bytes for s in shards)
    # The name by which the shipped weights know their pairs: it stays as it was when they were made.
    made_by = f"pipelines.tiny_clip {' '.join(MATERIALS[hand].sha256[:8] for hand in HANDS)}"
    info = DatasetInfo(
        name=folder.name, kind="caption", samples=samples, bytes=size, recipe=made_by, shards=tuple(shards)
    )
    save_dataset(info, folder)
    return info


def _add(writer: ShardWriter, sketch: Sketch, named: Named) -> None:
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=sketch.svg, skip_system_fonts=True))
    texts = captions(sketch.hand, sketch.code, named)
    metadata = {
        "captions": texts,
        "hand": sketch.hand,
        "licence": MATERIALS[sketch.hand].licence,
        "thing": sketch.code,
    }
    uid = uid_of("caption", sketch.hand, sketch.code, sketch.svg)
    writer.add(uid, {"png": png, "txt": texts[0].encode(), "json": dump_json(metadata).encode()})
