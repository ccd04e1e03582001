"""Measure ops on pictures: their cost beside decoding, how good they are at faults planted in real pictures.

    python bench/pictures.py {cost,quality,print} [--size 96] [--rounds 7]

Cost: processor time of decoding a file whole, and of each op on the decoded picture, in turns, as the medians over
rounds; wallpapers from Debian as JPEG of quality 90 at five sizes, and PNG drawings of openclipart as they are. `cheap`
is the sum of image_ok, image_size, sharpness, colours and layout; beside them stand colour_levels, qr_codes, and an op
of a user's own (`pictures:brightness`, below).

Quality: recall, precision and ROC AUC of one rule a fault, on photographs without and with it; what the same rule drops
of drawings and of screenshots, which have none of the faults, stands beside.

Print: drawings that the bundled CLIP knows, with captions: by how much the score changes when a caption is printed on
the picture, and when print is painted over again; of captions that fit the picture, and of other drawings' names.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.image.files import Decoded, decode
from curate.ops.quality.image import image_size
from curate.ops.spec import Columns, op
from curate.ops.table import find_op
from pipelines.faults import plant
from pipelines.faults.pools import drawings, pairs, photographs, screenshots
from pipelines.faults.table import CLEAN, Item, computed, kept, picture, png, score
from pipelines.materials.packages import fetch

CHEAP = ("image_ok", "sharpness", "colours", "layout")
APART = ("colour_levels", "qr_codes", "pictures:brightness")
SIDES_PX = (256, 512, 768, 1024, 1440)
WALLPAPERS, DRAWINGS = 24, 60


@op(reads="image", writes={"brightness": pa.float32()}, version=1)
def brightness(images: Sequence[Image.Image]) -> Columns:
    """The mean grey level, 0 to 255: an op as a user writes one."""
    return {"brightness": [float(np.asarray(image.convert("L").reduce(4)).mean()) for image in images]}


# What they cost.


def cost_table(rounds: int) -> Iterator[str]:
    """A line a set of files: milliseconds a picture to decode, and each op's share of that."""
    yield "| pictures | megapixels | decode, ms | cheap | " + " | ".join([*CHEAP, "image_size", *APART]) + " |"
    yield "|---" * (5 + len(CHEAP) + len(APART)) + "|"
    for name, files in file_sets():
        pictures = [decode(data) for data in files]
        area = sum(p.width * p.height for p in pictures) / len(pictures) / 1e6
        taken = [times(files, pictures) for _ in range(rounds)]
        whole, *shares = (statistics.median(column) for column in zip(*map(relative, taken), strict=True))
        cells = [f"{area:.2f}", f"{1e3 * whole / len(files):.2f}", *(f"{share:.3f}" for share in shares)]
        yield f"| {name} | " + " | ".join(cells) + " |"


def file_sets() -> Iterator[tuple[str, list[bytes]]]:
    """Photographs at several sizes, and drawings as they are."""
    originals = wallpapers()
    for side in SIDES_PX:
        sized = (image.resize(_fit(image.size, side), Image.Resampling.LANCZOS) for image in originals)
        yield f"photographs, short side {side}", [plant.stored(image) for image in sized]
    found = sorted(fetch("openclipart-png").rglob("*.png"))
    few = [path.read_bytes() for path in found[:: len(found) // (2 * DRAWINGS)]]
    yield "drawings", [data for data in few if decode(data).width <= 4096][:DRAWINGS]


def wallpapers() -> list[Image.Image]:
    """Photographs of at least 1,440 pixels a side, none made larger."""
    found: list[Image.Image] = []
    for path in sorted(path for path in fetch("wallpapers").rglob("*") if path.suffix in (".jpg", ".png")):
        with Image.open(path) as opened:
            if min(opened.size) >= SIDES_PX[-1] and len(found) < WALLPAPERS:
                opened.draft("RGB", (2160, SIDES_PX[-1]))
                found.append(opened.convert("RGB"))
    return found


def _fit(size: tuple[int, int], short_side_px: int) -> tuple[int, int]:
    scale = short_side_px / min(size)
    return round(size[0] * scale), round(size[1] * scale)


def times(files: Sequence[bytes], pictures: Sequence[Decoded]) -> list[float]:
    """Seconds of processor time to decode, of each of CHEAP, of image_size, and of each of APART."""
    images = [picture.image for picture in pictures]
    given = {"image_ok": pictures}
    calls: list[Callable[[], Any]] = [lambda: [decode(data) for data in files]]
    calls += [functools.partial(find_op(name), given.get(name, images)) for name in CHEAP]
    calls += [functools.partial(image_size, files)]
    calls += [functools.partial(find_op(name), images) for name in APART]
    return [seconds(call) for call in calls]


def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def relative(taken: Sequence[float]) -> list[float]:
    """The time to decode; and as shares of it what is cheap together, and each op."""
    whole, *ops = taken
    cheap = sum(ops[: len(CHEAP) + 1])
    return [whole, *(each / whole for each in (cheap, *ops))]


# How good they are.


@dataclass(frozen=True)
class Asked:
    """A rule, and the fault that it shall find."""

    fault: str
    op: str
    column: str
    kind: str
    value: float


ASKED = (
    Asked("blurred", "sharpness", "edge_acuity", "min", 0.25),
    Asked("blurred", "sharpness", "sharpness", "min", 100.0),
    Asked("blank", "colours", "commonest_colour_share", "max", 0.95),
    Asked("blank", "colours", "grey_entropy_bits", "min", 3.0),
    Asked("blank", "colour_levels", "colour_levels", "min", 16),
    Asked("grey", "colours", "chroma_levels", "min", 2.0),
    Asked("screenshot", "layout", "screenshot_score", "max", 0.5),
    Asked("screenshot, JPEG", "layout", "screenshot_score", "max", 0.5),
    Asked("collage", "layout", "seam_share", "max", 0.5),
    Asked("bordered", "layout", "border_share", "max", 0.05),
    Asked("ends early", "layout", "missing_share", "max", 0.01),
    Asked("QR code", "qr_codes", "qr_codes", "max", 0),
    Asked("QR code, turned", "qr_codes", "qr_codes", "max", 0),
)


def quality_table(size: int) -> Iterator[str]:
    """A line a rule."""
    yield "| fault | rule | faulty / clean | recall | precision | AUC | drawings dropped | screenshots dropped |"
    yield "|---|---|---|---|---|---|---|---|"
    pool, others = faulty_pool(size), other_pools(size)
    for asked in ASKED:
        found = score(asked.op, {asked.column: {asked.kind: asked.value}}, asked.fault, pool, {})
        too = [f"{dropped(asked, items):.3f}" for items in others]
        yield f"| {asked.fault} | {asked.column} {asked.kind} {asked.value:g} | {found.cells()} | {' | '.join(too)} |"


def dropped(asked: Asked, items: Sequence[Item]) -> float:
    """The share that the rule drops; what has no value stays, as with `or_null`."""
    values = [value for value in computed(asked.op, items, {})[asked.column] if value is not None]
    return float((~kept(values, asked.kind, asked.value)).sum()) / len(items)


def other_pools(size: int) -> list[list[Item]]:
    """Drawings and screenshots as they are."""
    drawn = [(name, plain(image)) for name, image in drawings(size)]
    return [[Item(name, image_bytes=png(image)) for name, image in of] for of in (drawn, screenshots(size))]


def plain(image: Image.Image) -> Image.Image:
    """A drawing on white."""
    under = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(under, image).convert("RGB")


def faulty_pool(size: int, seed: int = 7) -> list[Item]:
    """Photographs as they are, the same with each fault, and screenshots; no two draws alike."""
    taken = photographs(size)
    pool = []
    for number, (name, image) in enumerate(taken):
        draw = np.random.default_rng([seed, number])
        pool.append(Item(name, CLEAN, plant.stored(image)))
        pool += [Item(name, fault, make(image, draw)) for fault, make in plant.PICTURE_FAULTS.items()]
        other = taken[(number + 1 + int(draw.integers(len(taken) - 1))) % len(taken)][1]
        pool += [Item(name, fault, make(image, other, draw)) for fault, make in LAYOUT_FAULTS.items()]
    for name, image in screenshots(size):
        pool += [Item(name, "screenshot", png(image)), Item(name, "screenshot, JPEG", plant.stored(image))]
    return pool


def collage(image: Image.Image, other: Image.Image, draw: np.random.Generator) -> bytes:
    """Two pictures side by side or one above the other, 0 to 8 white pixels between them."""
    gutter, beside = int(draw.integers(0, 9)), draw.random() < 0.5
    width, height = image.size
    at = (width + gutter, 0) if beside else (0, height + gutter)
    whole = Image.new("RGB", (at[0] + width, at[1] + height), "white")
    whole.paste(image, (0, 0))
    whole.paste(other.resize(image.size), at)
    return plant.stored(whole)


def ends_early(image: Image.Image, other: Image.Image, draw: np.random.Generator) -> bytes:
    """A third to nine tenths of a JPEG, with its end mark."""
    data = plant.stored(image)
    return data[: int(len(data) * float(draw.uniform(0.33, 0.9)))] + b"\xff\xd9"


def with_code(image: Image.Image, other: Image.Image, draw: np.random.Generator, *, turned: bool = False) -> bytes:
    """A QR code of an address, 96 to 160 pixels a side, laid on the picture, upright or turned."""
    import zxingcpp

    code = zxingcpp.create_barcode(f"https://example.org/{draw.integers(10**6)}", zxingcpp.BarcodeFormat.QRCode)
    side = int(draw.integers(96, 161))
    sign = Image.fromarray(np.asarray(code.to_image(scale=8))).convert("RGB").resize((side, side))
    if turned:
        sign = sign.rotate(float(draw.uniform(5, 85)), Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    scene = image.copy()
    room = [max(1, scene.width - sign.width), max(1, scene.height - sign.height)]
    scene.paste(sign, (int(draw.integers(room[0])), int(draw.integers(room[1]))))
    return plant.stored(scene)


LAYOUT_FAULTS: Mapping[str, Callable[[Image.Image, Image.Image, np.random.Generator], bytes]] = {
    "collage": collage,
    "ends early": ends_early,
    "QR code": with_code,
    "QR code, turned": functools.partial(with_code, turned=True),
}


# What painting over print does.


def print_table(size: int) -> Iterator[str]:
    """A line for captions that fit, one for those that do not: the mean score of the picture without print, with the
    caption printed on it, and with that painted over."""
    yield "| caption | pictures | without print | printed | painted over | fell by painting | text found |"
    yield "|---|---|---|---|---|---|---|"
    fitting = [item for item in pairs(size, known=True) if item.fault == CLEAN]
    others = [item for item in pairs(size, known=True) if item.fault == "swapped caption"]
    for name, items in (("fits the picture", fitting), ("another drawing's", others)):
        printed = [
            Item(item.name, "printed", png(plant.written_over(picture(item), item.text)), item.text) for item in items
        ]
        bare, read = (np.array(computed("clip_score", of, {})["clip_score"]) for of in (items, printed))
        found = computed("text_masked_clip_score", printed, {})
        masked, shares = np.array(found["masked_clip_score"]), np.array(found["text_area_share"])
        means = " | ".join(f"{scores.mean():.3f}" for scores in (bare, read, masked))
        yield f"| {name} | {len(items)} | {means} | {(masked < read).mean():.2f} | {(shares > 0).mean():.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["cost", "quality", "print"])
    parser.add_argument("--size", type=int, default=96, help="photographs, drawings, screenshots (default 96 of each)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of which the median is told (default 7)")
    given = parser.parse_args()
    tables = {
        "cost": lambda: cost_table(given.rounds),
        "quality": lambda: quality_table(given.size),
        "print": lambda: print_table(given.size),
    }
    for line in tables[given.table]():
        print(line, flush=True)


if __name__ == "__main__":
    main()
