"""Prompts: examples are drawn by (dataset, seed, uid), and a prompt is what training shows before an answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from train_samples import FLAMINGO, dataset, square

from curate.mix.content import Picture, Prompt, System, sample_segments
from curate.stream.forms import FormConfig, SequenceForm
from curate.stream.instructions import NOTHING, Instructions, split_at_answer
from curate.stream.prompts import Prompts
from curate.stream.reading import DatasetReader, DrawnSample
from curate.stream.shots import FewShot
from curate.stream.spelling import spell_prompt
from curate.tokens.encoders import text_code

ROWS = 40


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    folder = dataset(tmp_path_factory.mktemp("shots") / "pairs", ROWS)
    return DatasetReader("pairs", folder)


def drawn(reader: DatasetReader, row: int) -> DrawnSample:
    uid, parts = reader.read(row)
    return DrawnSample(uid, reader.name, 0, parts, reader.kind)


@pytest.mark.parametrize("shots", [0, 4, 8, 16])
def test_no_prompt_shows_the_sample_itself_nor_an_example_twice_and_more_shots_go_on_from_fewer(
    pairs: DatasetReader, shots: int
) -> None:
    met = set[int]()
    for row in range(ROWS):
        query = drawn(pairs, row)
        rows = [n for n, _, _ in FewShot(pairs, 3, shots).draw(query.uid)]
        assert len(set(rows)) == shots and row not in rows
        assert rows == [n for n, _, _ in FewShot(pairs, 3, 20).draw(query.uid)][:shots]
        met.update(rows)
    assert not shots or len(met) == ROWS
    assert not shots or [n for n, _, _ in FewShot(pairs, 4, shots).draw(drawn(pairs, 0).uid)] != [
        n for n, _, _ in FewShot(pairs, 3, shots).draw(drawn(pairs, 0).uid)
    ]


def segments_of(found: DrawnSample) -> list[Any]:
    return sample_segments(found.kind, found.parts)


def test_examples_stand_before_the_question_with_their_images_and_answers(pairs: DatasetReader) -> None:
    query = drawn(pairs, 7)
    prompts = FewShot(pairs, 3, 2, ask="What is it?")
    found, examples = prompts(query), prompts.draw(query.uid)
    texts = [str(square(row)[1]) for row, _, _ in examples]
    assert [s if isinstance(s, str) else type(s) for s in segments_of(found)] == [
        *(Picture, Prompt, texts[0], Picture, Prompt, texts[1], Picture, Prompt, square(7)[1])
    ]
    shown = [found.parts[s.part] for s in segments_of(found) if isinstance(s, Picture)]
    assert shown == [examples[0][1]["png"], examples[1][1]["png"], query.parts["png"]]


def test_flamingos_no_shots_are_two_examples_without_their_images(pairs: DatasetReader) -> None:
    found = segments_of(FewShot(pairs, 3, 0, text_only=2)(drawn(pairs, 7)))
    assert sum(isinstance(s, Picture) for s in found) == 1
    assert sum(text.count(" square on ") for text in found if isinstance(text, str)) == 3


def test_a_dataset_with_too_few_samples_for_the_shots_is_named(pairs: DatasetReader) -> None:
    with pytest.raises(ValueError, match=r"39 of 40 samples can be examples .* and 40 are wanted"):
        FewShot(pairs, 3, 40)(drawn(pairs, 7))


def form_of(config: dict[str, Any], places: int = 2) -> SequenceForm:
    settings = FormConfig.model_validate(config)
    return SequenceForm(text_code("bytes", settings.tags()), places, config=settings)


def read(ids: list[int], form: SequenceForm) -> str:
    tags = {n: tag for tag, n in form.code.tags.items()} | {-1: ".", form.code.begin: "^", form.code.end: "$"}
    return "".join(tags.get(n) or chr(n) for n in ids)


TALK = [System("Be brief."), Picture("a"), Prompt("What?"), "A cat.", Picture("b"), Prompt("And?"), "A dog."]


@pytest.mark.parametrize(
    ("config", "prompt"),
    [
        ({}, "^Be brief...What?\n\nA cat...And?\n\n"),
        (FLAMINGO, "^Be brief.<image>..What?\n\nA cat.<EOC><image>..And?\n\n"),
        (
            {"chat": "chatml"},
            "^<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n..What?<|im_end|>\n<|im_start|>assistant\n"
            "A cat.<|im_end|>\n<|im_start|>user\n..And?<|im_end|>\n<|im_start|>assistant\n",
        ),
        ({"chat": "llama2"}, "^[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n..What? [/INST] A cat. $^[INST] ..And? [/INST] "),
    ],
)
@pytest.mark.parametrize("answered", [True, False])
def test_a_prompt_is_all_that_training_shows_before_the_last_answer(
    config: dict[str, Any], prompt: str, answered: bool
) -> None:
    form = form_of(config)
    found = spell_prompt(form, TALK if answered else TALK[:-1], 500)
    assert read(found.ids, form) == prompt
    assert found.images == ["a", "b"]
    assert [form.image == tuple(found.ids[begin:end]) for begin, end in found.image_at] == [True, True]


def test_a_prompt_that_would_be_cut_is_refused() -> None:
    form = form_of({})
    length = len(spell_prompt(form, TALK, 500).ids)
    assert len(spell_prompt(form, TALK, length).ids) == length
    for tokens in (length - 2, 20, 3, 0):
        with pytest.raises(ValueError, match="prompt_too_long"):
            spell_prompt(form, TALK, tokens)


def test_an_encoder_reads_what_stands_before_the_first_answer_and_a_decoder_writes_the_rest() -> None:
    ids, scored = torch.tensor([9, -1, 1, 2, 3, 4, 5, 6, 8]), torch.tensor([0, 0, 0, 0, 1, 1, 0, 1, 1]).bool()
    read_E, written_D, of_D = split_at_answer(ids, scored)
    assert (read_E.tolist(), written_D.tolist(), of_D.tolist()) == ([9, -1, 1, 2], [3, 4, 5, 6, 8], [1, 1, 0, 1, 1])
    with pytest.raises(ValueError, match="behind the first answer"):
        split_at_answer(torch.tensor([1, 2, -1]), torch.tensor([False, True, False]))
    with pytest.raises(ValueError, match="nothing of this sample is scored"):
        split_at_answer(ids, torch.zeros(9, dtype=torch.bool))


def test_an_instruction_is_what_is_asked_cut_from_the_left() -> None:
    code = text_code("bytes")
    asked = Instructions(code, limit=12)([Picture("a"), Prompt("What is it?"), "A cat."], Prompts())
    assert asked.tolist() == [code.begin, *b"hat is it?", code.end]
    short = Instructions(code, limit=12)([Picture("a"), "a cat"], Prompts(before="Say: "))
    assert short.tolist() == [code.begin, *b"Say:", code.end, *[NOTHING] * 6]
