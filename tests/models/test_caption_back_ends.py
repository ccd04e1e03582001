"""BLIP by transformers and CoCa by open_clip: the real code on random weights, token for token as they write.

No weights of theirs can be had where these tests run; what is proved is the road, not how well they see.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from capfilt_models import WORDS, blip, coca, pictures

from curate.models.blip import BlipCaptioner, BlipMatcher, as_blip_reads
from curate.models.captioners import CocaCaptioner, load_captioner
from curate.models.devices import CPU
from curate.models.files import ModelError
from curate.models.matchers import load_matcher
from curate.models.sampling import Sampling, sample
from curate.ops.alignment.match import match_text
from curate.ops.spec import identity
from curate.ops.synth.caption import caption
from curate.sample import uid_of

GREEDY = Sampling(p=1e-9, min_tokens=10, max_tokens=20, repetition_penalty=1.1)


@pytest.fixture(autouse=True)
def _on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    torch.set_num_threads(1)


def draws(rows: int) -> torch.Tensor:
    return torch.rand(rows, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_blip_writes_what_transformers_generates(tmp_path: Path) -> None:
    net = blip(tmp_path, "BlipForConditionalGeneration")
    loaded = load_captioner(str(tmp_path), "", "float32")
    assert isinstance(loaded, BlipCaptioner)
    pixels = torch.stack([loaded.prepare(image) for image in pictures(3)])
    prefix = loaded.spell("a picture of ")
    assert prefix == [5, 7, 8, 9]
    with torch.inference_mode():
        found = sample(loaded.write(loaded.look(pixels)), prefix, draws(3), loaded.marks, GREEDY)
    wanted = net.generate(
        pixel_values=pixels, input_ids=torch.tensor([[*prefix, 3]] * 3), do_sample=False, num_beams=1,
        min_length=10, max_length=20, repetition_penalty=1.1, bad_words_ids=[[5], [0]],
    )  # fmt: skip
    rows = [[n for n in row[len(prefix) :] if n not in (0, 3)] for row in wanted.tolist()]
    assert found == rows
    scores = loaded.write(loaded.look(pixels))(torch.tensor([prefix] * 3))
    assert not torch.allclose(scores[0], scores[1])
    words = WORDS.split()
    assert loaded.text([words.index("red"), words.index("x"), words.index("##y"), 3]) == "red xy"


def test_blip_filter_gives_the_matching_head_of_transformers(tmp_path: Path) -> None:
    net = blip(tmp_path, "BlipForImageTextRetrieval", spread=2.0)
    loaded = load_matcher(str(tmp_path), CPU.place("float32"))
    assert isinstance(loaded, BlipMatcher)
    pixels, texts = torch.stack([loaded.prepare(image) for image in pictures(3)]), ["A red cat.", "dog", "x " * 60]
    with torch.inference_mode():
        found = loaded.match(loaded.look(pixels), texts)
    for row, text in enumerate(texts):
        spelled = loaded._tokenizer(as_blip_reads(text), return_tensors="pt", truncation=True, max_length=35)
        out = net(
            input_ids=spelled.input_ids, pixel_values=pixels[row : row + 1], attention_mask=spelled.attention_mask
        )
        assert found[row].item() == pytest.approx(torch.softmax(out.itm_score, 1)[0, 1].item(), abs=1e-5)
    assert len({round(p, 4) for p in found.tolist()}) == 3


def test_blip_reads_texts_as_its_own_code_prepares_them() -> None:
    assert as_blip_reads('  A "Red" cat: #1 (big)!\n') == "a red cat 1 big"
    assert as_blip_reads("w " * 50) == " ".join(["w"] * 30)


def test_folder_with_other_weights_is_no_filter_and_says_what_is_missing(tmp_path: Path) -> None:
    blip(tmp_path, "BlipForConditionalGeneration")
    with pytest.raises(ModelError, match=r"is no BlipForImageTextRetrieval: it lacks \d+ weights"):
        match_text(model=str(tmp_path))
    with pytest.raises(ValueError, match=r"op caption: model nobody/such-a-model: .* cannot be had from the hub"):
        identity(caption, {"model": "nobody/such-a-model"})


def test_coca_writes_the_likeliest_words_by_open_clips_own_forward_pass(tmp_path: Path) -> None:
    """open_clip 3.3's `generate` refuses transformers 5, so its forward pass is what is compared with."""
    net = coca(tmp_path / "coca")
    loaded = load_captioner(str(tmp_path / "coca"), "", "float32")
    assert isinstance(loaded, CocaCaptioner)
    pixels = torch.stack([loaded.prepare(image) for image in pictures(3)])
    settings = Sampling(p=1e-9, min_tokens=6, max_tokens=9, repetition_penalty=1.0)
    with torch.inference_mode():
        found = sample(loaded.write(loaded.look(pixels)), loaded.spell("a cat"), draws(3), loaded.marks, settings)
        ids = torch.tensor([loaded.spell("a cat")] * 3)
        for _ in found[0]:
            logits = net(pixels, ids, output_labels=False)["logits"][:, -1]
            logits[:, 49406:] = -torch.inf
            ids = torch.cat((ids, logits.argmax(1, keepdim=True)), 1)
    assert found == [row[3:] for row in ids.tolist()]
    assert loaded.text(found[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: blip(folder, "BlipForConditionalGeneration"),
        pytest.param(coca, marks=[pytest.mark.slow, pytest.mark.systems]),
    ],
)
def test_captions_of_every_back_end_are_the_same_whatever_shares_their_batch(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "model")
    op = caption(model=str(tmp_path / "model"), n=2, min_tokens=4, max_tokens=12)
    images, uids = pictures(18), [uid_of("caption", "test", str(n)) for n in range(18)]
    together = op(images, uids)
    assert together["caption_model"] == ["model"] * 18
    assert all(len(texts) == 2 for texts in together["captions"])
    some = op([images[n] for n in (17, 2)], [uids[n] for n in (17, 2)])
    assert some["captions"] == [together["captions"][n] for n in (17, 2)]
