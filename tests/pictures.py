"""Pictures and copies of them, and what `duplicate_images` says of each."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFilter

from curate.image.files import decode
from curate.ops.dedup.images import DUPLICATE, SIGNATURE, duplicate_images, image_signature


@dataclass(frozen=True)
class Verdict:
    of: str | None
    kind: str | None
    similarity: float | None


def uid(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    image.save(body := io.BytesIO(), kind, **options)
    return body.getvalue()


def signed(files: Mapping[str, bytes]) -> pa.Table:
    """What the engine hands to the group op: one row a file, named by `uid(name)`."""
    images = [decode(data).image for data in files.values()]
    assert all(image is not None for image in images)
    columns = image_signature([image for image in images if image is not None])
    return pa.table(
        {
            "uid": [uid(name) for name in files],
            "nbytes": pa.array([len(data) for data in files.values()], pa.int64()),
            "sha256": [hashlib.sha256(data).hexdigest() for data in files.values()],
            **{name: pa.array(columns[name], kind) for name, kind in SIGNATURE.items()},
        }
    )


def verdicts(shards: Sequence[pa.Table], folder: Path, **knobs: float) -> dict[str, Verdict]:
    folder.mkdir(exist_ok=True)
    inputs = [folder / f"{number}.in.parquet" for number in range(len(shards))]
    outputs = [folder / f"{number}.out.parquet" for number in range(len(shards))]
    for path, shard in zip(inputs, shards, strict=True):
        pq.write_table(shard, path)
    duplicate_images(inputs, outputs, folder / "scratch", **knobs)  # type: ignore[arg-type]
    found: dict[str, Verdict] = {}
    for path, shard in zip(outputs, shards, strict=True):
        table = pq.read_table(path)
        assert table.schema.equals(pa.schema([("uid", pa.string()), *DUPLICATE.items()]))
        assert table.column("uid").to_pylist() == shard.column("uid").to_pylist()
        for row in table.to_pylist():
            verdict = Verdict(row["duplicate_of"], row["duplicate_kind"], row["duplicate_similarity"])
            assert (verdict.of is None) == (verdict.kind is None) == (verdict.similarity is None)
            found[row["uid"]] = verdict
    assert all(found[v.of].of is None for v in found.values() if v.of), "a representative is itself kept"
    return found


def judged(files: Mapping[str, bytes], folder: Path, **knobs: float) -> dict[str, str | None]:
    """Each file's representative, by name."""
    found = verdicts([signed(files)], folder, **knobs)
    names = {uid(name): name for name in files}
    return {name: names.get(found[uid(name)].of or "") for name in files}


def drawing(seed: int, side: int = 160) -> Image.Image:
    draw = random.Random(seed)
    image = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(image)
    for _ in range(9):
        x, y = (draw.randint(0, side) for _ in range(2))
        w, h = (draw.randint(side // 10, side // 2) for _ in range(2))
        shape = draw.choice([pen.ellipse, pen.rectangle])
        shape((x - w // 2, y - h // 2, x + w // 2, y + h // 2), fill=tuple(draw.randint(0, 255) for _ in range(3)))
    return image


def face(side: int = 512) -> Image.Image:
    """A face from the front, drawn with a dozen shapes."""
    image = Image.new("RGB", (side, side), (90, 110, 130))
    draw = ImageDraw.Draw(image)

    def oval(x: float, y: float, width: float, height: float, colour: tuple[int, int, int]) -> None:
        draw.ellipse([(x - width) * side, (y - height) * side, (x + width) * side, (y + height) * side], fill=colour)

    oval(0.5, 0.47, 0.27, 0.36, (50, 35, 28))
    draw.rectangle([0.42 * side, 0.75 * side, 0.58 * side, 0.95 * side], fill=(200, 152, 126))
    oval(0.5, 0.52, 0.22, 0.30, (214, 168, 140))
    oval(0.5, 0.56, 0.17, 0.24, (224, 180, 152))
    for x in (0.41, 0.59):
        oval(x, 0.455, 0.07, 0.045, (180, 130, 105))
        oval(x, 0.46, 0.045, 0.022, (245, 240, 235))
        oval(x, 0.46, 0.018, 0.02, (40, 30, 25))
        brow = [(x - 0.06) * side, 0.41 * side, (x + 0.06) * side, 0.405 * side]
        draw.line(brow, fill=(60, 40, 30), width=side // 40)
    draw.polygon(
        [(0.5 * side, 0.47 * side), (0.47 * side, 0.6 * side), (0.53 * side, 0.6 * side)], fill=(190, 140, 115)
    )
    oval(0.5, 0.60, 0.035, 0.018, (170, 118, 95))
    oval(0.5, 0.685, 0.075, 0.022, (165, 75, 75))
    draw.line([0.43 * side, 0.685 * side, 0.57 * side, 0.685 * side], fill=(90, 30, 35), width=side // 120)
    return image.filter(ImageFilter.GaussianBlur(side / 150))


def photograph(seed: int, width: int = 240, height: int = 160) -> Image.Image:
    """Noise at all scales, as in a photograph."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3))
    for step in (80, 40, 20, 10, 5):
        cells = rng.normal(0, 0.7 * step, (height // step + 2, width // step + 2, 3))
        planes = [Image.fromarray(cells[:, :, c].astype(np.float32)) for c in range(3)]
        pixels += np.stack([plane.resize((width, height), Image.Resampling.BICUBIC) for plane in planes], axis=2)
    return Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))


def cropped(image: Image.Image, share: float, left: float = 0.5, top: float = 0.5) -> Image.Image:
    width, height = round(image.width * share), round(image.height * share)
    x, y = round((image.width - width) * left), round((image.height - height) * top)
    return image.crop((x, y, x + width, y + height))


def resized(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def copy_of(image: Image.Image, seed: int) -> bytes:
    """A copy as it goes round the web: re-encoded, and in turn resized, cropped to 90 to 98 %, or both."""
    draw = random.Random(seed)
    if seed % 4 in (1, 3):
        image = cropped(image, draw.uniform(0.9, 0.98), draw.random(), draw.random())
    if seed % 4 in (2, 3):
        image = resized(image, draw.uniform(0.5, 2.0))
    return encoded(image, draw.choice(["JPEG", "WEBP"]), quality=draw.randint(40, 90))
