"""Cut long texts into documents of a token budget that the stream can pack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from curate.models.files import file_digest
from curate.ops.spec import Columns, Count, Knobs, Natural, op
from curate.text import sentences
from curate.tokens.counter import Count as CountTokens
from curate.tokens.counter import token_counter

_WORD = re.compile(r"\s*\S+\s*|\s+")
_PIECE_CHARACTERS = 10_000
"""No piece is longer, so that a text without a space or a sentence's end costs no more to count than another."""

Span = tuple[int, int, int]
"""Begin and end of a piece in characters, and its tokens."""


@op(
    reads="text",
    writes={"chunks": pa.list_(pa.string()), "chunk_tokens": pa.list_(pa.int32()), "chunk_count": pa.int32()},
    version=1,
)
class chunks:  # noqa: N801 - ops are named as recipes name them
    """Each text as consecutive chunks of at most `max_tokens`, cut between sentences or lines where there are any.

    `tokenizer`: simple, words, bytes or the path of a tokenizer.json, as for `curate index --tokenizer`. A sentence
    that is too long is cut between words, a word between characters. `overlap_tokens`: a chunk begins again with the
    last whole sentences of the one before that have at most so many. Space around a chunk goes; a text of nothing
    else has no chunk.
    """

    def __init__(self, *, tokenizer: str = "simple", max_tokens: Count = 2048, overlap_tokens: Natural = 0) -> None:
        _check_overlap(overlap_tokens, max_tokens)
        self._count, self._most, self._overlap = token_counter(tokenizer)[0], max_tokens, overlap_tokens

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the tokenizer's file, if it is one; a tokenizer that is not known is refused."""
        _check_overlap(knobs["overlap_tokens"], knobs["max_tokens"])
        token_counter(knobs["tokenizer"])
        return file_digest(Path(knobs["tokenizer"])) if Path(knobs["tokenizer"]).is_file() else ""

    def __call__(self, texts: Sequence[str]) -> Columns:
        """The chunks of each text and their tokens."""
        found = [list(self._chunks(text)) for text in texts]
        return {
            "chunks": [[chunk for chunk, _ in each] for each in found],
            "chunk_tokens": [[tokens for _, tokens in each] for each in found],
            "chunk_count": [len(each) for each in found],
        }

    def _chunks(self, text: str) -> Iterator[tuple[str, int]]:
        pieces = list(self._pieces(text))
        first = 0
        while first < len(pieces):
            last, chunk, tokens = self._fill_chunk(text, pieces, first)
            if chunk:
                yield chunk, tokens
            first = last if last == len(pieces) else self._overlap_start(pieces, first, last)

    def _fill_chunk(self, text: str, pieces: Sequence[Span], first: int) -> tuple[int, str, int]:
        """The chunk that begins with piece `first`: the piece behind it, its text, its tokens."""
        last, total = first, 0
        while last < len(pieces) and (last == first or total + pieces[last][2] <= self._most):
            total += pieces[last][2]
            last += 1
        while True:  # a tokenizer may see more in the whole than in its parts, though hardly ever
            chunk = text[pieces[first][0] : pieces[last - 1][1]].strip()
            tokens = self._count(chunk)
            if tokens <= self._most or last == first + 1:
                return last, chunk, tokens
            last -= 1

    def _overlap_start(self, pieces: Sequence[Span], first: int, last: int) -> int:
        """The piece that the next chunk begins with: at most the overlap before `last`, and behind `first`."""
        tokens = 0
        while last - 1 > first and tokens + pieces[last - 1][2] <= self._overlap:
            last -= 1
            tokens += pieces[last][2]
        return last

    def _pieces(self, text: str) -> Iterator[Span]:
        """Sentences and lines, cut further where they alone are too long."""
        starts = [start for start, _ in sentences.sentence_spans(text)]
        for begin, end in pairwise([*starts, len(text)]):
            if end - begin <= _PIECE_CHARACTERS and (tokens := self._count(text[begin:end].strip())) <= self._most:
                yield begin, end, tokens
                continue
            for word in _WORD.finditer(text, begin, end):
                yield from _split_word(text, word.start(), word.end(), self._count, self._most)


def _check_overlap(overlap: int, most: int) -> None:
    if overlap >= most:
        raise ValueError(f"chunks: overlap_tokens {overlap} must be less than max_tokens {most}")


def _split_word(text: str, begin: int, end: int, count: CountTokens, most: int) -> Iterator[Span]:
    """A word as spans of at most `most` tokens; a single character stays whole whatever it counts."""
    tokens = count(text[begin:end].strip()) if end - begin <= _PIECE_CHARACTERS else most + 1
    if tokens <= most or end - begin == 1:
        yield begin, end, tokens
        return
    middle = (begin + end) // 2
    yield from _split_word(text, begin, middle, count, most)
    yield from _split_word(text, middle, end, count, most)
