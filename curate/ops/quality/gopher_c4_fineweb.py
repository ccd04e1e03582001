"""Quality measures of published text sets as columns: Gopher, C4, FineWeb, OBELICS.

The thresholds are rules of a recipe. Definitions are the papers', where a paper leaves a choice datatrove's; what a
word is is ours (`curate.text.words`), and stated there. An empty text measures 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.models.files import file_digest
from curate.ops.spec import Columns, Count, Knobs, Natural, op, spec_of
from curate.text import sentences, stats
from curate.text.words import words

GOPHER_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
C4_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")

TERMINAL = frozenset("!.?։؝؞؟۔܀܁܂߹࠷࠹࠽࠾।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼。꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗．！？｡")
"""What ends a sentence in any script: Unicode's property Sentence_Terminal, basic plane."""

_SIGNS_ALONE = re.compile(r"[\W_]+")
_LETTER = re.compile(r"[^\W\d_]")
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


@op(
    reads="text",
    writes={
        "gopher_words": pa.int32(),
        "gopher_mean_word_length": pa.float32(),
        "gopher_hash_ratio": pa.float32(),
        "gopher_ellipsis_ratio": pa.float32(),
        "gopher_bullet_lines": pa.float32(),
        "gopher_ellipsis_lines": pa.float32(),
        "gopher_alphabetic_words": pa.float32(),
        "gopher_stop_words": pa.int32(),
    },
    version=2,
)
def gopher_quality(texts: Sequence[str]) -> Columns:
    """Gopher's measures of a document (Rae et al. 2021, appendix A1.1), with the thresholds that the paper gives.

    words: 50 to 100,000, runs of signs not counted; mean_word_length: 3 to 10 characters, of the same. Hash signs and
    ellipses a word: at most .1 each. Share of lines that begin with a bullet (or a dash): at most .9, that end in an
    ellipsis: at most .3. Share of words with a letter: at least .8. How many of the eight stop words occur: at least 2.
    In scripts without spaces a word is a character or a cluster of 1 to 4: the least of 3 characters is not for them.
    """
    return _columns([_gopher(text) for text in texts], gopher_quality)


def _gopher(text: str) -> tuple[float, ...]:
    tokens = words(text).tokens
    kinds = dict.fromkeys(tokens, 0)
    signs = {token for token in kinds if _SIGNS_ALONE.fullmatch(token)}
    wordy = [token for token in tokens if token not in signs]
    letterless = {token for token in kinds if not _LETTER.search(token)}
    alphabetic = sum(token not in letterless for token in tokens)
    lines = text.splitlines()
    bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
    cut = sum(line.rstrip().endswith(("...", "…")) for line in lines)
    return (
        len(wordy),
        _share(len("".join(wordy)), len(wordy)),
        _share(text.count("#"), len(tokens)),
        _share(text.count("...") + text.count("…"), len(tokens)),
        _share(bullets, len(lines)),
        _share(cut, len(lines)),
        _share(alphabetic, len(tokens)),
        len(GOPHER_STOP_WORDS & kinds.keys()),
    )


@op(
    reads="text",
    writes={
        "fineweb_lines_ended": pa.float32(),
        "fineweb_short_lines": pa.float32(),
        "fineweb_repeated_line_characters": pa.float32(),
        "fineweb_newlines_a_word": pa.float32(),
    },
    version=2,
)
def fineweb(texts: Sequence[str], *, short_line_characters: Natural = 30) -> Columns:
    """FineWeb's own measures (Penedo et al. 2024, section 3.6), with the thresholds that the paper gives.

    Share of lines that end a sentence (TERMINAL): at least .12. Share of lines of at most `short_line_characters`: at
    most .67. Share of characters in lines that repeat an earlier one: at most .01, as datatrove has it. Newlines a
    word: at most .3. Empty lines are no lines.
    """
    return _columns([_fineweb(text, short_line_characters) for text in texts], fineweb)


def _fineweb(text: str, short: int) -> tuple[float, ...]:
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    ended = sum(line[-1] in TERMINAL for line in lines)
    characters = len(text) - text.count("\n")
    return (
        _share(ended, len(lines)),
        _share(sum(len(line) <= short for line in lines), len(lines)),
        _share(sum(map(len, lines)) - sum(map(len, set(lines))), characters),
        _share(text.count("\n"), len(words(text).tokens)),
    )


@op(
    reads="text",
    writes={
        "text": pa.string(),
        "c4_lines": pa.int32(),
        "c4_lines_kept": pa.int32(),
        "c4_unended": pa.int32(),
        "c4_too_few_words": pa.int32(),
        "c4_too_long_word": pa.int32(),
        "c4_javascript": pa.int32(),
        "c4_policy": pa.int32(),
        "c4_sentences": pa.int32(),
        "c4_lorem_ipsum": pa.bool_(),
        "c4_curly_bracket": pa.bool_(),
    },
    version=1,
)
def c4_lines(
    texts: Sequence[str], *, ended: bool = True, min_words: Natural = 3, max_word_characters: Count = 1000
) -> Columns:
    """C4's cleaning (Raffel et al. 2020, section 2.2): writes the `text` that later steps read, without its bad lines.

    A line stays if it ends in . ? ! or a quote but in no ellipsis, has `min_words`, no word of more than
    `max_word_characters`, and names neither JavaScript nor a policy on cookies; the counts say why others went, the
    first reason each. Marks of citations ([1], [edit]) go. A recipe keeps what has 5 c4_sentences, no c4_lorem_ipsum
    and no c4_curly_bracket (both looked for in lines that end and have words, as C4 does). FineWeb sets `ended` to
    false: any line may stay, however it ends.
    """
    return _columns([_c4(text, ended, min_words, max_word_characters) for text in texts], c4_lines)


def _c4(text: str, ended: bool, min_words: int, max_word_characters: int) -> tuple[str | float, ...]:
    kept: list[str] = []
    reasons: list[str | None] = []
    for line in text.splitlines():
        found = line.split()
        cleaned = _CITATION.sub("", line.strip()) if "[" in line else line.strip()
        long = len(line) > max_word_characters and max(map(len, found), default=0) > max_word_characters
        reason = "too_long_word" if long else _c4_reason(cleaned, len(found), ended, min_words)
        reasons.append(reason)
        if reason is None:
            kept.append(cleaned)
    return (
        "\n".join(kept).strip(),
        len(reasons),
        len(kept),
        *(reasons.count(name) for name in ("unended", "too_few_words", "too_long_word", "javascript", "policy")),
        sum(len(sentences.sentence_spans(line)) for line in kept),
        "lorem_ipsum" in reasons,
        "curly_bracket" in reasons,
    )


def _c4_reason(line: str, count: int, ended: bool, min_words: int) -> str | None:
    """Why C4 drops a line, None if it stays. `lorem_ipsum` and `curly_bracket` drop the whole document there."""
    if ended and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
        return "unended"
    if count < min_words:
        return "too_few_words"
    lowered = line.lower()
    if "lorem ipsum" in lowered:
        return "lorem_ipsum"
    if "javascript" in lowered:
        return "javascript"
    if "{" in line:
        return "curly_bracket"
    return "policy" if any(phrase in lowered for phrase in C4_POLICY) else None


class _Obelics:
    """OBELICS's measures of a text and its language, by the word lists that ship or are named."""

    def __init__(self, *, flagged: str = "", common: str = "") -> None:
        self._flagged = _word_file(flagged) if flagged else stats.FLAGGED_WORDS
        self._common = _word_file(common) if common else None

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digests of the word files."""
        return " ".join(file_digest(Path(path)) for path in (knobs["flagged"], knobs["common"]) if path)

    def _measures(self, text: str, language: str | None) -> tuple[float | None, ...]:
        return (
            len(stats.words(text)),
            stats.char_repetition(text),
            stats.word_repetition(text),
            stats.special_characters(text),
            stats.stop_words(text, language),
            stats.flagged_words(text, self._flagged),
            stats.punctuation(text),
            stats.common_words(text, language, self._common),
        )


@op(
    reads=("text", "language"),
    writes={
        "obelics_words": pa.int32(),
        "obelics_character_repetition": pa.float32(),
        "obelics_word_repetition": pa.float32(),
        "obelics_special_characters": pa.float32(),
        "obelics_stop_words": pa.float32(),
        "obelics_flagged_words": pa.float32(),
        "obelics_punctuation": pa.float32(),
        "obelics_common_words": pa.float32(),
    },
    version=2,
)
class obelics_text(_Obelics):  # noqa: N801 - ops are named as recipes name them
    """OBELICS's measures of a document's text (Laurençon et al. 2023, appendix A.2), with the paper's thresholds.

    words: 10 to 2,000; runs of 10 characters repeated: at most .1; runs of 5 words: .2; special characters: .275; stop
    words: at least .35; flagged words: at most .01; punctuation: at least .03; common words: .9. Reads the `language`
    of an earlier step: where no list of stop or common words is known for it, those are null.

    `flagged` and `common`: files of words, one a line, in place of the lists that ship.
    """

    def __call__(self, texts: Sequence[str], languages: Sequence[str | None]) -> Columns:
        """One measure of each kind a text."""
        rows = [self._measures(text, language) for text, language in zip(texts, languages, strict=True)]
        return _columns(rows, obelics_text)


_JUDGED = 12
"""Words and marks below which OBELICS does not ask a paragraph for punctuation."""


@op(
    reads=("text", "language"),
    writes={
        "paragraph_words": pa.int32(),
        "paragraph_character_repetition": pa.float64(),
        "paragraph_word_repetition": pa.float64(),
        "paragraph_special_characters": pa.float64(),
        "paragraph_stop_words": pa.float64(),
        "paragraph_flagged_words": pa.float64(),
        "paragraph_punctuation": pa.float64(),
        "paragraph_common_words": pa.float64(),
    },
    version=2,
    batch_size=512,
)
class obelics_paragraph(_Obelics):  # noqa: N801 - ops are named as recipes name them
    """OBELICS's measures of a paragraph (Laurençon et al. 2023, appendix A.2), with the paper's thresholds.

    With `over: paragraphs`. words: 4 to 1,000; runs of 10 characters repeated: at most .1; runs of 5 words: .1; special
    characters: .3; stop words: at least .3; flagged words: at most .01; punctuation: at least .001; common words: .8.
    Null where it cannot be judged: punctuation of fewer than 12 words and marks, stop and common words of a `language`
    without a list; `or_null: true` keeps those. `flagged` and `common`: as of `obelics_text`.
    """

    def __call__(self, texts: Sequence[str], languages: Sequence[str | None]) -> Columns:
        """One measure of each kind a paragraph."""
        rows = [self._row(text, language) for text, language in zip(texts, languages, strict=True)]
        return _columns(rows, obelics_paragraph)

    def _row(self, text: str, language: str | None) -> tuple[float | None, ...]:
        *before, punctuation, common = self._measures(text, language)
        return *before, punctuation if stats.punctuation_tokens(text) >= _JUDGED else None, common


def _word_file(path: str) -> frozenset[str]:
    """The words of a file, one a line, in lower case. Raises ValueError."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as err:
        raise ValueError(f"word list {path}: {err}; give a text file with one word a line") from None
    return frozenset(word for line in lines if (word := line.strip().lower()))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _columns(rows: Sequence[Sequence[Any]], function: Callable[..., Any]) -> Columns:
    """Rows of values, in the order of the op's columns, as columns."""
    return {name: [row[place] for row in rows] for place, name in enumerate(spec_of(function).writes)}
