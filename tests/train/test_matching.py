"""The matching objective: which pairs it is taught, that it learns them, resumes exactly and is exported whole."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from train_samples import CAPTION, TINY, lines, settings

from curate.commit import file_sha256
from curate.models.image_tower import normalised
from curate.models.matching import MATCHED
from curate.stream.tokens import token_ids
from train.__main__ import main
from train.config import Config, MatchingConfig
from train.models.dual_encoder import DualEncoder, build
from train.objectives.contrastive import ContrastiveObjective, contrastive_loss
from train.objectives.matching import MatchingObjective, draw_negatives

MATCHING = {
    "type": "matching",
    "connector": {"type": "mlp", "vectors": 4},
    "encoder": {"width": 32, "layers": 1, "heads": 2},
}


def objective() -> tuple[MatchingObjective, DualEncoder]:
    config = Config.model_validate({**TINY, "objective": MATCHING})
    assert isinstance(config.objective, MatchingConfig)
    torch.manual_seed(0)
    clip = build(config.model)
    return MatchingObjective(clip, config.objective).eval(), clip


def batch(clip: DualEncoder, *texts: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(texts), 3, 32, 32), dtype=torch.uint8, generator=generator)
    return {"image": images, "text": token_ids(clip.tokenizer, texts)}


def test_hard_pairs_are_drawn_the_likelier_the_closer_they_are_and_never_the_same_text() -> None:
    logits = torch.tensor([[9.0, 2.0, 0.0, 9.0]]).expand(4000, -1)
    same = torch.tensor([[True, False, False, True]]).expand(4000, -1)
    torch.manual_seed(0)
    drawn, has_one = draw_negatives(logits, same)
    assert has_one.all() and set(drawn.tolist()) == {1, 2}
    shares = torch.softmax(logits[0], 0) + 1e-4  # BLIP's own weights, before what is the same is taken out
    assert (drawn == 1).float().mean().item() == pytest.approx((shares[1] / (shares[1] + shares[2])).item(), abs=0.02)
    _, none = draw_negatives(torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool))
    assert not none.any()


def test_loss_is_the_contrastive_one_and_that_of_three_pairs_a_sample() -> None:
    """With two samples there is one negative to draw, so the loss can be written down by hand."""
    matching, clip = objective()
    given = batch(clip, "a red square", "blue")
    vectors, images = matching.network.see(normalised(given["image"]))
    texts = matching.network.read(given["text"])
    scale = clip.net.logit_scale.exp()  # type: ignore[operator]
    pairs = [(0, 0, 1), (1, 1, 1), (0, 1, 0), (1, 0, 0), (1, 0, 0), (0, 1, 0)]
    losses = [
        F.cross_entropy(matching.network.match(vectors[i : i + 1], given["text"][t : t + 1]), torch.tensor([matched]))
        for i, t, matched in pairs
    ]
    wanted = contrastive_loss(images, texts, scale) + torch.stack(losses).mean()
    torch.testing.assert_close(matching(given), 2 * wanted)
    torch.testing.assert_close(matching({**given, "scale": torch.tensor([0.5])}), wanted)
    assert matching.counts(given) == [2.0]


def test_batch_of_one_text_has_no_negatives() -> None:
    matching, clip = objective()
    given = batch(clip, "same", "same")
    vectors, images = matching.network.see(normalised(given["image"]))
    logits = matching.network.match(vectors, given["text"])
    own = F.cross_entropy(logits, torch.tensor([MATCHED, MATCHED]))
    itc = contrastive_loss(images, matching.network.read(given["text"]), clip.net.logit_scale.exp())  # type: ignore[operator]
    torch.testing.assert_close(matching(given), 2 * (itc + own))


def test_features_are_those_of_the_dual_encoder_and_padding_is_not_read() -> None:
    matching, clip = objective()
    given = batch(clip, "a red square on blue", "x")
    vectors, features = matching.network.see(normalised(given["image"]))
    torch.testing.assert_close(features, clip.net.encode_image(normalised(given["image"]), normalize=True))  # type: ignore[operator]
    short = given["text"][1:, :4]
    torch.testing.assert_close(
        matching.network.match(vectors[1:], given["text"][1:]), matching.network.match(vectors[1:], short)
    )
    parts = matching.parts()
    assert {len(parts[name]) > 0 for name in ("image", "text", "connector", "encoder")} == {True}
    assert sum(map(len, parts.values())) == len(list(matching.parameters())) - 1  # the logits' scale is of no part


def test_logit_scale_of_matching_is_bound_too() -> None:
    matching, clip = objective()
    clip.net.logit_scale.data.fill_(9.0)  # type: ignore[union-attr, operator]
    matching.after_step()
    assert clip.net.logit_scale.item() == pytest.approx(math.log(100))  # type: ignore[operator]


def test_killed_matching_run_resumes_bit_for_bit_and_exports_the_same_file(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {}
    for name, steps in (("whole", (12,)), ("halves", (12, 12))):
        out = tmp_path / name
        for number, _ in enumerate(steps):
            config = settings(tmp_path / name, objective=MATCHING, optim={**TINY["optim"], "steps": 12})
            export = ["--export", str(out / "matcher.safetensors"), "--evaluate", str(manifest.parent / "few")]
            assert main([str(manifest), "--config", str(config), "--out", str(out / "run"), *export]) == 0
            told = json.loads(capsys.readouterr().out.splitlines()[-1])
            if name == "halves" and number == 0:  # as a kill after step 10 leaves it
                for last in (out / "run" / "checkpoints").glob("00000012"):
                    for file in last.iterdir():
                        file.unlink()
                    last.rmdir()
        files[name] = file_sha256(out / "matcher.safetensors")
    assert files["whole"] == files["halves"]
    assert 0 <= told["evaluate"]["auc"] <= 1
    losses = [line["loss"] for line in lines(tmp_path / "whole" / "run")]
    assert losses[-1] < 0.8 * losses[0]


def test_exported_captioner_holds_all_weights_and_says_how_to_build_it(manifest: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, objective=CAPTION, optim={**TINY["optim"], "steps": 2})
    path, out = tmp_path / "captioner.safetensors", tmp_path / "out"
    assert main([str(manifest), "--config", str(config), "--out", str(out), "--export", str(path)]) == 0
    from curate.models.exports import captioner_shape

    shape = captioner_shape(path)
    assert [shape.language[key] for key in ("tokenizer", "width", "layers", "heads")] == ["bytes", 32, 1, 2]
    saved = load_file(out / "checkpoints" / "00000002" / "model.safetensors")
    trained = {name.removeprefix("net."): value for name, value in saved.items()}
    exported: dict[str, Any] = load_file(path)
    assert trained.keys() == exported.keys()
    assert all(torch.equal(trained[name], exported[name]) for name in trained)


def test_contrastive_run_is_what_it_was() -> None:
    """The dual encoder of a matching objective has the very loss of the contrastive one."""
    matching, clip = objective()
    given = batch(clip, "a", "b", "c")
    images, texts = matching.network.see(normalised(given["image"]))[1], matching.network.read(given["text"])
    loss = contrastive_loss(images, texts, clip.net.logit_scale.exp())  # type: ignore[operator]
    torch.testing.assert_close(ContrastiveObjective(clip, 100.0)(given), 3 * loss)
