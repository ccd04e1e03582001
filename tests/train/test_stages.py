"""Stages in the trainer: resolution, length of sequences and trained parts change where the mixture says."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from train_samples import MULTIMODAL, TINY, composed, mixture, of_every_kind, settings_file

from curate import mix
from curate.models.features import TowerShape
from curate.models.files import ModelError
from curate.models.image_tower import at_resolution, tower_shape
from curate.stream.stages import Stages
from curate.stream.stream import Batch, Share, Stream
from train import prepare
from train.__main__ import main
from train.config import Config
from train.models.dual_encoder import build
from train.objectives.multimodal import MultimodalObjective

RISING = """batch: 16
sources: [{path: many}, {path: few}]
stages:
  - {name: low, steps: 3, resolution: 32}
  - {name: rising, steps: 5, ramp: 4, resolution: 64, resolution_multiple: 8}
  - {name: high, resolution: 64}
"""


def config(objective: dict[str, Any], **changed: Any) -> Config:
    return Config.model_validate({**TINY, "objective": objective, **changed})


def batches(manifest: Path, objective: dict[str, Any], size: int, count: int) -> list[Batch]:
    settings = config(objective)
    prepared = prepare.build(settings, build(settings.model), manifest)
    stream = Stream(manifest, size, prepared.prepare, Share(), packing=prepared.packing)
    try:
        return list(itertools.islice(stream, count))
    finally:
        stream.close()


def run(manifest: Path, folder: Path, settings: dict[str, Any], checkpoint_every: int = 99) -> Path:
    folder.mkdir()
    run_settings = {**TINY["run"], "checkpoint_every": checkpoint_every, "keep": 99}
    path = settings_file(folder, {**TINY, "run": run_settings, **settings})
    assert main([str(manifest), "--config", str(path), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_resolution_ramps_from_stage_to_stage_in_whole_patches(tmp_path: Path) -> None:
    mixture(tmp_path)
    manifest = composed(tmp_path, RISING)
    found = batches(manifest, {"type": "contrastive"}, 16, 10)
    assert [batch.tensors["image"].shape[-1] for batch in found] == [32, 32, 32, 32, 40, 48, 56, 64, 64, 64]
    stages = Stages(mix.read(manifest), 32)
    assert {stages.resolution(16 * step + 15, 0) % 8 for step in range(10)} == {0}


FOUR = {"type": "mlp", "vectors": 4}


@pytest.mark.parametrize(
    "objective",
    [{"type": "contrastive"}, {"type": "caption", "connector": FOUR, "text_length": 24}],
    ids=str,
)
def test_run_trains_through_a_ramp_of_the_resolution(tmp_path: Path, objective: dict[str, Any]) -> None:
    mixture(tmp_path / "mixture")
    out = run(composed(tmp_path / "mixture", RISING), tmp_path / "run", {"objective": objective})
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 12 and losses[-1] < losses[0]


def test_positions_of_another_resolution_alone_are_interpolated() -> None:
    """Positions of another resolution are interpolated and their own are left alone."""
    visual = build(config({"type": "contrastive"}).model).net.visual
    assert isinstance(visual, torch.nn.Module)
    assert at_resolution(visual, 32, "") == {}
    [grown] = at_resolution(visual, 64, "").values()
    assert grown.shape == (1 + 64, 32)
    assert tower_shape(visual, 64) == TowerShape(32, (8, 8))
    torch.testing.assert_close(grown[0], visual.positional_embedding[0])  # type: ignore[index]


def test_resolution_that_changes_number_of_images_vectors_is_refused(tmp_path: Path) -> None:
    mixture(tmp_path)
    composed(tmp_path, RISING)
    settings = config({"type": "caption"})
    with pytest.raises(ModelError, match=r"40 pixels becomes 25 vectors, of the model's own size 16"):
        prepare.build(settings, build(settings.model), tmp_path / "mixture.json")


def test_resolution_that_is_no_multiple_of_the_patch_is_refused(tmp_path: Path) -> None:
    mixture(tmp_path)
    composed(tmp_path, RISING.replace(", resolution_multiple: 8", ""))
    settings = config({"type": "contrastive"})
    with pytest.raises(ModelError, match="patches have 8 pixels a side, so an image cannot have 33"):
        prepare.build(settings, build(settings.model), tmp_path / "mixture.json")


LONGER = """seed: 3
batch: 16
sources:
  - {group: wild, sources: [{path: caption}, {path: interleaved}]}
  - {path: ocr}
  - {path: text}
stages:
  - {name: short, steps: 6, sequence: {wild: 48, text: 32, ocr: 40}}
  - {name: long, sequence: 192, resolution: 64}
"""


def test_sequences_grow_by_stage_and_source_and_no_batch_mixes_stages(tmp_path: Path) -> None:
    manifest = composed(of_every_kind(tmp_path).parent, LONGER)
    found = batches(manifest, {**MULTIMODAL, "train_tower": True}, 8, 16)
    lengths = [batch.tensors["ids"].shape[1] for batch in found]
    assert lengths == sorted(lengths) and set(lengths) == {48, 192}
    source, _, _ = mix.read(manifest).locate(range(96))
    most = dict.fromkeys(range(4), 0)
    for batch in found:
        for pack in batch.packed.mine if batch.packed else ():
            for position, tokens in zip(pack.positions, pack.tokens, strict=True):
                if position < 96:
                    most[int(source[position])] = max(most[int(source[position])], tokens)
    assert (most[1], most[3]) == (48, 32) and most[0] <= 48 and most[2] <= 40
    sizes = [batch.tensors["image"].shape[-1] for batch in found]
    assert sizes == [32 if length == 48 else 64 for length in lengths]
    last = found[lengths.index(192) - 1]
    assert last.state["position"] == 96
    assert sorted(p for batch in found[: lengths.index(192)] for p in batch.positions.tolist()) == list(range(96))


FLAMINGO = """mode: accumulate
sources: [{path: many, weight: 1.0, batch: 12}, {path: few, weight: 0.2, batch: 4}]
"""


def test_accumulated_step_is_the_weighted_sum_of_the_sources_mean_losses(tmp_path: Path) -> None:
    """In mode accumulate a step is the weighted sum of the sources' mean losses."""
    mixture(tmp_path / "mixture")
    manifest = composed(tmp_path / "mixture", FLAMINGO)
    objective = {"type": "caption", "text_length": 24}
    losses = {}
    for parts in (1, 4):
        optimizer = {**TINY["optim"], "accumulate": parts, "steps": 4}
        out = run(manifest, tmp_path / str(parts), {"objective": objective, "optim": optimizer})
        losses[parts] = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert losses[4] == pytest.approx(losses[1], rel=1e-3)
    torch.manual_seed(0)
    settings = config(objective)
    prepared = prepare.build(settings, build(settings.model), manifest)
    stream = Stream(manifest, 16, prepared.prepare, Share())
    batch = next(stream).tensors
    stream.close()
    means = []
    for source in range(2):
        mine = {name: value[batch["source"] == source] for name, value in batch.items()}
        means.append(prepared.objective(mine).item() / sum(prepared.objective.counts(mine)))
    assert losses[1][0] == pytest.approx(means[0] + 0.2 * means[1], rel=1e-4)


def test_accumulated_step_is_the_mixtures(tmp_path: Path) -> None:
    """In mode accumulate a step is the mixture's."""
    mixture(tmp_path)
    settings = config({"type": "caption", "text_length": 24})
    made = composed(tmp_path, FLAMINGO.replace("batch: 4", "batch: 20"))
    with pytest.raises(mix.MixtureError, match=r"every step of 32 samples, and data\.batch_size is 16"):
        prepare.build(settings, build(settings.model), made)


def test_contrastive_objective_refuses_weights_of_losses(tmp_path: Path) -> None:
    mixture(tmp_path)
    settings = config({"type": "contrastive"})
    with pytest.raises(mix.MixtureError, match="mode is accumulate, which weighs the losses"):
        prepare.build(settings, build(settings.model), composed(tmp_path, FLAMINGO))


def test_source_of_its_own_resolution_keeps_its_vectors_in_place(tmp_path: Path) -> None:
    """A source may have a resolution of its own and its vectors stay in their places."""
    home = of_every_kind(tmp_path).parent
    spec = "batch: 16\nsources: [{path: caption}, {path: interleaved}, {path: ocr}, {path: text}]\n"
    manifest = composed(home, spec + "stages: [{name: one, resolution: {ocr: 64, interleaved: 48}}]")
    settings = config(MULTIMODAL)
    torch.manual_seed(0)
    prepared = prepare.build(settings, build(settings.model), manifest)
    stream = Stream(manifest, 4, prepared.prepare, Share(), packing=prepared.packing)
    batch = next(stream).tensors
    stream.close()
    sizes = [batch[name].shape[-1] for name in sorted(batch) if name.startswith("image")]
    assert sizes == [32, 48, 64]
    assert len(batch["order"]) == int((batch["ids"] < 0).sum()) // 4
    objective = prepared.objective.eval()
    assert isinstance(objective, MultimodalObjective)
    vectors = objective.net.see_batch(batch)
    assert vectors is not None
    pictures = [picture for name in sorted(batch) if name.startswith("image") for picture in batch[name]]
    for place in range(0, len(vectors), 5):
        [alone] = objective.net.see_batch({"image": pictures[int(batch["order"][place])][None]})  # type: ignore[misc]
        torch.testing.assert_close(vectors[place], alone)


GROWING = """seed: 3
batch: 16
sources: [{path: interleaved}, {path: text}]
stages:
  - {name: short, steps: 4, sequence: 64, resolution: 32}
  - {name: growing, ramp: 12, sequence: 192, sequence_multiple: 16, resolution: 64, resolution_multiple: 8}
"""


def test_packs_follow_a_ramp_of_sequence_and_resolution_window_by_window(tmp_path: Path) -> None:
    manifest = composed(of_every_kind(tmp_path).parent, GROWING)
    found = batches(manifest, {**MULTIMODAL, "pack": {"tokens": 64, "images": 6, "window": 32}}, 4, 60)
    assert not any(batch.replaced for batch in found)
    longest: dict[int, int] = {}
    for batch in found:
        for pack in batch.packed.mine if batch.packed else ():
            for position, tokens in zip(pack.positions, pack.tokens, strict=True):
                longest[position // 32] = max(longest.get(position // 32, 0), tokens)
    assert [longest[window] for window in range(4)] == [64, 64, 64, 80]
    assert max(longest.values()) > 100
    sides = [{batch.tensors[n].shape[-1] for n in batch.tensors if n.startswith("image")} for batch in found]
    assert sides[0] == {32} and sides[-1] == {64} and {40, 48, 56} <= set().union(*sides)


PARTS = """batch: 16
sources: [{path: many}, {path: few}]
stages:
  - {name: connect, steps: 3, train: [connector]}
  - {name: all, steps: 3, train: [tower, connector, language]}
  - {name: speak, train: [language]}
"""


@pytest.mark.slow
def test_stage_moves_only_its_parts(tmp_path: Path) -> None:
    """Only the parts of a stage move."""
    mixture(tmp_path / "mixture")
    manifest = composed(tmp_path / "mixture", PARTS)
    out = run(manifest, tmp_path / "run", {"objective": {"type": "caption", "text_length": 24}}, 1)
    saved = [load_file(path / "model.safetensors") for path in sorted((out / "checkpoints").iterdir())]
    moved = []
    for before, after in itertools.pairwise(saved):
        names = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
        moved.append(sorted(names))
    every = ["connector", "language", "towers"]
    assert moved == [["connector"]] * 2 + [every] * 3 + [["language"]] * 6


@pytest.mark.slow
@pytest.mark.systems
def test_two_ranks_train_the_parts_of_a_stage_as_one(tmp_path: Path) -> None:
    mixture(tmp_path / "mixture")
    manifest = composed(tmp_path / "mixture", PARTS)
    settings = {"objective": {"type": "caption", "text_length": 24}}
    one = run(manifest, tmp_path / "one", settings)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train"]
    again = [str(manifest), "--config", str(tmp_path / "one" / "run.yaml"), "--out", str(tmp_path / "two")]
    subprocess.run([*torchrun, *again], check=True, capture_output=True)
    told = [(out / "metrics.jsonl").read_text().splitlines() for out in (one, tmp_path / "two")]
    losses = [[json.loads(line)["loss"] for line in lines] for lines in told]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    ends = [load_file(out / "checkpoints" / "00000012" / "model.safetensors") for out in (one, tmp_path / "two")]
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_run_gone_on_within_a_stage_ends_in_the_same_bits(tmp_path: Path) -> None:
    mixture(tmp_path / "mixture")
    manifest = composed(tmp_path / "mixture", PARTS)
    settings = {"objective": {"type": "caption", "text_length": 24}}
    out = run(manifest, tmp_path / "whole", settings, 1)
    for step in (2, 5, 8):
        begun = tmp_path / str(step) / "out" / "checkpoints" / f"{step:08d}"
        shutil.copytree(out / "checkpoints" / f"{step:08d}", begun)
        path = settings_file(begun.parents[2], {**TINY, "run": {**TINY["run"], "checkpoint_every": 1}, **settings})
        assert main([str(manifest), "--config", str(path), "--out", str(begun.parents[1])]) == 0
        ends = [folder / "checkpoints" / "00000012" / "model.safetensors" for folder in (out, begun.parents[1])]
        assert ends[0].read_bytes() == ends[1].read_bytes()


@pytest.mark.parametrize(
    ("stage", "objective", "message"),
    [
        ("train: [conector]", {"type": "caption"}, "stage 'one': unknown part to train 'conector'.*did you mean"),
        ("train: [language]", {"type": "contrastive"}, "unknown part to train 'language'.*image, text"),
        ("sequence: 64", {"type": "contrastive"}, "says `sequence`, which is for the multimodal objective"),
        ("resolution: {manny: 64}", {"type": "caption"}, "unknown source or group 'manny'.*did you mean 'many'"),
    ],
)
def test_stage_that_asks_what_an_objective_has_not_is_refused(
    tmp_path: Path, stage: str, objective: dict[str, Any], message: str
) -> None:
    mixture(tmp_path)
    spec = f"batch: 16\nsources: [{{path: many}}]\nstages: [{{name: one, {stage}}}]"
    settings = config(objective)
    with pytest.raises(mix.MixtureError, match=message):
        prepare.build(settings, build(settings.model), composed(tmp_path, spec))
