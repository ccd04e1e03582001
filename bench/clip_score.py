"""Bench CLIP ViT-B/32 scoring on the processor, beside open_clip, data-juicer and the bare forward pass.

    python bench/clip_score.py --home /tmp/bench-clip-score [--pictures photographs] [--only curate open_clip bare]

Random weights: only speed is measured, and how far bf16 takes a score. Every contender has its own process and the same
number of threads, holds its model, and scores the same JPEG files and captions from their bytes, soft noise or cuts of
photographs and drawings (GNOME's backgrounds) at 480 x 360 and at 1440 x 1080 in turn; they take turns, and the medians
of --runs count. On a busy machine only the processor's time tells (`cpu_ms_per_pair`).

- curate: images.decode and the op clip_score, as the engine calls them, in bf16.
- open_clip: its model in fp32, its transform and tokenizer in a DataLoader with as many workers as threads.
- open_clip-bf16: the same with the model in bf16.
- data-juicer: its image_text_similarity_filter, in an environment of its own that this script makes below --home.
- bare: open_clip's model in bf16 on tensors that lie ready, texts padded only to the longest of the batch.

`error`: the largest and the mean difference of a score to open_clip's in fp32, of curate and of open_clip-bf16.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import isolated

PEER = ("py-data-juicer==1.6.1", "torch==2.8.0", "torchvision==0.23.0", "transformers==4.57.1")  # as it pins them
BATCH = 64
PAIRS = 64
CONTENDERS = ("curate", "open_clip", "open_clip-bf16", "data-juicer", "bare")
TARGETS = {"open_clip": 4.0, "data-juicer": 4.0, "bare": 0.9}
WORDS = (
    "a",
    "the",
    "red",
    "small",
    "wooden",
    "table",
    "apple",
    "dog",
    "running",
    "beach",
    "with",
    "two",
    "people",
    "on",
)

Score = Callable[[list[bytes], list[str]], Any]


def main() -> None:
    """Score in turns and print JSON lines, the ratios last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-bench-clip-score")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--pictures", choices=["noise", "photographs"], default="noise")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.home, given.pictures, given.threads)
        return
    given.home.mkdir(parents=True, exist_ok=True)
    draw(given.home, given.pictures)
    workers = {who: start(who, given) for who in given.only}
    times: dict[str, list[tuple[float, float]]] = {who: [] for who in given.only}
    scores: dict[str, list[float]] = {}
    for turn in range(given.runs + 1):
        for who, worker in workers.items():
            *seconds, scores[who] = ask(worker)
            if turn:  # the first one warms up
                times[who].append((seconds[0], seconds[1]))
    for worker in workers.values():
        worker.communicate()
    report(times, given)
    report_errors(scores, given)


def report(times: dict[str, list[tuple[float, float]]], given: argparse.Namespace) -> None:
    """One line a contender, then the ratios to it."""
    rates = {who: PAIRS / statistics.median(clock for clock, _ in runs) for who, runs in times.items()}
    cpu_ms = {who: 1000 * statistics.median(cpu for _, cpu in runs) / PAIRS for who, runs in times.items()}
    for who in times:
        say(who, "pairs_per_s", rates[who], "1/s", given)
        say(who, "cpu_ms_per_pair", cpu_ms[who], "ms", given)
    for who in times:
        if "curate" in times and who != "curate":
            say(f"{who}/curate", "cpu_ms_per_pair", cpu_ms[who] / cpu_ms["curate"], "ratio", given)
    for who in times:
        if "curate" in times and who != "curate":
            say(f"curate/{who}", "pairs_per_s", rates["curate"] / rates[who], "ratio", given)


def report_errors(scores: dict[str, list[float]], given: argparse.Namespace) -> None:
    """Differences of the contenders' scores in bf16 from those in fp32."""
    for who in ("curate", "open_clip-bf16"):
        if who in scores and "open_clip" in scores:
            apart = [abs(a - b) for a, b in zip(scores[who], scores["open_clip"], strict=True)]
            say(who, "largest_error", max(apart), "cosine", given)
            say(who, "mean_error", statistics.mean(apart), "cosine", given)


def say(who: str, metric: str, value: float, unit: str, given: argparse.Namespace) -> None:
    """One JSON line."""
    line = {"bench": "clip_score", "pictures": given.pictures, "who": who, "metric": metric}
    line |= {"value": round(value, 5), "unit": unit, "n": given.runs}
    one, _, other = who.partition("/")
    if unit == "ratio" and (target := TARGETS.get(other if one == "curate" else one)):
        line["target"] = target
    print(json.dumps(line), flush=True)


def start(who: str, given: argparse.Namespace) -> subprocess.Popen[str]:
    """A contender's process, its model loaded."""
    home, threads = given.home, given.threads
    python = isolated(home, PEER) if who == "data-juicer" else Path(sys.executable)
    words = [str(python), __file__, "--worker", who, "--home", str(home), "--threads", str(threads)]
    words += ["--pictures", given.pictures]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0"}
    worker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert worker.stdout is not None
    for line in worker.stdout:
        if line == "ready\n":
            return worker
    raise SystemExit(f"{who} did not start")


def ask(worker: subprocess.Popen[str]) -> tuple[float, float, list[float]]:
    """Let a contender score its pairs once; seconds by the clock and of the processor, and the scores if it tells."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("seconds "):
            clock, cpu, scores = line.split(maxsplit=3)[1:]
            return float(clock), float(cpu), json.loads(scores)
    raise SystemExit("a contender died")


def work(who: str, home: Path, pictures: str, threads: int) -> None:
    """A contender: load, then score its pairs whenever a line comes in."""
    import torch

    torch.set_num_threads(threads)
    files = sorted((home / pictures).iterdir())
    texts = json.loads((home / "captions.json").read_text())
    makers: dict[str, Callable[[Path, int], Score]] = {
        "curate": with_curate, "open_clip": with_open_clip, "open_clip-bf16": with_open_clip_bf16,
        "data-juicer": with_data_juicer, "bare": with_bare,
    }  # fmt: skip
    bodies = [path.read_bytes() for path in files]
    score = makers[who](home, threads)
    print("ready", flush=True)
    prepared: dict[str, Any] = {}
    for _ in sys.stdin:
        if who == "bare":
            prepared = prepared or score(bodies, texts)  # tensors that lie ready: made once, outside the clock
        begin, cpu = time.perf_counter(), cpu_s()
        found = prepared["run"]() if who == "bare" else score(bodies, texts)
        print("seconds", time.perf_counter() - begin, cpu_s() - cpu, json.dumps(found), flush=True)


def cpu_s() -> float:
    """Processor seconds of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def with_curate(home: Path, threads: int) -> Score:
    """Decode and score batch by batch, as the engine does."""
    from curate.image.files import decode
    from curate.models.devices import Device
    from curate.ops.alignment.clip_score import clip_score

    weights = str(home / "ViT-B-32.safetensors")
    op = clip_score(model="ViT-B-32", pretrained=weights, precision="bfloat16", device=Device(threads=threads))

    def score(bodies: list[bytes], texts: list[str]) -> list[float]:
        found: list[float] = []
        for at in range(0, len(texts), BATCH):
            images = [decode(body).image for body in bodies[at : at + BATCH]]
            good = [image for image in images if image is not None]
            found += op(good, texts[at : at + BATCH])["clip_score"]
        return found

    return score


def with_open_clip_bf16(home: Path, threads: int) -> Score:
    """The same loop with the model in bf16."""
    return with_open_clip(home, threads, "bfloat16")


def with_open_clip(home: Path, threads: int, precision: str = "float32") -> Score:
    """The loop of open_clip's own examples: DataLoader, no_grad."""
    import open_clip
    import torch
    from PIL import Image

    net, _, transform = open_clip.create_model_and_transforms("ViT-B-32", str(home / "ViT-B-32.safetensors"))
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    dtype = getattr(torch, precision)
    net = net.to(dtype).eval()

    class Pairs(torch.utils.data.Dataset[Any]):
        def __init__(self, bodies: list[bytes], texts: list[str]) -> None:
            self.bodies, self.texts = bodies, texts

        def __len__(self) -> int:
            return len(self.texts)

        def __getitem__(self, row: int) -> Any:
            return transform(Image.open(io.BytesIO(self.bodies[row]))), tokenizer(self.texts[row])[0]

    def score(bodies: list[bytes], texts: list[str]) -> list[float]:
        loader = torch.utils.data.DataLoader(Pairs(bodies, texts), BATCH, num_workers=threads)
        found: list[float] = []
        with torch.no_grad():
            for images, ids in loader:
                image_ND, text_ND, _ = net(images.to(dtype), ids)
                found += (image_ND * text_ND).sum(1).tolist()
        return found

    return score


def with_bare(home: Path, threads: int) -> Callable[[list[bytes], list[str]], dict[str, Any]]:
    """open_clip's towers in bf16 and nothing else; a causal tower needs no token after the end mark."""
    import open_clip
    import torch
    from PIL import Image

    net, _, transform = open_clip.create_model_and_transforms("ViT-B-32", str(home / "ViT-B-32.safetensors"))
    net = net.to(torch.bfloat16).eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    mask, places = net.attn_mask, net.positional_embedding

    def prepare(bodies: list[bytes], texts: list[str]) -> dict[str, Any]:
        images = torch.stack([transform(Image.open(io.BytesIO(body))) for body in bodies]).to(torch.bfloat16)
        ids = tokenizer(texts)

        def run() -> None:
            with torch.inference_mode():
                for at in range(0, len(texts), BATCH):
                    some = ids[at : at + BATCH]
                    longest = int(some.argmax(1).max()) + 1
                    net.attn_mask = mask[:longest, :longest]
                    net.positional_embedding = torch.nn.Parameter(places[:longest], requires_grad=False)
                    net(images[at : at + BATCH], some[:, :longest])

        return {"run": run}

    return prepare


def with_data_juicer(home: Path, threads: int) -> Score:
    """The filter's own method, a sample at a time: it has no batched one."""
    from data_juicer.ops.filter.image_text_similarity_filter import ImageTextSimilarityFilter
    from data_juicer.utils.constant import Fields
    from data_juicer.utils.mm_utils import SpecialTokens

    op = ImageTextSimilarityFilter(hf_clip=str(hugging_face_model(home)))
    scratch = tempfile.TemporaryDirectory()

    def score(bodies: list[bytes], texts: list[str]) -> None:
        for number, (body, text) in enumerate(zip(bodies, texts, strict=True)):
            path = Path(scratch.name) / f"{number}.jpg"  # it opens files by their paths
            if not path.exists():
                path.write_bytes(body)
            row = {"text": f"{SpecialTokens.image} {text} {SpecialTokens.eoc}", "images": [str(path)], Fields.stats: {}}
            op.compute_stats_single(row)

    return score


def hugging_face_model(home: Path) -> Path:
    """A folder as the hub serves it: ViT-B/32 with random weights, its processor, and CLIP's vocabulary."""
    import transformers

    folder = home / "hf-clip"
    if not (folder / "model.safetensors").exists():
        tokenizer = transformers.CLIPTokenizer(str(home / "vocab.json"), str(home / "merges.txt"))
        transformers.CLIPProcessor(transformers.CLIPImageProcessor(), tokenizer).save_pretrained(folder)
        config = transformers.CLIPConfig()
        transformers.CLIPModel(config).save_pretrained(folder)
    return folder


def draw_photographs(folder: Path) -> None:
    """Cuts of GNOME's backgrounds: small ones of 480 x 360 pixels, and every other at three times that."""
    import duplicates  # its materials, beside this script
    import numpy as np
    from PIL import Image

    from pipelines.materials.packages import fetch

    assert duplicates
    found = sorted(p for p in fetch("backgrounds").rglob("*.webp"))
    chance = np.random.default_rng(0)
    folder.mkdir()
    for number in range(PAIRS):
        if number % 4 == 0:
            image = Image.open(found[number // 4 % len(found)]).convert("RGB")
        width, height = (480, 360) if number % 2 else (1440, 1080)
        left, top = (int(chance.integers(0, max(1, a - b))) for a, b in zip(image.size, (width, height), strict=True))
        cut = image.crop((left, top, left + width, top + height))
        cut.save(folder / f"{number:04d}.jpg", quality=90)


def draw(home: Path, pictures: str) -> None:
    """Weights, JPEG files, captions of some ten words, and CLIP's vocabulary as plain files."""
    if pictures == "photographs" and not (home / pictures).exists():
        draw_photographs(home / pictures)
    if (home / "captions.json").exists():
        return
    import numpy as np
    import open_clip
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    noise = np.random.default_rng(0)
    (home / "noise").mkdir(exist_ok=True)
    for number in range(PAIRS):
        coarse = Image.fromarray(noise.integers(0, 256, (36, 48, 3), dtype=np.uint8))
        coarse.resize((480, 360), Image.Resampling.BICUBIC).save(home / "noise" / f"{number:04d}.jpg", quality=90)
    torch.manual_seed(0)
    save_file(open_clip.create_model("ViT-B-32").state_dict(), home / "ViT-B-32.safetensors")
    tokenizer = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in tokenizer.encoder.items()}
    (home / "vocab.json").write_text(json.dumps(vocabulary))
    merges = [" ".join(pair) for pair in tokenizer.bpe_ranks]
    (home / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    lengths = np.clip(noise.lognormal(2.2, 0.5, PAIRS), 2, 40).astype(int)
    captions = [" ".join(noise.choice(WORDS, length)) for length in lengths]
    (home / "captions.json").write_text(json.dumps(captions))


if __name__ == "__main__":
    main()
