"""Tokenize captions for a dual encoder: open_clip's tokenizers in bounded time, or a file's own.

A described tokenizer is one string in a model file's metadata: `simple` (CLIP's byte pairs), `simple:N` (the first
N ids of them) or `words:[...]` (whole words, a JSON list).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

Tokens = Callable[[str], Sequence[int]]
"""The ids of one text, marks included, cut to the context; padding may be left out."""

MAX_CHARACTERS = 2_000
"""Longer captions are cut before they are tokenized: some 350 characters fill CLIP's context of 77 ids, and byte pairs
cost the square of a word's length."""

_MOST_REMEMBERED = 100_000
_BYTE_IDS = 514  # the byte symbols (512) and the two marks


def open_clip_tokens(tokenizer: Any, context_length: int) -> Tokens:
    """The ids that an open_clip tokenizer gives a text."""
    from open_clip.tokenizer import SimpleTokenizer

    if isinstance(tokenizer, SimpleTokenizer) and tokenizer.reduction_fn is None:
        return _byte_pairs(tokenizer, context_length)
    return lambda text: [int(n) for n in tokenizer([_bounded(text)], context_length=context_length)[0]]


def described_tokens(spec: str, context_length: int) -> Tokens:
    """The tokenizer that `spec` describes. Raises ValueError."""
    name, _, rest = spec.partition(":")
    if name == "simple":
        return _byte_pairs(_simple(int(rest) if rest else None), context_length)
    if name == "words":
        return _words(json.loads(rest), context_length)
    raise ValueError(f"unknown tokenizer {spec[:40]!r} (allowed: simple, simple:N, words:[...])")


def _bounded(text: str) -> str:
    """`text` without lone surrogates, which no tokenizer can encode, and at most MAX_CHARACTERS of it."""
    if len(text) > MAX_CHARACTERS:
        text = " ".join(text.split())[:MAX_CHARACTERS]
    return text.encode("utf-8", "replace").decode("utf-8")


def _byte_pairs(pairs: Any, context_length: int) -> Tokens:
    def tokens(text: str) -> list[int]:
        if len(pairs.cache) > _MOST_REMEMBERED:  # open_clip remembers every word it ever saw
            for word in list(pairs.cache)[len(pairs.all_special_ids) :]:
                del pairs.cache[word]
        return [pairs.sot_token_id, *pairs.encode(_bounded(text))[: context_length - 2], pairs.eot_token_id]

    return tokens


def _simple(size: int | None) -> Any:
    """CLIP's byte pairs with their last merges left out so that `size` ids remain; the marks stay the largest two."""
    from open_clip.tokenizer import SimpleTokenizer

    pairs = SimpleTokenizer()
    if size is None or size == pairs.vocab_size:
        return pairs
    if not _BYTE_IDS <= size < pairs.vocab_size:
        raise ValueError(f"tokenizer simple:{size}: expected {_BYTE_IDS} to {pairs.vocab_size} ids")
    names = [pairs.decoder[n] for n in range(size - 2)] + ["<start_of_text>", "<end_of_text>"]
    pairs.decoder = dict(enumerate(names))
    pairs.encoder = {name: n for n, name in pairs.decoder.items()}
    pairs.bpe_ranks = {pair: rank for pair, rank in pairs.bpe_ranks.items() if rank < size - _BYTE_IDS}
    pairs.vocab_size = size
    pairs.sot_token_id, pairs.eot_token_id = pairs.all_special_ids = [size - 2, size - 1]
    return pairs


def _words(words: Sequence[str], context_length: int) -> Tokens:
    """Word n of the list is id n + 2, any other word 1, the end mark the id after the last."""
    ids = {word: n + 2 for n, word in enumerate(words)}
    end = len(words) + 2

    def tokens(text: str) -> list[int]:
        found = re.findall(r"\w+", unicodedata.normalize("NFKC", _bounded(text)).casefold())
        return [*(ids.get(word, 1) for word in found[: context_length - 1]), end]

    return tokens
