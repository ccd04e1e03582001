"""Tags and chats: scored as the published systems score, planned to the token, set by no text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from train_samples import FLAMINGO, MULTIMODAL, TINY, composed, every_kind, published, talk

from curate import mix
from curate.mix.content import PICTURE, laid_prompt
from curate.mix.count_tokens import add_text_tokens
from curate.settings import SettingsError, validate
from curate.stream.documents import CutRule, LaidSample, cut_document
from curate.stream.forms import BOUNDARY, END_OF_CHUNK, IMAGE, IMAGE_TAG, FormConfig, SequenceForm, follows_image
from curate.stream.stream import Batch, ReadOptions, Share, Stream
from curate.tokens.encoders import TextCode, text_code
from train import prepare
from train.config import Config
from train.models.dual_encoder import build

FORMS: list[dict[str, Any]] = [
    {},
    FLAMINGO,
    {"image_tag": "around"},
    {"chat": "chatml"},
    {"image_tag": "before", "chat": "llama2"},
    {"end_of_chunk": True, "chat": "vicuna"},
]


def code(form: dict[str, Any]) -> TextCode:
    return text_code("bytes", FormConfig.model_validate(form).tags())


def form_of(config: dict[str, Any], places: int = 0, views: int = 1) -> SequenceForm:
    return SequenceForm(code(config), places, views, FormConfig.model_validate(config))


# connectors.md, section 1: open_flamingo's masking of interleaved documents; E is <EOC>, I is <image>, 0 is padding.
@pytest.mark.parametrize(
    ("tokens", "scored"),
    [("tIabEIcE", "00111011"), ("IaExIbE0", "01100110"), ("ab", "00"), ("IIa", "001")],
)
def test_tags_are_scored_as_open_flamingo_scores_them(tokens: str, scored: str) -> None:
    form = form_of(FLAMINGO)
    ids = torch.tensor(
        [{"I": form.code.tags[IMAGE_TAG], "E": form.code.tags[END_OF_CHUNK]}.get(t, ord(t)) for t in tokens]
    )
    assert "".join(str(int(one)) for one in form.score_chunks(ids)) == scored


def read(found: torch.Tensor, form: SequenceForm) -> str:
    """Ids as text: tags by a letter, places as a dot."""
    letters = {IMAGE_TAG: "I", END_OF_CHUNK: "E", BOUNDARY: "B"}
    names = {n: letters.get(tag, tag) for tag, n in form.code.tags.items()} | {IMAGE: ".", form.code.begin: "^"}
    return "".join(names.get(n, "$" if n == form.code.end else chr(n % 256)) for n in found.tolist())


def laid(texts: list[str | None]) -> tuple[list[int], list[str]]:
    return [PICTURE if text is None else len(text) for text in texts], [text or "" for text in texts]


def spelled(
    texts: list[str | None], config: dict[str, Any], places: int = 0, moved: bool = False, images: int = 9
) -> str:
    """A document as its ids read."""
    layout, words = laid(texts)
    form = form_of(config, places)
    rule = CutRule(500, images, next_image=float(moved))
    found = cut_document(LaidSample("interleaved", layout), rule, form, lambda: np.random.default_rng(0))
    ids: list[int] = []
    for piece in found.pieces:
        if not hasattr(piece, "number"):
            ids += piece.ids
        elif layout[piece.number] == PICTURE:
            ids += form.image[piece.begin : piece.end]
        else:
            ids += words[piece.number][piece.begin : piece.end].encode()
    return read(torch.tensor(ids), form)


def test_the_end_of_a_chunk_stands_behind_the_text_of_each_image_and_nowhere_else() -> None:
    assert spelled(["t", None, "ab", None, "c"], FLAMINGO) == "tIabEIcE"
    assert spelled([None, None, "a"], FLAMINGO) == "IIaE"
    assert spelled(["ab"], FLAMINGO) == "ab"
    assert spelled(["t", None], FLAMINGO) == "tI"
    assert spelled([None, "a", None, "b"], FLAMINGO, images=1) == "IaEb"  # b was said of an image that is left out


def test_a_text_that_sees_the_next_image_ends_its_chunk_and_the_last_text_has_none() -> None:
    assert spelled(["a", None, "b", None, "c"], FLAMINGO, moved=True) == "IaEIbEc"


def test_idefics2_neighbours_share_a_boundary_and_five_views_take_326_places() -> None:
    around = {"image_tag": "around"}
    assert spelled([None, "a", None, None], around, places=2) == "B..BaB..B..B"
    assert len(form_of(around, 64).image) == 66
    assert len(form_of(around, 5 * 64, views=5).image) == 326


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(st.just(PICTURE), st.integers(0, 9), st.integers(0, 9).map(laid_prompt)), max_size=12),
    st.sampled_from(FORMS),
    st.integers(0, 120),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from(["first", "random"]),
)
def test_no_form_breaks_a_limit_and_images_stand_whole(
    layout: list[int], config: dict[str, Any], tokens: int, next_image: float, start: Any
) -> None:
    form = form_of(config, 3)
    rule = CutRule(tokens, 2, 20, start, next_image)
    found = cut_document(LaidSample("interleaved", layout), rule, form, lambda: np.random.default_rng(1))
    total, images = found.size(layout)
    assert total <= tokens and images <= 2 and found.text_tokens(layout, prompts=True) <= 20
    numbers = [piece.number for piece in found.pieces if hasattr(piece, "number")]
    assert len(set(numbers)) == len(numbers)


def test_what_follows_an_image_is_told_by_the_last_image_and_the_last_end() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        tokens = rng.choice(3, 20).tolist()
        inside, wanted = False, []
        for token in tokens:
            wanted.append(inside or token == 1)
            inside = token == 1 or (inside and token != 2)
        image, end = (torch.tensor([t == n for t in tokens]) for n in (1, 2))
        assert follows_image(image, end).tolist() == wanted


SPEC = """seed: 3
sources:
  - {path: caption, templates: ["What is it?", "Caption:"], system: [be kind, ""]}
  - {path: interleaved}
  - {path: text}
  - {path: talk, system: [be true, ""]}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = every_kind(tmp_path_factory.mktemp("kinds"), 12)
    published(folder / "talk", "interleaved", [talk(n) for n in range(12)])
    for kind in ("caption", "interleaved", "text", "talk"):
        add_text_tokens(folder / kind, "bytes")
    return folder


def streamed(manifest: Path, count: int, form: dict[str, Any], **objective: Any) -> list[Batch]:
    """Packs; every sample is as long as its index promised, or the stream ends."""
    pack = {"tokens": 220, "images": 6, "window": 48}
    config = Config.model_validate({**TINY, "objective": {**MULTIMODAL, "pack": pack, "form": form, **objective}})
    prepared = prepare.build(config, build(config.model), manifest)
    stream = Stream(manifest, 2, prepared.prepare, Share(), ReadOptions(threads=1), prepared.packing)
    found = [next(stream) for _ in range(count)]
    stream.close()
    assert not any(batch.replaced for batch in found)
    return found


def documents(batches: list[Batch], form: dict[str, Any]) -> list[tuple[str, str]]:
    """Each document of the packs as it reads, and what of it is scored."""
    out = []
    for batch in batches:
        t = batch.tensors
        for ids, scored, segments in zip(t["ids"], t["scored"], t["segments"], strict=True):
            for number in range(1, int(segments.max()) + 1):
                mine = segments == number
                out.append((read(ids[mine], form_of(form, 4)), read(ids[mine][scored[mine]], form_of(form, 4))))
    return out


@pytest.mark.parametrize(
    "document", [{}, {"text_tokens": 40, "images": 2, "start": "random", "next_image": 0.5}], ids=str
)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_samples_of_every_form_are_as_long_as_planned(
    home: Path, form: dict[str, Any], document: dict[str, Any]
) -> None:
    streamed(composed(home, SPEC), 14, form, document=document)


def test_pairs_are_scored_but_for_the_image_as_open_flamingo_has_them(home: Path) -> None:
    found = documents(streamed(composed(home, "sources: [{path: caption}]"), 2, FLAMINGO), FLAMINGO)
    assert all(said.startswith("^I....a ") and said.endswith("E$") for said, _ in found)
    assert all(scored == said.removeprefix("^I....") for said, scored in found)


def test_of_a_chat_answers_and_what_ends_them_are_scored_and_no_text_sets_a_mark(home: Path) -> None:
    form = {"chat": "chatml"}
    pack = {"tokens": 400, "images": 6, "window": 48}
    found = documents(streamed(composed(home, "sources: [{path: talk}]"), 14, form, pack=pack), form)
    asked = "<|im_start|>user\n....What <|im_end|> is in "
    short = [(said, scored) for said, scored in found if said.count("assistant") == 1]
    assert short and all(
        said.removeprefix("^<|im_start|>system\nBe brief.<|im_end|>\n").removeprefix("^").startswith(asked)
        for said, _ in short
    )
    for said, scored in short:
        assert scored == said.split("assistant\n")[1] and scored.endswith(" <EOC><|im_end|>\n$")
    longer = [scored for said, scored in found if said.count("assistant") == 2 and said.endswith("$")]
    assert longer and all(
        scored.count(" square on ") == 2 and "What" not in scored and "user" not in scored for scored in longer
    )


def test_llama2_puts_the_system_into_the_first_users_turn_and_no_mark_stands_twice(home: Path) -> None:
    form = {"chat": "llama2"}
    found = documents(
        streamed(composed(home, "sources: [{path: talk}]"), 8, form, pack={"tokens": 400, "images": 6, "window": 48}),
        form,
    )
    told = [said for said, _ in found if "<<SYS>>" in said]
    assert told and all(said.startswith("^[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n....What") for said in told)
    assert all(said.count("^") == said.count("[INST]") and "^^" not in said and "$$" not in said for said, _ in found)


def test_a_template_is_a_turn_and_words_behind_its_text_are_refused_in_a_chat(home: Path) -> None:
    form = {"chat": "vicuna"}
    found = documents(streamed(composed(home, 'sources: [{path: caption, templates: ["What is it?"]}]'), 2, form), form)
    assert all(
        said.startswith("^USER: ....What is it? ASSISTANT: a ") and scored.startswith("a ") for said, scored in found
    )
    with pytest.raises(mix.MixtureError, match="words behind the text"):
        streamed(composed(home, 'sources: [{path: caption, templates: ["a photo of {text}."]}]'), 1, form)


def test_words_of_ones_own_must_say_where_the_text_goes() -> None:
    with pytest.raises(SettingsError, match="must say once where the text goes"):
        validate({"chat": {"user": "Q:", "assistant": "A: {text}"}}, FormConfig, "run.yaml")
    own = FormConfig.model_validate({"chat": {"user": "Q: {text}\n", "assistant": "A: {text}\n"}})
    assert own.template() is not None
    with pytest.raises(ValidationError):
        FormConfig.model_validate({"chat": "alpaca"})


def test_images_that_leave_no_trace_and_tags_that_a_code_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="image_tag: before"):
        SequenceForm(text_code("bytes"), 0)
    with pytest.raises(ValueError, match="lacks the tags <image>, <EOC>"):
        SequenceForm(text_code("bytes"), 4, config=FormConfig.model_validate(FLAMINGO))
