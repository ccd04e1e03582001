"""Captions a second of the op `caption`, beside a bare `generate` loop of `transformers` at the same batch.

    OMP_NUM_THREADS=1 python -m bench.captions [--images 48] [--turns 3]

The model is a BLIP of random weights: BLIP-base's text decoder with half of its layers, its vocabulary of 30,524, and a
vision tower of ViT-S/16's size at 224 px. The same decoded images go through both in turns, with BLIP's settings
(nucleus .9, 10 to 30 tokens, repetition penalty 1.1) in batches of 16; preparing an image's pixels is part of both, by
the op's own means, since it is the caption that is compared. Random weights seldom end a caption: both write 30 tokens.
Processor time of this process.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from curate.ops.synth.caption import caption

BATCH = 16


def save_blip(folder: Path) -> None:
    """Write the model as `transformers` saves one."""
    import transformers

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    vocabulary += [f"w{n}" for n in range(30_524 - len(vocabulary))]
    text = {"num_hidden_layers": 6, "encoder_hidden_size": 384, "bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0}
    vision = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6,
              "image_size": 224, "patch_size": 16}  # fmt: skip
    torch.manual_seed(0)
    transformers.BlipForConditionalGeneration(
        transformers.BlipConfig(text_config=text, vision_config=vision)
    ).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    transformers.BlipImageProcessor(size={"height": 224, "width": 224}).save_pretrained(folder)


class Bare:
    """The loop that anyone would write."""

    def __init__(self, folder: Path, prepare: Any) -> None:
        import transformers

        self._net: Any = transformers.BlipForConditionalGeneration.from_pretrained(folder).eval()
        self._tokenizer: Any = transformers.BertTokenizer.from_pretrained(folder)
        self._prepare = prepare

    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """A caption an image."""
        found: list[str] = []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                pixels = torch.stack([self._prepare(image) for image in images[start : start + BATCH]])
                ids = self._net.generate(
                    pixel_values=pixels, do_sample=True, top_p=0.9, top_k=0, min_length=10, max_length=30,
                    repetition_penalty=1.1,
                )  # fmt: skip
                found += self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return found


def main() -> None:
    """Print captions a second of both and their ratio, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    chance = np.random.default_rng(0)
    images = [Image.fromarray(chance.integers(0, 256, (240, 320, 3), np.uint8)) for _ in range(args.images)]
    uids = [f"{n:032x}" for n in range(args.images)]
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        save_blip(folder)
        ours = caption(model=str(folder))
        bare = Bare(folder, ours._captioner.prepare)
        works = {"op caption": lambda: ours(images, uids)["caption"], "bare generate": lambda: bare(images)}
        spent: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(args.turns):
            for name, work in works.items():
                start = time.process_time()
                written = work()
                spent[name].append(time.process_time() - start)
                assert len(written) == args.images and all(written)
    rates = {name: args.images / min(took) for name, took in spent.items()}
    ratio = rates["op caption"] / rates["bare generate"]
    print(json.dumps({"images": args.images, "captions_per_s": rates, "ratio": ratio}, indent=2))


if __name__ == "__main__":
    main()
