"""Answers of a word get a prompt that says so, by data set; long ones are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from grouping import cuts, grouped

from curate.document.segments import Segment, image_segment, text_segment
from curate.mix.answers import FORMAT_PROMPTS, Answers, format_prompt, measure_answers
from curate.ops.spec import identity
from curate.ops.synth.short_answers import add_format_prompt, answer_lengths, short_answer_sources

WORD, LETTER = FORMAT_PROMPTS[1], FORMAT_PROMPTS[3]


def talk(*turns: str, system: str | None = None) -> list[Segment]:
    """A picture, then questions and answers in turn."""
    told = [text_segment(system, "system")] if system else []
    return [
        *told,
        image_segment("a.png"),
        *(text_segment(t, ("question", "answer")[n % 2]) for n, t in enumerate(turns)),
    ]  # type: ignore[arg-type]


LONG = "It is a tabby cat that sleeps on a red mat in the sun."


def test_answers_of_a_word_are_told_from_sentences_letters_and_numbers() -> None:
    documents = [talk("What?", "cat", "How many?", "12"), talk("Which?", "(B)"), talk("What?", LONG), []]
    found = answer_lengths(documents, [{"set": "vqa"}, {}, {}, {}], source="set")
    assert found["answers"] == [2, 1, 1, 0]
    assert found["short_answers"] == [2, 1, 0, 0]
    assert found["letter_answers"] == [0, 1, 0, 0]
    assert found["number_answers"] == [1, 0, 0, 0]
    assert found["longest_answer"] == [1, 1, 14, 0]
    assert found["answer_source"] == ["vqa", "", "", ""]


@pytest.mark.parametrize("prompt", FORMAT_PROMPTS.values())
def test_each_published_prompt_for_short_answers_is_known_wherever_it_stands(prompt: str) -> None:
    typographic = prompt.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
    assert measure_answers(talk("What?", "cat", system=prompt)).prompted
    assert measure_answers(talk(f"What is it?\n{typographic}", "cat", "And now?", "dog")).prompted


@pytest.mark.parametrize(
    ("question", "prompted"),
    [
        ("What is shown? Reply in one word.", True),
        ("Is it a cat, yes or no?", True),
        ("Briefly, what is on the mat?", True),
        ("What is the cat's name?", False),
        ("What word is written on the sign?", False),
        ("How many letters has the word on the box?", False),
    ],
)
def test_a_question_that_asks_for_few_words_needs_no_prompt(question: str, prompted: bool) -> None:
    assert measure_answers(talk(question, "cat")).prompted is prompted


@pytest.mark.parametrize(
    ("dataset", "answers", "numbers"),
    [
        ("VizWiz", ["unanswerable"], [9]),
        ("DocVQA", ["12 May"], [4]),
        ("ChartQA", ["3"], [2]),
        ("Q-Instruct", ["blurry"], [1]),
        ("Q-Instruct", ["A", "B."], [3]),
        ("ScreenQA", ["9:30"], [6, 1]),
        ("IconQA", ["C"], [10]),
        ("Design2Code", [LONG], [7]),
        ("some other", ["A", "(C)"], [3]),
        ("some other", ["3", "12%"], [2]),
        ("some other", ["cat", "unanswerable"], [9]),
        ("some other", ["the red mat", "over the hill"], [4]),
        ("", ["cat"], [1]),
    ],
)
def test_a_data_set_gets_its_published_prompt_and_another_what_its_answers_are(
    dataset: str, answers: list[str], numbers: list[int]
) -> None:
    """Golden: table 13 of Cambrian-1's appendix (2406.16860)."""
    found = measure_answers(talk(*(turn for answer in answers for turn in ("?", answer))))
    assert format_prompt(found, dataset) == " ".join(FORMAT_PROMPTS[n] for n in numbers)


def columns(documents: list[list[Segment]], names: list[str]) -> dict[str, Any]:
    found = answer_lengths(documents, [{"set": name} for name in names], source="set")
    return {name: list(values) for name, values in found.items()}


def test_short_sources_are_found_among_others_however_rows_are_cut(tmp_path: Path) -> None:
    """A source is short by all its answers; its prompted rows, and other sources, are not bare."""
    bare, asked, chatty = talk("What?", "cat", "?", "dog"), talk("What?", "cat", system=WORD), talk("What?", LONG)
    names = ["vqa", "vqa", "chat", "chat", "vqa", "vizwiz"] * 4
    documents = [bare, asked, chatty, bare, chatty, talk("What?", "cat")] * 4
    given = columns(documents, names)
    found = [grouped(short_answer_sources, given, tmp_path / str(n), cut) for n, cut in enumerate(cuts(24))]
    assert found[0] == found[1] == found[2]
    assert found[0]["answers_short_without_prompt"][:6] == [True, False, False, True, False, True]
    assert found[0]["format_prompt"][:6] == [WORD, WORD, WORD, WORD, WORD, FORMAT_PROMPTS[9]]
    assert found[0]["source_short_share"][:6] == pytest.approx([0.75, 0.75, 2 / 3, 2 / 3, 0.75, 1.0])
    strict = grouped(short_answer_sources, given, tmp_path / "strict", min_short_share=0.7)
    assert strict["format_prompt"][2] is None and not strict["answers_short_without_prompt"][3]


def test_the_prompt_is_told_once_and_only_where_it_lacks() -> None:
    documents = [talk("What?", "cat"), talk("What? Answer in one word.", "cat"), talk("What?", "cat"), []]
    found = add_format_prompt(prompt="format_prompt")(documents, [WORD, WORD, None, WORD])
    assert found["document"] == [talk("What?", "cat", system=WORD), *documents[1:]]
    assert found["prompt_added"] == [True, False, False, False]
    again = add_format_prompt(prompt="format_prompt")(found["document"], [WORD, WORD, None, WORD])
    assert again["document"] == found["document"]


def test_the_prompt_of_a_named_data_set_needs_no_other_step() -> None:
    found = add_format_prompt(dataset="Q-Instruct")([talk("Which?", "B"), talk("What?", "blurry")])
    assert found["document"] == [talk("Which?", "B", system=LETTER), talk("What?", "blurry", system=WORD)]


def test_a_data_set_that_has_no_published_prompt_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="no prompt was published for 'VQAv9'"):
        identity(add_format_prompt, {"dataset": "VQAv9"})
    with pytest.raises(ValueError, match="either `prompt`"):
        identity(add_format_prompt, {})


def test_answers_without_any_are_no_source_of_short_ones() -> None:
    assert not Answers().bare and not measure_answers([image_segment("a.png")]).bare
