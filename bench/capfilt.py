"""Bootstrap captions as BLIP's CapFilt does, with our own trainer, and measure what the result trains.

    python bench/capfilt.py --home work/capfilt         # a first look: some minutes of one core
    python bench/capfilt.py --home work/capfilt-long --things 600 --steps 600 --fine-steps 1500 --width 16 --seeds 5
                                                        # on a quiet machine: about three hours of one core

Everything goes the real road, on drawings of the same things by several hands, rasterised at 32 pixels:

- web: pictures by three hands, of which --noise bear another thing's name (we keep which: the labels);
- clean: the same things by two other hands, with their names (what COCO is to BLIP);
- held out: Twemoji's drawings of them, with their names.

1. A dual encoder is trained on the web as it is. 2. From its weights, a captioner and a filter are fine-tuned on the
clean pairs, each by itself (objectives caption and matching). 3. A recipe captions the web's pictures and lets the
filter judge both texts (ops caption, match_texts, kept_texts). 4. Dual encoders are trained from scratch, as many steps
each, with --seeds seeds, on the arms: `web` as it is, `F` web filtered by the head's verdict, `F half` the half of it
that the head holds likeliest, `C` web and captions, one of both drawn at each access, `CF` what the filter leaves of
both (BLIP's table 1), and, as a ceiling, `true`: the web's pictures with their true names.

Printed as JSON lines: the filter's precision and recall on the planted swaps, and the noise among its best, as many as
are unswapped (`noise_of_best`); how many captions say the thing's own name, before and after the filter; then, by arm,
AUC of true over swapped captions and recall@10 both ways on the held-out drawings, mean and standard deviation over
seeds. Processor seconds, since a machine that others share too makes wall-clock time say nothing. Stages that are done
are not done again.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curate import mix
from curate.engine.run import run
from curate.mix.spec import Entry
from curate.recipe.model import Recipe
from curate.recipe.resolve import resolve
from curate.settings import validate
from curate.shards import load_dataset
from pipelines.materials.drawings import has_tone, is_flag, twemoji
from pipelines.materials.packages import fetch
from pipelines.materials.tiny_clip.pairs import named_things, sketches_of
from train import loop
from train.config import Config
from train.evaluation.dual_encoders import evaluate
from train.export import export
from train.models.dual_encoder import load_export
from train.ranks import join_ranks

SIDE_PX = 32
CLEAN = ("noto", "noto-v1")
WEB = ("fluent-emoji-flat", "fxemoji", "emojione")
TEXTS = {"context_length": 16, "width": 64, "heads": 4, "layers": 2}
BLOCKS = {"width": 96, "layers": 3, "heads": 4}
ARMS: Mapping[str, tuple[dict[str, Any], dict[str, float]]] = {
    "web": ({}, {"txt": 1.0}),
    "F": ({"text_matched": {"is": True}}, {"txt": 1.0}),
    "F half": ({"text_match": {"top": 0.5}}, {"txt": 1.0}),
    "C": ({}, {"txt": 0.5, "caption": 0.5}),
    "CF": ({"texts_kept": {"min": 1}}, {"texts": 1.0}),
    "true": ({}, {"meta.true": 1.0}),
}
"""By arm: the rule that rows are kept by, and the texts that a mixture takes of them."""


@dataclass(frozen=True)
class Bench:
    """The places of files, and the amount of work."""

    home: Path
    things: int
    noise: float
    steps: int
    fine_steps: int
    batch: int
    seeds: int
    width: int

    @property
    def clip(self) -> dict[str, Any]:
        vision = {"image_size": SIDE_PX, "layers": [1, 1, 1, 1], "width": self.width, "head_width": 32}
        return {"embed_dim": 64, "vision_cfg": vision, "text_cfg": TEXTS}

    def dataset(self, name: str) -> Path:
        return self.home / "datasets" / name

    def weights(self, name: str) -> Path:
        return self.home / "weights" / f"{name}.safetensors"


@dataclass(frozen=True)
class Job:
    """A training: on which dataset, of which texts, of what."""

    dataset: str
    steps: int
    texts: Mapping[str, float] = field(default_factory=lambda: {"txt": 1.0})
    objective: Mapping[str, Any] = field(default_factory=lambda: {"type": "contrastive"})
    seed: int = 0
    start: str | None = None


def main() -> None:
    """Do all stages that are not done, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--things", type=int, default=100)
    parser.add_argument("--noise", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--fine-steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=8, help="Of the image tower, a ResNet; tiny-clip has 16.")
    bench = Bench(**vars(parser.parse_args()))
    for name, pairs in (("web", web(bench)), ("clean", clean(bench)), ("held-out", unseen(bench))):
        lay_down(bench, name, pairs)
    publish(bench, "clean")
    publish(bench, "held-out")
    publish(bench, "web")
    train(bench, "pretrained", Job("web", bench.steps))
    start = str(bench.weights("pretrained"))
    for name, objective in (("captioner", CAPTION), ("filter", MATCHING)):
        train(bench, name, Job("clean", bench.fine_steps, objective=objective, start=start))
    scored = bootstrap(bench)
    print(json.dumps({"labels": judged(scored)}), flush=True)
    results: dict[str, list[dict[str, float]]] = {}
    for seed in range(bench.seeds):
        for arm, (_, texts) in ARMS.items():
            name = f"{arm}-{seed}"
            train(bench, name, Job(f"arm-{arm}", bench.steps, texts, seed=seed))
            results.setdefault(arm, []).append(measured(bench, name))
            print(json.dumps({"arm": arm, "seed": seed, **results[arm][-1]}), flush=True)
    for arm, found in results.items():
        rows = load_dataset(bench.dataset(f"arm-{arm}")).samples
        print(json.dumps({"arm": arm, "rows": rows, **spread(found)}), flush=True)


CAPTION = {"type": "caption", "train_tower": True, "text_length": 48, "language": {"tokenizer": "bytes", **BLOCKS}}
MATCHING = {"type": "matching", "encoder": BLOCKS}

Pair = tuple[str, bytes, str, dict[str, Any]]
"""A picture's file name, its PNG, its text, and what is known of it."""


def chosen(bench: Bench) -> dict[str, str]:
    """The names of the things that are drawn, by code: of those without skin tones and flags, by a hash of the code."""
    named = named_things(fetch("emojibase"))
    plain = [code for code in named if not has_tone(code) and not is_flag(code)]
    drawn = set.intersection(*({s.code for s in sketches_of(h, fetch(h), named)} for h in (*CLEAN, *WEB)))
    found = sorted((code for code in plain if code in drawn), key=lambda c: hashlib.sha256(c.encode()).digest())
    return {code: named[code].name for code in found[: bench.things]}


def drawn(bench: Bench, hands: tuple[str, ...]) -> Iterator[tuple[str, bytes, str]]:
    import resvg_py

    names, named = chosen(bench), named_things(fetch("emojibase"))
    for hand in hands:
        for sketch in sketches_of(hand, fetch(hand), named):
            if sketch.code in names:
                png = bytes(resvg_py.svg_to_bytes(svg_string=sketch.svg, width=SIDE_PX, height=SIDE_PX))
                yield f"{hand}-{sketch.code}.png", png, names[sketch.code]


def clean(bench: Bench) -> Iterator[Pair]:
    yield from ((file, png, name, {"true": name, "swapped": False}) for file, png, name in drawn(bench, CLEAN))


def web(bench: Bench) -> Iterator[Pair]:
    """Some bear the name of another thing, drawn anew for each."""
    rng, names = np.random.default_rng(0), sorted(set(chosen(bench).values()))
    for file, png, name in drawn(bench, WEB):
        other = names[int(rng.integers(len(names)))]
        swapped = bool(rng.random() < bench.noise) and other != name
        yield file, png, other if swapped else name, {"true": name, "swapped": swapped}


def unseen(bench: Bench) -> Iterator[Pair]:
    names = chosen(bench)
    for drawing in twemoji(fetch("twemoji"), fetch("emoji-names")):
        if drawing.code in names:
            image = Image.open(drawing.file).convert("RGBA").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
            image.save(file := io.BytesIO(), "PNG")
            name = names[drawing.code]
            yield f"twemoji-{drawing.code}.png", file.getvalue(), name, {"true": name, "swapped": False}


def lay_down(bench: Bench, name: str, pairs: Iterator[Pair]) -> None:
    """A folder of pictures and a table of what stands beside them."""
    folder = bench.home / "source" / name
    if (folder / "captions.jsonl").exists():
        return
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for file, png, text, known in pairs:
        (folder / "images" / file).write_bytes(png)
        lines.append(json.dumps({"image": file, "text": text, **known}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")


def publish(bench: Bench, name: str) -> None:
    """A dataset of all pairs, unfiltered."""
    if not bench.dataset(name).exists():
        made = run(resolve(recipe(bench, name, "plain", [], ())), 0).folder
        shutil.copytree(made, bench.dataset(name))


def recipe(bench: Bench, source: str, out: str, steps: list[dict[str, Any]], columns: tuple[str, ...]) -> Recipe:
    folder = bench.home / "source" / source
    said = {
        "name": source,
        "out": str(bench.home / "runs" / f"{source}-{out}"),
        "source": {"type": "folder", "path": str(folder / "images"), "captions": str(folder / "captions.jsonl"),
                   "image": "image", "text": "text", "keep": ["true", "swapped"]},
        "steps": steps,
        "publish": {"columns": list(columns)},
    }  # fmt: skip
    return validate(said, Recipe, "bench")


def bootstrap(bench: Bench) -> list[dict[str, Any]]:
    """Caption and judge the web's pictures, publish each arm; the columns of all rows."""
    rows: list[dict[str, Any]] = []
    columns = ("caption", "texts", "texts_from", "text_match", "captions_match")
    for arm, (keep, _) in ARMS.items():
        steps: list[dict[str, Any]] = [
            {"op": "caption", "with": {"model": str(bench.weights("captioner")), "min_tokens": 4, "max_tokens": 48}},
            {"op": "match_texts", "with": {"model": str(bench.weights("filter"))}},
            {"op": "kept_texts", "keep": keep},
        ]
        made = run(resolve(recipe(bench, "web", "scored", steps, columns)), 0).folder
        if not bench.dataset(f"arm-{arm}").exists():
            shutil.copytree(made, bench.dataset(f"arm-{arm}"))
        if arm == "web":
            rows = published(made)
    return rows


def published(folder: Path) -> list[dict[str, Any]]:
    """Read the JSON of each sample, its text as `text`."""
    from curate.stream.stream import DatasetReader

    reader = DatasetReader("web", folder)
    try:
        parts = [reader.read(row)[1] for row in range(reader.rows)]
    finally:
        reader.close()
    return [json.loads(one["json"]) | {"text": one["txt"].decode()} for one in parts]


def judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The filter against the labels, of the web's texts and of the captions."""
    swapped = np.array([row["meta"]["swapped"] for row in rows])
    web_match = np.array([row["text_match"] for row in rows])
    made_match = np.array([row["captions_match"][0] or 0.0 for row in rows])
    said = np.array([row["caption"] == row["meta"]["true"] for row in rows])
    dropped, left = web_match <= 0.5, made_match > 0.5
    return {
        "rows": len(rows),
        "web": {
            "noise": ratio(swapped.sum(), len(rows)),
            "dropped": ratio(dropped.sum(), len(rows)),
            "precision": ratio((dropped & swapped).sum(), dropped.sum()),
            "recall": ratio((dropped & swapped).sum(), swapped.sum()),
            "noise_left": ratio((~dropped & swapped).sum(), (~dropped).sum()),
            "auc": auc(web_match[~swapped], web_match[swapped]),
            "noise_of_best": ratio(swapped[np.argsort(-web_match)[: (~swapped).sum()]].sum(), (~swapped).sum()),
        },
        "captions": {
            "own_name": ratio(said.sum(), len(rows)),
            "some_name": ratio(sum(row["caption"] in {r["meta"]["true"] for r in rows} for row in rows), len(rows)),
            "dropped": ratio((~left).sum(), len(rows)),
            "own_name_of_kept": ratio((left & said).sum(), left.sum()),
            "own_name_of_dropped": ratio((~left & said).sum(), (~left).sum()),
        },
        "examples": [[row["meta"]["true"], row["text"], row["caption"]] for row in rows[:8]],
    }


def ratio(part: Any, whole: Any) -> float | None:
    return round(float(part) / float(whole), 4) if whole else None


def auc(high: Any, low: Any) -> float:
    from train.evaluation.dual_encoders import roc_auc

    return round(roc_auc(high, low), 4)


def train(bench: Bench, name: str, job: Job) -> None:
    """Train on a dataset and export the weights, unless that is done."""
    if bench.weights(name).exists():
        return
    began, folder, seed = time.process_time(), bench.home / "training" / name, job.seed
    entry = Entry(path=str(bench.dataset(job.dataset).resolve()), texts=job.texts)
    mix.compose(mix.MixtureSpec(seed=seed, sources=(entry,)), folder, folder / "mixture.json")
    config = Config.model_validate(
        {
            "data": {"batch_size": bench.batch, "augment": {"shift": 0.1, "zoom": 0.2, "rotate_degrees": 10}},
            "model": {"clip": job.start} if job.start else {"clip": bench.clip, "tokenizer": "simple:1024"},
            "objective": job.objective,
            "optim": {"steps": job.steps, "warmup": job.steps // 10, "lr": 2e-3},
            "run": {"device": "cpu", "cpu_threads": 1, "decode_threads": 1, "log_every": 50,
                    "checkpoint_every": 10**6, "tensorboard": False},
            "seed": seed,
        }
    )  # fmt: skip
    with join_ranks("cpu") as ranks:
        outcome = loop.run(config, folder / "mixture.json", folder, ranks)
    export(outcome.clip, outcome.objective, config, bench.weights(name))
    seconds = round(time.process_time() - began, 1)
    print(json.dumps({"trained": name, "loss": outcome.summary["loss"], "cpu_s": seconds}), flush=True)


def measured(bench: Bench, name: str) -> dict[str, float]:
    found = evaluate(load_export(bench.weights(name)), bench.dataset("held-out"))
    recall = {key: found.recall[f"{key}@10"] for key in ("image_to_text", "text_to_image")}
    return {"auc": round(found.auc, 4), **{f"{key}@10": round(value, 4) for key, value in recall.items()}}


def spread(found: list[dict[str, float]]) -> dict[str, list[float]]:
    """Mean and standard deviation of each figure."""
    values = {name: [one[name] for one in found] for name in found[0]}
    return {
        name: [round(statistics.mean(all_), 4), round(statistics.stdev(all_), 4) if len(all_) > 1 else 0.0]
        for name, all_ in values.items()
    }


if __name__ == "__main__":
    main()
