"""A Q-Former behind a decoder: it starts from stage one's weights, and reads what is asked of each picture."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from train_samples import TINY, composed, mixture, settings

from curate.mix.content import Prompt
from curate.mix.count_tokens import add_text_tokens
from curate.stream.instructions import NOTHING, Instructions
from curate.stream.prompts import Prompts
from curate.stream.stream import Share, Stream
from curate.tokens.encoders import text_code
from train import prepare
from train.__main__ import main
from train.checkpoint import WEIGHTS
from train.config import Config
from train.models.dual_encoder import build
from train.objectives.multimodal import MultimodalObjective

CODE = text_code("bytes")
QFORMER: dict[str, Any] = {
    "type": "qformer",
    "tokenizer": "bytes",
    "queries": 4,
    "width": 32,
    "layers": 2,
    "heads": 2,
    "hidden": 48,
    "positions": 128,
    "dropout": 0,
}
LANGUAGE = {"width": 32, "layers": 1, "heads": 2}
INSTRUCTED = {**QFORMER, "instruction": True}
ASKED = """seed: 3
sources:
  - {path: many, templates: ["Name the colours. {text}", "What is seen here? {text}"]}
"""


def asked_of(spelled: Tensor) -> str:
    assert spelled[0] == CODE.begin
    ids = spelled[spelled != NOTHING].tolist()
    assert ids[-1] == CODE.end and len(spelled) == 128
    return CODE.decode(ids[1:-1])


def first_batch(manifest: Path, objective: dict[str, Any], size: int) -> tuple[dict[str, Tensor], MultimodalObjective]:
    torch.manual_seed(0)
    config = Config.model_validate({**TINY, "objective": objective})
    prepared = prepare.build(config, build(config.model), manifest)
    stream = Stream(manifest, size, prepared.prepare, Share(), packing=prepared.packing)
    try:
        batch = next(itertools.islice(stream, 1)).tensors
    finally:
        stream.close()
    assert isinstance(prepared.objective, MultimodalObjective)
    return batch, prepared.objective.eval()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    mixture(folder)
    return composed(folder, ASKED, "asked.json")


def test_an_instruction_loses_its_beginning_and_knows_no_later_question() -> None:
    spell = Instructions(CODE)
    long = "the beginning " + "x" * 200 + " the end"
    assert asked_of(spell([Prompt(long)], Prompts())) == long[-126:]
    turns = [Prompt("What is it?"), "A cat.", Prompt("Of which colour?"), "Black."]
    assert asked_of(spell(turns, Prompts())) == "What is it?"
    assert asked_of(spell(["An answer."], Prompts(before="Say what is seen: "))) == "Say what is seen:"
    assert asked_of(spell(["An answer."], Prompts())) == ""


def test_each_picture_of_a_row_is_seen_for_what_its_template_asks(asked: Path) -> None:
    caption = {"type": "caption", "connector": INSTRUCTED, "language": LANGUAGE, "text_length": 64}
    batch, objective = first_batch(asked, caption, 16)
    found = [asked_of(ids) for ids in batch["instruction"].flatten(0, 1)]
    assert set(found) == {"Name the colours.", "What is seen here?"}
    for said, ids in zip(found, batch["ids"], strict=True):
        assert said in CODE.decode([n for n in ids.tolist() if 0 <= n < 256])
    other = {**batch, "instruction": batch["instruction"].roll(1, 0)}
    same = torch.tensor([said == found[n - 1] for n, said in enumerate(found)])
    moved = (objective.net.see_batch(other) - objective.net.see_batch(batch)).abs().amax((1, 2)) > 0
    assert torch.equal(moved, ~same) and moved.any()
    assert objective(other) != objective(batch)


def test_answers_are_never_part_of_an_instruction(asked: Path) -> None:
    caption = {"type": "caption", "connector": INSTRUCTED, "language": LANGUAGE, "text_length": 64}
    batch, _ = first_batch(asked, caption, 16)
    for ids, scored, asked_ids in zip(batch["ids"], batch["scored"], batch["instruction"].flatten(0, 1), strict=True):
        answer = CODE.decode([n for n in ids[scored].tolist() if n < 256])
        assert answer.strip() and answer.strip() not in asked_of(asked_ids)


def test_pictures_of_packs_and_of_several_sizes_keep_their_instructions(tmp_path: Path) -> None:
    mixture(tmp_path)
    for name in ("many", "few"):
        add_text_tokens(tmp_path / name, "bytes", ("meta.names",))
    sources = "[{path: many, templates: ['A caption: {text}']}, {path: few, templates: ['A page: {text}']}]"
    spec = f"batch: 16\nsources: {sources}\nstages: [{{name: one, resolution: {{few: 64}}}}]"
    multimodal = {
        "type": "multimodal",
        "connector": INSTRUCTED,
        "language": LANGUAGE,
        "pack": {"tokens": 192, "images": 6, "window": 64},
    }
    batch, objective = first_batch(composed(tmp_path, spec, "sizes.json"), multimodal, 4)
    sides = torch.cat([torch.full((len(batch[n]),), batch[n].shape[-1]) for n in ("image000032", "image000064")])
    assert len(batch["instruction"]) == len(sides)
    for side, ids in zip(sides[batch["order"]].tolist(), batch["instruction"], strict=True):
        assert asked_of(ids) == {32: "A caption:", 64: "A page:"}[side]
    vectors = objective.net.see_batch(batch)
    for place, index in enumerate(batch["order"].tolist()):
        name, at = ("image000032", index) if sides[index] == 32 else ("image000064", index - int((sides == 32).sum()))
        alone = {"image": batch[name][at][None], "instruction": batch["instruction"][place][None]}
        torch.testing.assert_close(vectors[place], objective.net.see_batch(alone)[0])


@pytest.mark.slow
def test_stage_two_and_an_instructed_stage_start_from_stage_ones_run(asked: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    short = {**TINY["optim"], "steps": 2}
    stage_one = {"type": "qformer", "connector": QFORMER, "text_length": 24, "features": 16}
    first = settings(tmp_path / "one", objective=stage_one, optim=short)
    assert main([str(asked), "--config", str(first), "--out", str(tmp_path / "one" / "out")]) == 0
    learnt = load_file(tmp_path / "one" / "out" / "checkpoints" / "00000002" / WEIGHTS)
    still = {**short, "lr": 1e-12, "weight_decay": 0, "warmup": 0}
    for name, connector in (("two", QFORMER), ("instructed", INSTRUCTED)):
        objective = {"type": "caption", "connector": connector, "language": LANGUAGE}
        start = {"run": str(tmp_path / "one" / "out"), "match": ["connector", "tower"]}
        config = settings(tmp_path / name, objective=objective, start=start, optim=still)
        assert main([str(asked), "--config", str(config), "--out", str(tmp_path / name / "out")]) == 0
        found = load_file(tmp_path / name / "out" / "checkpoints" / "00000002" / WEIGHTS)
        taken = [
            n for n in found if n.startswith("net.connector.") and ".out." not in n.removeprefix("net.connector.blocks")
        ]
        own = [n for n in taken if n in learnt]
        assert {n for n in found if n.startswith("net.connector.")} - set(learnt) == {
            "net.connector.out.weight",
            "net.connector.out.bias",
        }
        assert len(own) > 30
        for n in own:
            torch.testing.assert_close(found[n], learnt[n], atol=1e-6, rtol=0)
    texts = [n for n in learnt if "text_mlp" in n or n.startswith("net.connector.words")]
    two = load_file(tmp_path / "two" / "out" / "checkpoints" / "00000002" / WEIGHTS)
    assert texts and not set(texts) & two.keys()  # what reads texts is left behind by a stage that has none
