"""`python -m pipelines.materials.tiny_clip`: write the pairs of the tiny CLIP, measure it, print its card."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from curate import mix
from curate.mix.spec import Entry
from pipelines.materials.tiny_clip.card import card, measure
from pipelines.materials.tiny_clip.pairs import THINGS_WEIGHT, write_pairs


def main(argv: Sequence[str]) -> int:
    """`pairs FOLDER` writes the pairs and their mixture; `measure WEIGHTS` and `card WEIGHTS` print the figures."""
    if len(argv) != 2 or argv[0] not in ("pairs", "measure", "card"):
        print(
            "usage: python -m pipelines.materials.tiny_clip pairs FOLDER | measure WEIGHTS | card WEIGHTS",
            file=sys.stderr,
        )
        return 2
    path = Path(argv[1])
    if argv[0] == "card":
        print(card(path), end="")
        return 0
    if argv[0] == "measure":
        print(json.dumps(asdict(measure(path))))
        return 0
    things, tones = write_pairs(path)
    weights, texts = {"things": THINGS_WEIGHT, "tones": 1 - THINGS_WEIGHT}, {"captions": 1.0}
    entries = tuple(Entry(path=name, weight=weight, texts=texts) for name, weight in weights.items())
    mixture = mix.compose(mix.MixtureSpec(seed=7, sources=entries), path, path / "mixture.json").mixture
    print(json.dumps({"things": things.samples, "tones": tones.samples, "sources": len(mixture.manifest.datasets)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
