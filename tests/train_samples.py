"""A small published mixture for the trainer's tests: coloured squares and sentences that name them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curate import mix
from curate.sample import uid_of
from curate.shards import DatasetInfo, ShardWriter, save_dataset

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 220), "black": (10, 10, 10)}

TINY: dict[str, Any] = {
    "data": {"batch_size": 16},
    "model": {
        "clip": {
            "embed_dim": 32,
            "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1},
            "text_cfg": {"context_length": 12, "width": 32, "heads": 2, "layers": 1},
        },
        "tokenizer": "simple:1024",
    },
    "objective": {"type": "contrastive"},
    "optim": {"steps": 12, "warmup": 2, "lr": 2e-3},
    "run": {"log_every": 1, "checkpoint_every": 5, "device": "cpu", "cpu_threads": 1, "tensorboard": False},
}


def square(seed: int) -> tuple[bytes, str]:
    """A PNG of 40 x 40 pixels and its caption."""
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    front, back = (names[int(n)] for n in rng.choice(len(names), 2, replace=False))
    pixels = np.empty((40, 40, 3), np.uint8)
    pixels[:] = COLOURS[back]
    x, y = rng.integers(2, 18, 2)
    pixels[y : y + 20, x : x + 20] = COLOURS[front]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), f"a {front} square on {back}"


def dataset(folder: Path, samples: int, *, seed: int = 0, broken: tuple[int, ...] = (), shards: int = 2) -> Path:
    """Publish `samples` squares in `shards` tars; the images of the rows in `broken` do not decode."""
    folder.mkdir(parents=True)
    infos = []
    for shard, rows in enumerate(np.array_split(np.arange(samples), shards)):
        with ShardWriter(folder / f"{shard:05d}.tar") as writer:
            for row in rows.tolist():
                image, text = square(1000 * seed + row)
                image = image[:40] if row in broken else image
                meta = json.dumps({"meta": {"names": [f"{text} one", f"{text} two"]}}).encode()
                uid = uid_of("caption", folder.name, str(row))
                writer.add(uid, {"png": image, "txt": text.encode(), "json": meta})
        infos.append(writer.info)
    size = sum(info.bytes for info in infos)
    info = DatasetInfo(
        name=folder.name, kind="caption", samples=samples, bytes=size, recipe="test", shards=tuple(infos)
    )
    save_dataset(info, folder)
    return folder


def mixture(folder: Path, **broken: tuple[int, ...]) -> Path:
    """A manifest of two sources, `many` (60 samples) and `few` (21), three to one."""
    many = dataset(folder / "many", 60, seed=1, broken=broken.get("many", ()))
    few = dataset(folder / "few", 21, seed=2, broken=broken.get("few", ()))
    mix.build([(many, 3.0), (few, 1.0)], 7, folder / "mixture.json")
    return folder / "mixture.json"


def settings_file(folder: Path, settings: dict[str, Any]) -> Path:
    """The settings as a file (JSON is YAML)."""
    path = folder / "run.yaml"
    path.write_text(json.dumps(settings))
    return path
