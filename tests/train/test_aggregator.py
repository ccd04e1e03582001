"""An aggregator over two towers behind a decoder, its layers inside too: trained, resumed, and only for pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from train_samples import TINY, lines, settings

from train.__main__ import main
from train.config import Config
from train.models.dual_encoder import build
from train.models.towers import towers_of
from train.objectives.multimodal import MultimodalObjective

CLIP = TINY["model"]["clip"]
MODEL = {"towers": {"near": {"model": CLIP}, "far": {"model": CLIP, "size_px": 64}}, "tokenizer": "simple:1024"}
SVA = {"type": "sva", "side": 4, "width": 32, "heads": 2, "layers": 1}
CAPTION: dict[str, Any] = {
    "type": "caption",
    "text_length": 24,
    "connector": {**SVA, "inside": {"start": 0, "stride": 1, "layers": 2}},
    "language": {"width": 32, "layers": 2, "heads": 2},
}


def objective() -> MultimodalObjective:
    config = Config.model_validate({**TINY, "model": MODEL, "objective": CAPTION})
    torch.manual_seed(0)
    made = MultimodalObjective(towers_of(config.model, build(config.model)), config.objective)  # type: ignore[arg-type]
    return made.eval()


def batch(made: MultimodalObjective) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.full((2, 30), -1)
    ids[:, 0], ids[:, 21:] = 5, torch.randint(0, 200, (2, 9), generator=generator)
    image, far = (torch.randint(0, 256, (2, 3, s, s), dtype=torch.uint8, generator=generator) for s in (32, 64))
    return {"ids": ids, "image": image, "image:far": far}


def scores(made: MultimodalObjective, given: dict[str, Tensor]) -> Tensor:
    vectors = made.net.see_batch(given)
    x = made.net.embed(given["ids"], vectors)
    return made.net.language.logits(made.net.language(x, between=made.net.between(given["ids"], vectors)))


def test_the_decoder_asks_the_towers_again_between_its_layers() -> None:
    made = objective()
    given = batch(made)
    assert made.net.places == 20 and made.net.see_batch(given).shape == (2, 16, 1 + 1 + 4, 33)
    whole = scores(made, given)
    layers = made.net.connector.inside  # type: ignore[union-attr]
    for layer in layers:  # type: ignore[union-attr]
        layer.out.weight.data.zero_()
    plain = scores(made, given)
    assert not torch.allclose(whole[:, 21:], plain[:, 21:])
    made.net.connector.inside = None  # type: ignore[union-attr]
    torch.testing.assert_close(scores(made, given), plain)


def test_what_is_written_step_by_step_has_the_scores_of_one_pass() -> None:
    made = objective()
    given = batch(made)
    vectors, whole = made.net.see_batch(given), scores(made, given)
    words = torch.cat((given["ids"][:, :1], given["ids"][:, 21:]), 1)
    write = made.net.writer(vectors, given["ids"][:, :21])
    for length in (1, 2, 3):
        torch.testing.assert_close(write(words[:, :length]), whole[:, 20 + length - 1], atol=1e-5, rtol=1e-4)


def test_a_batch_without_pictures_has_the_scores_of_its_texts() -> None:
    made = objective()
    ids = torch.randint(0, 200, (2, 9), generator=torch.Generator().manual_seed(1))
    found = scores(made, {"ids": ids, "image": torch.empty(0, dtype=torch.uint8)})
    language = made.net.language
    torch.testing.assert_close(found, language.logits(language(language.embed(ids))))


@pytest.mark.slow
def test_a_run_over_two_towers_resumes_bit_for_bit(manifest: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, model=MODEL, objective=CAPTION, optim={**TINY["optim"], "steps": 6})
    for name in ("whole", "halves"):
        command = [str(manifest), "--config", str(config), "--out", str(tmp_path / name)]
        assert main(command) == 0
        if name == "halves":  # as a kill after step 5 leaves it
            for file in (tmp_path / name / "checkpoints" / "00000006").iterdir():
                file.unlink()
            (tmp_path / name / "checkpoints" / "00000006").rmdir()
            assert main(command) == 0
    whole, halves = (tmp_path / name / "checkpoints" / "00000006" / "model.safetensors" for name in ("whole", "halves"))
    assert whole.read_bytes() == halves.read_bytes()
    losses = [line["loss"] for line in lines(tmp_path / "whole")]
    assert losses[-1] < losses[0]
