"""Embed real drawings, and copies planted among them, by the CLIP that ships; kept in a file, for other benches.

    python bench/real_embeddings.py --home /tmp/bench-embeddings

Drawings: Openclipart's and Twemoji's PNGs of `curate prepare` (10,909). Copies until there are --rows: each drawing in
turn as a JPEG of quality 60, at half its size, cropped to 95 % of each side, mirrored. The file holds unit vectors in
half precision (n, width), and of each the number of the drawing that it shows.
"""

from __future__ import annotations

import argparse
import io
import itertools
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

MATERIALS = Path("~/.cache/curate/materials").expanduser()
FOLDERS = ("openclipart-png-*", "twemoji-*")
MOST_PIXELS = 4_000_000
BATCH = 256
Image.MAX_IMAGE_PIXELS = None  # headers alone are read of those that are too large


def real_embeddings(home: Path, rows: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int64]]:
    """(rows, width) the embeddings, and (rows,) whose they are; computed once."""
    path = home / f"embeddings-{rows}.npz"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        embedded, of = _embed(rows)
        np.savez(path, embeddings=embedded, of=of)
    with np.load(path) as found:
        return found["embeddings"], found["of"]


def _embed(rows: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int64]]:
    import torch

    from curate.models.clip import BUNDLED_CLIP, load_clip
    from curate.ops.alignment._towers import ImageTower, normalise_rows

    tower = ImageTower(load_clip(BUNDLED_CLIP, "", "float32"))
    found, of = [], []
    pictures = itertools.islice(_pictures(), rows)
    with ThreadPoolExecutor(1) as threads, torch.inference_mode():
        while batch := list(itertools.islice(pictures, BATCH)):
            found.append(normalise_rows(tower([image for image, _ in batch], threads)).astype(np.float16))
            of += [number for _, number in batch]
            print(f"\r{len(of):,} of {rows:,}", end="", flush=True)
    print()
    return np.concatenate(found), np.array(of)


def _pictures() -> Iterator[tuple[Image.Image, int]]:
    """The drawings, then copies of them by each way in turn."""
    paths = [path for folder in FOLDERS for path in sorted(MATERIALS.glob(f"{folder}/**/*.png"))]
    drawings = [(number, path) for number, path in enumerate(paths) if _is_small(path)]
    yield from ((_opened(path), number) for number, path in drawings)
    ways = (_jpeg, _halved, _cropped, ImageOps.mirror)
    for turn in itertools.count():
        yield from ((ways[(turn + at) % len(ways)](_opened(path)), n) for at, (n, path) in enumerate(drawings))


def _is_small(path: Path) -> bool:
    with Image.open(path) as image:
        return image.width * image.height <= MOST_PIXELS and min(image.size) >= 32


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.thumbnail((448, 448))
        whole = image.convert("RGBA")
    paper = Image.new("RGBA", whole.size, "white")
    return Image.alpha_composite(paper, whole).convert("RGB")


def _jpeg(image: Image.Image) -> Image.Image:
    image.save(body := io.BytesIO(), "JPEG", quality=60)
    return Image.open(body).convert("RGB")


def _halved(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)))


def _cropped(image: Image.Image) -> Image.Image:
    left, top = image.width // 40, image.height // 40
    return image.crop((left, top, image.width - left, image.height - top))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-bench-embeddings")
    parser.add_argument("--rows", type=int, default=20_000)
    given = parser.parse_args()
    embedded, _ = real_embeddings(given.home, given.rows)
    print(f"{len(embedded):,} embeddings of {embedded.shape[1]} numbers")
