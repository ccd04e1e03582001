"""A model that sees by each connector, beside its blind twin and beside wrong pictures.

    OMP_NUM_THREADS=1 python -m bench.connectors [--only resampler] [--seeds 3] [--steps 150]

Twemoji's drawings and their English names (3,953 pairs; skin tones and flags among them) are captioned, word by
word, by a small decoder behind the tiny CLIP that ships with the package, whose tower is frozen, was trained on
drawings by other hands, and gives 4 x 4 vectors at 128 px; connectors over two towers see it at 64 px too, 2 x 2. Held
out are the things that this tower's training left out too, in all their skin tones: about one in ten. Measured there,
in nats a word, with the weights after the last step:

    seeing      each name with its own picture
    shuffled    the same model, each name with another's picture
    blind       a twin, trained as long on the same names in the same order, for which all vectors are zeros

A connector is one line of `PROOFS`: settings of the caption objective that differ from its defaults.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from curate.models.connectors.table import connector_of
from curate.models.features import Features, Pictures
from curate.models.fusion import fusion_of
from curate.models.language import LanguageModel
from curate.models.towers.tower import TowerConfig, VisionTower
from curate.models.vision_language import PICTURE, VisionLanguage
from curate.stream.resize import whole
from pipelines.materials.drawings import held_out, twemoji
from pipelines.materials.packages import fetch

TOWER = Path(__file__).parents[1] / "curate" / "weights" / "tiny-clip.safetensors"
SIDES_PX, BATCH = (128, 64), 64
WIDTH, LAYERS, HEADS = 64, 2, 4
RATE, WARMUP, STEPS = 2e-3, 20, 150
NOTHING, BEGIN, END, UNKNOWN = range(4)
SMALL = {"heads": 4, "head_width": 32}
AGGREGATOR = {"type": "sva", "side": 2, "layers": 2, "width": 64, "heads": 4}

PROOFS: Mapping[str, dict[str, Any]] = {
    "linear": {"connector": {"type": "linear"}},
    "mlp": {"connector": {"type": "mlp"}},
    "c_abstractor": {"connector": {"type": "c_abstractor", "vectors": 9, "hidden": 128, "depth": 1}},
    "resampler": {"connector": {"type": "resampler", "latents": 8, "depth": 2, **SMALL}},
    "idefics2_pooling": {"connector": {"type": "idefics2_pooling", "latents": 8, "depth": 2, **SMALL}},
    "flamingo": {
        "connector": {"type": "resampler", "latents": 8, "depth": 2, **SMALL},
        "fusion": {"type": "cross_attention", "interval": 1, **SMALL},
    },
    "qformer": {
        "connector": {
            "type": "qformer",
            "queries": 8,
            "width": 64,
            "layers": 2,
            "heads": 4,
            "hidden": 256,
            "dropout": 0,
        }
    },
    "channels": {"connector": {"type": "channels"}, "towers": (0, 1)},
    "mining": {"connector": {"type": "mining", "cell": 2}, "towers": (1, 0)},
    "sva": {"connector": AGGREGATOR, "towers": (1, 0)},
    "sva_inside": {"connector": {**AGGREGATOR, "inside": {"stride": 1, "layers": 1}}, "towers": (1, 0)},
}


@dataclass(frozen=True)
class NamedPictures:
    """Pictures as all towers see them, and their names: begin, words, end, and nothing up to the longest's end."""

    x_NPD: Tensor  # noqa: N815
    ids_NT: Tensor  # noqa: N815
    words: int

    def of(self, which: Tensor) -> NamedPictures:
        return NamedPictures(self.x_NPD[which], self.ids_NT[which], self.words)

    def with_pictures(self, x_NPD: Tensor) -> NamedPictures:  # noqa: N803
        return NamedPictures(x_NPD, self.ids_NT, self.words)


@dataclass(frozen=True)
class ConnectorProof:
    """Nats a word: of the first and last 20 steps, and held out."""

    first: float
    last: float
    seeing: float
    shuffled: float
    blind: float
    cpu_seconds: float


def read_pairs() -> tuple[NamedPictures, NamedPictures, list[VisionTower]]:
    """(pairs to train on, pairs held out, the towers). Raises PackageUnavailableError."""
    torch.set_num_threads(1)
    towers = [TowerConfig(model=str(TOWER), size_px=side).build().requires_grad_(False).eval() for side in SIDES_PX]
    found = twemoji(fetch("twemoji"), fetch("emoji-names"))
    seen = []
    for tower in towers:
        images = torch.stack([whole(drawing.file.read_bytes(), tower.size_px) for drawing in found])
        seen.append(torch.cat([tower(Pictures(part)).x_MPD for part in images.split(256)]))
    out = torch.tensor([held_out(drawing.code) for drawing in found])
    ids_NT, words = spelled([drawing.names["en"].split() for drawing in found], out)
    pairs = NamedPictures(torch.cat(seen, 1), ids_NT, words)
    return pairs.of(~out), pairs.of(out), towers


def spelled(names: list[list[str]], out: Tensor) -> tuple[Tensor, int]:
    """(ids of names, how many ids there are): a word is one that some name to train on has."""
    known = sorted({word for name, left in zip(names, out.tolist(), strict=True) if not left for word in name})
    number = {word: 4 + n for n, word in enumerate(known)}
    ids_NT = torch.full((len(names), 2 + max(map(len, names))), NOTHING)
    for row, name in enumerate(names):
        ids = [BEGIN, *(number.get(word, UNKNOWN) for word in name), END]
        ids_NT[row, : len(ids)] = torch.tensor(ids)
    return ids_NT, 4 + len(known)


def network(towers: list[VisionTower], words: int, settings: Mapping[str, Any]) -> VisionLanguage:
    """A network of random weights behind the towers that the settings take, by default the first."""
    language = LanguageModel(words, WIDTH, LAYERS, HEADS)
    connector, fusion = connector_of(settings["connector"]), fusion_of(settings.get("fusion", {"type": "tokens"}))
    taken = {f"tower{n}": towers[n] for n in settings.get("towers", (0,))}
    return VisionLanguage(taken, connector, language, fusion)


def features_in(net: VisionLanguage, pairs: NamedPictures) -> list[Features]:
    """Features that the network's towers give of the pictures."""
    parts = pairs.x_NPD.split([(side // 32) ** 2 for side in SIDES_PX], 1)
    taken = [(parts[SIDES_PX.index(tower.size_px)], tower.shape.grid) for tower in net.all_towers().values()]
    return [Features(x_NPD, grid) for x_NPD, grid in taken]


def loss_of(net: VisionLanguage, pairs: NamedPictures) -> Tensor:
    """Nats a word of names behind their pictures; what no name to train on has is not asked for."""
    vectors_NPE = net.connect(features_in(net, pairs))
    pictures = torch.full((len(pairs.ids_NT), net.places), PICTURE)
    ids_NS = torch.cat((pairs.ids_NT[:, :1], pictures, pairs.ids_NT[:, 1:]), 1)
    y_NSE = net.language(net.embed(ids_NS, vectors_NPE), between=net.between(ids_NS, vectors_NPE))[:, net.places : -1]
    scored_NT = (pairs.ids_NT[:, 1:] != NOTHING) & (pairs.ids_NT[:, 1:] != UNKNOWN)
    return F.cross_entropy(net.language.logits(y_NSE[scored_NT]), pairs.ids_NT[:, 1:][scored_NT])


def trained(net: VisionLanguage, pairs: NamedPictures, seed: int, steps: int) -> list[float]:
    """Train all but the tower; the loss of each step."""
    torch.manual_seed(seed)
    parts = net.parts()
    optimizer = torch.optim.AdamW([p for name in parts if name != "tower" for p in parts[name]], lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARMUP, 1 - (step - WARMUP) / max(steps - WARMUP, 1))
    )
    losses = []
    for which in batches(len(pairs.ids_NT), steps):
        loss = loss_of(net, pairs.of(which))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def batches(count: int, steps: int) -> Iterator[Tensor]:
    """Rows of each step, an epoch being each row once."""
    order = torch.randperm(count)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.cat((order, torch.randperm(count)))
        yield order[:BATCH]
        order = order[BATCH:]


def prove(
    settings: Mapping[str, Any], data: tuple[NamedPictures, NamedPictures, list[VisionTower]], seed: int, steps: int
) -> ConnectorProof:
    """Train a model and its blind twin, and measure both on pairs that neither has seen."""
    pairs, unseen, towers = data
    began, nets, losses = time.process_time(), [], []
    for given in (pairs, pairs.with_pictures(torch.zeros_like(pairs.x_NPD))):
        torch.manual_seed(seed)
        nets.append(network(towers, pairs.words, settings))
        losses.append(trained(nets[-1], given, seed, steps))
    with torch.no_grad():
        seeing = loss_of(nets[0].eval(), unseen).item()
        shuffled = loss_of(nets[0], unseen.with_pictures(unseen.x_NPD.roll(len(unseen.x_NPD) // 2, 0))).item()
        blind = loss_of(nets[1].eval(), unseen.with_pictures(torch.zeros_like(unseen.x_NPD))).item()
    first, last = mean(losses[0][:20]), mean(losses[0][-20:])
    return ConnectorProof(first, last, seeing, shuffled, blind, time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(PROOFS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    data = read_pairs()
    print(f"{len(data[0].ids_NT)} pairs to train on, {len(data[1].ids_NT)} held out, {args.steps} steps of {BATCH}")
    columns = ("first", "last", "seeing", "shuffled", "blind", "cpu_seconds")
    print("| connector | " + " | ".join(columns) + " |\n|---" + "|---:" * len(columns) + "|")
    for name in [args.only] if args.only else PROOFS:
        found = [prove(PROOFS[name], data, seed, args.steps) for seed in range(args.seeds)]
        cells = [" / ".join(f"{getattr(proof, column):.3f}" for proof in found) for column in columns]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        print(json.dumps({"connector": name, "proofs": [vars(proof) for proof in found]}), flush=True)


if __name__ == "__main__":
    main()
