"""The losses, their tokenizers and their optimizer, each against a definition or another implementation."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
import torch
from torch import nn
from train_samples import TINY
from trained_parts import set_trained

from curate.models.features import TowerShape
from curate.models.files import ModelError
from curate.models.image_tower import tower_shape
from curate.models.language import LanguageModel, rotary_angles, rotate
from curate.stream.tokens import token_ids
from curate.tokens.byte_pairs import byte_pairs
from curate.tokens.clip import described_tokens
from curate.tokens.encoders import text_code
from train import groups, optim
from train.config import Caption, Config, Optim
from train.models.dual_encoder import build
from train.models.towers import towers_of
from train.objectives.contrastive import ContrastiveObjective, contrastive_loss
from train.objectives.multimodal import MultimodalObjective

LANGUAGE = {"width": 32, "layers": 2, "heads": 2}
CODE = text_code("bytes")
PATCHES = 16


def config(**changed: Any) -> Config:
    return Config.model_validate({**TINY, **changed})


def captioner(train_tower: bool = False) -> MultimodalObjective:
    settings = config(objective={"type": "caption", "train_tower": train_tower, "language": LANGUAGE})
    assert isinstance(settings.objective, Caption)
    torch.manual_seed(0)
    clip = build(settings.model)
    objective = MultimodalObjective(towers_of(settings.model, clip), settings.objective)
    set_trained(objective, objective.trained)
    return objective


def captioned(*texts: str) -> dict[str, torch.Tensor]:
    """Rows of an image and its caption, as the caption objective prepares them."""
    rows = [[CODE.begin, *[-1] * PATCHES, *CODE.encode(text), CODE.end] for text in texts]
    ids = torch.zeros(len(rows), PATCHES + 12, dtype=torch.long)
    scored = torch.zeros(ids.shape, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        scored[number, PATCHES + 1 : len(row)] = True
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (len(texts), 1, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return {"image": image, "ids": ids, "scored": scored, "source": torch.zeros(len(texts), dtype=torch.long)}


def test_contrastive_loss_is_open_clips() -> None:
    from open_clip.loss import ClipLoss

    images, texts = (nn.functional.normalize(torch.randn(7, 16), dim=-1) for _ in range(2))
    scale = torch.tensor(14.0)
    torch.testing.assert_close(contrastive_loss(images, texts, scale), ClipLoss()(images, texts, scale))


def test_caption_loss_scores_the_caption_and_its_end_and_nothing_else() -> None:
    objective = captioner().eval()
    batch = captioned("a cat", "two")
    assert objective.counts(batch) == [len("a cat") + 1 + len("two") + 1]
    loss = objective(batch)
    padded = dict(batch, ids=batch["ids"].clone())
    padded["ids"][0, PATCHES + 7 :], padded["ids"][1, PATCHES + 5 :] = 65, 66
    torch.testing.assert_close(objective(padded), loss)
    other = dict(batch, ids=batch["ids"].clone())
    other["ids"][1, PATCHES + 2] = 90
    assert not torch.allclose(objective(other), loss)
    alone = [objective({name: value[n : n + 1] for name, value in batch.items()}) for n in range(2)]
    torch.testing.assert_close(alone[0] + alone[1], loss)
    scaled = dict(batch, scale=torch.tensor([0.5, 2.0]), source=torch.tensor([0, 1]))
    torch.testing.assert_close(objective(scaled), 0.5 * alone[0] + 2 * alone[1])


def test_caption_is_predicted_from_the_image() -> None:
    objective = captioner().eval()
    batch = captioned("a cat")
    other = dict(batch, image=255 - batch["image"])
    assert not torch.allclose(objective(other), objective(batch))


def test_frozen_tower_does_not_move_and_a_trained_one_does() -> None:
    for train_tower in (False, True):
        objective = captioner(train_tower).train()
        tower = objective.net.all_towers()["clip"].net
        before = {name: value.clone() for name, value in tower.state_dict().items()}
        planned = groups.plan(objective, Optim(), [("all", objective.trained)])
        optimizer = groups.adamw(objective, planned, Optim())
        objective(captioned("a cat", "two")).backward()
        optimizer.step()
        moved = [name for name, value in tower.state_dict().items() if not torch.equal(value, before[name])]
        assert bool(moved) == train_tower
        assert tower.training == train_tower


@pytest.mark.parametrize("layers", [2, [1, 1, 1, 1]])
def test_patches_come_from_vision_transformers_and_resnets_alike(layers: Any) -> None:
    vision = {"image_size": 32, "width": 32, "head_width": 16, "layers": layers}
    vision |= {"patch_size": 8} if layers == 2 else {}
    clip = dict(TINY["model"]["clip"], vision_cfg=vision)
    built = build(config(model={"clip": clip, "tokenizer": "simple:1024"}).model)
    visual = built.net.visual
    assert isinstance(visual, nn.Module)
    assert tower_shape(visual, 32) == (TowerShape(32, (4, 4)) if layers == 2 else TowerShape(32 * 32, (1, 1)))


def test_language_model_does_not_see_what_comes_after() -> None:
    torch.manual_seed(0)
    language = LanguageModel(50, 32, 2, 2).eval()
    x = torch.randn(1, 9, 32)
    changed = x.clone()
    changed[:, 6:] += 1
    torch.testing.assert_close(language(x)[:, :6], language(changed)[:, :6])
    assert not torch.allclose(language(x)[:, 6:], language(changed)[:, 6:])


def test_rotary_scores_depend_on_distance_alone() -> None:
    angles = rotary_angles(12, 8, torch.device("cpu"))
    q, k = torch.randn(8), torch.randn(8)
    turned = [rotate(v.expand(1, 1, 12, 8), angles)[0, 0] for v in (q, k)]
    torch.testing.assert_close(turned[0][3] @ turned[1][1], turned[0][10] @ turned[1][8])


def test_cut_byte_pair_vocabulary_spells_every_text() -> None:
    """A cut byte pair vocabulary spells every text and ends with its largest id."""
    from open_clip.tokenizer import SimpleTokenizer

    cut, whole = described_tokens("simple:1024", 32), described_tokens("simple", 32)
    text = "Zwölf Boxkämpfer jagen 🍎 quickly"
    ids = list(cut(text))
    assert max(ids) == ids[-1] == 1023
    assert byte_pairs(1024).decode(ids[1:-1]) == text.lower() + " "
    assert torch.equal(token_ids(whole, [text]), SimpleTokenizer(context_length=32)([text]))


def test_caption_of_a_megabyte_is_tokenized_at_once() -> None:
    started = time.process_time()
    described_tokens("simple", 77)("x" * 1_000_000)
    text_code("simple").encode("y" * 1_000_000)
    assert time.process_time() - started < 30  # quadratic, it would be hours


def test_words_outside_the_vocabulary_share_one_id() -> None:
    tokenizer = described_tokens("words:" + json.dumps(["apple", "red"]), 4)
    assert token_ids(tokenizer, ["Red  APPLE!", "a red car, an apple"]).tolist() == [[3, 2, 4, 0], [1, 3, 1, 4]]
    assert tokenizer.vocab_size == 5


def test_rate_warms_up_then_falls_along_a_cosine_to_its_floor() -> None:
    settings = Optim(steps=110, warmup=10, lr=1.0, floor=0.1)
    rates = [optim.learning_rate(step, settings) for step in range(111)]
    assert rates[:10] == [pytest.approx((n + 1) / 10) for n in range(10)]
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("parameters", "rate"),
    [
        (1e6, 1.703e-3),
        (9e6, 6.747e-4),
        (85e6, 2.619e-4),
        (302e6, 1.535e-4),
        (1.2e9, 8.583e-5),
        (3e9, 5.834e-5),
        (7e9, 4.082e-5),
        (30e9, 2.211e-5),
    ],
)
def test_mm1s_law_of_the_rate_gives_its_published_values(parameters: float, rate: float) -> None:
    assert optim.law_rate(int(parameters)) == pytest.approx(rate, rel=5e-4)


def test_law_is_of_the_language_models_size_without_its_embedding() -> None:
    language = captioner().net.language
    size = language.size()
    assert size == sum(p.numel() for p in language.blocks.parameters()) + language.norm.weight.numel()
    assert optim.resolve_rate(Optim(lr="mm1"), size).lr == optim.law_rate(size)
    assert optim.resolve_rate(Optim(lr=0.5), size).lr == 0.5
    with pytest.raises(ValueError, match="this objective has none"):
        optim.resolve_rate(Optim(lr="mm1"), None)


def test_logit_scale_stays_within_its_bounds() -> None:
    built = build(config().model)
    objective = ContrastiveObjective(built, 100.0)
    built.net.logit_scale.data.fill_(9.0)  # type: ignore[union-attr, operator]
    objective.after_step()
    assert built.net.logit_scale.detach().item() == pytest.approx(math.log(100))  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ("ViT-B-23", "unknown open_clip model 'ViT-B-23'.*ViT-B-32"),
        ({"embed_dim": 8, "vision_cfg": {}}, "text_cfg is missing"),
        (
            dict(TINY["model"]["clip"], text_cfg={"width": 32, "heads": 2, "layers": 1, "vocab_size": 600}),
            "has 1024 ids",
        ),
        (dict(TINY["model"]["clip"], colour="red"), "does not accept"),
    ],
)
def test_model_that_cannot_be_built_says_why(clip: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(config(model={"clip": clip, "tokenizer": "simple:1024"}).model)
