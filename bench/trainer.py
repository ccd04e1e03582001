"""Measure what the trainer costs beside the model: waiting for data, its own work, collating, padding; on a GPU, MFU.

    python bench/trainer.py --work DIR              # on a CPU; with a GPU, everything, in under 8 minutes
    python bench/trainer.py --work DIR --only step,collate,objectives,mfu

- step: a small captioner on packs of photographs (JPEG 570x446) and captions. The trainer's step and the same model
  called bare on the same batch (forward, backward, clipping, AdamW) take turns; `of_bare` is the bare time over the
  trainer's, waiting aside. Both by the main thread's processor time, which other processes do not touch; `waiting` is
  the main thread's share in the stream (decoding is done in others), `waiting_wall` the clock's, of a quiet machine.
- collate: 4 packs of 16,384 tokens put together from their documents, processor time.
- objectives: five steps of each objective through the trainer, in bf16, on the device there is.
- mfu: images a second and model FLOP/s over the device's peak of a CLIP ViT-L/14-336 tower, a C-Abstractor and a 1B
  decoder, all trained, on packs of 4,096 tokens, bf16, compiled. Of a GPU only. Model FLOPs are the products' of the
  forward pass times three (Chowdhery et al. 2022, appendix B): what is recomputed does not count.

One JSON line a measurement.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loader import materials
from torch import Tensor, nn

from curate.mix.count_tokens import add_text_tokens
from curate.stream.packing import Pack, PackedDocument, PackLimits, assemble, plan_packs
from curate.stream.stream import Batch, ReadOptions, Share, Stream
from train import prepare
from train.config import Config
from train.loop import Trainer
from train.models.dual_encoder import build
from train.ranks import Ranks, join_ranks

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "GH200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12}
"""Dense bf16, by a part of the device's name (NVIDIA's data sheets, SXM where there are several)."""
SAMPLES, STEPS = 500, 8
CLIP = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 112, "patch_size": 16, "width": 128, "head_width": 32, "layers": 4},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
}
LANGUAGE = {"width": 256, "layers": 4, "heads": 8}
PACKED = {
    "type": "multimodal",
    "train_tower": True,
    "connector": {"type": "mlp", "vectors": 16},
    "pack": {"tokens": 512, "images": 8, "window": 512},
    "language": LANGUAGE,
}
SMALL_QFORMER = {"type": "qformer", "queries": 8, "width": 64, "layers": 2, "heads": 2, "hidden": 128}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "contrastive": {"type": "contrastive"},
    "matching": {"type": "matching", "encoder": {"width": 64, "layers": 2, "heads": 2}},
    "qformer": {"type": "qformer", "connector": SMALL_QFORMER},
    "caption": {"type": "caption", "connector": {"type": "mlp", "vectors": 16}, "language": LANGUAGE},
    "multimodal": PACKED,
}
LARGE = {
    "data": {"batch_size": 16},
    "model": {"clip": "ViT-L-14-336"},
    "objective": {
        "type": "multimodal",
        "train_tower": True,
        "connector": {"type": "c_abstractor", "vectors": 144},
        "pack": {"tokens": 4096, "images": 16, "window": 512},
        "language": {"width": 2048, "layers": 20, "heads": 16},
    },
}


class TimedStream(Stream):
    """A stream that tells what its reader waited, and what it gave last."""

    waited, worked = 0.0, 0.0
    last: Batch

    def __next__(self) -> Batch:
        clock, thread = time.perf_counter(), time.thread_time()
        self.last = super().__next__()
        self.waited += time.perf_counter() - clock
        self.worked += time.thread_time() - thread
        return self.last


def trainer_of(settings: dict[str, Any], manifest: Path, ranks: Ranks, out: Path) -> tuple[Trainer, TimedStream]:
    """A trainer as `train.loop.run` makes it, on a stream that is timed."""
    run = {"cpu_threads": 1, "decode_threads": 4 if ranks.device.type == "cuda" else 1, "tensorboard": False}
    config = Config.model_validate({"seed": 1, **settings, "run": {**run, **settings.get("run", {})}})
    torch.manual_seed(1)
    prepared = prepare.build(config, build(config.model), manifest)
    reading = ReadOptions(config.run.decode_threads, config.run.prefetch)
    stream = TimedStream(manifest, config.data.batch_size, prepared.prepare, Share(), reading, prepared.packing)
    out.mkdir(parents=True, exist_ok=True)
    return Trainer(config, ranks, out, prepared, stream), stream


def bare_step(objective: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """What anyone's loop must do, and no more."""
    objective(tensors).backward()
    nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure_step(manifest: Path, ranks: Ranks, out: Path) -> Iterator[dict[str, Any]]:
    settings = {"data": {"batch_size": 2}, "model": {"clip": CLIP}, "objective": PACKED}
    trainer, stream = trainer_of(settings, manifest, ranks, out)
    cuda = ranks.device.type == "cuda"
    clock = time.perf_counter if cuda else time.thread_time
    own, bare, waiting, wall = list[float](), list[float](), list[float](), list[float]()
    for step in range(STEPS + 2):
        worked, waited, begun, walled = stream.worked, stream.waited, clock(), time.perf_counter()
        trainer.advance()
        took, whole = clock() - begun, time.perf_counter() - walled
        in_stream = (stream.waited - waited) if cuda else (stream.worked - worked)
        tensors = {name: value.to(ranks.device) for name, value in stream.last.tensors.items()}
        count = sum(trainer.objective.counts(tensors))
        tensors["scale"] = torch.full((len(trainer.stages.mixture.manifest.datasets),), 1 / count, device=ranks.device)
        begun = clock()
        bare_step(trainer.objective, trainer.optimizer, tensors)
        if cuda:
            torch.cuda.synchronize()
        if step >= 2:  # the first make what later ones use again
            bare.append(clock() - begun)
            own.append(took - in_stream)
            waiting.append(in_stream / took)
            wall.append((stream.waited - waited) / whole)
    stream.close()
    yield {
        "what": "step",
        "of_bare": round(statistics.median(bare) / statistics.median(own), 3),
        "waiting": round(statistics.median(waiting), 4),
        "waiting_wall": round(statistics.median(wall), 4),
        "step_ms": round(1e3 * statistics.median(own), 1),
        "bare_ms": round(1e3 * statistics.median(bare), 1),
        "padding": round(trainer.served.tally.padding_waste, 4),
    }


def documents(limits: PackLimits, side_px: int) -> tuple[list[Pack], list[PackedDocument]]:
    """Four packs' documents: of a text of about 300 tokens and up to two pictures each."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 3, 600)
    tokens = np.minimum(rng.lognormal(np.log(300), 0.8, 600).astype(int) + 2 + images * limits.visual_tokens, 16384)
    packs, found = plan_packs(range(600), tokens, images, limits)[:4], list[PackedDocument]()
    for position in (position for pack in packs for position in pack.positions):
        size, count = int(tokens[position]), int(images[position])
        tensors = {
            "ids": torch.randint(0, 1000, (size,)),
            "scored": torch.ones(size, dtype=torch.bool),
            "source": torch.tensor(position % 3),
            "account": torch.zeros(6, dtype=torch.long),
            "image": torch.zeros(count, 3, side_px, side_px, dtype=torch.uint8),
        }
        found.append(PackedDocument(str(position), tensors, False))
    return packs, found


def measure_collate() -> Iterator[dict[str, Any]]:
    for side_px in (0, 224, 336):
        limits = PackLimits(16384, 64 if side_px else 0, 64 if side_px else 0)
        packs, given = documents(PackLimits(16384, 64, 64), max(side_px, 1))
        times = []
        for _ in range(20):
            begun = time.process_time()
            made = assemble(packs, given, PackLimits(16384, 64, 64))
            times.append(time.process_time() - begun)
        pictures = len(made["image"]) if side_px else 0
        found = {"what": "collate", "tokens": [len(packs), limits.tokens], "documents": len(given)}
        yield {**found, "pictures": pictures, "side_px": side_px, "ms": round(1e3 * statistics.median(times), 2)}


def measure_objectives(manifest: Path, ranks: Ranks, out: Path) -> Iterator[dict[str, Any]]:
    for name, objective in OBJECTIVES.items():
        settings = {
            "data": {"batch_size": 8},
            "model": {"clip": CLIP},
            "objective": objective,
            "optim": {"precision": "bf16", "warmup": 0},
        }
        trainer, stream = trainer_of(settings, manifest, ranks, out / name)
        losses = [trainer.advance()[0].loss for _ in range(5)]
        stream.close()
        yield {"what": "objective", "name": name, "losses": [round(loss, 4) for loss in losses]}


def model_flops(trainer: Trainer, tensors: dict[str, Tensor]) -> float:
    """FLOPs of the products of a step: 6 a parameter and token, 12 x width a layer and pair of tokens that may meet."""
    net = trainer.objective.net
    language, segments = net.language, tensors["segments"].flatten(1).cpu()
    lengths = [torch.bincount(row)[1:].double() for row in segments]
    pairs = sum(float((found**2).sum()) / 2 for found in lengths)  # causal
    tokens = float((segments > 0).sum())
    found = 6 * language.size() * tokens + 12 * language.depth * language.width * pairs
    found += 6 * language.embedding.weight.numel() * float(tensors["scored"].sum())
    for tower in net.all_towers().values():
        places = tower.shape.grid[0] * tower.shape.grid[1] + 1
        size, count = sum(p.numel() for p in tower.net.parameters()), len(tensors["image"])
        layers = 24  # ViT-L
        found += count * (6 * size * places + 12 * layers * tower.shape.width * places**2)
        found += 6 * sum(p.numel() for p in net.connector.parameters()) * count * net.connector.places
    return found


def measure_mfu(settings: dict[str, Any], manifest: Path, ranks: Ranks, out: Path) -> Iterator[dict[str, Any]]:
    run = {"compile": True}
    trainer, stream = trainer_of({**settings, "optim": {"precision": "bf16"}, "run": run}, manifest, ranks, out)
    rates, images, flops = list[float](), list[float](), list[float]()
    for step in range(18):
        begun, waited = time.perf_counter(), stream.waited
        trainer.advance()  # which ends in reading the loss: the device is done
        took = time.perf_counter() - begun
        if step >= 8:  # compiled by then
            flops.append(model_flops(trainer, stream.last.tensors))
            rates.append(flops[-1] / took)
            images.append(len(stream.last.tensors["image"]) / took)
        print(f"step {step}: {took:.3f} s, of it {stream.waited - waited:.3f} waiting", file=sys.stderr, flush=True)
    stream.close()
    name = torch.cuda.get_device_name() if ranks.device.type == "cuda" else "cpu"
    peak = next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)
    yield {
        "what": "mfu",
        "device": name,
        "parameters": sum(p.numel() for p in trainer.objective.parameters()),
        "step_tflop": round(statistics.median(flops) / 1e12, 2),
        "tflop_per_s": round(statistics.median(rates) / 1e12, 1),
        "mfu": round(statistics.median(rates) / peak, 3) if peak else f"no peak is known of {name}",
        "images_per_s": round(statistics.median(images), 1),
    }


def measured(work: Path, only: set[str], ranks: Ranks) -> Iterator[dict[str, Any]]:
    folder = materials(work, SAMPLES)
    add_text_tokens(folder, "bytes")
    manifest, out = work / f"mixture-{SAMPLES}.json", work / "runs"
    if "step" in only:
        yield from measure_step(manifest, ranks, out / "step")
    if "collate" in only:
        yield from measure_collate()
    if "objectives" in only:
        yield from measure_objectives(manifest, ranks, out)
    if "mfu" not in only:
        return
    if ranks.device.type == "cuda":
        yield from measure_mfu(LARGE, manifest, ranks, out / "mfu")
    else:
        yield {"what": "mfu", "mfu": "no GPU here: not measured, and no objective's CUDA path was run"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="step,collate,objectives,mfu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with join_ranks("auto") as ranks:
        for line in measured(options.work, set(options.only.split(",")), ranks):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
