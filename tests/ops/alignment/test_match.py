"""match_text, match_texts, kept_texts: each text by itself, by a model that did not write it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from capfilt_models import captioner, matcher, pictures
from PIL import Image

from curate.models.files import ModelError
from curate.models.image_tower import normalised
from curate.ops.alignment.match import kept_texts, match_text, match_texts
from curate.recipe.resolve import resolve
from curate.recipe.steps import assign_fingerprints
from curate.settings import validate
from curate.stream.tokens import token_ids
from curate.tokens.clip import described_tokens

TEXTS = [
    "a red square",
    "blue",
    "",
    "a very long text about nothing in particular that goes on and on and on",
    "東京 x",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("matcher") / "tiny.safetensors"
    matcher(path)
    return str(path)


@pytest.fixture(autouse=True)
def _on_one_thread() -> None:
    torch.set_num_threads(1)


def test_probability_is_that_of_the_head_that_was_trained(tmp_path: Path) -> None:
    trained = matcher(tmp_path / "tiny.safetensors")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    found = match_text(model=str(tmp_path / "tiny.safetensors"), precision="float32")([image] * 5, TEXTS)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    vectors = trained.network.see(normalised(pixels))[0]
    ids = token_ids(described_tokens("simple:1024", 12), TEXTS)
    wanted = torch.softmax(trained.network.match(vectors.expand(5, -1, -1), ids), 1)[:, 1].tolist()
    assert found["text_match"][2] is found["text_matched"][2] is None
    rest = [n for n in range(5) if n != 2]
    assert [found["text_match"][n] for n in rest] == pytest.approx([wanted[n] for n in rest], abs=1e-5)
    assert [found["text_matched"][n] for n in rest] == [wanted[n] > 0.5 for n in rest]


def test_probabilities_are_the_same_whatever_shares_the_batch(model: str) -> None:
    images = pictures(20)
    texts = [TEXTS[n % 5] for n in range(20)]
    captions = [[TEXTS[(n + k) % 5] for k in range(n % 4)] for n in range(20)]
    op = match_texts(model=model)
    together = op(images, texts, captions)
    assert [len(row) for row in together["captions_match"]] == [n % 4 for n in range(20)]
    for rows in ([19, 3, 7], [11]):
        some = op([images[n] for n in rows], [texts[n] for n in rows], [captions[n] for n in rows])
        for name in some:
            assert some[name] == [together[name][n] for n in rows]
    web = match_text(model=model)(images, texts)
    assert web["text_match"] == together["text_match"]


def test_each_text_is_kept_or_dropped_by_itself() -> None:
    found = kept_texts(
        ["web", "web", "web", "  "],
        [0.9, 0.2, 0.5, None],
        [["one", "two"], ["one"], ["one"], []],
        [[0.1, 0.7], [0.8], [float("nan")], []],
    )
    assert found["texts"] == [["web", "two"], ["one"], [], []]
    assert found["texts_from"] == [["web", "caption"], ["caption"], [], []]
    assert found["texts_kept"] == [2, 1, 0, 0]
    assert kept_texts(["web"], [0.5], [[]], [[]], above=0.4)["texts_kept"] == [1]


def test_filter_that_shares_the_captioners_weights_is_refused_before_anything_runs(tmp_path: Path, model: str) -> None:
    captioner(tmp_path / "captioner.safetensors")
    (tmp_path / "copy.safetensors").write_bytes((tmp_path / "captioner.safetensors").read_bytes())

    def recipe(filter_model: str) -> str:
        steps = [
            {"op": "caption", "with": {"model": str(tmp_path / "captioner.safetensors")}},
            {"op": "match_texts", "with": {"model": filter_model}},
            {"op": "kept_texts", "keep": {"texts_kept": {"min": 1}}},
        ]
        return json.dumps({"name": "x", "out": "x", "source": {"type": "folder", "path": "."}, "steps": steps})

    from curate.recipe.model import Recipe

    def planned(filter_model: str) -> object:
        resolved = resolve(validate(json.loads(recipe(filter_model)), Recipe, "recipe"))
        return assign_fingerprints(resolved.steps, "")

    planned(model)
    for shared in ("captioner.safetensors", "copy.safetensors"):
        with pytest.raises(ValueError, match="shares no weights with the captioner"):
            planned(str(tmp_path / shared))


def test_model_that_cannot_match_says_so(tmp_path: Path) -> None:
    captioner(tmp_path / "captioner.safetensors")
    with pytest.raises(ModelError, match="holds a captioner, and a matcher is wanted"):
        match_text(model=str(tmp_path / "captioner.safetensors"))
    with pytest.raises(ModelError, match="clip_score is what they give"):
        match_text(model="ViT-B-32")
