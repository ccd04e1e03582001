"""Language models of `transformers`, and mixtures of experts, in runs: trained, resumed, exported, started from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from languages import SENTENCES, hf_folder
from safetensors.torch import load_file
from train_samples import CAPTION, MULTIMODAL, TINY, lines, of_every_kind, settings

from curate.models.captioners import load_captioner
from curate.models.experts import Experts
from train.__main__ import main
from train.config import Config
from train.models.dual_encoder import build
from train.objectives.choice import objective_of
from train.objectives.multimodal import MultimodalObjective

EXPERTS = {"width": 32, "layers": 2, "heads": 2, "experts": {"count": 4, "every": 2}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose output matrix is its embedding."""
    return hf_folder(tmp_path_factory.mktemp("models") / "tiny", tie_word_embeddings=True)


def run(manifest: Path, folder: Path, *more: str, **changed: Any) -> Path:
    config = settings(folder, **changed)
    assert main([str(manifest), "--config", str(config), "--out", str(folder / "out"), *more]) == 0
    return folder / "out"


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(max((out / "checkpoints").iterdir()) / "model.safetensors")


def hf(model: Path, **more: Any) -> dict[str, Any]:
    return {"type": "hf", "model": str(model), **more}


@pytest.mark.slow
def test_adapter_and_rows_of_tags_are_trained_exported_and_write_captions(
    model: Path, manifest: Path, tmp_path: Path
) -> None:
    adapter = {"parts": ["q_proj", "v_proj"], "rank": 2}
    objective = {**CAPTION, "language": hf(model, adapter=adapter), "form": {"image_tag": "before"}}
    file = tmp_path / "captioner.safetensors"
    short = {**TINY["optim"], "steps": 3}
    first, last = (
        weights(run(manifest, tmp_path / name, "--export", str(file), objective=objective, optim=optim))
        for name, optim in (("still", {**short, "lr": 1e-12}), ("moved", short))
    )
    moved = {name for name in last if not torch.allclose(last[name], first[name], rtol=0, atol=1e-6)}
    own = [name for name in moved if ".net.model." in name]
    assert own and all(".lora_" in name for name in own)
    assert "net.language.tags.rows" in moved
    captioner = load_captioner(str(file), "", "float32")
    assert captioner.longest == 64
    written = captioner.write(captioner.look(torch.zeros(1, 3, 32, 32)))
    scores = written(torch.tensor([captioner.spell(SENTENCES[0])]))
    assert scores.shape == (1, 301) and scores.isfinite().all()


@pytest.mark.slow
def test_run_is_gone_on_with_and_refused_when_the_model_is_another(
    model: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moving = hf_folder(tmp_path / "model")
    objective = {**CAPTION, "language": hf(moving)}
    whole = lines(run(manifest, tmp_path / "whole", objective=objective))
    part = {**TINY["run"], "checkpoint_every": 4}
    stopped = tmp_path / "part"
    run(manifest, stopped, objective=objective, run=part)
    newest = max((stopped / "out" / "checkpoints").iterdir())
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    assert lines(run(manifest, stopped, objective=objective, run=part))[-1]["loss"] == whole[-1]["loss"]
    (moving / "config.json").write_text((moving / "config.json").read_text() + "\n")
    config = settings(stopped, objective=objective, run=part)
    assert main([str(manifest), "--config", str(config), "--out", str(stopped / "out")]) == 2
    assert "objective.language.model" in capsys.readouterr().err


@pytest.mark.slow
def test_packs_of_every_kind_are_planned_by_the_models_own_tokenizer_and_chat(model: Path, tmp_path: Path) -> None:
    manifest = of_every_kind(tmp_path / "data", tokenizer=f"hf:{model}")
    objective = {**MULTIMODAL, "language": hf(model, train="nothing"), "form": {"chat": "own"}}
    optim = {**TINY["optim"], "steps": 2}
    out = run(manifest, tmp_path / "run", objective=objective, optim=optim, data={"batch_size": 4})
    assert not list(out.glob("unreadable*"))
    assert sum(of["samples"] for of in lines(out)[-1]["served"].values()) > 8


def test_own_chat_of_a_decoder_without_one_is_refused(
    kinds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, objective={**MULTIMODAL, "form": {"chat": "own"}}, data={"batch_size": 4})
    assert main([str(kinds), "--config", str(config), "--out", str(tmp_path / "out")]) == 2
    assert "name another chat" in capsys.readouterr().err


def test_losses_of_routers_are_weighed_as_tokens_are() -> None:
    config = Config.model_validate({**TINY, "objective": {**CAPTION, "language": EXPERTS}})
    torch.manual_seed(0)
    objective = objective_of(config, build(config.model))
    assert isinstance(objective, MultimodalObjective)
    ids = torch.cat((torch.full((2, objective.visual_tokens), -1), torch.randint(0, 256, (2, 12))), 1)
    image = torch.randint(256, (2, 1, 3, 32, 32)).byte()
    batch = {"ids": ids, "scored": ids >= 0, "source": torch.tensor([0, 0]), "image": image}
    whole = objective({**batch, "scale": torch.tensor([1 / 24])})
    extra = objective.net.language.extra_losses()
    for module in objective.modules():
        if isinstance(module, Experts):
            module.config = module.config.model_copy(update={"balance": 0.0, "z": 0.0})
    torch.testing.assert_close(objective({**batch, "scale": torch.tensor([1 / 24])}) + extra, whole)


@pytest.mark.slow
def test_dense_run_is_the_start_of_one_with_experts(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = {name: value for name, value in EXPERTS.items() if name != "experts"}
    first = run(manifest, tmp_path / "dense", objective={**CAPTION, "language": dense})
    still = {**TINY["optim"], "steps": 1, "lr": 1e-12}
    capsys.readouterr()
    start = {"run": str(first)}
    out = run(manifest, tmp_path / "sparse", objective={**CAPTION, "language": EXPERTS}, start=start, optim=still)
    assert "not there: net.language.blocks.1.mlp.router.weight" in capsys.readouterr().err
    there, here = weights(first), weights(out)
    down = "net.language.blocks.1.mlp.down"
    torch.testing.assert_close(here[down], there[f"{down}.weight"].expand(4, -1, -1), rtol=0, atol=1e-6)
    again = run(manifest, tmp_path / "again", objective={**CAPTION, "language": dense}, start=start, optim=still)
    losses = [json.loads((of / "metrics.jsonl").read_text().splitlines()[0])["loss"] for of in (out, again)]
    assert 0.005 < losses[0] - losses[1] < 0.1  # balance and z, and nothing else
