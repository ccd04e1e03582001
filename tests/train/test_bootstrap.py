"""BLIP-2's stage one: its published losses and sizes, what it draws and teaches, on one rank and on two."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from train_samples import TINY, command, lines, settings
from trained_parts import set_trained

from curate.models.bootstrap import BootstrapHeads, similarities
from curate.models.features import Features, Pictures, ReadTexts
from curate.models.qformer import QFormer, QFormerShape
from curate.stream.instructions import NOTHING
from curate.tokens.encoders import text_code
from train.__main__ import main
from train.config import BootstrapConfig, Config
from train.models.dual_encoder import build
from train.models.towers import towers_of
from train.objectives.bootstrap import BootstrapObjective, itc_loss
from train.objectives.matching import draw_negatives

CODE = text_code("bytes")
TOLD = {
    "type": "qformer",
    "text_length": 24,
    "features": 16,
    "connector": {
        "type": "qformer",
        "tokenizer": "bytes",
        "queries": 4,
        "width": 32,
        "layers": 2,
        "heads": 2,
        "hidden": 48,
        "positions": 24,
    },
}


EYE = {"model": TINY["model"]["clip"], "class_vector": True, "norm": True}
"""A tower as BLIP-2 has it: the class vector kept, a norm over the vectors that trains."""


def objective(**changed: Any) -> BootstrapObjective:
    told = {"objective": {**TOLD, **changed}, "model": {"towers": {"eye": EYE}, "tokenizer": "simple:1024"}}
    config = Config.model_validate({**TINY, **told})
    assert isinstance(config.objective, BootstrapConfig)
    torch.manual_seed(0)
    made = BootstrapObjective(towers_of(config.model, build(config.model)), config.objective).eval()
    set_trained(made, made.trained)
    return made


def batch(*texts: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(texts), 3, 32, 32), dtype=torch.uint8, generator=generator)
    ids = torch.full((len(texts), 24), NOTHING)
    for row, text in enumerate(texts):
        spelled = [CODE.begin, *CODE.encode(text), CODE.end]
        ids[row, : len(spelled)] = torch.tensor(spelled)
    return {"image": images, "text": ids}


def gradients(made: BootstrapObjective) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def test_contrast_has_the_published_loss() -> None:
    """Values by LAVIS's formula: queries 1..12 as 2 x 3 x 2 in unit length, texts e1 and e2."""
    queries = F.normalize(torch.arange(1.0, 13).view(2, 3, 2), dim=-1)
    i2t, t2i = similarities(queries, torch.eye(2)) / 0.07, similarities(queries, torch.eye(2)).T / 0.07
    wanted = torch.tensor([[9.1454916, 12.7775307], [9.6532087, 10.7510958]])
    torch.testing.assert_close(i2t, wanted)
    assert itc_loss(i2t, t2i, 0, 0.1).item() == pytest.approx(1.7054353, abs=1e-6)


@pytest.mark.parametrize(("vision", "parameters"), [(1408, 186_705_470), (1024, 183_165_758)])
def test_everything_that_trains_in_stage_one_has_the_published_size(vision: int, parameters: int) -> None:
    with torch.device("meta"):
        parts = QFormer(QFormerShape(vision, ids=30_523)), BootstrapHeads(768, 256, 30_523, 0.07)
        trained = [*parts, torch.nn.LayerNorm(vision)]  # the last is the tower's (`TowerConfig.norm`)
    assert sum(p.numel() for module in trained for p in module.parameters()) == parameters


def test_loss_is_contrast_matching_and_telling_by_hand() -> None:
    """With two samples there is one negative to draw, so all three losses can be written down."""
    made, given = objective(), batch("a red square", "blue")
    net, heads, picture = made.net.connector, made.net.heads, made.net.tower(Pictures(given["image"]))
    text = ReadTexts.of(given["text"])
    query, kept = net.see(picture)
    i2t = similarities(F.normalize(heads.image(query), dim=-1), F.normalize(heads.text(net.read(text)[:, 0]), dim=-1))
    itc = itc_loss(i2t / 0.07, i2t.T / 0.07, 0, 0.1)
    pairs = [(0, 0, 1), (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 1, 0), (1, 0, 0)]  # picture, text, whether they match
    itm = []
    for i, t, matched in pairs:
        row = net.join(
            Features(picture.x_MPD[i : i + 1], picture.grid), ReadTexts(text.ids_NT[[t]], text.there_NT[[t]])
        )
        itm.append(F.cross_entropy(heads.match(row).mean(1), torch.tensor([matched])))
    told = text.ids_NT.clone()
    told[:, 0] = CODE.vocab_size
    assert net.words is not None
    logits = heads.tell(net.tell(ReadTexts(told, text.there_NT), kept)[:, :-1], net.words.weight)
    labels = given["text"][:, 1:]
    itg = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=NOTHING, label_smoothing=0.1)
    wanted = itc + torch.stack(itm).mean() + itg
    torch.testing.assert_close(made(given), 2 * wanted)
    torch.testing.assert_close(made({**given, "scale": torch.tensor([0.5])}), wanted)


def test_what_is_contrasted_with_stands_still() -> None:
    """The text's projection learns from rows of texts alone: as if its features in the pictures' rows were given."""
    made, given = objective(), batch("a red square", "blue")
    images, _ = made.net.image_features(made.net.tower(Pictures(given["image"])))
    texts = made.net.text_features(ReadTexts.of(given["text"]))
    i2t, t2i = made._logits(images, texts)
    of_image, of_text = made.net.heads.image.weight, made.net.heads.text.weight
    for logits, learns, still in ((i2t, of_image, of_text), (t2i, of_text, of_image)):
        gradients = torch.autograd.grad(logits.sum(), (learns, still), retain_graph=True, allow_unused=True)
        assert gradients[0].abs().sum() > 0 and gradients[1] is None


def test_hard_pairs_are_drawn_by_the_softmax_of_all_but_the_same() -> None:
    logits = torch.tensor([[500.0, 2.0, 0.0, 500.0]]).expand(
        4000, -1
    )  # its own text is never so close that none is left
    same = torch.tensor([[True, False, False, True]]).expand(4000, -1)
    torch.manual_seed(0)
    drawn, has_one = draw_negatives(logits, same, least=0.0)
    assert has_one.all() and set(drawn.tolist()) == {1, 2}
    wanted = torch.softmax(torch.tensor([2.0, 0.0]), 0)[0].item()
    assert (drawn == 1).float().mean().item() == pytest.approx(wanted, abs=0.02)
    assert not draw_negatives(torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool), least=0.0)[1].any()


def test_texts_that_read_the_same_are_no_negatives_of_each_other() -> None:
    made, given = objective(), batch("same", "same")
    ids, picture = given["text"], made.net.tower(Pictures(given["image"]))
    wanted = F.cross_entropy(made.net.match(picture, ReadTexts.of(ids)), torch.tensor([1, 1]))
    torch.testing.assert_close(made._matching_loss(picture, ids, torch.zeros(2, 2), torch.zeros(2, 2)), wanted)


def test_tower_stays_as_it_is_and_the_norm_on_it_trains() -> None:
    made = objective().train()
    made(batch("a red square", "blue")).backward()
    tower = made.net.tower
    assert not tower.net.training and all(p.grad is None for p in tower.net.parameters())
    assert tower.norm.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]
    assert {n for n, p in made.named_parameters() if p.grad is None} == {
        f"net.towers.eye.net.{n}" for n, _ in tower.net.named_parameters()
    }
    parts = made.parts()
    assert sum(map(len, parts.values())) == len(list(made.parameters()))


def _on_rank(rank: int, folder: str, texts: Sequence[str]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    made, whole = objective(), batch(*texts)
    half = len(texts) // 2
    given = {name: value[rank * half : (rank + 1) * half] for name, value in whole.items()}
    parallel = torch.nn.parallel.DistributedDataParallel(made, find_unused_parameters=True)
    loss = parallel({**given, "scale": torch.tensor([1 / len(texts)])})
    (loss * 2).backward()
    torch.distributed.all_reduce(loss.detach_())
    if rank == 0:
        save_file({"loss": loss, **gradients(made)}, Path(folder) / "found.safetensors")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.systems
def test_two_ranks_have_the_loss_and_gradient_of_one(tmp_path: Path) -> None:
    """Two samples, one a rank: the negative is the other rank's, and texts of unequal lengths weigh as they would."""
    from safetensors.torch import load_file

    texts = ["a red square on a wall", "b"]
    mp.spawn(_on_rank, (str(tmp_path), texts), nprocs=2)
    found = load_file(tmp_path / "found.safetensors")
    made = objective()
    loss = made({**batch(*texts), "scale": torch.tensor([0.5])})
    loss.backward()
    torch.testing.assert_close(found.pop("loss"), loss.detach())
    alone = gradients(made)
    assert found.keys() == alone.keys()
    for name, gradient in alone.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-5, name


@pytest.mark.slow
def test_killed_run_resumes_bit_for_bit_and_the_loss_falls(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, objective=TOLD, optim={**TINY["optim"], "steps": 12})
    losses = {}
    for name in ("whole", "halves"):
        out = tmp_path / name
        assert main([str(manifest), "--config", str(config), "--out", str(out)]) == 0
        if name == "halves":  # as a kill after step 10 leaves it
            for file in (out / "checkpoints" / "00000012").iterdir():
                file.unlink()
            (out / "checkpoints" / "00000012").rmdir()
            assert main([str(manifest), "--config", str(config), "--out", str(out)]) == 0
        losses[name] = [line["loss"] for line in lines(out)]
    assert losses["whole"] == losses["halves"] and losses["whole"][-1] < 0.9 * losses["whole"][0]
    files = [(tmp_path / name / "checkpoints" / "00000012" / "model.safetensors").read_bytes() for name in losses]
    assert files[0] == files[1]
    export = ["--export", str(tmp_path / "stage_one.safetensors")]
    assert main([str(manifest), "--config", str(config), "--out", str(tmp_path / "whole"), *export]) == 2
    assert "start the next stage from this run's folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.systems
def test_trains_on_two_ranks_under_torchrun(manifest: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, objective=TOLD, optim={**TINY["optim"], "steps": 3, "accumulate": 2})
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *torchrun, *command(manifest, config, tmp_path / "two")], check=True, capture_output=True
    )
    assert [line["step"] for line in lines(tmp_path / "two")] == [1, 2, 3]
