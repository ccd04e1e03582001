"""rank_captions: BLIP-2's choice of captions, by the very cosines of clip_score."""

from __future__ import annotations

import pytest
import torch
from capfilt_models import pictures

from curate.ops.alignment.clip_score import clip_score
from curate.ops.alignment.rank import rank_captions


@pytest.fixture(autouse=True)
def _on_one_thread() -> None:
    torch.set_num_threads(1)


def test_best_captions_are_those_that_clip_score_scores_highest() -> None:
    images = pictures(6)
    captions = [[f"a drawing of {word}" for word in ("an apple", "a cat", "a red car")] for _ in images]
    texts = ["a flag"] * 6
    ranked = rank_captions(keep=2)(images, texts, captions)
    for row, image in enumerate(images):
        candidates = ["a flag", *captions[row]]
        scores = clip_score()([image] * 4, candidates)["clip_score"]
        order = sorted(range(4), key=lambda n: -scores[n])[:2]
        assert ranked["ranked_texts"][row] == [candidates[n] for n in order]
        assert ranked["ranked_scores"][row] == pytest.approx([scores[n] for n in order], abs=2e-3)
        assert ranked["ranked_from"][row] == ["caption" if n else "web" for n in order]


def test_own_text_can_be_left_out_and_doubles_and_blanks_count_for_nothing() -> None:
    images = pictures(3)
    captions = [["a cat", "a cat", " ", "web"], [], ["", " "]]
    whole = rank_captions(keep=9)(images, ["web", "web", " "], captions)
    assert [sorted(row) for row in whole["ranked_texts"]] == [["a cat", "web"], ["web"], []]
    assert dict(zip(whole["ranked_texts"][0], whole["ranked_from"][0], strict=True))["web"] == "web"
    without = rank_captions(keep=9, include_original=False)(images, ["web"] * 3, captions)
    assert [sorted(row) for row in without["ranked_texts"]] == [["a cat", "web"], [], []]
    assert set(without["ranked_from"][0]) == {"caption"}
    alone = rank_captions(keep=9)(images[:1], ["web"], captions[:1])
    assert alone["ranked_scores"] == whole["ranked_scores"][:1]
