"""Heads on kept embeddings: right to the last bit, refused on another tower's vectors, trained on one's own labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Workplace
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from curate.engine.explain import column
from curate.models.clip import clip_tower
from curate.models.files import ModelError
from curate.models.heads import HEAD, load_head
from curate.ops.alignment.head_score import head_score
from pipelines.materials.head import HeadTraining, fit

CHANCE = np.random.default_rng(4)


def unit(count: int, dims: int) -> np.ndarray[Any, Any]:
    vectors = CHANCE.normal(size=(count, dims))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def write(path: Path, *layers: tuple[Any, Any], **card: Any) -> str:
    tensors = {}
    for number, layer in enumerate(layers):
        for name, value in zip(("weight", "bias"), layer, strict=True):
            tensors[f"layers.{2 * number}.{name}"] = np.asarray(value, np.float32)
    save_file(tensors, path, {HEAD: json.dumps(card)} if card else None)
    return str(path)


def test_linear_head_is_w_x_plus_b_on_unit_vectors(tmp_path: Path) -> None:
    """LAION's aesthetic v2 as published: 768 numbers and 5.2366, here with another w."""
    weight = CHANCE.normal(size=(1, 768))
    head = write(tmp_path / "a.safetensors", (weight, [5.2366]))
    vectors = (3 * unit(300, 768)).astype(np.float16)
    scores = head_score(head=head)([*vectors[:200], None, *vectors[200:]])["head_score"]
    assert scores.pop(200) is None
    wide = vectors.astype(np.float64)
    wanted = wide @ weight[0].astype(np.float32) / np.linalg.norm(wide, axis=1) + np.float32(5.2366)
    assert np.allclose(scores, wanted, rtol=0, atol=1e-12)


def test_layers_without_activation_are_one_vector_and_with_relu_a_network(tmp_path: Path) -> None:
    layers = [(CHANCE.normal(size=(m, n)), CHANCE.normal(size=m)) for n, m in ((16, 12), (12, 11), (11, 1))]
    path = write(tmp_path / "several.safetensors", *layers)
    vectors = unit(5, 16)
    for activation in ("none", "relu"):
        found = vectors
        for number, (weight, bias) in enumerate(layers):
            found = np.maximum(found, 0) if number and activation == "relu" else found
            found = found @ weight.astype(np.float32).T + bias.astype(np.float32)
        scores = load_head(Path(path), activation)(vectors)  # type: ignore[arg-type]
        assert np.allclose(scores, found[:, 0], rtol=1e-10)
    with pytest.raises(ModelError, match=r"3 layers .* `activation: none`"):
        load_head(Path(path))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 999), min_size=1, max_size=700), st.sampled_from(["none", "relu"]))
def test_score_of_a_row_is_the_same_bits_whatever_shares_its_batch(rows: list[int], activation: str) -> None:
    scores = [ALONE[activation][0](VECTORS[[row]])[0] for row in rows[:20]]
    assert ALONE[activation][0](VECTORS[rows])[:20].tolist() == scores


VECTORS = unit(1000, 96)
ALONE: dict[str, list[Any]] = {"none": [], "relu": []}


@pytest.fixture(scope="module", autouse=True)
def _heads(tmp_path_factory: pytest.TempPathFactory) -> None:
    layers = [(CHANCE.normal(size=(m, n)), CHANCE.normal(size=m)) for n, m in ((96, 33), (33, 1))]
    path = Path(write(tmp_path_factory.mktemp("heads") / "h.safetensors", *layers))
    for activation, held in ALONE.items():
        held.append(load_head(path, activation))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "holds nothing"),
        ({"layers.0.weight": np.ones((2, 8), np.float32)}, "the last of which gives one number"),
        ({"a.0.weight": np.ones((4, 8), np.float32), "a.1.weight": np.ones((1, 5), np.float32)}, "one after the other"),
        ({"layers.0.weight": np.full((1, 8), np.nan, np.float32)}, "finite"),
    ],
)
def test_file_that_is_no_head_is_refused_with_what_it_holds(tmp_path: Path, tensors: Any, words: str) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=words):
        load_head(tmp_path / "x.safetensors", "none")
    (tmp_path / "y.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="no safetensors file"):
        load_head(tmp_path / "y.safetensors")


def test_ridge_finds_the_weights_that_solve_its_normal_equations() -> None:
    vectors, truth = unit(300, 12), CHANCE.normal(size=12)
    labels = vectors @ truth + 2 + CHANCE.normal(size=300) / 10
    weight, bias = fit(vectors, labels, HeadTraining("ridge", l2=0.5))
    middle, centre = vectors.mean(axis=0), labels.mean()
    wanted = np.linalg.solve(
        (vectors - middle).T @ (vectors - middle) + 0.5 * np.eye(12), (vectors - middle).T @ (labels - centre)
    )
    assert np.allclose(weight, wanted, atol=1e-4) and bias == pytest.approx(centre - middle @ wanted, abs=1e-4)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Fifty pictures with their embeddings by the small dual encoder that ships."""
    place = Workplace(tmp_path_factory.mktemp("scored"))
    place.images(50)
    assert place.run(place.recipe(steps=[{"op": "clip_score"}], shard_samples=20)).code == 0
    return place


def with_head(place: Workplace, **knobs: Any) -> Path:
    steps = [{"op": "clip_score"}, {"op": "head_score", "with": knobs, "keep": {"head_score": {"top": 0.5}}}]
    return place.recipe(steps=steps, shard_samples=20)


def test_trained_head_scores_a_run_without_opening_an_image(scored: Workplace) -> None:
    """Labels that a plane through the embeddings makes are learnt from 40 and told apart on the others."""
    made = column(scored.out, "clip_image_embedding")
    vectors = np.array(made["clip_image_embedding"].to_pylist(), np.float64)
    liked = vectors @ (vectors[0] - vectors[1]) > np.median(vectors @ (vectors[0] - vectors[1]))
    labels = scored.root / "labels.csv"
    lines = (f"{uid},{int(label)}" for uid, label in zip(made["uid"].to_pylist(), liked, strict=True))
    labels.write_text("uid,label\n" + "\n".join(lines) + "\n")
    recipe, out = scored.recipe(steps=[{"op": "clip_score"}], shard_samples=20), scored.root / "liked.safetensors"
    told = scored.curate("head", "train", recipe, labels, "--out", out, "--l2", "0.001")
    assert told.code == 0, told.stderr
    assert told.json["held_out"]["roc_auc"] > 0.8 and told.json["tower"].startswith("sha256:")
    first = out.read_bytes()
    assert scored.curate("head", "train", recipe, labels, "--out", out, "--l2", "0.001").code == 0
    assert out.read_bytes() == first
    with safe_open(out, framework="numpy") as file:
        assert json.loads(file.metadata()[HEAD])["trained_on"] == f"test: {told.json['trained_on']} labelled rows"
    found = scored.run(with_head(scored, head=str(out)))
    assert found.steps["head_score"]["kept"] == 25 and found.steps["clip_score"]["computed"] == 0
    scores = dict(zip(*(column(scored.out, "head_score")[c].to_pylist() for c in ("uid", "head_score")), strict=True))
    right = [(scores[uid] > 0.5) == label for uid, label in zip(made["uid"].to_pylist(), liked, strict=True)]
    assert sum(right) > 40


def test_head_of_another_tower_is_refused_before_anything_runs(scored: Workplace, tmp_path: Path) -> None:
    digest = clip_tower("tiny-clip", "")
    own = f"{digest} image"
    layer = (CHANCE.normal(size=(1, 128)), [0.0])
    foreign = write(tmp_path / "foreign.safetensors", layer, tower="ViT-L-14/openai image")
    silent = write(tmp_path / "silent.safetensors", layer)
    wide = write(tmp_path / "wide.safetensors", (CHANCE.normal(size=(1, 768)), [0.0]), tower=own)
    for knobs, words in (
        ({"head": foreign}, ["is for 'ViT-L-14/openai image'", f"are of '{own}'"]),
        ({"head": silent}, ["does not say which tower it is for", own]),
        ({"head": wide}, ["reads 768 numbers", "holds 128"]),
        (
            {"head": silent, "tower": own, "column": "clip_text_embedding"},
            [f"are of '{digest} text'"],
        ),
        ({"head": str(tmp_path / "none.safetensors")}, ["no file"]),
    ):
        before = {path: path.stat().st_mtime_ns for path in scored.out.rglob("*.parquet")}
        refused = scored.run(with_head(scored, **knobs))
        assert refused.code and all(word in refused.stderr for word in words), refused.stderr
        assert {path: path.stat().st_mtime_ns for path in scored.out.rglob("*.parquet")} == before
    assert scored.run(with_head(scored, head=silent, tower=own)).code == 0


def test_labels_that_cannot_be_learnt_are_refused_in_a_sentence(scored: Workplace) -> None:
    recipe, labels = scored.recipe(steps=[{"op": "clip_score"}], shard_samples=20), scored.root / "odd.csv"
    for text, words in (
        ("uid,label\na,2\n", ["row 1: the label is '2'", "0 or 1"]),
        ("uid,label\na,1\na,0\n", ["uid a has another label above"]),
        ("uid,label\na,1\nb,1\n", ["all labels are the same"]),
        ("uid,label\na,1\nb,0\n", ["0 of its rows have an embedding"]),
    ):
        labels.write_text(text)
        found = scored.curate("head", "train", recipe, labels, "--out", scored.root / "no.safetensors")
        assert found.code and all(word in found.stderr for word in words), found.stderr
    found = scored.curate("head", "train", recipe, labels, "--out", "x.safetensors", "--column", "clip_image_embeding")
    assert found.code and "did you mean 'clip_image_embedding'" in found.stderr
