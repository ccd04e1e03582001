"""Tokenize captions for a dual encoder: open_clip's tokenizers in bounded time, or a file's own.

A described tokenizer is one string in a model file's metadata: `simple` (CLIP's byte pairs), `simple:N` (the first
N ids of them) or `words:[...]` (whole words, a JSON list).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from curate.tokens.byte_pairs import byte_pairs, encodable, remembering

Tokens = Callable[[str], Sequence[int]]
"""The ids of one text, marks included, cut to the context; padding may be left out."""

MAX_CHARACTERS = 2_000
"""Longer captions are cut before they are tokenized: some 350 characters fill CLIP's context of 77 ids, and byte pairs
cost the square of a word's length."""


@dataclass(frozen=True)
class Tokenizer:
    """Captions to ids, by the description `spec`: `vocab_size` ids in all, of which the end mark is the largest."""

    spec: str
    vocab_size: int
    context_length: int
    ids: Tokens
    count: Callable[[str], int]
    """The tokens of a whole text, marks left out: those of long ones are not all among its ids."""
    marks: int

    def __call__(self, text: str) -> Sequence[int]:
        """The ids of a text, marks included, at most `context_length`."""
        return self.ids(text)


def described_tokens(spec: str, context_length: int) -> Tokenizer:
    """The tokenizer that `spec` describes. Raises ValueError."""
    name, _, rest = spec.partition(":")
    if name == "simple":
        pairs = byte_pairs(int(rest) if rest else None)
        ids = _by_byte_pairs(pairs, context_length)
        return Tokenizer(spec, pairs.vocab_size, context_length, ids, partial(_count_byte_pairs, pairs), marks=2)
    if name == "words":
        return _by_words(spec, json.loads(rest), context_length)
    raise ValueError(f"unknown tokenizer {spec[:40]!r} (allowed: simple, simple:N, words:[...])")


def open_clip_tokens(tokenizer: Any, context_length: int) -> Tokens:
    """The ids that an open_clip tokenizer gives a text."""
    from open_clip.tokenizer import SimpleTokenizer

    if isinstance(tokenizer, SimpleTokenizer) and tokenizer.reduction_fn is None:
        return _by_byte_pairs(remembering(tokenizer), context_length)
    return lambda text: [int(n) for n in tokenizer([_bounded(text)], context_length=context_length)[0]]


def _bounded(text: str) -> str:
    """What is tokenized of `text`: at most MAX_CHARACTERS, runs of space as one where it is cut."""
    if len(text) > MAX_CHARACTERS:
        text = " ".join(text.split())[:MAX_CHARACTERS]
    return encodable(text)


def _by_byte_pairs(pairs: Any, context_length: int) -> Tokens:
    begin, end = pairs.sot_token_id, pairs.eot_token_id
    return lambda text: [begin, *pairs.encode(_bounded(text))[: context_length - 2], end]


def _count_byte_pairs(pairs: Any, text: str) -> int:
    """A long text is counted in parts, as it is cut."""
    text = text if len(text) <= MAX_CHARACTERS else " ".join(text.split())
    parts = (text[at : at + MAX_CHARACTERS] for at in range(0, len(text), MAX_CHARACTERS))
    return sum(len(pairs.encode(encodable(part))) for part in parts)


def _by_words(spec: str, words: Sequence[str], context_length: int) -> Tokenizer:
    """Word n of the list is id n + 2, any other word 1, the end mark the id after the last."""
    known = {word: n + 2 for n, word in enumerate(words)}
    if len(known) != len(words):
        raise ValueError("tokenizer words: a word stands twice in the vocabulary")
    end = len(words) + 2

    def ids(text: str) -> list[int]:
        found = re.findall(r"\w+", unicodedata.normalize("NFKC", _bounded(text)).casefold())
        return [*(known.get(word, 1) for word in found[: context_length - 1]), end]

    def count(text: str) -> int:
        return len(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))

    return Tokenizer(spec, end + 1, context_length, ids, count, marks=1)
