"""Measure how full packs are and how soon they are planned, against simple baselines.

    python bench/packing.py --work DIR

Lengths are drawn once by a seed: captions of 20 tokens and an image, pages of up to 11 texts of 150 tokens and as many
images, texts of 900 tokens, mixed 45/45/10. Only indexes are made and read: no image, no text.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate import mix
from curate.mix.content import PICTURE
from curate.mix.indexes import IMAGES, LAYOUT, SYSTEM_TOKENS, TEXT_TOKENS
from curate.mix.spec import Entry
from curate.sample import Kind, uid_of
from curate.shards import DatasetInfo, ShardWriter, save_dataset
from curate.stream.batches import PackBatchSampler, Packing
from curate.stream.documents import CutRule
from curate.stream.forms import SequenceForm
from curate.stream.packing import Pack, PackLimits, padding_share
from curate.stream.prompts import TextChooser
from curate.stream.reading import Share
from curate.stream.sample_lengths import SampleLengths
from curate.stream.sequences import Sizes
from curate.stream.stages import Stages
from curate.tokens.encoders import text_code
from train.prepare import StageRules

SAMPLES: dict[Kind, int] = {"caption": 40_000, "interleaved": 30_000, "text": 10_000}
WEIGHTS: dict[Kind, float] = {"caption": 0.45, "interleaved": 0.45, "text": 0.10}
SCHEMA = pa.schema(
    [(TEXT_TOKENS, pa.int32()), (IMAGES, pa.int32()), (SYSTEM_TOKENS, pa.int32()), (LAYOUT, pa.list_(pa.int32()))]
)
RULES = {"MM1": CutRule(4096, 16), "Flamingo": CutRule(4096, 5, 256, "random", 0.5)}
WINDOWS = (256, 1024, 4096, 16384)
RUNS = 5


def layout(kind: Kind, rng: np.random.Generator) -> list[int]:
    """The texts and images of one sample."""
    if kind == "caption":
        return [PICTURE, int(rng.geometric(1 / 20))]
    if kind == "text":
        return [int(rng.geometric(1 / 900))]
    return [size for _ in range(rng.integers(1, 12)) for size in (int(rng.geometric(1 / 150)), PICTURE)]


def datasets(home: Path) -> Path:
    """A dataset of each kind, of lengths alone, and their mixture."""
    rng = np.random.default_rng(0)
    for kind, count in SAMPLES.items():
        if (home / kind / "dataset.json").exists():
            continue
        with ShardWriter(home / kind / "00000.tar", kind, SCHEMA) as writer:
            for number in range(count):
                laid = layout(kind, rng)
                columns = {TEXT_TOKENS: sum(n for n in laid if n != PICTURE), IMAGES: laid.count(PICTURE)}
                writer.add(uid_of(kind, str(number)), {"txt": b"x"}, {**columns, SYSTEM_TOKENS: 0, LAYOUT: laid})
        info = writer.info
        found = DatasetInfo(name=kind, kind=kind, samples=count, bytes=info.bytes, recipe="bench", shards=(info,))
        save_dataset(found, home / kind)
    entries = tuple(Entry(path=kind, weight=weight) for kind, weight in WEIGHTS.items())
    mix.compose(mix.MixtureSpec(seed=1, sources=entries), home, home / "mixture.json")
    return home / "mixture.json"


def first_come(packs: list[Pack], limits: PackLimits) -> float:
    """The waste where documents are packed in the order in which they come, a new pack where one does not fit."""
    sized = {p: n for pack in packs for p, *n in zip(pack.positions, pack.tokens, pack.images, strict=True)}
    count, tokens, images = 1, 0, 0
    for position in sorted(sized):
        need, pictures = sized[position]
        if tokens + need > limits.tokens or images + pictures > limits.images:
            count, tokens, images = count + 1, 0, 0
        tokens, images = tokens + need, images + pictures
    return 1 - sum(need for need, _ in sized.values()) / (count * limits.tokens)


def measured(path: Path) -> Iterator[dict[str, object]]:
    """A line for each rule and window."""
    mixture = mix.load(path)
    stages, chooser = Stages(mixture, 224), TextChooser(mixture, 0)
    for name, rule in RULES.items():
        form = SequenceForm(text_code("bytes"), 144)
        sizes = Sizes(chooser, form, StageRules(stages, rule), SampleLengths(mixture))
        for size in WINDOWS:
            limits = PackLimits(window=size)
            sampler = PackBatchSampler(Packing(sizes, stages, limits), 1, Share())
            packs, times = list[Pack](), []
            for number in range(RUNS + 1):
                begun = time.perf_counter()
                window = sampler._pack_window(number * size, (number + 1) * size, 0)
                times.append(time.perf_counter() - begun)
                packs += window.packs
            used, images = (sum(n for pack in packs for n in getattr(pack, name)) for name in ("tokens", "images"))
            least = max(-(-used // limits.tokens), -(-images // limits.images))
            alone = used / sum(len(pack.positions) for pack in packs)
            yield {
                "rule": name,
                "window": size,
                "ms_a_window": round(1e3 * float(np.median(times[1:])), 2),
                "waste": round(padding_share(packs, limits.tokens), 4),
                "waste_least": round(1 - used / limits.tokens / least, 4),
                "waste_first_come": round(first_come(packs, limits), 4),
                "waste_one_a_sequence": round(1 - alone / limits.tokens, 4),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True)
    for line in measured(datasets(parser.parse_args().work)):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
