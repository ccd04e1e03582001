from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.document.segments import image_segment, text_of, text_segment
from curate.ops.safety.masks import mask_pii, mask_pii_document, mask_pii_page, mask_pii_title
from curate.text.personal_data import KINDS, find_personal_data

MAIL = "jane@example.org"


def page(*lines: str) -> list[dict[str, Any]]:
    """Words of equal width, a line below the other."""
    return [
        {"text": word, "box": [0.1 * place, 0.1 * line, 0.1 * place + 0.1, 0.1 * line + 0.1], "line": line,
         "confidence": None}
        for line, text in enumerate(lines)
        for place, word in enumerate(text.split(" "))
    ]  # fmt: skip


def texts_of(words: list[dict[str, Any]]) -> list[str]:
    return [word["text"] for word in words]


def test_what_was_masked_is_counted_by_kind() -> None:
    columns = mask_pii([f"{MAIL}, 8.8.8.8 and joe@example.org", "nothing"])
    assert columns["text"] == ["<EMAIL>, <IP> and <EMAIL>", "nothing"]
    assert (columns["masked_email"], columns["masked_ip"], columns["masked"]) == ([2, 0], [1, 0], [3, 0])
    assert mask_pii([f"{MAIL}, 8.8.8.8"], kinds=["ip"])["masked"] == [1]


def test_texts_captions_and_alt_texts_of_a_document_are_masked_and_no_segment_moves() -> None:
    document = [text_segment(f"Write to {MAIL}.", "list"), image_segment(f"a@2x.png?{MAIL}", MAIL, f"By {MAIL}"),
                image_segment("b.png"), text_segment("Done.")]  # fmt: skip
    columns = mask_pii_document([document, []])
    masked = columns["document"][0]
    assert masked[0] == text_segment("Write to <EMAIL>.", "list")
    assert masked[1] == image_segment(document[1]["url"], "<EMAIL>", "By <EMAIL>")
    assert masked[2:] == document[2:] and columns["document"][1] == []
    assert columns["text"] == [text_of(masked), ""]
    assert columns["masked_email"] == [3, 0]
    assert document[0]["text"] == f"Write to {MAIL}.", "what was given stays as it is"


def test_title_is_masked_and_none_stays_none() -> None:
    columns = mask_pii_title([f"Mail of {MAIL}", None])
    assert columns == {"title": ["Mail of <EMAIL>", None], "title_masked": [1, 0]}


def test_words_of_a_page_are_masked_with_its_text() -> None:
    words = page("call +49 30 901820 now", f"or ({MAIL}),")
    columns = mask_pii_page([f"call +49 30 901820 now\nor ({MAIL}),"], [words])
    assert columns["text"] == ["call <PHONE> now\nor (<EMAIL>),"]
    masked = columns["words"][0]
    assert texts_of(masked) == ["call", "<PHONE>", "now", "or", "(<EMAIL>),"]
    assert masked[1]["box"] == pytest.approx([0.1, 0.0, 0.4, 0.1]) and masked[1]["line"] == 0
    assert masked[0] == words[0] and masked[2] == words[4]
    assert (columns["masked_phone"], columns["masked_email"], columns["masked"]) == ([1], [1], [2])


def test_what_a_page_is_found_to_hold_in_its_text_is_masked_in_its_words_too() -> None:
    """A word that is parted at the end of a line is whole in the text alone; a caption may be in the words alone."""
    text = f"mail {MAIL} or {MAIL}"
    columns = mask_pii_page([text, "mail"], [page("mail jane@exam-", f"ple.org or {MAIL}"), page(MAIL)])
    assert columns["text"] == ["mail <EMAIL> or <EMAIL>", "mail"]
    assert MAIL not in "".join(texts_of(columns["words"][0]))
    assert texts_of(columns["words"][1]) == ["<EMAIL>"]


def test_several_findings_in_one_word_are_all_masked() -> None:
    columns = mask_pii_page([""], [page(f"{MAIL},joe@example.org;x", "y")])
    assert texts_of(columns["words"][0]) == ["<EMAIL>,<EMAIL>;x", "y"]


def test_finding_over_several_lines_is_masked_on_each() -> None:
    lines = ("see -----BEGIN PRIVATE KEY-----", "MIIB 0aGU=", "-----END PRIVATE KEY----- here")
    columns = mask_pii_page(["\n".join(lines)], [page(*lines)])
    assert columns["text"] == ["see <KEY> here"]
    masked = columns["words"][0]
    assert texts_of(masked) == ["see", "<KEY>", "<KEY>", "<KEY>", "here"]
    assert [word["line"] for word in masked] == [0, 0, 1, 2, 2]
    assert masked[2]["box"] == pytest.approx([0.0, 0.1, 0.2, 0.2])


def test_page_without_words_has_its_text_masked() -> None:
    columns = mask_pii_page([MAIL, ""], [None, []])
    assert columns["text"] == ["<EMAIL>", ""] and columns["words"] == [[], []]


def test_unknown_kind_is_said() -> None:
    for call in (
        lambda: mask_pii_document([[]], kinds=["names"]),
        lambda: mask_pii_page([""], [[]], kinds=["names"]),
        lambda: mask_pii_title([""], kinds=["names"]),
    ):
        with pytest.raises(ValueError, match="unknown kind 'names'"):
            call()


PIECES = st.sampled_from([MAIL, "8.8.8.8", "+49", "30", "901820", "call", "(", "word,", "漢", "4111", "1111"])


@given(st.lists(st.lists(PIECES, min_size=1, max_size=8).map(" ".join), max_size=5))
def test_nothing_is_found_in_masked_words_and_other_words_stay(lines: list[str]) -> None:
    words = page(*lines)
    columns = mask_pii_page(["\n".join(lines)], [words])
    masked = columns["words"][0]
    kept = [word for word in masked if "<" not in word["text"]]
    assert all(word in words for word in kept)
    assert not find_personal_data(columns["text"][0])
    if not columns["masked"][0]:
        assert masked == words
    assert columns["masked"][0] == sum(columns[f"masked_{kind}"][0] for kind in KINDS)
