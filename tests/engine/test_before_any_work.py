"""What a run lacks, or cannot read, is said before anything is done, in a sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Workplace

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--dry-run", "--inline"])
@pytest.mark.parametrize(
    ("kind", "step", "words"),
    [
        ("caption", {"op": "clip_score", "with": {"model": "ViT-B-32", "pretrained": "openai"}}, "ViT-B-32 openai"),
        ("caption", {"op": "clip_score", "with": {"model": "hf-hub:no/such"}}, "hf-hub:no/such"),
        ("text", {"op": "perplexity", "with": {"model": "no/such"}}, "language model no/such"),
    ],
)
def test_model_that_the_hub_has_not_is_missed_before_the_source_is_read(
    place: Workplace, kind: str, step: dict[str, Any], words: str, how: str
) -> None:
    source = {"type": "folder" if kind == "caption" else "text", "path": str(place.root / "nowhere")}
    env = OFFLINE | {"HF_HOME": str(place.root / "hub")}
    found = place.command("run", place.recipe(kind=kind, source=source, steps=[step]), how, env=env)
    assert found.code == 1 and words in found.stderr and "Traceback" not in found.stderr, found.stderr
    assert "nowhere" not in found.stderr and not list(place.root.glob("out/pool-*"))


@pytest.mark.parametrize("how", [("--dry-run",), ("--inline",)])
@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"op": "chunks", "with": {"tokenizer": "nobody.json"}}, "op chunks: nobody.json: no such file"),
        ({"op": "chunks", "with": {"tokenizer": "simpel"}}, "op chunks: unknown tokenizer 'simpel'"),
        ({"op": "fasttext_quality", "with": {"model": "none.bin"}}, "none.bin"),
        ({"op": "contamination", "with": {"benchmarks": ["none.jsonl"]}}, "none.jsonl"),
    ],
)
def test_file_that_an_op_lacks_is_missed_before_the_source_is_read(
    place: Workplace, step: dict[str, Any], words: str, how: tuple[str, ...]
) -> None:
    source = {"type": "text", "path": str(place.root / "nowhere.jsonl")}
    found = place.curate("run", place.recipe(kind="text", source=source, steps=[step]), *how)
    assert found.code in (1, 2) and words in found.stderr and "nowhere" not in found.stderr, found.stderr


@pytest.mark.parametrize("name", ["stages/*.json", "decisions/*.json", "published.json", "reported.json"])
@pytest.mark.parametrize("cut", ["", "{", "[]"])
def test_file_of_ours_that_was_cut_is_named_and_made_anew_when_it_is_gone(
    place: Workplace, name: str, cut: str
) -> None:
    place.images(3)
    recipe = place.recipe(steps=[{"op": "image_size"}])
    assert place.run(recipe).code == 0
    (path,) = place.out.glob(name)
    path.write_text(cut, encoding="utf-8")
    found = place.run(recipe)
    assert found.code == 1 and f"{path}: cannot be read" in found.stderr and "delete it" in found.stderr
    path.unlink()
    assert place.run(recipe).code == 0
