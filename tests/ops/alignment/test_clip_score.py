"""clip_score: the scores are open_clip's own, and a pair's score never hangs on what shares its batch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from curate.models.clip import load_clip
from curate.models.devices import CPU, Device
from curate.models.files import ModelError
from curate.ops.alignment._towers import ImageTower
from curate.ops.alignment.clip_score import clip_score
from curate.ops.spec import identity, spec_of
from curate.stream.tokens import token_ids
from curate.tokens.clip import open_clip_tokens

CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 48},
    "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
WORDS = [
    "a",
    "red",
    "apple",
    "lies",
    "on",
    "wooden",
    "table",
    "while",
    "two",
    "quick",
    "brown",
    "foxes",
    "jump",
    "over",
    "the",
    "lazy",
    "dogs",
    "of",
    "Zürich",
    "東京",
]


@pytest.fixture(autouse=True)
def _offline_and_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read at import only
    torch.set_num_threads(1)  # models this small only wait for a second one


def network(config: dict[str, Any] = CONFIG) -> Any:
    torch.manual_seed(0)
    plain = dict(config)
    kind = open_clip.CustomTextCLIP if plain.pop("custom_text", False) else open_clip.CLIP
    return kind(**plain).eval()


def exported(path: Path, config: dict[str, Any] = CONFIG, **metadata: str) -> str:
    """A model file that carries its own configuration."""
    described = {"open_clip_config": json.dumps({"model_cfg": config, "preprocess_cfg": {}}), **metadata}
    save_file({k: v.contiguous() for k, v in network(config).state_dict().items()}, path, metadata=described)
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return exported(tmp_path_factory.mktemp("clip") / "tiny.safetensors")


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(1)
    shapes = rng.integers(20, 120, (count, 2))
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in shapes]


def captions(count: int, longest: int = 60) -> list[str]:
    rng = np.random.default_rng(2)
    return [" ".join(rng.choice(WORDS, rng.integers(0, longest))) for _ in range(count)]


def by_open_clip(images: list[Image.Image], texts: list[str]) -> np.ndarray[Any, Any]:
    net = network()
    transform = image_transform_v2(PreprocessCfg(size=(48, 48)), is_train=False)
    with torch.inference_mode():
        image_ND = net.encode_image(torch.stack([transform(image) for image in images]), normalize=True)
        text_ND = net.encode_text(open_clip.SimpleTokenizer(context_length=40)(texts), normalize=True)
        return np.asarray((image_ND * text_ND).sum(dim=1))


def test_scores_and_embeddings_are_those_of_open_clip(model: str) -> None:
    images, texts = pictures(50), captions(50)
    columns = clip_score(model=model, precision="float32")(images, texts)
    assert np.allclose(columns["clip_score"], by_open_clip(images, texts), atol=1e-6)
    assert list(columns) == list(spec_of(clip_score).writes)
    for name in ("clip_image_embedding", "clip_text_embedding"):
        rows = np.stack(columns[name])
        assert rows.dtype == np.float16 and rows.shape == (50, 32)
        assert np.allclose(np.linalg.norm(rows.astype(np.float32), axis=1), 1, atol=1e-3)


def test_bfloat16_gives_nearly_the_same_scores(model: str) -> None:
    images, texts = pictures(40), captions(40)
    rough = clip_score(model=model, precision="bfloat16")(images, texts)["clip_score"]
    assert np.allclose(rough, by_open_clip(images, texts), atol=0.02)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_pairs_score_is_same_alone_in_another_order_and_in_other_batches(model: str, precision: Any) -> None:
    images, texts = pictures(90), captions(90)
    scorer = clip_score(model=model, precision=precision)
    whole = scorer(images, texts)

    def same(rows: list[int]) -> bool:
        part = scorer([images[row] for row in rows], [texts[row] for row in rows])
        return all(np.array_equal(part[name][at], whole[name][row]) for name in whole for at, row in enumerate(rows))

    assert same([int(row) for row in np.random.default_rng(3).permutation(90)])
    assert all(same([row]) for row in range(0, 90, 18))
    assert all(same(list(range(start, min(90, start + 17)))) for start in range(0, 90, 17))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_are_the_same_on_one_thread_and_on_two(model: str, precision: Any) -> None:
    images, texts = pictures(20), captions(20)
    one = clip_score(model=model, precision=precision)(images, texts)
    torch.set_num_threads(2)
    two = clip_score(model=model, precision=precision)(images, texts)
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("custom", [False, True])
def test_text_padded_only_to_its_bucket_has_embedding_of_whole_context(custom: bool, tmp_path: Path) -> None:
    config = {**CONFIG, "custom_text": custom}
    path = exported(tmp_path / "m.safetensors", config)
    texts = [" ".join(["apple"] * count) for count in range(45)]
    columns = clip_score(model=path, precision="float32")(pictures(45), texts)
    with torch.inference_mode():
        whole = network(config).encode_text(open_clip.SimpleTokenizer(context_length=40)(texts), normalize=True).numpy()
    assert np.allclose(np.stack(columns["clip_text_embedding"]).astype(np.float32), whole, atol=1e-3)


def test_tower_that_looks_both_ways_is_given_the_whole_context(tmp_path: Path) -> None:
    text = {**CONFIG["text_cfg"], "no_causal_mask": True}
    config = {**CONFIG, "text_cfg": text, "custom_text": True}
    path = exported(tmp_path / "m.safetensors", config)
    texts = captions(20)
    found = np.stack(clip_score(model=path, precision="float32")(pictures(20), texts)["clip_text_embedding"])
    with torch.inference_mode():
        whole = network(config).encode_text(open_clip.SimpleTokenizer(context_length=40)(texts), normalize=True).numpy()
    assert np.allclose(found.astype(np.float32), whole, atol=1e-3)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clips_transform(resize_mode: str, interpolation: str, tmp_path: Path) -> None:
    prepare = {"size": 48, "resize_mode": resize_mode, "interpolation": interpolation, "mean": [0.5, 0.4, 0.3]}
    described = json.dumps({"model_cfg": CONFIG, "preprocess_cfg": prepare})
    path = tmp_path / "m.safetensors"
    save_file(network().state_dict(), path, metadata={"open_clip_config": described})
    ours = ImageTower(load_clip(str(path), "", "float32"))
    transform = image_transform_v2(
        PreprocessCfg(size=(48, 48), resize_mode=resize_mode, interpolation=interpolation, mean=(0.5, 0.4, 0.3)),
        is_train=False,
    )
    for image in [*pictures(12), Image.new("RGB", (3, 2), "red"), Image.new("RGB", (160, 10), "blue")]:
        assert torch.equal(ours.normalise(np.stack([ours.pixels(image)]))[0], transform(image))


def test_very_long_picture_is_scored_in_little_memory(model: str) -> None:
    """A picture of one pixel by thirty thousand is scored in little memory."""
    images = [Image.new("RGB", shape, "red") for shape in ((1, 30_000), (30_000, 1), (1, 1))]
    assert len(clip_score(model=model)(images, ["a line"] * 3)["clip_score"]) == 3


def test_hostile_caption_is_scored_as_open_clip_would_score_it(model: str) -> None:
    texts = ["", "\0\x07", "word " * 200_000, "nul\0in it", " " * 5000 + "late", "e\u0301\u200d\U0001f34e"]
    images = pictures(len(texts))
    columns = clip_score(model=model, precision="float32")(images, texts)
    assert np.allclose(columns["clip_score"], by_open_clip(images, texts), atol=1e-6)
    assert len(clip_score(model=model)(pictures(2), ["\ud800", "x" * 1_000_000])["clip_score"]) == 2


def test_token_ids_are_those_of_open_clip() -> None:
    theirs = open_clip.SimpleTokenizer(context_length=40)
    ours = open_clip_tokens(open_clip.SimpleTokenizer(context_length=40), 40)
    for text in [*captions(60), "", "<end_of_text> after", "ＦＵＬＬ width &amp; html", "a" * 300]:
        ids = list(ours(text))
        assert ids + [0] * (40 - len(ids)) == theirs([text])[0].tolist()


def test_model_that_the_trainer_exports_is_loaded_with_its_own_tokenizer(tmp_path: Path) -> None:
    from train.config import Model
    from train.models.dual_encoder import build, export
    from train.models.dual_encoder import load_export as by_trainer

    described = {"embed_dim": 16, "vision_cfg": CONFIG["vision_cfg"], "text_cfg": {"context_length": 12, "width": 32}}
    described["text_cfg"] |= {"heads": 2, "layers": 1}
    path = tmp_path / "exported.safetensors"
    export(build(Model(clip=described, tokenizer="simple:1000")), path)
    texts = ["red apple", "dog", "a b c d e f g h i j k l m n o p"]
    columns = clip_score(model=str(path), precision="float32")(pictures(3), texts)
    clip: Any = by_trainer(path)
    with torch.inference_mode():
        whole = clip.net.encode_text(token_ids(clip.tokenizer, texts), normalize=True).numpy()
    assert np.allclose(np.stack(columns["clip_text_embedding"]).astype(np.float32), whole, atol=1e-3)


def test_model_that_ships_tells_red_from_blue() -> None:
    images = [Image.new("RGB", (72, 72), colour) for colour in ("red", "blue")]
    red = clip_score()(images, ["red circle"] * 2)["clip_score"]
    assert red[0] > red[1]


def test_every_way_to_name_a_model_gives_the_same_scores(model: str, tmp_path: Path) -> None:
    images, texts = pictures(5), captions(5)
    state = network().state_dict()
    (tmp_path / "bare.json").write_text(json.dumps(CONFIG))
    save_file(state, tmp_path / "weights.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "weights.pt")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}))
    save_file(state, folder / "model.safetensors")
    expected = clip_score(model=model)(images, texts)["clip_score"]
    bare = str(tmp_path / "bare.json")
    ways = [(bare, str(tmp_path / "weights.safetensors")), (bare, str(tmp_path / "weights.pt")), (str(folder), "")]
    for name, pretrained in ways:
        assert clip_score(model=name, pretrained=pretrained)(images, texts)["clip_score"] == expected


def test_identity_follows_the_files_content_and_not_its_place(model: str, tmp_path: Path) -> None:
    copy = tmp_path / "other name.safetensors"
    copy.write_bytes(Path(model).read_bytes())
    assert identity(clip_score, {"model": model})["files"] == identity(clip_score, {"model": str(copy)})["files"]
    settled = [identity(clip_score, {"model": model, "device": Device("cpu", p)}) for p in ("float32", "bfloat16")]
    assert settled[0] != settled[1] != identity(clip_score, {"model": model, "device": Device("cuda", "bfloat16")})
    changed = {k: v + 1 for k, v in network().state_dict().items()}
    save_file(changed, copy, metadata={"open_clip_config": json.dumps(CONFIG)})
    assert identity(clip_score, {"model": model})["files"] != identity(clip_score, {"model": str(copy)})["files"]


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-B-33", "openai", "nearest ViT-B-32"),
        ("ViT-B-32", "opena", "did you mean 'openai'"),
        ("ViT-B-32", "missing.pt", "must be a file of weights"),
        ("missing.safetensors", "", "no file missing.safetensors"),
        ("missing.json", "", "no file missing.json"),
    ],
)
def test_model_that_is_not_there_is_refused_with_what_to_do(name: str, pretrained: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        clip_score(model=name, pretrained=pretrained)
    with pytest.raises(ModelError, match=message):
        clip_score.identity({"model": name, "pretrained": pretrained, "precision": "auto"})


def test_hub_out_of_reach_is_named_with_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"cannot be had from the hub.*give a local file"):
        clip_score(model="hf-hub:nobody/nothing")


def test_broken_or_foreign_model_file_is_refused(model: str, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(Path(model).read_bytes()[:1000])
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        clip_score(model=str(cut))
    plain = tmp_path / "plain.safetensors"
    save_file(network().state_dict(), plain)
    with pytest.raises(ModelError, match="no open_clip_config in its metadata"):
        clip_score(model=str(plain))
    other = {**CONFIG, "embed_dim": 48}
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(ModelError, match=r"plain\.safetensors does not load"):
        clip_score(model=str(tmp_path / "other.json"), pretrained=str(plain))


def test_pickled_checkpoint_is_never_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    (tmp_path / "c.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ModelError, match="does not load"):
        clip_score(model=str(tmp_path / "c.json"), pretrained=str(tmp_path / "trap.pt"))
    assert not (tmp_path / "executed").exists()


def test_auto_means_bfloat16_only_where_the_processor_has_it() -> None:
    named = Path("/proc/cpuinfo").read_text().split()
    native = any(name in named for name in ("avx512_bf16", "amx_bf16", "bf16"))
    assert CPU.settle("auto") == ("bfloat16" if native else "float32")
