"""Bench CLIP ViT-B/32 scoring on the processor, beside open_clip, data-juicer and the bare forward pass.

    python bench/clip_score.py --home /tmp/bench-clip-score

Random weights: only speed is measured. Every contender has its own process and the same number of threads, holds its
model, and scores the same JPEG files and captions from their bytes; they take turns, and the medians of --runs count.

- curate: images.decode and the op clip_score, as the engine calls them.
- open_clip: its model in fp32, its transform and tokenizer in a DataLoader with as many workers as threads.
- data-juicer: its image_text_similarity_filter, in an environment of its own that this script makes below --home.
- bare: open_clip's model in bf16 on tensors that lie ready, texts padded only to the longest of the batch.
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
PAIRS = {"curate": 128, "open_clip": 64, "data-juicer": 64, "bare": 128}
TARGETS = {"open_clip": 4.0, "data-juicer": 4.0, "bare": 0.85}
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
    parser.add_argument("--only", nargs="*", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--worker", choices=list(PAIRS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.home, given.threads)
        return
    given.home.mkdir(parents=True, exist_ok=True)
    draw(given.home)
    workers = {who: start(who, given.home, given.threads) for who in given.only}
    times: dict[str, list[tuple[float, float]]] = {who: [] for who in given.only}
    for turn in range(given.runs + 1):
        for who, worker in workers.items():
            seconds = ask(worker)
            if turn:  # the first one warms up
                times[who].append(seconds)
    for worker in workers.values():
        worker.communicate()
    report(times, given)


def report(times: dict[str, list[tuple[float, float]]], given: argparse.Namespace) -> None:
    """One line a contender, then the ratios to it."""
    rates = {who: PAIRS[who] / statistics.median(clock for clock, _ in runs) for who, runs in times.items()}
    cpu_ms = {who: 1000 * statistics.median(cpu for _, cpu in runs) / PAIRS[who] for who, runs in times.items()}
    for who in times:
        say(who, "pairs_per_s", rates[who], "1/s", given.runs)
        say(who, "cpu_ms_per_pair", cpu_ms[who], "ms", given.runs)
    for who in times:
        if "curate" in times and who != "curate":
            say(f"{who}/curate", "cpu_ms_per_pair", cpu_ms[who] / cpu_ms["curate"], "ratio", given.runs)
    for who in times:
        if "curate" in times and who != "curate":
            say(f"curate/{who}", "pairs_per_s", rates["curate"] / rates[who], "ratio", given.runs)


def say(who: str, metric: str, value: float, unit: str, runs: int) -> None:
    """One JSON line."""
    line = {"bench": "clip_score", "who": who, "metric": metric, "value": round(value, 3), "unit": unit, "n": runs}
    if unit == "ratio" and who.partition("/")[2] in TARGETS:
        line["target"] = TARGETS[who.partition("/")[2]]
    print(json.dumps(line), flush=True)


def start(who: str, home: Path, threads: int) -> subprocess.Popen[str]:
    """A contender's process, its model loaded."""
    python = isolated(home, PEER) if who == "data-juicer" else Path(sys.executable)
    words = [str(python), __file__, "--worker", who, "--home", str(home), "--threads", str(threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0"}
    worker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert worker.stdout is not None
    for line in worker.stdout:
        if line == "ready\n":
            return worker
    raise SystemExit(f"{who} did not start")


def ask(worker: subprocess.Popen[str]) -> tuple[float, float]:
    """Let a contender score its pairs once; seconds by the clock and of the processor."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("seconds "):
            clock, cpu = line.split()[1:]
            return float(clock), float(cpu)
    raise SystemExit("a contender died")


def work(who: str, home: Path, threads: int) -> None:
    """A contender: load, then score its pairs whenever a line comes in."""
    import torch

    torch.set_num_threads(threads)
    files = sorted((home / "images").iterdir())[: PAIRS[who]]
    texts = json.loads((home / "captions.json").read_text())[: PAIRS[who]]
    makers: dict[str, Callable[[Path, int], Score]] = {
        "curate": with_curate, "open_clip": with_open_clip, "data-juicer": with_data_juicer,
        "bare": with_bare,
    }  # fmt: skip
    bodies = [path.read_bytes() for path in files]
    score = makers[who](home, threads)
    print("ready", flush=True)
    prepared: dict[str, Any] = {}
    for _ in sys.stdin:
        if who == "bare":
            prepared = prepared or score(bodies, texts)  # tensors that lie ready: made once, outside the clock
        begin, cpu = time.perf_counter(), cpu_s()
        if who == "bare":
            prepared["run"]()
        else:
            score(bodies, texts)
        print("seconds", time.perf_counter() - begin, cpu_s() - cpu, flush=True)


def cpu_s() -> float:
    """Processor seconds of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def with_curate(home: Path, threads: int) -> Score:
    """Decode and score batch by batch, as the engine does."""
    from curate.image.files import decode
    from curate.ops.alignment.clip_score import clip_score

    op = clip_score(model="ViT-B-32", pretrained=str(home / "ViT-B-32.safetensors"))

    def score(bodies: list[bytes], texts: list[str]) -> None:
        for at in range(0, len(texts), BATCH):
            images = [decode(body).image for body in bodies[at : at + BATCH]]
            op([image for image in images if image is not None], texts[at : at + BATCH])

    return score


def with_open_clip(home: Path, threads: int) -> Score:
    """The loop of open_clip's own examples: DataLoader, fp32, no_grad."""
    import open_clip
    import torch
    from PIL import Image

    net, _, transform = open_clip.create_model_and_transforms("ViT-B-32", str(home / "ViT-B-32.safetensors"))
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    net.eval()

    class Pairs(torch.utils.data.Dataset[Any]):
        def __init__(self, bodies: list[bytes], texts: list[str]) -> None:
            self.bodies, self.texts = bodies, texts

        def __len__(self) -> int:
            return len(self.texts)

        def __getitem__(self, row: int) -> Any:
            return transform(Image.open(io.BytesIO(self.bodies[row]))), tokenizer(self.texts[row])[0]

    def score(bodies: list[bytes], texts: list[str]) -> None:
        loader = torch.utils.data.DataLoader(Pairs(bodies, texts), BATCH, num_workers=threads)
        with torch.no_grad():
            for images, ids in loader:
                image_ND, text_ND, _ = net(images, ids)
                (image_ND * text_ND).sum(1).tolist()

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
    paths = sorted(str(path) for path in (home / "images").iterdir())

    def score(bodies: list[bytes], texts: list[str]) -> None:
        for path, text in zip(paths, texts, strict=False):
            row = {"text": f"{SpecialTokens.image} {text} {SpecialTokens.eoc}", "images": [path], Fields.stats: {}}
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


def draw(home: Path) -> None:
    """Weights, JPEG files of 480 x 360 pixels, captions of some ten words, and CLIP's vocabulary as plain files."""
    if (home / "captions.json").exists():
        return
    import numpy as np
    import open_clip
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    noise = np.random.default_rng(0)
    (home / "images").mkdir(exist_ok=True)
    for number in range(max(PAIRS.values())):
        coarse = Image.fromarray(noise.integers(0, 256, (36, 48, 3), dtype=np.uint8))
        coarse.resize((480, 360), Image.Resampling.BICUBIC).save(home / "images" / f"{number:04d}.jpg", quality=90)
    torch.manual_seed(0)
    save_file(open_clip.create_model("ViT-B-32").state_dict(), home / "ViT-B-32.safetensors")
    tokenizer = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in tokenizer.encoder.items()}
    (home / "vocab.json").write_text(json.dumps(vocabulary))
    merges = [" ".join(pair) for pair in tokenizer.bpe_ranks]
    (home / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    lengths = np.clip(noise.lognormal(2.2, 0.5, max(PAIRS.values())), 2, 40).astype(int)
    captions = [" ".join(noise.choice(WORDS, length)) for length in lengths]
    (home / "captions.json").write_text(json.dumps(captions))


if __name__ == "__main__":
    main()
