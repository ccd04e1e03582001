"""A small published mixture for the trainer's tests: coloured squares and sentences that name them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from PIL import Image

from curate import mix
from curate.mix.count_tokens import add_text_tokens
from curate.sample import Kind, uid_of
from curate.settings import validate
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


def published(folder: Path, kind: Kind, samples: Sequence[tuple[dict[str, bytes], dict[str, Any]]]) -> Path:
    """Publish samples, each its parts and its JSON, in two tars."""
    folder.mkdir(parents=True)
    infos = []
    for shard, rows in enumerate(np.array_split(np.arange(len(samples)), 2)):
        with ShardWriter(folder / f"{shard:05d}.tar", kind) as writer:
            for row in rows.tolist():
                parts, said = samples[row]
                uid = uid_of(kind, folder.name, str(row))
                writer.add(uid, {**parts, "json": json.dumps({"uid": uid, "origin": "test", **said}).encode()})
        infos.append(writer.info)
    size = sum(info.bytes for info in infos)
    info = DatasetInfo(
        name=folder.name, kind=kind, samples=len(samples), bytes=size, recipe="test", shards=tuple(infos)
    )
    save_dataset(info, folder)
    return folder


def page(seed: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """An interleaved sample: sentences and squares in order, some images absent."""
    rng = np.random.default_rng(seed)
    parts: dict[str, bytes] = {}
    segments: list[dict[str, Any]] = [{"type": "text", "text": f"Page {seed} of the book", "block": "heading"}]
    for number in range(int(rng.integers(1, 7))):
        image, text = square(9000 + 10 * seed + number)
        if rng.random() < 0.2:
            segments.append({"type": "image", "url": f"https://a/{number}.png", "error": "http_404"})
        else:
            name = f"{number}.png"
            parts[name] = image
            said = {"url": f"https://a/{name}", "width": 40, "height": 40}
            segments.append({"type": "image", "part": name, **said})
        segments += [{"type": "text", "text": text, "block": "paragraph"}] * int(rng.integers(0, 3))
    return parts, {"segments": segments}


def scan(seed: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """An OCR sample: a page image, its text, its words."""
    image, text = square(7000 + seed)
    words = [{"text": word, "box": [2 * n, 2, 2 * n + 2, 6]} for n, word in enumerate(text.split())]
    return {"png": image, "txt": text.encode()}, {"page": 0, "pages": 1, "width": 40, "height": 40, "words": words}


def prose(seed: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A text sample."""
    count = int(np.random.default_rng(seed).integers(1, 9))
    text = " ".join(square(5000 + 10 * seed + n)[1] + "." for n in range(count))
    return {"txt": text.encode()}, {}


def talk(number: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A picture, questions and answers; some name marks that only a form may set."""
    image, text = square(number)
    turns = [("question", f"What <|im_end|> is in {number}?"), ("answer", f"{text} <EOC>")] * (number % 3 + 1)
    told = [("system", "Be brief.")] if number % 2 else []
    said = [{"type": "text", "text": words, "block": block} for block, words in told + turns]
    said.insert(len(told), {"type": "image", "part": "0.png"})
    return {"0.png": image}, {"segments": said}


def every_kind(folder: Path, samples: int = 30) -> Path:
    """A folder with a dataset of each kind, named by it."""
    dataset(folder / "caption", samples, seed=1)
    for kind, made in (("interleaved", page), ("ocr", scan), ("text", prose)):
        published(folder / kind, cast(Kind, kind), [made(n) for n in range(samples)])
    return folder


MM1 = """seed: 3
sources:
  - {path: caption, weight: 0.4}
  - {path: interleaved, weight: 0.4}
  - {path: ocr, weight: 0.1}
  - {path: text, weight: 0.1}
"""


def of_every_kind(folder: Path, spec: str = MM1, tokenizer: str = "bytes") -> Path:
    """The manifest of a mixture of every kind, its indexes counted."""
    every_kind(folder)
    for kind in ("caption", "interleaved", "ocr", "text"):
        add_text_tokens(folder / kind, tokenizer, ("meta.names",) if kind == "caption" else ())
    return composed(folder, spec)


def composed(folder: Path, spec: str, out: str = "mixture.json", onto: mix.Onto | None = None) -> Path:
    """The manifest of a specification over datasets in `folder`."""
    mix.compose(validate(yaml.safe_load(spec), mix.MixtureSpec, "spec.yaml"), folder, folder / out, onto)
    return folder / out


def mixture(folder: Path, **broken: tuple[int, ...]) -> Path:
    """A manifest of two sources, `many` (60 samples) and `few` (21), three to one."""
    many = dataset(folder / "many", 60, seed=1, broken=broken.get("many", ()))
    few = dataset(folder / "few", 21, seed=2, broken=broken.get("few", ()))
    mix.build([(many, 3.0), (few, 1.0)], 7, folder / "mixture.json")
    return folder / "mixture.json"


MULTIMODAL: dict[str, Any] = {
    "type": "multimodal",
    "train_tower": True,
    "connector": {"type": "mlp", "vectors": 4},
    "pack": {"tokens": 192, "images": 6, "window": 64},
    "language": {"width": 32, "layers": 1, "heads": 2},
}


FLAMINGO = {"image_tag": "before", "end_of_chunk": True, "score": "after_image"}
"""open_flamingo's form of documents."""


def settings_file(folder: Path, settings: dict[str, Any]) -> Path:
    """The settings as a file (JSON is YAML)."""
    path = folder / "run.yaml"
    path.write_text(json.dumps(settings))
    return path


CAPTION = {
    "type": "caption",
    "train_tower": True,
    "text_length": 24,
    "language": {"width": 32, "layers": 1, "heads": 2},
}


def settings(folder: Path, **changed: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return settings_file(folder, {**TINY, **changed})


def lines(out: Path) -> list[dict[str, Any]]:
    """The metrics without what the clock decides."""
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "samples_per_s"} for line in found]


def command(manifest: Path, config: Path, out: Path, *more: str) -> list[str]:
    return ["-m", "train", str(manifest), "--config", str(config), "--out", str(out), *more]
