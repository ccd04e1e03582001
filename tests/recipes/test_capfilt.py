"""The recipes of CapFilt and of BLIP-2's captions, from pictures to candidate texts, with tiny random models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from capfilt_models import captioner, matcher
from conftest import ROOT
from train_samples import square

from curate.engine import run
from curate.mix.content import own_text, texts_under
from curate.pool.funnel import check_funnel
from curate.recipe.resolve import load
from curate.stream.stream import DatasetReader

ROWS = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("capfilt")
    (folder / "images").mkdir()
    lines = []
    for number in range(ROWS):
        image, text = square(number)
        (folder / "images" / f"{number}.png").write_bytes(image)
        lines.append(json.dumps({"image": f"{number}.png", "text": text}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    captioner(folder / "captioner.safetensors")
    matcher(folder / "matcher.safetensors", seed=3)
    return folder


def places(home: Path, name: str) -> list[str]:
    return [
        f"out={home / name}",
        f"source.path={home / 'images'}",
        f"source.captions={home / 'captions.jsonl'}",
        "steps.image_size.keep.min_side.min=16",
        f"steps.caption.with.model={home / 'captioner.safetensors'}",
        'steps.caption.with.prompt=""',
    ]


def samples(folder: Path) -> list[dict[str, bytes]]:
    reader = DatasetReader("found", folder)
    try:
        return [reader.read(row)[1] for row in range(reader.rows)]
    finally:
        reader.close()


def test_texts_that_the_filter_leaves_are_published_as_candidates_and_a_row_without_any_goes_by_name(
    home: Path,
) -> None:
    given = [*places(home, "capfilt"), f"steps.match_texts.with.model={home / 'matcher.safetensors'}"]
    recipe = ROOT / "recipes" / "capfilt.yaml"
    whole = samples(run.run(load(recipe, [*given, "steps.kept_texts.with.above=0.0"]), workers=0).folder)
    assert len(whole) == ROWS
    scores = [json.loads(one["json"]) for one in whole]
    every = sorted(p for one in scores for p in (one["text_match"], *one["captions_match"]))
    bound = every[len(every) // 2]  # random weights say nearly the same of everything; this parts the texts
    summary = run.run(load(recipe, [*given, f"steps.kept_texts.with.above={bound}"]), workers=0)
    check_funnel(summary.funnel)
    kept = samples(summary.folder)
    (step,) = [s for s in summary.funnel if s.step == "kept_texts"]
    assert 0 < len(kept) == ROWS - step.dropped["texts_kept.min"] < ROWS
    for one in kept:
        said = json.loads(one["json"])
        web = [own_text(one)] if said["text_match"] > bound else []
        made = [t for t, p in zip(said["captions"], said["captions_match"], strict=True) if p > bound]
        assert texts_under(one, "texts") == [text.strip() for text in web + made]
        assert said["texts_from"] == ["web"] * len(web) + ["caption"] * len(made)
        assert said["caption_model"] == "captioner.safetensors"


def test_best_captions_by_clip_are_published_as_candidates(home: Path) -> None:
    given = [*places(home, "blip2"), "steps.caption.with.n=3"]
    given += ["steps.rank_captions.with.model=tiny-clip", 'steps.rank_captions.with.pretrained=""']
    summary = run.run(load(ROOT / "recipes" / "blip2-captions.yaml", given), workers=0)
    check_funnel(summary.funnel)
    kept = samples(summary.folder)
    assert len(kept) == ROWS
    for one in kept:
        said = json.loads(one["json"])
        assert len(said["ranked_texts"]) == 2 and said["ranked_scores"] == sorted(said["ranked_scores"], reverse=True)
        assert texts_under(one, "ranked_texts") == said["ranked_texts"]
