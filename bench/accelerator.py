"""Bench CLIP scoring on an accelerator through `curate run`, beside the bare forward pass.

    python bench/accelerator.py --home DIR                       on a machine with a GPU: under 6 minutes
    python bench/accelerator.py --home DIR --differences 10000   the largest differences of scores, on real pairs
    python bench/accelerator.py --home DIR --models ViT-B-32 --pairs 192 --shard 32 --batch 32 --workers 1
                                                                 the whole of it on two cores, to see that it works

ViT-B/32 and ViT-L/14 with random weights, bfloat16, over webdataset tars of JPEG files of 480 x 360 pixels with a
caption of some ten words each. Every measurement has a process of its own:

- bare: open_clip's two towers in bfloat16, on tensors that lie on the device, texts as its tokenizer pads them;
- inline: `curate run --inline`: one process, with threads that read ahead;
- ray: `curate run` on Ray, with as many workers on the GPU as the engine puts there.

A run's rate is that of the step alone, from the end of its first shard to the end of its last (one worker) or of the
last but one that each worker begins: what loading a model costs is told apart, as is the whole of the run. One JSON
line a figure. Wanted: at least .80 of the bare pass with ViT-L/14; NVIDIA tells of some 112 images/s a GPU for NeMo
Curator's image pipeline, to be beaten tenfold.

--differences: the bundled CLIP (the one with weights that mean something here) on Openclipart's drawings with their
titles, right and swapped; float32 on a processor against bfloat16 there, and both on a GPU where there is one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = ("a", "the", "red", "small", "wooden", "table", "apple", "dog", "running", "beach", "with", "two", "people")
TARGETS = {("ViT-L-14", "inline"): 0.8, ("ViT-L-14", "ray"): 0.8}
NEMO_IMAGES_S = 112.0
UNIQUE = 512
"""Different JPEG files; each stands in many rows, under a caption of its own."""


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-bench-accelerator")
    parser.add_argument("--models", nargs="+", default=["ViT-B-32", "ViT-L-14"],
                        help="names of open_clip's, or files of configurations (.json)")  # fmt: skip
    parser.add_argument("--pairs", type=int, default=24_000)
    parser.add_argument("--shard", type=int, default=1_000, help="rows a tar")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--ways", nargs="+", default=["bare", "inline", "ray"])
    parser.add_argument("--differences", type=int, default=0, metavar="PAIRS")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.home.mkdir(parents=True, exist_ok=True)
    if asked.child:
        way, model = asked.child
        found = bare(asked, model) if way == "bare" else through_curate(asked, way, model)
        print("RESULT", json.dumps(found), flush=True)
    elif asked.differences:
        differences(asked)
    else:
        measure(asked)


def measure(asked: argparse.Namespace) -> None:
    """Every model in every way, each in a process of its own, then the ratios."""
    began = time.monotonic()
    draw_tars(asked)
    for model in asked.models:
        weights(asked.home, model)
        rates = {}
        for way in asked.ways:
            found = ask_child(asked, way, model)
            rates[way] = found["pairs_per_s"]
            for metric, value in found.items():
                say(model, way, metric, value)
        for way in ("inline", "ray"):
            if "bare" in rates and way in rates:
                say(model, f"{way}/bare", "pairs_per_s", rates[way] / rates["bare"], TARGETS.get((model, way)))
            if way in rates:
                say(model, f"{way}/nemo-curator's published", "images_per_s", rates[way] / NEMO_IMAGES_S, 10.0)
    say("all", "bench", "seconds", time.monotonic() - began)


def say(model: str, who: str, metric: str, value: Any, target: float | None = None) -> None:
    """One JSON line."""
    shown = round(value, 6) if isinstance(value, float) else value
    line = {"bench": "accelerator", "model": model, "who": who, "metric": metric, "value": shown}
    print(json.dumps(line | ({"target": target} if target else {})), flush=True)


def ask_child(asked: argparse.Namespace, way: str, model: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    numbers = ("pairs", "shard", "batch", "workers")
    words = [word for name in numbers for word in (f"--{name}", str(getattr(asked, name)))]
    command = [sys.executable, __file__, "--home", str(asked.home), *words, "--child", way, model]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT ")[2])
    return found


def bare(asked: argparse.Namespace, model: str) -> dict[str, Any]:
    """Pairs a second of the two towers and nothing else."""
    import open_clip
    import torch

    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = open_clip.create_model(registered(model), str(weights(asked.home, model))).to(device, torch.bfloat16).eval()
    size = net.visual.image_size[0]
    images = torch.randn(asked.batch, 3, size, size, device=device, dtype=torch.bfloat16)
    ids = open_clip.get_tokenizer(registered(model))([caption(n) for n in range(asked.batch)]).to(device)
    spent: list[float] = []
    with torch.inference_mode():
        until = time.monotonic() + (20 if device == "cuda" else 10)
        while len(spent) < 5 or (len(spent) < 60 and time.monotonic() < until):
            if device == "cuda":
                torch.cuda.synchronize()
            begin = time.perf_counter()
            net.encode_image(images)
            net.encode_text(ids)
            if device == "cuda":
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - begin)
    middle = sorted(spent[2:])[len(spent[2:]) // 2]
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {"pairs_per_s": asked.batch / middle, "device": name, "batch": asked.batch}


def through_curate(asked: argparse.Namespace, way: str, model: str) -> dict[str, Any]:
    """Pairs a second of the step clip_score, and of the run with all that it does besides."""
    from curate.engine.run import run
    from curate.engine.runner import RunProgress
    from curate.engine.workers import stop
    from curate.recipe.model import Recipe
    from curate.recipe.resolve import resolve

    tars = shards(asked)
    recipe = {
        "name": f"{Path(model).stem}-{way}",
        "out": str(asked.home / f"out-{Path(model).stem}-{way}-{time.time_ns()}"),
        "source": {"type": "webdataset", "path": str(asked.home / "tars" / f"{asked.shard}-*.tar")},
        "steps": [{"op": "clip_score", "with": {"model": model, "pretrained": str(weights(asked.home, model)),
                                                "precision": "bfloat16"}, "resources": {"batch": asked.batch}}],
    }  # fmt: skip
    ends: list[float] = []
    seen: dict[str, float] = {}

    def watch(progress: RunProgress) -> None:
        seen[progress.what] = time.monotonic()
        if progress.what == "clip_score":
            ends.append(time.monotonic())

    began, cpu = time.monotonic(), cpu_s()
    summary = run(resolve(Recipe.model_validate(recipe)), 0 if way == "inline" else asked.workers, watch)
    whole = time.monotonic() - began
    stop()
    assert summary.funnel[-1].kept == asked.pairs, summary.funnel[-1]
    first, last = ends[0], ends[-1]
    steady = (len(tars) - 1) * asked.shard / (last - first)
    return {
        "pairs_per_s": steady,
        "seconds_to_the_end_of_the_first_shard": first - seen["ingest"],
        "whole_run_pairs_per_s": asked.pairs / whole,
        "cpu_ms_per_pair": 1000 * (cpu_s() - cpu) / asked.pairs,
    }


def cpu_s() -> float:
    """Processor seconds of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def caption(number: int) -> str:
    """A caption of four to sixteen words that no other row has."""
    return " ".join([*(WORDS[(number * 7 + at) % len(WORDS)] for at in range(4 + number % 13)), str(number)])


def shards(asked: argparse.Namespace) -> list[Path]:
    """The tars of this many pairs."""
    return [asked.home / "tars" / f"{asked.shard}-{n:05d}.tar" for n in range(-(-asked.pairs // asked.shard))]


def draw_tars(asked: argparse.Namespace) -> None:
    """Write the tars that are not there."""
    if asked.pairs % asked.shard:
        raise SystemExit("--pairs must be a multiple of --shard: every shard counts alike")
    wanted = shards(asked)
    (asked.home / "tars").mkdir(exist_ok=True)
    for old in (asked.home / "tars").iterdir():
        if old not in wanted:
            old.unlink()
    pictures = list(jpegs(min(UNIQUE, asked.pairs)))
    for place, path in enumerate(wanted):
        if path.exists():
            continue
        with tarfile.open(temporary := path.with_suffix(".part"), "w") as tar:
            for number in range(place * asked.shard, (place + 1) * asked.shard):
                add(tar, f"{number:08d}.jpg", pictures[number % len(pictures)])
                add(tar, f"{number:08d}.txt", caption(number).encode())
        temporary.rename(path)


def add(tar: tarfile.TarFile, name: str, body: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(body)
    tar.addfile(info, io.BytesIO(body))


def jpegs(count: int) -> Iterator[bytes]:
    """Soft noise as JPEG files: some 40 kB each, as photographs of this size have."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0)
    for _ in range(count):
        coarse = Image.fromarray(noise.integers(0, 256, (36, 48, 3), dtype=np.uint8))
        coarse.resize((480, 360), Image.Resampling.BICUBIC).save(file := io.BytesIO(), "JPEG", quality=90)
        yield file.getvalue()


def weights(home: Path, model: str) -> Path:
    """The file of a model's random weights."""
    path = home / f"{Path(model).stem}.safetensors"
    if not path.exists():
        import open_clip
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(0)
        save_file(open_clip.create_model(registered(model)).state_dict(), path)
    return path


def registered(model: str) -> str:
    """The name by which open_clip makes a model, its configuration's file being made known to it."""
    import open_clip

    if model.endswith(".json"):
        open_clip.add_model_config(model)
    return Path(model).stem


def differences(asked: argparse.Namespace) -> None:
    """Score real pairs by every device and precision that this machine has; compare with float32 on its processor."""
    import numpy as np

    from curate.image.files import decode
    from curate.models.devices import Device, this_machine
    from curate.ops.alignment.clip_score import clip_score

    pairs = list(real_pairs(asked.differences))
    kinds = ["cpu", *(["cuda"] if this_machine().gpus else [])]
    if len(kinds) == 1:
        print("no GPU here: the difference between device kinds is still to be had", file=sys.stderr)
    scorers = {
        (kind, precision): clip_score(precision=precision, device=Device(kind))  # type: ignore[arg-type]
        for kind in kinds
        for precision in ("float32", "bfloat16")
    }
    scores: dict[tuple[str, str], list[float]] = {which: [] for which in scorers}
    for start in range(0, len(pairs), 256):
        some = [(decode(body).image, text) for body, text in pairs[start : start + 256]]
        good = [(image, text) for image, text in some if image is not None]
        for which, scorer in scorers.items():
            scores[which] += scorer([image for image, _ in good], [text for _, text in good])["clip_score"]
    exact = np.array(scores["cpu", "float32"])
    for (kind, precision), found in scores.items():
        apart = np.abs(np.array(found) - exact)
        if (kind, precision) != ("cpu", "float32"):
            who = f"{kind} {precision} to cpu float32"
            say("tiny-clip", who, "largest_difference", float(apart.max()))
            say("tiny-clip", who, "mean_difference", float(apart.mean()))
            cut = np.quantile(exact, 0.7)
            say("tiny-clip", who, "rows_on_the_other_side_of_a_top_30_percent_cut",
                int(((np.array(found) >= np.quantile(found, 0.7)) != (exact >= cut)).sum()))  # fmt: skip
    say("tiny-clip", "all", "pairs", len(exact))
    say("tiny-clip", "all", "spread_of_scores", float(exact.std()))


def real_pairs(count: int) -> Iterator[tuple[bytes, str]]:
    """Openclipart's drawings with their own titles; beyond these, each with the title of another."""
    from pipelines.materials import openclipart

    with tempfile.TemporaryDirectory() as folder:
        made = openclipart.prepare(Path(folder))
        rows = [json.loads(line) for line in made.captions.read_text(encoding="utf-8").splitlines()]
        named = [row for row in rows if row.get("title") and (made.images / row["image"]).is_file()]
        small = [row for row in named if (made.images / row["image"]).stat().st_size < 200_000]
        for number in range(count):
            turn, at = divmod(number, len(small))
            body = (made.images / small[at]["image"]).read_bytes()
            yield body, small[(at + turn) % len(small)]["title"]


if __name__ == "__main__":
    main()
