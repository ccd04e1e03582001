"""Tokenize captions: CLIP's byte pairs (whole or cut short), whole words, or plain bytes.

A tokenizer is named by one string, which is what a checkpoint's metadata holds: `simple`, `simple:N`,
`words:[...]` for the dual encoder; `bytes`, `simple` for the language model.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from curate.tokens.encoders import MAX_REMEMBERED, SIMPLE_IDS, encoder

MAX_CHARACTERS = 2_000
"""Of a caption, before byte pairs are sought: their cost is the square of a word's length, and few fill a context."""
SMALLEST_CUT = 514
"""Ids of the byte symbols (512) and the two marks: the least that `simple:N` can be cut to."""


@dataclass(frozen=True)
class Tokenizer:
    """Texts to ids_BT (int64, zero-padded); `vocab_size` ids in all, `context_length` ids a text."""

    spec: str
    vocab_size: int
    context_length: int
    encode: Callable[[str], list[int]]

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """ids_BT of `texts`."""
        ids_BT = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            ids = self.encode(text)
            ids_BT[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        return ids_BT


def clip_tokenizer(spec: str, context_length: int) -> Tokenizer:
    """The tokenizer of a dual encoder by its spec; its end mark is always the largest id. Raises ValueError."""
    name, _, rest = spec.partition(":")
    if name == "simple":
        return _byte_pairs(spec, int(rest) if rest else None, context_length)
    if name == "words":
        return _words(spec, json.loads(rest), context_length)
    raise ValueError(f"unknown tokenizer {spec[:40]!r} (allowed: simple, simple:N, words:[...])")


@dataclass(frozen=True)
class TextCode:
    """Spelling of texts for a language model: `begin` and `end` are none of a text's ids."""

    name: str
    encode: Callable[[str], list[int]]
    begin: int
    end: int
    vocab_size: int


def text_code(name: Literal["bytes", "simple"]) -> TextCode:
    """`bytes` (UTF-8, 258 ids) or `simple` (CLIP's byte pairs, 49,408 ids)."""
    encode, ids = encoder(name), {"bytes": 256, "simple": SIMPLE_IDS}[name]
    assert encode is not None
    return TextCode(name, encode, ids, ids + 1, ids + 2)


def _byte_pairs(spec: str, size: int | None, context_length: int) -> Tokenizer:
    pairs = _simple(size)
    begin, end = pairs.sot_token_id, pairs.eot_token_id

    def encode(text: str) -> list[int]:
        return [begin, *_pair_ids(pairs, text)[: context_length - 2], end]

    return Tokenizer(spec, pairs.vocab_size, context_length, encode)


def _pair_ids(pairs: Any, text: str) -> list[int]:
    """The byte pairs of `text`, marks left out, in bounded time and memory whatever the text is."""
    if len(pairs.cache) > MAX_REMEMBERED:
        pairs.cache = {mark: mark for mark in ("<start_of_text>", "<end_of_text>")}
    return [int(n) for n in pairs.encode(_bounded(text))]


def _bounded(text: str) -> str:
    """The first MAX_CHARACTERS of `text` (runs of space as one where it is cut), without lone surrogates."""
    if len(text) > MAX_CHARACTERS:
        text = " ".join(text.split())[:MAX_CHARACTERS]
    return text.encode("utf-8", "replace").decode("utf-8")


@functools.cache
def _simple(size: int | None):  # type: ignore[no-untyped-def]
    """open_clip's tokenizer, its merges cut so that `size` ids remain: the first merges alone are a valid BPE too."""
    from open_clip.tokenizer import SimpleTokenizer

    whole = SimpleTokenizer()
    if size is None or size == whole.vocab_size:
        return whole
    if not SMALLEST_CUT <= size < whole.vocab_size:
        raise ValueError(f"tokenizer simple:{size}: expected {SMALLEST_CUT} to {whole.vocab_size} ids")
    symbols = [whole.decoder[n] for n in range(size - 2)]
    marks = ["<start_of_text>", "<end_of_text>"]
    whole.encoder = {symbol: n for n, symbol in enumerate(symbols + marks)}
    whole.decoder = {n: symbol for symbol, n in whole.encoder.items()}
    whole.bpe_ranks = {pair: n for pair, n in whole.bpe_ranks.items() if n < size - SMALLEST_CUT}
    whole.vocab_size = size
    whole.sot_token_id, whole.eot_token_id = size - 2, size - 1
    whole.all_special_ids = [size - 2, size - 1]
    return whole


def _words(spec: str, words: list[str], context_length: int) -> Tokenizer:
    ids = {word: n + 2 for n, word in enumerate(words)}
    if len(ids) != len(words):
        raise ValueError("tokenizer words: a word stands twice in the vocabulary")
    end = len(words) + 2

    def encode(text: str) -> list[int]:
        found = re.findall(r"\w+", unicodedata.normalize("NFKC", _bounded(text)).casefold())
        return [*(ids.get(word, 1) for word in found[: context_length - 1]), end]

    return Tokenizer(spec, end + 1, context_length, encode)
