"""A system prompt in the data and one in the mixture are one: the same sample, cut or whole, planned or read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from train_samples import MULTIMODAL, TINY, composed, published, square

from curate.document.segments import image_segment, text_segment
from curate.mix.answers import FORMAT_PROMPTS
from curate.mix.count_tokens import add_text_tokens
from curate.ops.synth.short_answers import add_format_prompt
from curate.stream.stream import ReadOptions, Share, Stream
from train import prepare
from train.config import Config
from train.models.dual_encoder import build

WORD = FORMAT_PROMPTS[1]


def conversation(number: int, pictured: bool) -> list[dict[str, Any]]:
    """One to nine questions and short answers, about a picture or none."""
    turns = [("question", f"What is in picture {number}?"), ("answer", square(number)[1].split()[1])]
    image = [image_segment("0.png") | {"part": "0.png"}] if pictured else []
    return image + [text_segment(text, block) for block, text in turns * (number % 9 + 1)]  # type: ignore[arg-type]


def told(folder: Path, pictured: bool, in_data: bool) -> Path:
    """A published source of conversations, the prompt written into them or not, under the same uids."""
    documents = [conversation(n, pictured) for n in range(24)]
    if in_data:
        documents = add_format_prompt(dataset="CLEVR")(documents)["document"]  # type: ignore[assignment]
    pictures = [{"0.png": square(n)[0]} if pictured else {} for n in range(24)]
    samples = [(parts, {"segments": said}) for parts, said in zip(pictures, documents, strict=True)]
    published(folder / "talk", "interleaved", samples)
    add_text_tokens(folder / "talk", "bytes")
    return composed(folder, f"sources: [{{path: talk{'' if in_data else f', system: [{WORD!r}]'}}}]")


def streamed(manifest: Path, document: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
    """Packs of more than one epoch; every sample is as long as its index promised, or the stream ends."""
    objective = {**MULTIMODAL, "pack": {"tokens": 160, "images": 4, "window": 24}, "document": document}
    config = Config.model_validate({**TINY, "objective": objective})
    prepared = prepare.build(config, build(config.model), manifest)
    stream = Stream(manifest, 4, prepared.prepare, Share(), ReadOptions(threads=1), prepared.packing)
    batches = [next(stream) for _ in range(8)]
    stream.close()
    assert not any(batch.replaced for batch in batches)
    return [dict(batch.tensors) for batch in batches]


@pytest.mark.parametrize("pictured", [True, False], ids=["picture", "text alone"])
@pytest.mark.parametrize("document", [{}, {"text_tokens": 90, "start": "random", "next_image": 0.5}], ids=str)
def test_the_prompt_in_the_data_and_the_prompt_in_the_mixture_give_the_same_sample(
    tmp_path: Path, pictured: bool, document: dict[str, Any]
) -> None:
    found = [streamed(told(tmp_path / str(in_data), pictured, in_data), document) for in_data in (True, False)]
    for mine, theirs in zip(*found, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_prompt_stands_first_is_never_cut_away_and_never_scored(tmp_path: Path) -> None:
    tensors = streamed(told(tmp_path, True, True), {"text_tokens": 40, "start": "random"})[0]
    for ids, scored, segments in zip(tensors["ids"], tensors["scored"], tensors["segments"], strict=True):
        for number in range(1, int(segments.max()) + 1):
            mine = ids[segments == number]
            assert bytes(mine[1 : 1 + len(WORD)].tolist()).decode() == WORD
            assert not scored[segments == number][: 1 + len(WORD)].any()


def test_a_text_that_follows_a_system_prompt_is_parted_from_it(tmp_path: Path) -> None:
    tensors = streamed(told(tmp_path, False, True), {})[0]
    said = bytes(ids := [i for i in tensors["ids"][0].tolist() if i < 256 and i >= 0]).decode()
    assert ids and f"{WORD}\n\nWhat is in picture" in said
