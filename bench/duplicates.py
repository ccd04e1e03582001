"""Measure image deduplication on drawings and photographs with planted copies, beside a perceptual hash.

    python bench/duplicates.py

Three collections: emoji of one hand (the thresholds were chosen on half of them), emoji of another hand (never looked
at), and tiles of wallpapers. One row in four gets a copy: re-encoded (JPEG or WebP, quality 40 to 90), resized (half to
twice), cropped (to 90 to 98 % of a side), or both. Pictures with equal pixels count as copies too.

- curate: image_signature and duplicate_images, as the engine calls them.
- pHash: 64 bits of the low cosine coefficients (Zauner 2010), as imagededup computes them, each picture compared with
  every kept one. At distance 10, imagededup's default, and at the largest distance where its precision on this very
  collection is .98, or highest where it never is: its best case.

Precision: of the rows removed, those whose named representative shows the same picture. Recall: of the rows that a
perfect deduplicator would remove. Rates are from decoded pictures, medians of --runs. Materials come from npm, Debian
(`apt-get update` first) and the Python index into the cache; what cannot be had is left out and said on stderr.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curate.models.packages import Package, PackageUnavailableError
from curate.ops.dedup.images import SIGNATURE, duplicate_images, image_signature
from pipelines.demo.copies import lay_on_white
from pipelines.materials.packages import MATERIALS, fetch

MATERIALS.update(
    {
        "emoji-google": Package(
            "npm",
            "emoji-datasource-google",
            "16.0.0",
            "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
            "MIT (package), Apache-2.0 (graphics)",
        ),
    }
)

SHARD_ROWS = 1000
COPIES = 0.25
DEFAULT_DISTANCE = 10
MOST_DISTANCE = 16
WAYS = ("encoded", "resized", "cropped to 95 %", "cropped", "cropped and resized")
Removed = Mapping[str, str]


@dataclass(frozen=True)
class Row:
    uid: str
    image: Image.Image
    nbytes: int
    picture: str
    way: str | None


def twemoji() -> dict[str, Image.Image]:
    files = sorted(fetch("twemoji").glob("**/72x72/*.png"))
    return {path.stem: lay_on_white(path.read_bytes()) for path in files}


def google() -> dict[str, Image.Image]:
    files = sorted(fetch("emoji-google").glob("package/img/google/64/*.png"))
    return {path.stem: lay_on_white(path.read_bytes()) for path in files}


def tiles() -> dict[str, Image.Image]:
    """400 x 300 pieces of each wallpaper; nearly blank ones (clear sky) are left out."""
    found = {}
    files = [*fetch("wallpapers").glob("**/contents/images*/*.*"), *fetch("backgrounds").glob("**/gnome/*.*[gp]")]
    for path in sorted(path for path in files if path.suffix in (".jpg", ".png", ".webp")):
        with Image.open(path) as opened:
            if opened.width < opened.height:
                continue
            whole = opened.convert("RGB").resize((1600, 900), Image.Resampling.BOX)
        for x in range(0, 1600, 400):
            for y in range(0, 900, 300):
                tile = whole.crop((x, y, x + 400, y + 300))
                if np.asarray(tile.convert("L")).std() > 8:
                    found[f"{path.parent}/{path.name}#{x},{y}"] = tile
    return found


COLLECTIONS: Mapping[str, Callable[[], dict[str, Image.Image]]] = {
    "twemoji": twemoji,
    "emoji of another hand": google,
    "wallpaper tiles": tiles,
}


def cropped(image: Image.Image, share: float, draw: random.Random) -> Image.Image:
    width, height = round(image.width * share), round(image.height * share)
    x, y = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
    return image.crop((x, y, x + width, y + height))


def copied(image: Image.Image, way: str, draw: random.Random) -> tuple[Image.Image, int]:
    """The decoded copy and its file's bytes."""
    if way.startswith("cropped"):
        image = cropped(image, 0.95 if way.endswith("%") else draw.uniform(0.9, 0.98), draw)
    if way.endswith("resized"):
        factor = 2 ** draw.uniform(-1, 1)
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    image.save(body := io.BytesIO(), draw.choice(["JPEG", "WEBP"]), quality=draw.randint(40, 90))
    with Image.open(body) as opened:
        return opened.convert("RGB"), len(body.getvalue())


def rows_of(pictures: Mapping[str, Image.Image], seed: int) -> Iterator[Row]:
    for name, image in pictures.items():
        draw = random.Random(f"{seed}/{name}")
        picture = hashlib.sha256(image.tobytes()).hexdigest()
        yield Row(uid(name), image, len(image.tobytes()) // 8, picture, None)
        if draw.random() < COPIES:
            way = draw.choice(WAYS)
            copy, nbytes = copied(image, way, draw)
            yield Row(uid(f"{name}/copy"), copy, nbytes, picture, way)


def uid(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def by_curate(rows: list[Row]) -> Removed:
    with tempfile.TemporaryDirectory() as home:
        inputs, outputs = [], []
        for start in range(0, len(rows), SHARD_ROWS):
            shard = rows[start : start + SHARD_ROWS]
            columns = image_signature([row.image for row in shard])
            table = {name: pa.array(columns[name], kind) for name, kind in SIGNATURE.items()}
            table |= {"uid": [row.uid for row in shard], "nbytes": [row.nbytes for row in shard]}
            inputs.append(Path(home) / f"{start}.in.parquet")
            outputs.append(Path(home) / f"{start}.out.parquet")
            pq.write_table(pa.table(table), inputs[-1])
        duplicate_images(inputs, outputs, Path(home) / "scratch")
        found = pa.concat_tables([pq.read_table(path) for path in outputs]).to_pylist()
    return {row["uid"]: row["duplicate_of"] for row in found if row["duplicate_of"]}


def phash(image: Image.Image) -> npt.NDArray[np.float32]:
    """64 signs: which of the lowest 8 x 8 cosine coefficients of the 32 x 32 grey picture are above their median."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    waves = np.cos(np.pi * np.outer(np.arange(8), np.arange(32) + 0.5) / 32)
    low = (waves @ grey @ waves.T).ravel()
    return np.where(low > np.median(low), 1, -1).astype(np.float32)


def by_phash(rows: list[Row]) -> dict[int, Removed]:
    """Remove at each distance: like the nearest kept picture, in the kept order of `duplicate_images`."""
    ordered = sorted(rows, key=lambda row: (-row.image.width * row.image.height, -row.nbytes, row.uid))
    hashes = np.stack([phash(row.image) for row in ordered])
    near: list[list[tuple[int, int]]] = []
    for number in range(len(ordered)):
        apart = (64 - hashes[:number] @ hashes[number]) / 2
        near.append([(int(apart[other]), int(other)) for other in np.flatnonzero(apart <= MOST_DISTANCE)])
    found: dict[int, Removed] = {}
    for distance in range(MOST_DISTANCE + 1):
        kept = [True] * len(ordered)
        removed = {}
        for number, others in enumerate(near):
            likest = min(((apart, other) for apart, other in others if apart <= distance and kept[other]), default=None)
            if likest:
                kept[number] = False
                removed[ordered[number].uid] = ordered[likest[1]].uid
        found[distance] = removed
    return found


@dataclass(frozen=True)
class Score:
    recall: float
    precision: float
    by_way: Mapping[str, float]


def scored(rows: list[Row], removed: Removed) -> Score:
    by_uid = {row.uid: row for row in rows}
    right = {name for name, of in removed.items() if by_uid[name].picture == by_uid[of].picture}
    surplus = len(rows) - len({row.picture for row in rows})
    by_way = {}
    for way in WAYS:
        # A larger copy is kept and its original removed: either counts as found.
        pictures = [row.picture for row in rows if row.way == way]
        reached = Counter(by_uid[name].picture for name in right)
        by_way[way] = sum(reached[picture] > 0 for picture in pictures) / max(1, len(pictures))
    return Score(min(1.0, len(right) / max(1, surplus)), len(right) / max(1, len(removed)), by_way)


def tell(bench: str, who: str, metric: str, value: float, unit: str, n: int) -> None:
    line = {"bench": bench, "who": who, "metric": metric, "value": round(value, 4), "unit": unit, "n": n}
    print(json.dumps(line), flush=True)


def tell_score(bench: str, who: str, score: Score, n: int) -> None:
    tell(bench, who, "recall", score.recall, "share", n)
    tell(bench, who, "precision", score.precision, "share", n)
    for way, value in score.by_way.items():
        tell(bench, who, f"found of those {way}", value, "share", n)


def measure(name: str, rows: list[Row], runs: int) -> None:
    bench, n = f"duplicates: {name}", len(rows)
    seconds: dict[str, list[float]] = {"curate": [], "pHash": []}
    ours: Removed = {}
    theirs: dict[int, Removed] = {}
    for _ in range(runs):
        start = time.perf_counter()
        ours = by_curate(rows)
        seconds["curate"].append(time.perf_counter() - start)
        start = time.perf_counter()
        theirs = by_phash(rows)
        seconds["pHash"].append(time.perf_counter() - start)
    score = scored(rows, ours)
    scores = {distance: scored(rows, removed) for distance, removed in theirs.items()}
    precise = [distance for distance, peer in scores.items() if peer.precision >= 0.98]
    best = max(precise) if precise else max(scores, key=lambda distance: scores[distance].precision)
    tell_score(bench, "curate", score, n)
    tell_score(bench, f"pHash, distance {DEFAULT_DISTANCE}", scores[DEFAULT_DISTANCE], n)
    tell_score(bench, f"pHash, distance {best}", scores[best], n)
    for who, taken in seconds.items():
        tell(bench, who, "rows a second", n / statistics.median(taken), "rows/s", n)
    ratio = score.recall / max(scores[best].recall, 1e-9)
    tell(bench, f"curate / pHash, distance {best}", "recall", ratio, "ratio", n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs whose median gives the rates (default 5)")
    parser.add_argument("--seed", type=int, default=7, help="which rows are copied, and how (default 7)")
    parser.add_argument("--only", choices=sorted(COLLECTIONS), help="one collection alone")
    chosen = parser.parse_args()
    for name, load in COLLECTIONS.items():
        if chosen.only in (None, name):
            try:
                measure(name, list(rows_of(load(), chosen.seed)), chosen.runs)
            except PackageUnavailableError as err:
                print(f"{name}: left out: {err}", file=sys.stderr)


if __name__ == "__main__":
    main()
