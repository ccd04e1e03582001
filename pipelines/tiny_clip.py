"""The tiny dual encoder's own data: drawings of the same things by several hands, framed names as their captions.

Twemoji's drawings are never among them: they are what the model is measured on. One thing in ten (`held_out`) is left
out in every hand, so that things it never saw can be told apart from drawings it never saw.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.mix import build as build_mixture
from curate.sample import dump_json, uid_of
from curate.shards import DatasetInfo, ShardInfo, ShardWriter, save_dataset
from pipelines.demo_truth import roc_auc
from pipelines.drawings import FRAMES, Drawing, has_tone, held_out, is_flag, plain_code, twemoji, without_tone
from pipelines.materials import MATERIALS, fetch

HANDS = ("noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat", "fxemoji", "emojione")
"""Materials, each one hand's drawings. Sets under share-alike licences are left out on purpose."""

SIDE_PX = 72
SHARD_SAMPLES = 4000
THINGS_WEIGHT = 0.85
"""Share of the mixture that shows things without skin tones."""
SWAPS = 5
"""Swapped captions drawn for each drawing when the model is measured."""

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
    """Write the training pairs below `folder`: `things` without skin tones in several captions, `tones` in one each.

    Raises pipelines.materials.MaterialUnavailableError. The same packages and renderer make the same bytes.
    """
    names = _names(fetch("emojibase", cache))
    sketches = [sketch for hand in HANDS for sketch in _sketches(hand, fetch(hand, cache), names)]
    seen = [sketch for sketch in sketches if not held_out(sketch.code)]
    things = [sketch for sketch in seen if not has_tone(sketch.code)]
    tones = [sketch for sketch in seen if has_tone(sketch.code)]
    return _write(folder / "things", things, names, 4), _write(folder / "tones", tones, names, 1)


def captions(hand: str, code: str, named: Named, count: int) -> list[str]:
    """`count` different captions at most: framed, framed with tags, bare, in two frames; chosen by hand and thing."""
    key = hashlib.blake2b(f"{hand}/{code}".encode(), digest_size=8).digest()
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    one, other = rng.choice(len(FRAMES["en"]), 2, replace=False)
    tags = [str(tag) for tag in rng.permutation(np.array(named.tags, dtype=str))[:3]]
    framed = FRAMES["en"][one].format(named.name)
    found = [
        framed,
        " ".join([named.name, *tags[:2]]),
        FRAMES["en"][other].format(named.name),
        " ".join(tags) or named.name,
    ]
    return list(dict.fromkeys(found))[:count]


def _names(package: Path) -> dict[str, Named]:
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


def _sketches(hand: str, package: Path, names: Mapping[str, Named]) -> Iterator[Sketch]:
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


def _write(folder: Path, sketches: Sequence[Sketch], names: Mapping[str, Named], count: int) -> DatasetInfo:
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[ShardInfo] = []
    per_shard = max(1, SHARD_SAMPLES // count)
    for number, start in enumerate(range(0, len(sketches), per_shard)):
        with ShardWriter(folder / f"{number:05d}.tar") as writer:
            for sketch in sketches[start : start + per_shard]:
                _add(writer, sketch, names[sketch.code], count)
        shards.append(writer.info)
    samples, size = sum(s.samples for s in shards), sum(s.bytes for s in shards)
    made_by = f"pipelines.tiny_clip {' '.join(MATERIALS[hand].sha256[:8] for hand in HANDS)}"
    info = DatasetInfo(
        name=folder.name, kind="caption", samples=samples, bytes=size, recipe=made_by, shards=tuple(shards)
    )
    save_dataset(info, folder)
    return info


def _add(writer: ShardWriter, sketch: Sketch, named: Named, count: int) -> None:
    """One sample a caption; every other one on white, as most drawings are shown, the rest see-through."""
    import resvg_py

    pictures = [
        bytes(resvg_py.svg_to_bytes(svg_string=sketch.svg, background=colour, skip_system_fonts=True))
        for colour in ("white", None)
    ]
    for number, caption in enumerate(captions(sketch.hand, sketch.code, named, count)):
        said = {"hand": sketch.hand, "thing": sketch.code, "licence": MATERIALS[sketch.hand].licence}
        parts = {"png": pictures[number % 2], "txt": caption.encode(), "json": dump_json(said).encode()}
        writer.add(uid_of("caption", sketch.hand, sketch.code, caption), parts)


@dataclass(frozen=True)
class Measured:
    """ROC AUC of matched over swapped captions on Twemoji's drawings, and how many drawings each figure stands on."""

    drawings: dict[str, int]
    auc: dict[str, float]


def measure(weights: Path, cache: Path | None = None) -> Measured:
    """Score Twemoji's drawings, which were never trained on, with their own and with swapped names.

    `known`, `unknown`: things whose words were trained on in other hands, and those held out, skin tones left aside.
    `known_flags`: flags of `known` among themselves. `known_with_tones`: all variants of known things. `tone`: only
    the skin tone is swapped. Captions are the demo's English frames.
    """
    drawings = twemoji(fetch("twemoji", cache), fetch("emoji-names", cache))
    image_ND, text_ND = _embedded(weights, drawings)
    plain = [n for n, drawing in enumerate(drawings) if not has_tone(drawing.code)]
    known = [n for n, drawing in enumerate(drawings) if not held_out(drawing.code)]
    groups = {
        "known": [n for n in plain if n in set(known)],
        "unknown": [n for n in plain if n not in set(known)],
        "known_flags": [n for n in plain if is_flag(drawings[n].code) and n in set(known)],
        "known_with_tones": known,
    }
    auc = {name: _auc_of_swaps(image_ND, text_ND, drawings, rows) for name, rows in groups.items()}
    toned = [n for n in known if has_tone(drawings[n].code)]
    auc["tone"] = _auc_of_tones(image_ND, text_ND, [without_tone(drawings[n].code) for n in toned], toned)
    counts = {name: len(rows) for name, rows in groups.items()} | {"tone": len(toned)}
    return Measured(counts, {name: round(value, 4) for name, value in auc.items()})


Vectors = npt.NDArray[np.float32]


def _embedded(weights: Path, drawings: Sequence[Drawing]) -> tuple[Vectors, Vectors]:
    """Unit vectors of the drawings and of their framed English names, as the op clip_score makes them."""
    from curate.images import decode
    from curate.ops.clip import clip_score

    op = clip_score(model=str(weights))
    frames = FRAMES["en"]
    image_parts, text_parts = [], []
    for start in range(0, len(drawings), 64):
        some = drawings[start : start + 64]
        images = [decode(drawing.file.read_bytes()).image for drawing in some]
        texts = [frames[(start + n) % len(frames)].format(drawing.names["en"]) for n, drawing in enumerate(some)]
        columns = op([image for image in images if image is not None], texts)
        image_parts.append(np.array(columns["clip_image_embedding"], dtype=np.float32))
        text_parts.append(np.array(columns["clip_text_embedding"], dtype=np.float32))
    return np.concatenate(image_parts), np.concatenate(text_parts)


def _auc_of_swaps(images: Vectors, texts: Vectors, drawings: Sequence[Drawing], rows: Sequence[int]) -> float:
    rng = np.random.default_rng(0)
    names = np.array([drawing.names["en"] for drawing in drawings])
    own = np.array(rows)
    swapped = []
    for _ in range(SWAPS):
        other = rng.permutation(own)
        differs = names[own] != names[other]
        swapped.append((images[own[differs]] * texts[other[differs]]).sum(axis=1))
    return roc_auc((images[own] * texts[own]).sum(axis=1), np.concatenate(swapped))


def _auc_of_tones(images: Vectors, texts: Vectors, things: Sequence[str], rows: Sequence[int]) -> float:
    """Each toned drawing with its own name, against the names of the same thing in its other tones."""
    groups: dict[str, list[int]] = {}
    for thing, row in zip(things, rows, strict=True):
        groups.setdefault(thing, []).append(row)
    matched, swapped = [], []
    for members in groups.values():
        scores = images[members] @ texts[members].T
        matched.append(np.diag(scores))
        swapped.append(scores[~np.eye(len(members), dtype=bool)])
    return roc_auc(np.concatenate(matched), np.concatenate(swapped))


def main(argv: Sequence[str]) -> int:
    """`pairs FOLDER` writes the pairs and their mixture; `measure WEIGHTS` prints the figures as one JSON line."""
    if len(argv) != 2 or argv[0] not in ("pairs", "measure"):
        print("usage: python -m pipelines.tiny_clip pairs FOLDER | measure WEIGHTS", file=sys.stderr)
        return 2
    path = Path(argv[1])
    if argv[0] == "measure":
        print(json.dumps(asdict(measure(path))))
        return 0
    things, tones = write_pairs(path)
    parts = [(path / "things", THINGS_WEIGHT), (path / "tones", 1 - THINGS_WEIGHT)]
    manifest = build_mixture(parts, 7, path / "mixture.json")
    print(json.dumps({"things": things.samples, "tones": tones.samples, "sources": len(manifest.datasets)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
