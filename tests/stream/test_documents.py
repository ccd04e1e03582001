"""What is taken of long documents: within every limit, in order, and the same in the plan as in what then comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train_samples import MULTIMODAL, TINY, composed, dataset, every_kind, page, published, square

from curate import mix
from curate.commit import commit_file
from curate.mix.content import PICTURE
from curate.mix.count_tokens import add_text_tokens
from curate.shards import load_dataset
from curate.stream.documents import CutDocument, CutRule, DocumentPiece, LaidSample, cut_document
from curate.stream.forms import SequenceForm
from curate.stream.images import keyed_rng
from curate.stream.stream import ReadOptions, Share, Stream, StreamError
from curate.tokens.encoders import text_code
from train import prepare
from train.config import Config
from train.models.dual_encoder import build

FLAMINGO = CutRule(tokens=2048, images=5, text_tokens=256, start="random", next_image=0.5)
LAYOUTS = st.lists(st.one_of(st.just(PICTURE), st.integers(0, 300)), max_size=30)


PLAIN = SequenceForm(text_code("bytes"), 64)


def cut(layout: list[int], rule: CutRule, rng: np.random.Generator, form: SequenceForm = PLAIN) -> CutDocument:
    return cut_document(LaidSample("interleaved", layout), rule, form, lambda: rng)


def pieces(layout: list[int], rule: CutRule, uid: str = "u", epoch: int = 0) -> list[tuple[int, int, int]]:
    """What is taken of a document's own: of its images 0 to 0, of its texts the tokens."""
    found = own(cut(layout, rule, keyed_rng(0, uid, epoch, "document")))
    return [(p.number, p.begin, 0 if layout[p.number] == PICTURE else p.end) for p in found]


def own(found: CutDocument) -> list[DocumentPiece]:
    return [piece for piece in found.pieces if isinstance(piece, DocumentPiece)]


@settings(deadline=None)
@given(LAYOUTS, st.sampled_from(["first", "random"]), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 900))
def test_limits_hold_and_nothing_comes_twice_or_out_of_order(
    layout: list[int], start: Any, next_image: float, tokens: int
) -> None:
    """No limit is passed and nothing comes twice or out of order."""
    rule = CutRule(tokens, 3, 200, start, next_image)
    found = cut(layout, rule, np.random.default_rng(len(layout)))
    total, images = found.size(layout)
    texts = [piece for piece in own(found) if layout[piece.number] != PICTURE]
    assert total <= tokens and images <= 3 and sum(piece.end - piece.begin for piece in texts) <= 200
    assert [piece.number for piece in texts] == sorted({piece.number for piece in texts})
    inner = [n for n in range(len(layout)) if texts and texts[0].number < n < texts[-1].number and layout[n] > 0]
    assert all((n, 0, layout[n]) in {(p.number, p.begin, p.end) for p in texts} for n in inner)


def test_document_that_fits_is_taken_whole_wherever_it_may_start() -> None:
    layout = [10, PICTURE, 30, PICTURE, PICTURE, 7]
    whole = [(0, 0, 10), (1, 0, 0), (2, 0, 30), (3, 0, 0), (4, 0, 0), (5, 0, 7)]
    for start in ("first", "random"):
        assert pieces(layout, CutRule(500, 16, start=start)) == whole  # type: ignore[arg-type]


def test_mm1_choice_takes_a_document_from_its_beginning_until_full() -> None:
    """MM1's choice takes a document from its beginning until its sequence is full."""
    layout = [PICTURE, 1000, PICTURE, 4000, PICTURE, 50]
    assert pieces(layout, CutRule(4096, 16)) == [(0, 0, 0), (1, 0, 1000), (2, 0, 0), (3, 0, 4096 - 1000 - 2 * 64)]


def test_flamingo_choice_takes_256_tokens_anywhere_and_five_images() -> None:
    """Flamingo's choice takes 256 tokens from anywhere with the first five images among them."""
    layout = [n for _ in range(40) for n in (PICTURE, 20)]
    found = [pieces(layout, FLAMINGO, f"u{n}") for n in range(300)]
    for document in found:
        assert sum(end - begin for _, begin, end in document) == 256
        assert sum(layout[number] == PICTURE for number, _, _ in document) == 5
    starts = {next(20 * (n // 2) + begin for n, begin, end in document if end) for document in found}
    assert min(starts) < 60 and max(starts) > 480 and len(starts) > 150
    sees_next = sum(layout[document[0][0]] != PICTURE or document[0][0] != document[1][0] - 1 for document in found)
    assert 100 < sees_next < 300


def test_image_that_a_text_before_it_may_see_moves_in_front_of_that_text() -> None:
    layout = [5, PICTURE, 6, PICTURE, PICTURE, 7]
    order = [number for number, _, _ in pieces(layout, CutRule(500, 16, next_image=1.0))]
    assert order == [1, 0, 3, 4, 2, 5]


def test_another_epoch_takes_another_part_and_the_same_epoch_the_same() -> None:
    layout = [5000]
    assert pieces(layout, FLAMINGO, epoch=1) == pieces(layout, FLAMINGO, epoch=1)
    assert len({tuple(pieces(layout, FLAMINGO, epoch=n)) for n in range(20)}) > 15


CHOICES = """seed: 3
sources:
  - {path: caption, texts: {txt: 1, meta.names: 2}, templates: {"a picture of {text}.": 1, "Caption:": 1}}
  - {path: interleaved, system: [be brief, ""]}
  - {path: ocr, templates: [Read the page]}
  - {path: text, system: [you are a book]}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = every_kind(tmp_path_factory.mktemp("kinds"), 16)
    for kind in ("caption", "interleaved", "ocr", "text"):
        add_text_tokens(folder / kind, "bytes", ("txt", "meta.names") if kind == "caption" else ())
    return folder


def streamed(manifest: Path, batches: int, **objective: Any) -> Stream:
    """A stream of packs, read so far that each source is gone through more than once."""
    config = Config.model_validate({**TINY, "objective": {**MULTIMODAL, **objective}})
    prepared = prepare.build(config, build(config.model), manifest)
    stream = Stream(manifest, 4, prepared.prepare, Share(), ReadOptions(threads=1), prepared.packing)
    for _ in range(batches):
        assert not next(stream).replaced
    return stream


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"text_tokens": 40, "images": 2, "start": "random", "next_image": 0.5},
        {"start": "random"},
        {"images": 0, "next_image": 1.0},
    ],
    ids=str,
)
def test_samples_are_as_long_as_their_index_promised(home: Path, document: dict[str, Any]) -> None:
    """Every sample is as long as its index promised whatever is chosen and cut."""
    for tokens in (60, 200):
        pack = {"tokens": tokens, "images": 4, "window": 48}
        streamed(composed(home, CHOICES), 20, document=document, pack=pack).close()


def test_byte_pairs_are_counted_as_they_are_spelled(tmp_path: Path) -> None:
    published(tmp_path / "pages", "interleaved", [page(n) for n in range(8)])
    add_text_tokens(tmp_path / "pages", "simple")
    language = {**MULTIMODAL["language"], "tokenizer": "simple"}
    streamed(composed(tmp_path, "sources: [{path: pages}]"), 4, language=language).close()


def test_sample_of_another_length_than_its_index_says_is_named(tmp_path: Path) -> None:
    dataset(tmp_path / "pairs", 16)
    add_text_tokens(tmp_path / "pairs", "bytes")
    index = next((tmp_path / "pairs").glob("*.arrow"))
    table = mix.indexes.read_index(index)
    column = table.schema.get_field_index("text_tokens")
    wrong = table.set_column(column, table.schema.field(column), pa.array([7] * len(table), pa.int32()))
    with commit_file(index) as new, pa.OSFile(str(new), "wb") as sink, pa.ipc.new_file(sink, wrong.schema) as writer:
        writer.write_table(wrong)
    with pytest.raises(StreamError, match=r"lengths_differ: sample \w+ has \d+ tokens.*made them 13 .*curate index"):
        streamed(composed(tmp_path, "sources: [{path: pairs}]"), 5)


def test_prompts_are_context_and_never_scored(home: Path) -> None:
    stream = streamed(composed(home, CHOICES), 1)
    found = [next(stream).tensors for _ in range(5)]
    stream.close()
    ids, scored = (torch.cat([tensors[name] for tensors in found]) for name in ("ids", "scored"))
    said = bytes(n for n in ids.flatten().tolist() if 0 <= n < 256).decode()
    predicted = bytes(n for n in ids[scored].tolist() if n < 256).decode()
    for prompt in ("a picture of", "Caption:", "Read the page", "you are a book"):
        assert prompt in said and prompt not in predicted
    assert "square on" in predicted


def test_text_that_may_be_chosen_must_have_been_counted(tmp_path: Path) -> None:
    dataset(tmp_path / "pairs", 16)
    add_text_tokens(tmp_path / "pairs", "bytes")
    with pytest.raises(mix.MixtureError, match=r"curate index FOLDER --tokenizer NAME --texts meta\.names"):
        streamed(composed(tmp_path, "sources: [{path: pairs, texts: [meta.names]}]"), 1)
    assert add_text_tokens(tmp_path / "pairs", "bytes", ["meta.names"])["samples"] == 16
    streamed(composed(tmp_path, "sources: [{path: pairs, texts: [meta.names]}]"), 1).close()


def test_choices_that_documents_have_no_use_for_are_refused(home: Path) -> None:
    with pytest.raises(mix.MixtureError, match="'interleaved' chooses a template and a text"):
        streamed(composed(home, "sources: [{path: interleaved, texts: [a], templates: [b]}]"), 1)


def conversation(number: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A picture with questions and answers."""
    image, text = square(number)
    asked = [{"type": "text", "text": f"What is in picture {number}?", "block": "question"}]
    answered = [{"type": "text", "text": text, "block": "answer"}]
    return {"0.png": image}, {"segments": [{"type": "image", "part": "0.png"}, *(asked + answered) * (number % 3 + 1)]}


def test_conversation_is_scored_and_weighed_by_its_answers_alone(tmp_path: Path) -> None:
    """Of a conversation answers alone are scored and weighed."""
    published(tmp_path / "talk", "interleaved", [conversation(n) for n in range(12)])
    add_text_tokens(tmp_path / "talk", "bytes")
    manifest = composed(tmp_path, "unit: answer_tokens\nsources: [{path: talk}]")
    stream = streamed(manifest, 1)
    tensors = next(stream).tensors
    stream.close()
    scored = tensors["ids"][tensors["scored"]]
    predicted = bytes(scored[scored < 256].tolist()).decode()
    assert "square on" in predicted and "What is in" not in predicted
    answers = [len(square(n)[1]) * (n % 3 + 1) for n in range(12)]
    assert mix.load(manifest).manifest.datasets[0].units == sum(answers)


def broken(number: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A page that names an image which is not there, among whole ones."""
    parts, said = page(number)
    return ({}, said) if number % 5 == 2 and parts else (parts, said)


def test_damaged_document_is_replaced_by_one_cut_to_its_place(tmp_path: Path) -> None:
    published(tmp_path / "pages", "interleaved", [broken(n) for n in range(30)])
    add_text_tokens(tmp_path / "pages", "bytes")
    assert load_dataset(tmp_path / "pages").samples == 30
    config = Config.model_validate({**TINY, "objective": MULTIMODAL})
    manifest = composed(tmp_path, "sources: [{path: pages}]")
    prepared = prepare.build(config, build(config.model), manifest)
    stream = Stream(manifest, 4, prepared.prepare, Share(), ReadOptions(max_unreadable=1.0), prepared.packing)
    replaced = [fault for _ in range(24) for fault in next(stream).replaced]
    stream.close()
    assert replaced and all("missing_image" in fault.error for fault in replaced)
