from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.ops.quality.gopher_c4_fineweb import c4_lines, fineweb, gopher_quality, obelics_text
from curate.ops.quality.repetition import REPEATED_LENGTHS, TOP_LENGTHS, gopher_repetition
from curate.ops.spec import identity
from curate.text.words import plain_words, words

PROSE = (
    "When the train came in, nobody on the platform knew what to do with the box. It had been left there by a man in a "
    "grey coat, and it was far too heavy for the two of them to lift.\n"
    "So they waited, as one does, and talked of rain. That was all that happened, and yet they would tell it again."
)


def one(op: Any, text: str, **knobs: Any) -> dict[str, Any]:
    return {name: values[0] for name, values in op([text], **knobs).items()}


def test_words_are_parted_from_signs_and_a_word_is_not_cut_inside() -> None:
    assert words("It's 3.14 (pi)... and/or me@here.org").tokens == [
        "It", "'s", "3.14", "(", "pi", ")", "...", "and/or", "me@here.org",
    ]  # fmt: skip
    assert words("यह हिन्दी है। 我喜欢 Python").tokens == ["यह", "हिन्दी", "है", "।", "我", "喜", "欢", "Python"]
    assert plain_words("It's 3.14, (Pi)!").tokens == ["it", "s", "3", "14", "pi"]
    assert words("").tokens == []


def test_word_has_the_same_number_in_every_text() -> None:
    first, second = words("one two one"), words("two three one")
    assert first.numbers[0] == first.numbers[2] == second.numbers[2]
    assert first.numbers[1] == second.numbers[0] != first.numbers[0]
    assert second.lengths.tolist() == [3, 5, 3]


def test_prose_passes_every_threshold_of_gopher_and_fineweb() -> None:
    quality, repetition, shape = one(gopher_quality, PROSE), one(gopher_repetition, PROSE), one(fineweb, PROSE)
    assert quality["gopher_words"] == 63
    assert 3 <= quality["gopher_mean_word_length"] <= 10
    assert (quality["gopher_hash_ratio"], quality["gopher_ellipsis_ratio"]) == (0, 0)
    assert (quality["gopher_bullet_lines"], quality["gopher_ellipsis_lines"]) == (0, 0)
    assert quality["gopher_alphabetic_words"] >= 0.8
    assert quality["gopher_stop_words"] == 6
    assert all(repetition[f"gopher_repeated_{n}_grams"] == 0 for n in REPEATED_LENGTHS)
    assert repetition["gopher_top_2_gram"] < 0.2
    assert (shape["fineweb_lines_ended"], shape["fineweb_short_lines"]) == (1, 0)
    assert shape["fineweb_newlines_a_word"] == pytest.approx(1 / len(words(PROSE).tokens))


@pytest.mark.parametrize(
    ("text", "column", "value"),
    [
        ("# one\n# two", "gopher_hash_ratio", 2 / 4),
        ("so... it… goes", "gopher_ellipsis_ratio", 2 / 5),
        ("• one\n - two\nthree\nfour", "gopher_bullet_lines", 0.5),
        ("one... \ntwo…\nthree\n", "gopher_ellipsis_lines", 2 / 3),
        ("10 20 30 four", "gopher_alphabetic_words", 0.25),
        ("the The of", "gopher_stop_words", 2),
        ("ab -- abcd", "gopher_mean_word_length", 3),
        ("ab -- ___ abcd", "gopher_words", 2),
    ],
)
def test_gopher_measures_what_it_says(text: str, column: str, value: float) -> None:
    assert one(gopher_quality, text)[column] == pytest.approx(value)


@pytest.mark.parametrize("op", [gopher_quality, gopher_repetition, fineweb, c4_lines])
@pytest.mark.parametrize("text", ["", "\n\n", " ", "\0", "\ud800", "...", "一"])
def test_text_of_nothing_has_measures_between_0_and_1(op: Any, text: str) -> None:
    values = [value for value in one(op, text).values() if isinstance(value, float)]
    assert all(0 <= value <= 1 for value in values)


def repeated_parts(parts: Sequence[str], text: str) -> tuple[float, float]:
    seen, count, characters = set[str](), 0, 0
    for part in parts:
        count += part in seen
        characters += len(part) * (part in seen)
        seen.add(part)
    return count / len(parts), characters / len(text)


def repeated_runs(tokens: Sequence[str], n: int) -> int:
    seen, characters, at = set[tuple[str, ...]](), 0, 0
    while at + n <= len(tokens):
        run = tuple(tokens[at : at + n])
        if run in seen:
            characters += len("".join(run))
            at += n
        else:
            seen.add(run)
            at += 1
    return characters


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["a", "be", "sea", ".", "\n", "\n\n"]), min_size=1, max_size=120))
def test_repetition_is_what_reading_from_left_to_right_gives(parts: list[str]) -> None:
    text = " ".join(parts)
    tokens, found = words(text).tokens, one(gopher_repetition, text)
    paragraphs = repeated_parts(re.split(r"\n{2,}", text.strip()), text)
    lines = repeated_parts(re.split(r"\n+", text), text)
    assert [found[name] for name in list(found)[:4]] == pytest.approx([*paragraphs, *lines])
    for n in TOP_LENGTHS:
        counts = Counter(" ".join(tokens[at : at + n]) for at in range(len(tokens) - n + 1))
        run, count = counts.most_common(1)[0] if counts else ("", 0)
        assert found[f"gopher_top_{n}_gram"] == pytest.approx(len(run) * count / len(text))
    for n in REPEATED_LENGTHS:
        assert found[f"gopher_repeated_{n}_grams"] == pytest.approx(repeated_runs(tokens, n) / len(text))


def test_measures_of_a_song_are_those_that_datatrove_0_10_1_computes() -> None:
    wheels = "The wheels on the bus go round and round , round and round , round and round .\n"
    doors = "The doors on the bus go open and shut , open and shut , open and shut .\n"
    first = f"{wheels}The wheels on the bus go round and round , all through the town .\n"
    song = f"{first}\n{doors}The doors on the bus go open and shut , all through the town .\n\n{first}"
    repetition = list(one(gopher_repetition, song).values())
    assert repetition == pytest.approx(
        [
            *(0.33333333, 0.33723653, 0.28571429, 0.33489461, 0.16861827, 0.28103044, 0.18266979),
            *(0.51288056, 0.41217799, 0.49180328, 0.30210773, 0.34426230, 0.29976581),
        ]
    )
    quality, shape = one(gopher_quality, song), one(fineweb, song)
    assert quality["gopher_words"] == 84
    assert quality["gopher_mean_word_length"] == pytest.approx(3.70238095)
    assert quality["gopher_alphabetic_words"] == pytest.approx(0.84848485)
    assert list(shape.values()) == pytest.approx([1, 0, 0.34128878, 0.08080808])


@pytest.mark.parametrize(
    "text", ["." * 300_000 + "x", "a." * 200_000, "[1" * 200_000, "\n " * 200_000, "-" * 500_000, "x" * 500_000]
)
def test_text_made_to_be_slow_is_measured_in_little_time(text: str) -> None:
    start = time.process_time()
    for op in (gopher_quality, gopher_repetition, fineweb, c4_lines, obelics_text()):
        one(op, text) if op.spec.reads == ("text",) else op([text], ["en"])
    assert time.process_time() - start < 30


def test_measure_does_not_depend_on_the_other_texts_of_its_batch() -> None:
    texts = [PROSE, "x", PROSE * 3, ""]
    for op in (gopher_quality, gopher_repetition, fineweb, c4_lines):
        together = op(texts)
        for place, text in enumerate(texts):
            assert {name: values[place] for name, values in together.items()} == one(op, text)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("This line ends in nothing", "unended"),
        ("This line trails off...", "unended"),
        ("Too short.", "too_few_words"),
        (f"One {'x' * 1001} word.", "too_long_word"),
        ("Please enable JavaScript in your browser.", "javascript"),
        ("By going on you accept our cookie policy.", "policy"),
    ],
)
def test_bad_line_is_taken_out_and_counted_under_its_reason(line: str, reason: str) -> None:
    found = one(c4_lines, f"This is a good line.\n{line}\nAnd so is this one!")
    assert found["text"] == "This is a good line.\nAnd so is this one!"
    assert (found["c4_lines"], found["c4_lines_kept"], found[f"c4_{reason}"]) == (3, 2, 1)


def test_sentences_are_counted_and_marks_of_citations_go() -> None:
    found = one(c4_lines, 'Water is wet.[1] "Is it?" Yes, at 3.5 degrees.\nIt is so, they say![citation needed]')
    assert found["text"] == 'Water is wet. "Is it?" Yes, at 3.5 degrees.\nIt is so, they say!'
    assert found["c4_sentences"] == 4


def test_lines_may_end_as_they_like_where_the_recipe_says_so() -> None:
    found = one(c4_lines, "A title of three words\nTrailing off...\nShort", ended=False)
    assert found["text"] == "A title of three words"
    assert (found["c4_unended"], found["c4_too_few_words"]) == (0, 2)


def test_lorem_ipsum_and_curly_brackets_mark_the_whole_document() -> None:
    assert one(c4_lines, "Lorem ipsum dolor sit amet.")["c4_lorem_ipsum"] is True
    assert one(c4_lines, "if (a) { return b; } ends here.")["c4_curly_bracket"] is True
    assert one(c4_lines, "An honest line of text.")["c4_lorem_ipsum"] is False


def test_fineweb_measures_what_it_says() -> None:
    text = "Ends here.\n\nno end\nno end\n这是一句。\n"
    found = one(fineweb, text, short_line_characters=6)
    assert found["fineweb_lines_ended"] == pytest.approx(2 / 4)
    assert found["fineweb_short_lines"] == pytest.approx(3 / 4)
    assert found["fineweb_repeated_line_characters"] == pytest.approx(6 / 27)
    assert found["fineweb_newlines_a_word"] == pytest.approx(5 / len(words(text).tokens))


def test_obelics_measures_need_the_language_and_are_null_without_a_list() -> None:
    columns = obelics_text()([PROSE, PROSE, "kurz"], ["en", None, "de"])
    assert columns["obelics_words"] == [63, 63, 1]
    assert columns["obelics_stop_words"][0] >= 0.35
    assert columns["obelics_common_words"][0] >= 0.9
    assert columns["obelics_stop_words"][1] is None
    assert columns["obelics_common_words"][1:] == [None, None]


def test_word_lists_of_ones_own_take_the_place_of_those_that_ship(tmp_path: Path) -> None:
    (tmp_path / "flagged.txt").write_text("Rain\nplatform\n")
    op = obelics_text(flagged=str(tmp_path / "flagged.txt"))
    assert op([PROSE], ["en"])["obelics_flagged_words"] == [pytest.approx(2 / 63)]
    before = identity(obelics_text, {"flagged": str(tmp_path / "flagged.txt")})["files"]
    (tmp_path / "flagged.txt").write_text("sun\n")
    assert identity(obelics_text, {"flagged": str(tmp_path / "flagged.txt")})["files"] != before
    with pytest.raises(ValueError, match=r"word list .*none\.txt"):
        obelics_text(flagged=str(tmp_path / "none.txt"))
