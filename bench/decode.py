"""Measure how decoding a JPEG at a fraction of its size changes a CLIP's view of it, and its pixels.

    python bench/decode.py --weights TINY_CLIP.safetensors [--images FOLDER] [--count 200]

Photographs and drawings (wallpapers from Debian, cut to tiles of 570x446 and 1140x892, JPEG of quality 90) are shown to
a dual encoder three ways: by open_clip's transform (exact), by the fast decode at `LEAST` times the target or
more, and at just the target or more. The score is the cosine of image and caption, for 12 captions each. One JSON line
a size and way: mean and largest change of the score, mean cosine of the two embeddings, the pixels' PSNR in decibels.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from curate.models.image_tower import normalised
from curate.stream.images import LEAST
from curate.stream.resize import exact, fast
from curate.stream.tokens import token_ids
from train.models.dual_encoder import load_export

CAPTIONS = [
    f"a {kind} of {what}"
    for kind in ("drawing", "photo")
    for what in ("a mountain", "water", "the night sky", "a red flower", "a tree", "coloured paper")
]


def wallpapers() -> Path:
    import duplicates  # its materials, beside this script

    from pipelines.materials.packages import fetch

    assert duplicates
    return fetch("wallpapers")


def tiles(folder: Path, width: int, height: int, count: int) -> Iterator[bytes]:
    """Random cuts of the folder's pictures, encoded again."""
    rng = np.random.default_rng(0)
    found = sorted(
        path for path in folder.rglob("*") if path.suffix in (".jpg", ".png") and path.stat().st_size > 10**5
    )
    for number in range(count):
        if number % 8 == 0:
            image = Image.open(found[(number // 8) % len(found)]).convert("RGB")
        left = int(rng.integers(0, max(image.width - width, 1)))
        top = int(rng.integers(0, max(image.height - height, 1)))
        file = io.BytesIO()
        image.crop((left, top, left + width, top + height)).save(file, "JPEG", quality=90)
        yield file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=200)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    clip = load_export(asked.weights)
    clip.net.eval()
    ways: dict[str, Callable[[bytes], Tensor]] = {
        f"at least {LEAST:g} times the target": lambda data: fast(data, clip.size_px),
        "at least the target": lambda data: fast(data, clip.size_px, 1.0),
        "whole": lambda data: fast(data, clip.size_px, 1e9),
    }
    with torch.inference_mode():
        texts_ND = torch.nn.functional.normalize(clip.net.encode_text(token_ids(clip.tokenizer, CAPTIONS)), dim=-1)

        def embedded(images: list[Tensor]) -> Tensor:
            found = clip.net.encode_image(normalised(torch.stack(images)))
            return torch.nn.functional.normalize(found.float(), dim=-1)

        for width, height in ((570, 446), (1140, 892)):
            data = list(tiles(asked.images or wallpapers(), width, height, asked.count))
            truth = [exact(one, clip.size_px) for one in data]
            truth_BD = embedded(truth)
            for name, way in ways.items():
                seen = [way(one) for one in data]
                seen_BD = embedded(seen)
                change = ((seen_BD - truth_BD) @ texts_ND.float().T).abs()
                errors = [(a.double() - b.double()).square().mean().item() for a, b in zip(seen, truth, strict=True)]
                figures = {
                    "images": f"{width}x{height} to {clip.size_px}",
                    "decoded": name,
                    "score_change_mean": round(change.mean().item(), 5),
                    "score_change_max": round(change.max().item(), 5),
                    "cosine": round((seen_BD * truth_BD).sum(-1).mean().item(), 6),
                    "psnr_db": round(10 * float(np.log10(255**2 / max(np.mean(errors), 1e-9))), 2),
                }
                print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
