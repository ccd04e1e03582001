"""Pictures among the tokens or between the layers: what depends on them, in packs, on ranks and while writing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from train_samples import MULTIMODAL, TINY

from curate.models.captioners import load_captioner
from curate.models.features import Pictures
from curate.models.files import ModelError
from curate.models.vision_language import PICTURE
from curate.stream.packing import Pack, PackedDocument, PackLimits, assemble
from curate.tokens.encoders import text_code
from train.config import Config
from train.export import export
from train.models.dual_encoder import DualEncoder, build
from train.models.towers import towers_of
from train.objectives.multimodal import MultimodalObjective

CODE = text_code("bytes")
TOKENS: dict[str, Any] = {"fusion": "tokens"}
CROSS: dict[str, Any] = {"fusion": {"type": "cross_attention", "interval": 1, "heads": 2, "head_width": 8}}
FUSIONS = pytest.mark.parametrize("fusion", [TOKENS, CROSS], ids=["tokens", "cross_attention"])
DOCUMENTS = ("a red squareIis here", "no picture at all", "IIboth of them, andIone more", "atIa time")


def config(fusion: Mapping[str, Any]) -> Config:
    language = {"width": 32, "layers": 2, "heads": 2}
    return Config.model_validate({**TINY, "objective": {**MULTIMODAL, "language": language, **fusion}})


def made(fusion: Mapping[str, Any], sources: int = 1, gates: float = 0.6) -> tuple[DualEncoder, MultimodalObjective]:
    """A dual encoder and an objective with its tower, the gates of its blocks where they are after some training."""
    torch.manual_seed(0)
    settings = config(fusion)
    clip = build(settings.model)
    objective = MultimodalObjective(towers_of(settings.model, clip), settings.objective, sources)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in objective.named_parameters():
            if name.endswith("_gate"):
                parameter.fill_(gates)
    return clip, objective


def document(text: str, number: int, places: int) -> PackedDocument:
    """A document whose pictures stand where its text has an I, of a source of its own."""
    ids = [CODE.begin]
    for letter in text:
        ids += [PICTURE] * places if letter == "I" else CODE.encode(letter)
    ids_T = torch.tensor([*ids, CODE.end])
    images = torch.randint(256, (text.count("I"), 3, 32, 32), generator=torch.Generator().manual_seed(number))
    scored = (ids_T >= 0) & (ids_T != CODE.begin)
    tensors = {"ids": ids_T, "scored": scored, "image": images.byte(), "source": torch.tensor(number)}
    return PackedDocument(str(number), {**tensors, "account": torch.zeros(6, dtype=torch.long)}, False)


def packed(numbers: Sequence[int], places: int, spare: int = 0) -> dict[str, Tensor]:
    """One pack of those documents, with so much padding."""
    documents = [document(DOCUMENTS[number], number, places) for number in numbers]
    tokens = tuple(len(found.tensors["ids"]) for found in documents)
    images = tuple(len(found.tensors["image"]) for found in documents)
    limits = PackLimits(sum(tokens) + spare, 16, places)
    return assemble([Pack(tuple(numbers), tokens, images)], documents, limits)


def loss_and_gradients(objective: MultimodalObjective, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    objective.zero_grad()
    loss = objective(batch)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}


@FUSIONS
def test_a_pack_gives_each_documents_loss_and_gradient_as_alone(fusion: dict[str, Any]) -> None:
    _, objective = made(fusion, sources=len(DOCUMENTS))
    together = packed(range(len(DOCUMENTS)), objective.visual_tokens, spare=7)
    for number in range(len(DOCUMENTS)):
        alone = packed([number], objective.visual_tokens)
        alone["scale"] = together["scale"] = torch.eye(len(DOCUMENTS))[number] / alone["scored"].sum()
        loss, gradients = loss_and_gradients(objective, alone)
        in_pack, in_packs = loss_and_gradients(objective, together)
        torch.testing.assert_close(in_pack, loss, rtol=1e-5, atol=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(in_packs[name], gradient, rtol=1e-5, atol=1e-5, msg=name)


def test_flamingos_place_of_a_picture_is_one_and_the_gated_blocks_are_a_part() -> None:
    _, objective = made(CROSS)
    assert objective.visual_tokens == 1
    assert objective.trained == objective.parts().keys() == {"tower", "connector", "language", "gated"}
    assert made(TOKENS)[1].visual_tokens == 4 and "gated" not in made(TOKENS)[1].parts()


@pytest.mark.parametrize("tag", ["before", "around"])
def test_another_tag_beside_the_place_of_a_picture_is_refused(tag: str) -> None:
    with pytest.raises(ModelError, match=r"form.image_tag is .* a picture's one place is its tag"):
        made({**CROSS, "form": {"image_tag": tag}})
    made({**TOKENS, "form": {"image_tag": tag}})


def test_at_step_0_the_scores_are_those_of_the_language_model_alone_to_the_bit() -> None:
    net = made(CROSS, gates=0.0)[1].net
    batch = packed([0, 2, 3], net.places)
    vectors_NPE = net.see_batch(batch)
    x_BTE = net.embed(batch["ids"], vectors_NPE)
    with_pictures = net.language(x_BTE, between=net.between(batch["ids"], vectors_NPE, batch["segments"]))
    assert torch.equal(net.language.logits(with_pictures), net.language.logits(net.language(x_BTE)))


@FUSIONS
def test_text_before_the_first_image_never_depends_on_an_image(fusion: dict[str, Any]) -> None:
    _, objective = made(fusion, sources=len(DOCUMENTS))
    batch = packed([0, 3], objective.visual_tokens)
    first = (batch["ids"][0] == PICTURE).nonzero()[0]
    batch["scored"][0, first:] = False
    other = {**batch, "image": 255 - batch["image"]}
    assert torch.equal(objective(batch), objective(other))
    batch["scored"][0, -1:] = True
    assert not torch.equal(objective(batch), objective(other))


@FUSIONS
def test_a_batch_without_images_gives_every_part_a_gradient(fusion: dict[str, Any]) -> None:
    """Of 0 where only pictures count: so each rank of several takes part in each exchange."""
    _, objective = made(fusion, sources=len(DOCUMENTS))
    _, gradients = loss_and_gradients(objective, packed([1], objective.visual_tokens))
    parts = {name: p for name, p in objective.named_parameters() if "visual" not in name}
    seen = {name for name, p in objective.named_parameters() if p.requires_grad and name in gradients}
    assert all(name in seen for name in parts if ".connector." in name or ".gated.blocks." in name)
    assert not any(gradients[name].any() for name in seen if ".connector." in name or ".towers." in name)
    assert any(gradients[name].any() for name in seen if ".language." in name)


def with_picture(ids_BT: torch.Tensor, places: int) -> torch.Tensor:  # noqa: N803
    """Rows of ids with a picture's places behind the begin mark."""
    return torch.cat((ids_BT[:, :1], torch.full((len(ids_BT), places), PICTURE), ids_BT[:, 1:]), 1)


@FUSIONS
def test_what_is_written_token_by_token_is_what_the_whole_sequence_says(fusion: dict[str, Any]) -> None:
    net = made(fusion)[1].eval().net
    vectors_NPE = net.see([Pictures(torch.randint(256, (2, 3, 32, 32)).byte())])
    ids_BT = torch.tensor([[CODE.begin, *b"a red one"], [CODE.begin, *b"two blues"]])
    pictured = with_picture(ids_BT, net.places)
    write = net.writer(vectors_NPE, pictured[:, : net.places + 3])
    found = torch.stack([write(ids_BT[:, : 3 + token]) for token in range(8)], 1)
    x_BTE, between = net.embed(pictured, vectors_NPE), net.between(pictured, vectors_NPE)
    whole = net.language.logits(net.language(x_BTE, between=between))
    torch.testing.assert_close(found, whole[:, net.places + 2 :], rtol=1e-5, atol=1e-5)
    other = net.writer(vectors_NPE.flip(0), pictured)
    assert not torch.allclose(other(ids_BT), whole[:, -1], atol=1e-3)


@FUSIONS
def test_an_exported_captioner_sees_pictures_as_the_trained_one(fusion: dict[str, Any], tmp_path: Path) -> None:
    clip, objective = made(fusion)
    export(clip, objective, config(fusion), tmp_path / "captioner.safetensors")
    captioner = load_captioner(str(tmp_path / "captioner.safetensors"), "", "float32")
    pixels, ids_BT = torch.randint(256, (2, 3, 32, 32)).byte(), torch.tensor([[CODE.begin, *b"a"]] * 2)
    objective.eval()
    with torch.no_grad():
        vectors_NPE, begun_BT = objective.net.see([Pictures(pixels)]), with_picture(ids_BT, objective.net.places)
        expected = objective.net.writer(vectors_NPE, begun_BT)(ids_BT)
        torch.testing.assert_close(
            captioner.write(captioner.look(pixels.flatten(1)))(ids_BT), expected, rtol=1e-5, atol=1e-5
        )


RANKED = """
import sys
sys.path[:0] = {paths!r}
import torch
from torch.distributed.tensor import DTensor
from test_fusion import DOCUMENTS, made, packed
from train.config import RunConfig
from train.parallel import Parallel, place
from train.ranks import join_ranks

torch.set_num_threads(1)
with join_ranks("cpu") as ranks:
    for name, (fusion, how) in {cases!r}.items():
        objective = made(fusion, sources=len(DOCUMENTS))[1]
        place(objective, RunConfig(parallel=how), ranks)
        batch = packed([ranks.rank], objective.visual_tokens)  # the first rank's has a picture, the second's none
        parallel = Parallel(objective, ranks, idle=True)
        (parallel({{**batch, "scale": torch.ones(len(DOCUMENTS))}}) * 2).backward()
        gradients = {{name: p.grad for name, p in objective.named_parameters() if p.grad is not None}}
        whole = {{name: g.full_tensor() if isinstance(g, DTensor) else g for name, g in gradients.items()}}
        if ranks.is_first:
            torch.save(whole, {out!r} + name)
"""


@pytest.mark.slow
@pytest.mark.systems
def test_two_ranks_of_which_one_has_no_image_train_as_one(tmp_path: Path) -> None:
    here, script, out = Path(__file__).parent, tmp_path / "ranks.py", str(tmp_path / "gradients-")
    cases = {"tokens": (TOKENS, "ddp"), "cross": (CROSS, "ddp"), "in shards": (TOKENS, "fsdp"), "both": (CROSS, "fsdp")}
    script.write_text(RANKED.format(paths=[str(here), str(here.parent)], cases=cases, out=out))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    subprocess.run(torchrun, check=True, capture_output=True, timeout=120)
    for kind, (fusion, _) in cases.items():
        _, objective = made(fusion, sources=len(DOCUMENTS))
        _, expected = loss_and_gradients(objective, packed([0, 1], objective.visual_tokens))
        found = torch.load(out + kind)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4, msg=f"{kind}: {name}")
