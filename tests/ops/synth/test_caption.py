"""caption: what is written hangs on the image, its uid and the seed, within the bounds that were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from capfilt_models import captioner, matcher, pictures

from curate.image.files import decode
from curate.models.captioners import TrainedCaptioner
from curate.models.devices import CPU
from curate.models.files import ModelError
from curate.models.sampling import Marks, Sampling, sample
from curate.ops.spec import identity
from curate.ops.synth.caption import caption, draws_of
from curate.sample import uid_of
from curate.stream import resize as by_trainer

UIDS = [uid_of("caption", "test", str(n)) for n in range(21)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("captioner") / "tiny.safetensors"
    captioner(path)
    return str(path)


@pytest.fixture(autouse=True)
def _on_one_thread() -> None:
    torch.set_num_threads(1)


def test_caption_of_an_image_is_the_same_whatever_shares_its_batch(model: str) -> None:
    op, images = caption(model=model, n=2), pictures(21)
    together = op(images, UIDS)
    assert together["caption_model"] == ["tiny.safetensors"] * 21
    assert together["caption"] == [texts[0] for texts in together["captions"]]
    assert all(len(texts) == 2 and texts[0] != texts[1] for texts in together["captions"])
    for rows in ([20, 3, 7], [11]):
        some = op([images[n] for n in rows], [UIDS[n] for n in rows])
        assert some["captions"] == [together["captions"][n] for n in rows]
    assert caption(model=model, n=2)(images, UIDS) == together
    assert caption(model=model, n=2, seed=1)(images, UIDS)["captions"] != together["captions"]
    assert op(images[:1], [UIDS[1]])["captions"] != together["captions"][:1]


def greedy(scores: Any, rows: int, **changed: Any) -> list[list[int]]:
    settings = Sampling(**{"p": 1e-9, "min_tokens": 0, "max_tokens": 8, "repetition_penalty": 1.0, **changed})
    return sample(scores, [5], torch.rand(rows, 8, dtype=torch.float64), Marks(3, (0,)), settings)


def test_lengths_and_marks_are_kept() -> None:
    """The end mark is no answer before the least length, a mark never."""

    def scores(ids: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[9.0, 1.0, 2.0, 8.0, 0.0, 0.0]]).expand(len(ids), -1).clone()

    assert greedy(scores, 2) == [[], []]
    assert greedy(scores, 1, min_tokens=4) == [[2, 2, 2]]
    assert greedy(scores, 1, min_tokens=99) == [[2] * 7]
    assert greedy(scores, 1, min_tokens=4, repetition_penalty=3.0) == [[2, 1, 2]]  # 2, then 2/3 against 1; 2/3, 1/3


def test_draws_fall_within_the_nucleus_by_their_shares() -> None:
    shares = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])

    def scores(ids: torch.Tensor) -> torch.Tensor:
        return shares.log().expand(len(ids), -1).clone()

    draws = torch.rand(20_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    settings = Sampling(p=0.8, min_tokens=0, max_tokens=2, repetition_penalty=1.0)
    found = torch.tensor(sample(scores, [4], draws, Marks(end=4), settings)).flatten().bincount() / len(draws)
    assert len(found) == 3  # .5 + .2 is less than .8, with .15 it is reached
    torch.testing.assert_close(found, shares[:3] / 0.85, atol=0.02, rtol=0)
    all_of_it = Sampling(p=1.0, min_tokens=0, max_tokens=2, repetition_penalty=1.0)
    assert {len(row) for row in sample(scores, [0], draws, Marks(end=4), all_of_it)} == {0, 1}


def test_kept_keys_and_values_give_the_scores_of_the_whole_sequence(tmp_path: Path) -> None:
    """Token by token, the exported captioner scores as the objective that was trained does on the whole."""
    trained = captioner(tmp_path / "tiny.safetensors")
    loaded = TrainedCaptioner(tmp_path / "tiny.safetensors", CPU.place("float32"))
    prefix, text = loaded.spell(""), [104, 105, 33]
    image = pictures(1)[0]
    vectors = loaded.look(loaded.prepare(image)[None])
    reader, scores = loaded.write(vectors), []
    for end in range(len(text) + 1):
        scores.append(reader(torch.tensor([[*prefix, *text[:end]]])))
    ids = torch.tensor([[prefix[0], *[-1] * trained.visual_tokens, *text]])
    x = trained.net.language.embed(ids.clamp(min=0))
    x = x.masked_scatter((ids < 0).unsqueeze(-1), vectors)
    whole = trained.net.language.logits(trained.net.language(x)[:, trained.visual_tokens :])
    torch.testing.assert_close(torch.cat(scores), whole[0])


def test_pixels_are_those_that_it_was_trained_on(tmp_path: Path) -> None:
    import io

    captioner(tmp_path / "tiny.safetensors")
    loaded = TrainedCaptioner(tmp_path / "tiny.safetensors", CPU.place("float32"))
    image = pictures(1)[0]
    image.save(file := io.BytesIO(), "PNG")
    decoded = decode(file.getvalue()).image
    assert decoded is not None
    assert torch.equal(loaded.prepare(decoded), by_trainer.fast(file.getvalue(), 32).flatten())


def test_draws_are_of_seed_uid_and_number() -> None:
    own = draws_of(0, UIDS[0], 0, 30)
    assert (own == draws_of(0, UIDS[0], 0, 30)).all() and own.min() >= 0 and own.max() < 1
    others = [draws_of(1, UIDS[0], 0, 30), draws_of(0, UIDS[1], 0, 30), draws_of(0, UIDS[0], 1, 30)]
    assert not any((own == other).any() for other in others)


def test_model_that_cannot_caption_says_so(tmp_path: Path, model: str) -> None:
    matcher(tmp_path / "matcher.safetensors")
    with pytest.raises(ModelError, match="holds a matcher, and a captioner is wanted"):
        caption(model=str(tmp_path / "matcher.safetensors"))
    with pytest.raises(ValueError, match="no file"):
        identity(caption, {"model": str(tmp_path / "none.safetensors")})
    with pytest.raises(ModelError, match="max_tokens is 12"):
        caption(model=model, max_tokens=12, prompt="a picture of ")
    with pytest.raises(ModelError, match="a CLIP writes no captions"):
        caption(model="tiny-clip")
    assert identity(caption, {"model": model}) != identity(caption, {"model": model, "top_p": 0.8})
