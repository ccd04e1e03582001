"""Training with towers of one's own: their pictures on the way from shards to the connector, and their settings."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from capfilt_models import pictures
from pydantic import ValidationError
from timm.models import build_model_with_cfg, register_model
from timm.models.vision_transformer import VisionTransformer
from train_samples import CAPTION, MM1, MULTIMODAL, TINY, composed, mixture, of_every_kind, settings_file
from trained_parts import set_trained

from curate.image.tensors import Shown, of_picture
from curate.mix import MixtureError
from curate.models.captioners import TrainedCaptioner
from curate.models.devices import CPU
from curate.models.features import pictures_in
from curate.models.files import ModelError
from curate.settings import SettingsError
from curate.stream.reading import ReadOptions, Share
from curate.stream.stream import Batch, Stream
from train import prepare
from train.config import Config, read
from train.export import export
from train.models.dual_encoder import build
from train.objectives.multimodal import MultimodalObjective
from train.prepare import PreparedObjective

VIT, CONVNEXT = "timm:test_vit", "timm:test_convnext"
LANGUAGE = {"width": 32, "layers": 1, "heads": 2}
POOLING = {
    "type": "idefics2_pooling",
    "latents": 2,
    "depth": 1,
    "heads": 2,
    "head_width": 8,
    "keys_heads": 1,
    "hidden": 32,
}
PAIR = {"eye": {"model": VIT, "size_px": 64}, "net": {"model": CONVNEXT, "size_px": 128, "stages": True, "norm": True}}
OWN = {"model": TINY["model"]["clip"]}


def multimodal(connector: Any, **changed: Any) -> dict[str, Any]:
    pack = {"tokens": 256, "images": 6, "window": 64}
    return {**MULTIMODAL, "connector": connector, "language": LANGUAGE, "pack": pack, **changed}


def config(objective: dict[str, Any], towers: dict[str, Any], **changed: Any) -> Config:
    model = {"tokenizer": "simple:1024", "towers": towers} if towers else TINY["model"]
    return Config.model_validate({**TINY, "model": model, "objective": objective, **changed})


def made(manifest: Path, settings: Config) -> PreparedObjective:
    torch.manual_seed(0)
    return prepare.build(settings, build(settings.model), manifest)


def net_of(prepared: PreparedObjective) -> MultimodalObjective:
    assert isinstance(prepared.objective, MultimodalObjective)
    return prepared.objective


def batches(manifest: Path, prepared: PreparedObjective, count: int = 1, size: int = 4) -> list[Batch]:
    stream = Stream(manifest, size, prepared.prepare, Share(), ReadOptions(threads=1), prepared.packing)
    try:
        return list(itertools.islice(stream, count))
    finally:
        stream.close()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_every_kind(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("pairs"))


def test_a_tower_of_ones_own_is_shown_what_the_dual_encoders_own_is(kinds: Path) -> None:
    objective = multimodal({"type": "mlp", "vectors": 4})
    own, named = (made(kinds, config(objective, towers)) for towers in ({}, {"eye": OWN}))
    for one, other in zip(batches(kinds, own, 3), batches(kinds, named, 3), strict=True):
        assert one.tensors.keys() == other.tensors.keys()
        assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


CONNECTORS = [
    pytest.param(PAIR, {"type": "sva", "side": 4, "layers": 1, "width": 32, "heads": 2}, id="sva"),
    pytest.param(PAIR, {"type": "channels"}, id="channels"),
    pytest.param(
        {
            "eye": {**PAIR["eye"], "split": {"whole": "first"}},
            "net": {**PAIR["net"], "size_px": 256, "split": {"whole": "first", "of": "features"}},
        },
        {"type": "mining", "cell": 8},
        id="mining of 5N",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("towers", "connector"), CONNECTORS)
def test_several_towers_are_trained_together_from_packs(kinds: Path, towers: Any, connector: Any) -> None:
    settings = config(multimodal(connector, pack={"tokens": 1024, "images": 6, "window": 32}), towers)
    prepared = made(kinds, settings)
    objective = net_of(prepared)
    set_trained(objective, frozenset(objective.parts()))
    objective.train()
    [batch] = batches(kinds, prepared, size=2)
    found = pictures_in(batch.tensors, ("net",))
    assert found is not None
    [[eye, net]] = found.groups
    views = 5 if "split" in towers["eye"] else 1
    assert len(eye.x_MCHW) == views * len(net.x_MCHW)
    objective(batch.tensors).backward()
    for name, tower in objective.net.all_towers().items():
        assert any(p.grad is not None and p.grad.any() for p in tower.net.parameters()), name


def test_a_towers_own_norm_trains_with_the_connector_while_the_tower_is_frozen(kinds: Path) -> None:
    prepared = made(kinds, config(multimodal({"type": "channels"}, train_tower=False), PAIR))
    objective = net_of(prepared)
    set_trained(objective, objective.trained)
    objective.train()
    objective(batches(kinds, prepared)[0].tensors).backward()
    tower = objective.net.all_towers()["net"]
    assert not tower.net.training and all(p.grad is None for p in tower.net.parameters())
    assert all(p.grad is not None and p.grad.any() for p in tower.norm.parameters())
    assert {id(p) for p in tower.norm.parameters()} <= {id(p) for p in objective.parts()["connector"]}


@register_model
def tiny_siglip(pretrained: bool = False, **settings: Any) -> VisionTransformer:
    """A vision transformer as SigLIP's, without class vector, registered with timm as anyone may."""
    sizes = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
    net: VisionTransformer = build_model_with_cfg(
        VisionTransformer, "tiny_siglip", pretrained, **sizes, class_token=False, global_pool="map", **settings
    )
    return net


NATIVE = {"model": "timm:tiny_siglip", "size_px": 64, "fit": "native", "shortest_px": 16, "final_norm": True}


def test_a_pack_of_split_pictures_of_native_aspect_gives_each_documents_loss_as_alone(kinds: Path) -> None:
    """Whatever else is padded to the same size beside them."""
    towers = {"eye": {**NATIVE, "split": {}}}
    prepared = made(kinds, config(multimodal(POOLING), towers))
    objective = net_of(prepared).eval()
    assert objective.visual_tokens == 5 * 2
    [batch] = batches(kinds, prepared)
    tensors = batch.tensors
    assert tensors["image"].shape[1:3] == (5, 3) and tensors["image_size"].shape == (*tensors["image"].shape[:1], 5, 2)
    parts, seen = [], 0
    for row in range(len(tensors["ids"])):
        for segment in range(1, int(tensors["segments"][row].max()) + 1):
            mine = tensors["segments"][row] == segment
            one = {name: tensors[name][row][mine][None] for name in ("ids", "scored", "source")}
            count = int((one["ids"] < 0).sum()) // 10
            size = tensors["image_size"][seen : seen + count]
            height, width = (int(side) for side in size.flatten(0, 1).amax(0)) if count else (0, 0)
            shown = tensors["image"][seen : seen + count, ..., :height, :width]
            parts.append(objective({**one, "image": shown, "image_size": size}))
            seen += count
    assert seen == len(tensors["image"]) > 2
    torch.testing.assert_close(objective(tensors), torch.stack(parts).sum(), rtol=1e-5, atol=1e-3)


def test_boundary_tags_stand_before_between_and_after_the_views_of_a_picture(kinds: Path) -> None:
    """Idefics2: 66 places for one view of 64, 326 for four quarters and the whole."""
    towers = {"eye": {**NATIVE, "split": {}}}
    form = {"image_tag": "around"}
    prepared = made(kinds, config(multimodal(POOLING, form=form, train_tower=False), towers))
    tensors = batches(kinds, prepared)[0].tensors
    row = "".join(
        "." if i < 0 else "|" if i == 258 else "a" for i in tensors["ids"][tensors["ids"].min(1).values < 0][0]
    )
    assert "|..|..|..|..|..|" in row and "...|" not in row
    assert torch.isfinite(net_of(prepared)(tensors))


def test_rows_of_native_pictures_are_of_one_shape(pairs: Path) -> None:
    prepared = made(pairs, config({**CAPTION, "connector": POOLING}, {"eye": NATIVE}))
    [batch] = batches(pairs, prepared)
    assert batch.tensors["image"].shape == (4, 1, 3, 64, 64)
    assert batch.tensors["image_size"].tolist() == [[[40, 40]]] * 4
    assert torch.isfinite(net_of(prepared)(batch.tensors))


def test_variation_of_a_picture_is_one_for_all_towers(pairs: Path) -> None:
    """Cropped and flipped alike: shown at the same size, the same pixels."""
    eye = {"model": VIT, "size_px": 64}
    varied = {"data": {"batch_size": 16, "augment": {"crop_min_area": 0.3, "flip": 0.5, "color_jitter": 0.3}}}
    prepared = made(pairs, config({**CAPTION, "connector": "channels"}, {"eye": eye, "other": eye}, **varied))
    [batch] = batches(pairs, prepared)
    assert torch.equal(batch.tensors["image"], batch.tensors["image:other"])
    plain = made(pairs, config({**CAPTION, "connector": "channels"}, {"eye": eye, "other": eye}))
    assert not torch.equal(batch.tensors["image"], batches(pairs, plain)[0].tensors["image"])


@pytest.mark.parametrize(
    ("towers", "connector"),
    [
        ({"eye": {**NATIVE, "split": {"whole": "first"}}}, POOLING),
        ({"eye": {**PAIR["eye"], "fit": "pad"}, "net": PAIR["net"]}, {"type": "channels"}),
    ],
)
def test_an_exported_model_with_towers_sees_pictures_as_the_trained_one(
    pairs: Path, tmp_path: Path, towers: Any, connector: Any
) -> None:
    settings = config({**CAPTION, "connector": connector}, towers)
    clip = build(settings.model)
    torch.manual_seed(0)
    objective = net_of(prepare.build(settings, clip, pairs)).eval()
    export(clip, objective, settings, tmp_path / "model.safetensors")
    loaded = TrainedCaptioner(tmp_path / "model.safetensors", CPU.place("float32"))
    shown = pictures(3)
    with torch.no_grad():
        found = loaded.look(torch.stack([loaded.prepare(image) for image in shown]))
        for number, image in enumerate(shown):
            tensors: dict[str, torch.Tensor] = {}
            for name, tower in zip(("", "net"), objective.net.all_towers().values(), strict=False):
                tensors |= of_picture([np.array(image)], name, Shown(tower.size_px, tower.config.views.of(False)))
            expected = objective.net.see_batch({name: tensor[None] for name, tensor in tensors.items()})
            torch.testing.assert_close(found[number], expected[0], rtol=1e-4, atol=1e-5)


def test_a_stages_resolution_is_the_first_towers(kinds: Path) -> None:
    spec = {**yaml.safe_load(MM1), "batch": 4}
    spec["stages"] = [{"name": "only", "resolution": 96}]
    manifest = composed(kinds.parent, yaml.safe_dump(spec), "staged.json")
    prepared = made(manifest, config(multimodal({"type": "channels", "side": 2}), PAIR))
    tensors = batches(manifest, prepared)[0].tensors
    assert tensors["image"].shape[-1] == 96 and tensors["image:net"].shape[-1] == 128
    spec["stages"] = [{"name": "only", "resolution": 100}]
    odd = composed(kinds.parent, yaml.safe_dump(spec), "odd.json")
    with pytest.raises(ModelError, match="take 96 or 112"):
        made(odd, config(multimodal({"type": "channels", "side": 2}), PAIR))


def test_settings_of_towers_that_cannot_be_are_refused(kinds: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"leave model\.towers out"):
        config({"type": "contrastive"}, PAIR)
    with pytest.raises(ValidationError, match="fit: native"):
        config(multimodal(POOLING), {"eye": NATIVE}, data={"augment": {"flip": 0.5}})
    with pytest.raises(ValidationError, match="leave clip and weights out"):
        Config.model_validate({**TINY, "model": {**TINY["model"], "towers": PAIR}, "objective": CAPTION})
    with pytest.raises(ModelError, match="rasters of one size"):
        made(kinds, config(multimodal({"type": "mlp", "vectors": 4}), {"eye": NATIVE}))
    with pytest.raises(ModelError, match="takes one tower"):
        made(kinds, config(multimodal({"type": "mlp", "vectors": 4}), PAIR))
    absent = {"towers": {"eye": {"model": VIT, "weights": "/no/vit.safetensors"}}}
    file = settings_file(tmp_path, {"model": absent, "objective": CAPTION})
    with pytest.raises(SettingsError, match=r"model\.towers\.eye\.weights: no such file"):
        read(file)


def test_several_resolutions_in_a_batch_need_pictures_that_fill_their_squares(kinds: Path) -> None:
    spec = {**yaml.safe_load(MM1), "batch": 4}
    spec["stages"] = [{"name": "only", "resolution": {"ocr": 96}}]
    manifest = composed(kinds.parent, yaml.safe_dump(spec), "mixed.json")
    with pytest.raises(MixtureError, match="fit: square"):
        made(manifest, config(multimodal("channels"), {**PAIR, "eye": {**PAIR["eye"], "fit": "pad"}}))
    prepared = made(manifest, config(multimodal({"type": "channels", "side": 2}), PAIR))
    [batch] = batches(manifest, prepared)
    assert {"image000064", "image000096", "image:net", "order"} <= batch.tensors.keys()
    assert torch.isfinite(net_of(prepared)(batch.tensors))
