"""Labelled pools of real pictures and texts with planted faults; the same seed makes the same pool.

What the pools are made of comes from registries by version and hash; `size` bounds the clean items of a pool.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.faults import plant, texts
from pipelines.faults.table import CLEAN, Item, Pool, png
from pipelines.materials.drawings import FRAMES, held_out, plain_drawings
from pipelines.materials.packages import fetch
from pipelines.materials.stamps import stamps
from pipelines.materials.tiny_clip.pairs import named_things, sketches_of

STAMP_PX = 300
LEAKS = ("re-encoded", "cropped to 90 %", "mirrored")


def photographs(size: int, packages: Sequence[str] = ("backgrounds", "wallpapers")) -> list[tuple[str, Image.Image]]:
    """Pieces of 400 x 300 of wallpapers, each picture's in turn; nearly blank ones (clear sky) are left out."""
    files = [
        path
        for name in packages
        for path in sorted(fetch(name).rglob("*"))
        if path.suffix in (".jpg", ".png", ".webp") and ("contents/images" in str(path) or "/gnome/" in str(path))
    ]
    found: list[list[tuple[str, Image.Image]]] = []
    for path in files:
        if sum(map(len, found)) < 4 * size:
            found.append(_tiles(path))
    in_turn = [tile for place in range(12) for tiles in found for tile in tiles[place : place + 1]]
    return in_turn[:size]


@functools.cache
def _tiles(path: Path) -> list[tuple[str, Image.Image]]:
    with Image.open(path) as opened:
        if opened.width < opened.height or "screenshot" in path.name:
            return []
        opened.draft("RGB", (1600, 900))
        whole = opened.convert("RGB").resize((1600, 900), Image.Resampling.BOX, reducing_gap=2.0)
    places = [(x, y) for x in range(0, 1600, 400) for y in range(0, 900, 300)]
    tiles = [(f"{path.parent}/{path.name}#{x},{y}", whole.crop((x, y, x + 400, y + 300))) for x, y in places]
    return [(name, tile) for name, tile in tiles if np.asarray(tile.convert("L")).std() > 8]


def drawings(size: int) -> list[tuple[str, Image.Image]]:
    """Twemoji's drawings without skin tones and flags, one a picture."""
    return [(d.code, Image.open(d.file).convert("RGBA")) for d in plain_drawings()[:size]]


def cut_outs(size: int) -> list[tuple[str, Image.Image]]:
    """Tux Paint's stamps: photographs cut out, and drawings."""
    found = stamps(fetch("tuxpaint-stamps"), STAMP_PX)
    return [(stamp.name, stamp.image) for stamp in itertools.islice(found, size)]


def screenshots(size: int) -> list[tuple[str, Image.Image]]:
    """Screenshots of a manual's dialogs, at least 200 pixels a side; of equal ones one."""
    found: dict[bytes, tuple[str, Image.Image]] = {}
    for path in sorted(fetch("gimp-help-en").rglob("*.png")):
        with Image.open(path) as opened:
            if min(opened.size) >= 200 and max(opened.size) <= 800:
                image = opened.convert("RGB")
                found.setdefault(image.tobytes(), (str(path), image))
        if len(found) == size:
            break
    return list(found.values())


def on_white(image: Image.Image) -> Image.Image:
    """The picture in RGB, on white where it is see-through."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def distinct(pictures: Iterable[tuple[str, Image.Image]], size: int) -> list[tuple[str, Image.Image]]:
    """The first `size` pictures of which no two look alike, straight or mirrored: grey, 16 pixels a side, their
    correlation is below .8. What is natural in a collection cannot be counted against who finds it."""
    found: list[tuple[str, Image.Image]] = []
    seen = np.zeros((0, 256))
    for name, image in pictures:
        grey = np.asarray(on_white(image).convert("L").resize((16, 16), Image.Resampling.BOX), np.float64)
        both = np.stack([_standardised(grey), _standardised(grey[:, ::-1])])
        if len(found) < size and np.ptp(grey) > 8 and (both @ seen.T).max(initial=0.0) < 0.8:
            found.append((name, image))
            seen = np.concatenate([seen, both[:1]])
    return found


def _standardised(grey: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = (grey - grey.mean()).ravel()
    values /= max(1e-9, float(np.linalg.norm(values)))
    return values


def copies_of(pictures: Iterable[tuple[str, Image.Image]], seed: int = 7) -> Pool:
    """Each picture, and of each one copy; the kinds of copy take turns."""
    pool, kinds = [], list(plant.COPIES)
    for number, (name, image) in enumerate(pictures):
        draw, plain = np.random.default_rng([seed, number]), on_white(image)
        kind = kinds[number % len(kinds)]
        pool.append(Item(name, CLEAN, png(plain), of=name))
        pool.append(Item(name, kind, plant.copy_of(plain, kind, draw), of=name))
    return pool


def broken_pictures(size: int, seed: int = 7) -> Pool:
    """Photographs and cut-outs as they are, and the same with each of PICTURE_FAULTS; every file is a JPEG."""
    pool = []
    for number, (name, image) in enumerate([*photographs(size // 2), *cut_outs(size - size // 2)]):
        plain = on_white(image)
        draw = np.random.default_rng([seed, number])
        pool.append(Item(name, CLEAN, plant.stored(plain)))
        pool += [Item(name, fault, make(plain, draw)) for fault, make in plant.PICTURE_FAULTS.items()]
    return pool


def laid_out(size: int, seed: int = 7) -> Pool:
    """Photographs as they are; others with a border, with a QR code, and in collages of two or four; screenshots."""
    found = [image for _, image in photographs(6 * size)]
    pool = [Item(f"{n}", CLEAN, plant.stored(image)) for n, image in enumerate(found[:size])]
    for n, image in enumerate(found[size : 2 * size]):
        draw = np.random.default_rng([seed, n])
        pool.append(Item(f"{n}", "bordered", plant.stored(plant.bordered(image, draw))))
        pool.append(Item(f"{n}", "QR code", plant.stored(plant.with_qr_code(image, draw))))
        tiles = found[2 * size + 4 * n : 2 * size + 4 * n + 4]
        if len(tiles) == 4:
            pool.append(Item(f"{n}", "collage", plant.stored(plant.collage(tiles[: 2 + 2 * (n % 2)]))))
    return pool + [Item(name, "screenshot", plant.stored(image)) for name, image in screenshots(size)]


def leaked(size: int, home: Path, seed: int = 7) -> tuple[Pool, Path]:
    """Photographs; and of others, which are the files of an evaluation set, copies of each of LEAKS."""
    found = distinct(photographs(4 * size), 2 * size)
    pool = [Item(name, CLEAN, plant.stored(image)) for name, image in found[:size]]
    folder = home / "evaluation"
    folder.mkdir()
    for number, (name, image) in enumerate(found[size:]):
        (folder / f"{number}.png").write_bytes(png(image))
        draw = np.random.default_rng([seed, number])
        pool += [Item(name, f"leaked, {kind}", plant.copy_of(image, kind, draw)) for kind in LEAKS]
    return pool, folder


def faces_or_none(size: int) -> Pool:
    """scikit-image's `lfw_subset`: pieces of photographs with a face and without, 25 pixels a side, drawn larger on a
    grey field; what has a face is the faulty."""
    pieces = np.load(fetch("scikit-image") / "skimage" / "data" / "lfw_subset.npy")
    with_face, without = np.split(pieces, 2)
    return [
        Item(f"{number}", fault, png(_on_grey(piece)))
        for fault, of in (("a face", with_face), (CLEAN, without))
        for number, piece in enumerate(of[:size])
    ]


def _on_grey(piece: np.ndarray[Any, Any]) -> Image.Image:
    scene = Image.new("RGB", (320, 240), (120, 110, 100))
    drawn = Image.fromarray((piece * 255).astype(np.uint8)).convert("RGB")
    scene.paste(drawn.resize((150, 150), Image.Resampling.BICUBIC), (80, 40))
    return scene


def by_two_hands(size: int, hand: str = "fluent-emoji-flat") -> Pool:
    """Twemoji's drawings, and the same things as another hand drew them."""
    import resvg_py

    drawn = {sketch.code: sketch.svg for sketch in sketches_of(hand, fetch(hand), named_things(fetch("emojibase")))}
    both = [drawing for drawing in plain_drawings() if drawing.code in drawn]
    pool = []
    for drawing in both[:: max(1, len(both) // size)][:size]:
        other = bytes(resvg_py.svg_to_bytes(svg_string=drawn[drawing.code], width=72, skip_system_fonts=True))
        pool.append(Item(drawing.code, CLEAN, drawing.file.read_bytes(), of=drawing.code))
        pool.append(Item(drawing.code, "by another hand", other, of=drawing.code))
    return pool


# Pictures with captions.


def pairs(size: int, known: bool, seed: int = 7) -> Pool:
    """Twemoji's drawings of things that the shipped model's training knew, or left out, with their names in a frame;
    each again with another's caption, with another's caption printed across it, and with the name of a file."""
    drawn = [d for d in plain_drawings() if held_out(d.code) != known]
    taken = drawn[:: max(1, len(drawn) // size)][:size]
    draw = np.random.default_rng(seed)
    captions = [FRAMES["en"][n % len(FRAMES["en"])].format(d.names["en"]) for n, d in enumerate(taken)]
    wrong = plant.swapped(captions, draw)
    pool = []
    for drawing, caption, other in zip(taken, captions, wrong, strict=True):
        data = drawing.file.read_bytes()
        pool.append(Item(drawing.code, CLEAN, data, caption))
        pool.append(Item(drawing.code, "swapped caption", data, other))
        printed = plant.written_over(on_white(Image.open(drawing.file).convert("RGBA")), other)
        pool.append(Item(drawing.code, "caption printed on it", png(printed), other))
    names = [
        path.name
        for name in ("backgrounds", "openclipart-png")
        for path in sorted(fetch(name).rglob("*"))
        if path.suffix in (".png", ".jpg", ".webp")
    ]
    for drawing, name in zip(taken, draw.permutation(np.array(names)), strict=False):
        pool.append(Item(drawing.code, "file name as caption", drawing.file.read_bytes(), str(name)))
    return pool


COPIES_POOLS: Mapping[str, Callable[[int], Pool]] = {
    "copies of photographs": lambda size: copies_of(distinct(photographs(2 * size), size)),
    "copies of cut-outs": lambda size: copies_of(distinct(cut_outs(2 * size), size)),
    "copies of drawings": lambda size: copies_of(distinct(drawings(2 * size), size)),
    "copies of screenshots": lambda size: copies_of(distinct(screenshots(2 * size), size)),
    "things drawn by two hands": by_two_hands,
    "copies of texts": lambda size: texts.near_copies(10 * size),
}


def pool(name: str, size: int, home: Path) -> tuple[Pool, dict[str, Any]]:
    """The pool of a name, and the knobs that an op must be given to find its faults; `home` holds what these name."""
    with_files: Mapping[str, Callable[[], tuple[Pool, dict[str, Any]]]] = {
        "leaks": lambda: _named(texts.leaks(size, home), lambda path: {"benchmarks": [str(path)], "split": "\n\n"}),
        "leaked pictures": lambda: _named(leaked(size, home), lambda path: {"evaluation": [str(path)]}),
        "flagged": lambda: _named(texts.flagged(size, home), lambda path: {"lists": {"any": str(path)}}),
    }
    if name in with_files:
        return with_files[name]()
    first, _, rest = name.partition(": ")
    makers: Mapping[str, Callable[[], Pool]] = {
        "pictures": lambda: broken_pictures(size),
        "layouts": lambda: laid_out(size),
        "faces": lambda: faces_or_none(size),
        "pairs": lambda: pairs(size, known=True),
        "pairs, unknown things": lambda: pairs(size, known=False),
        "languages, long": lambda: texts.languages(size, "long"),
        "languages, short": lambda: texts.languages(size, "short"),
        "languages, names": lambda: texts.languages(size, "names"),
        "languages, mixed": lambda: texts.mixed_languages(size),
        "repetition": lambda: texts.repeated(size),
        "personal data": lambda: texts.personal(rest),
    }
    return makers[first](), {}


def _named(made: tuple[Pool, Path], knobs: Callable[[Path], dict[str, Any]]) -> tuple[Pool, dict[str, Any]]:
    return made[0], knobs(made[1])
