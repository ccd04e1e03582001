"""A step's gradient: the same however a batch is cut, over parts or ranks; clipped once; recomputed; compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from train_samples import CAPTION, MULTIMODAL, TINY, command, composed, mixture, settings

from train.__main__ import main
from train.objectives.cross_entropy import CHUNK, token_losses
from train.parallel import repeated_blocks

ONCE = {**TINY["optim"], "steps": 1, "warmup": 0, "betas": [0.9, 0.98], "clip_norm": 1e9}
DEEPER = {**MULTIMODAL, "language": {"width": 32, "layers": 2, "heads": 2}}
PACKS = {"objective": DEEPER, "data": {"batch_size": 4}}
FLAMINGO = """mode: accumulate
sources: [{path: many, weight: 1.0, batch: 12}, {path: few, weight: 0.2, batch: 4}]
"""


def gradients(out: Path) -> dict[str, torch.Tensor]:
    """The gradient of a run's one step, after clipping: a tenth of it is AdamW's first moment."""
    moments = load_file(out / "checkpoints" / "00000001" / "optimizer.safetensors")
    return {name: 10 * value for name, value in moments.items() if name.endswith("/exp_avg")}


def one_step(manifest: Path, folder: Path, *words: str, **changed: Any) -> dict[str, torch.Tensor]:
    config = settings(folder, **{"optim": ONCE, **changed})
    assert main(command(manifest, config, folder / "out", *words)[2:]) == 0
    return gradients(folder / "out")


def whole_norm(found: dict[str, torch.Tensor]) -> float:
    return float(torch.linalg.vector_norm(torch.cat([value.flatten().double() for value in found.values()])))


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], most: float = 1e-6) -> None:
    """The whole gradients differ by `most` of their length at most."""
    assert found.keys() == wanted.keys()
    assert whole_norm({name: found[name] - wanted[name] for name in found}) < most * whole_norm(wanted)


def test_packs_in_1_2_and_4_parts_have_the_same_gradient(kinds: Path, tmp_path: Path) -> None:
    found = {n: one_step(kinds, tmp_path / str(n), **PACKS, optim={**ONCE, "accumulate": n}) for n in (1, 2, 4)}
    assert_same(found[2], found[1])
    assert_same(found[4], found[1])


def test_weighted_sources_in_parts_of_one_source_have_the_same_gradient(tmp_path: Path) -> None:
    """In mode accumulate the first parts hold one source alone, and yet each source's loss is its mean of the step."""
    mixture(tmp_path / "mixture")
    manifest = composed(tmp_path / "mixture", FLAMINGO)
    found = {
        n: one_step(manifest, tmp_path / str(n), objective=CAPTION, optim={**ONCE, "accumulate": n}) for n in (1, 2, 4)
    }
    assert_same(found[2], found[1])
    assert_same(found[4], found[1])


def test_gradient_is_clipped_once_a_step_not_once_a_part(kinds: Path, tmp_path: Path) -> None:
    whole = one_step(kinds, tmp_path / "whole", **PACKS)
    clipped = one_step(kinds, tmp_path / "clipped", **PACKS, optim={**ONCE, "accumulate": 4, "clip_norm": 0.5})
    assert whole_norm(clipped) == pytest.approx(0.5, rel=1e-5)
    length = whole_norm(whole)
    assert length > 1
    assert_same({name: value * length / 0.5 for name, value in clipped.items()}, whole, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "weighted", [pytest.param(False, marks=pytest.mark.systems), True], ids=["packs", "weighted sources"]
)
def test_ranks_of_unequal_text_have_the_gradient_of_one(kinds: Path, tmp_path: Path, weighted: bool) -> None:
    manifest, changed = kinds, dict[str, Any](PACKS)
    if weighted:
        mixture(tmp_path / "mixture")
        manifest, changed = composed(tmp_path / "mixture", FLAMINGO), {"objective": CAPTION}
    alone = one_step(manifest, tmp_path / "one", **changed)
    config = settings(tmp_path / "two", **{"optim": {**ONCE, "accumulate": 2}, **changed})
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, *command(manifest, config, tmp_path / "two" / "out")], check=True, capture_output=True)
    assert_same(gradients(tmp_path / "two" / "out"), alone)


def test_recomputed_activations_give_the_same_gradient(kinds: Path, tmp_path: Path) -> None:
    kept = one_step(kinds, tmp_path / "kept", **PACKS)
    assert_same(one_step(kinds, tmp_path / "again", "--set", "run.recompute=true", **PACKS), kept)


@pytest.mark.slow
@pytest.mark.systems
def test_compiled_blocks_give_the_same_gradient(kinds: Path, tmp_path: Path) -> None:
    plain = one_step(kinds, tmp_path / "plain", **PACKS)
    words = ("--set", "run.compile=true", "--set", "run.recompute=true")
    assert_same(one_step(kinds, tmp_path / "compiled", *words, **PACKS), plain, 1e-4)


def test_losses_of_tokens_in_chunks_are_those_of_all_at_once_and_keep_no_scores() -> None:
    torch.manual_seed(0)
    head, count = nn.Linear(16, 300, bias=False), 2 * CHUNK + 5
    wanted, scale, most = torch.randint(300, (count,)), torch.rand(count), list[int]()

    def logits(y: torch.Tensor) -> torch.Tensor:
        most.append(len(y))
        return head(y)

    y = torch.randn(count, 16, requires_grad=True)
    found = token_losses(y, wanted, logits)
    (found * scale).sum().backward()  # type: ignore[no-untyped-call]
    chunked = y.grad, head.weight.grad
    assert max(most) == CHUNK and len(most) == 6, "each chunk twice: forwards, and again backwards"
    y.grad = head.weight.grad = None
    whole = F.cross_entropy(head(y), wanted, reduction="none")
    (whole * scale).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(chunked[0], y.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(chunked[1], head.weight.grad, rtol=1e-5, atol=1e-4)


def test_blocks_are_the_outermost_that_a_network_repeats() -> None:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2)) for _ in range(3))
            self.mlp = nn.Sequential(nn.Linear(2, 4), nn.GELU(), nn.Linear(4, 2))
            self.one = nn.ModuleList([nn.Linear(2, 2)])
            self.acts = nn.Sequential(nn.GELU(), nn.GELU())
            self.tower = nn.ModuleDict({"layers": nn.Sequential(*(nn.TransformerEncoderLayer(4, 1, 4) for _ in "ab"))})

    net = Layers()
    names = {module: name for name, module in net.named_modules()}
    assert [names[block] for block in repeated_blocks(net)] == ["tower.layers.0", "tower.layers.1"]
