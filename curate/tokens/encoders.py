"""Encoders: how whole texts are spelled in tokens, by the name that a mixture or a language model gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from curate.extras import require
from curate.tokens.byte_pairs import byte_pairs, encodable
from curate.tokens.hf import PREFIX, HfTokenizer

MAX_WORD = 64
"""Characters of a word that are spelled at once: the cost of byte pairs is the square of a word's length."""

RULES = "5"
"""The version of this module's reading: it changes with what a text or a document is taken to say."""

SIMPLE_IDS = 49_406
"""CLIP's byte pairs, its marks of begin and end left out."""

Encode = Callable[[str], list[int]]
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class TextCode:
    """The spelling of a language model: `begin`, `end` and `tags` are none of a text's ids, nor may they be decoded.

    `tags`: ids that stand for a name, `<image>` or a mark of a chat, which no text can set.
    """

    name: str
    encode: Encode
    decode: Decode
    begin: int
    end: int
    vocab_size: int
    tags: Mapping[str, int] = field(default_factory=dict, hash=False)


def text_code(name: str, tags: Sequence[str] = ()) -> TextCode:
    """`bytes` (UTF-8, 258 ids), `simple` (CLIP's byte pairs, 49,408 ids) or `hf:MODEL` (that of a language model).

    With an id more for each of `tags`, as far as the model has none. Raises ValueError for one without a tokenizer.
    """
    if name.startswith(PREFIX):
        return _of_model(name, tags)
    encode, ids = encoder(name), {"bytes": 256, "simple": SIMPLE_IDS}[name]
    assert encode is not None
    numbered = {tag: ids + 2 + number for number, tag in enumerate(tags)}
    decode = {"bytes": _of_bytes, "simple": _of_simple}[name]
    return TextCode(name, encode, decode, ids, ids + 1, ids + 2 + len(tags), numbered)


def _of_model(name: str, tags: Sequence[str]) -> TextCode:
    own = HfTokenizer(name.removeprefix(PREFIX))
    has, ids = own.special(), own.vocab_size()
    new = {tag: ids + number for number, tag in enumerate(tag for tag in tags if tag not in has)}
    return TextCode(name, own.encode, own.decode, *own.marks(), ids + len(new), {**has, **new})


def counting(tokenizer: str) -> str:
    """Names how texts are counted by a tokenizer that `encoder` knows: where two names differ, counts may."""
    if tokenizer.startswith(PREFIX):
        return f"{HfTokenizer(tokenizer.removeprefix(PREFIX)).counting()} {RULES}"
    libraries = ("open_clip_torch", "ftfy") if tokenizer == "simple" else ()
    if libraries:
        require("tokenizer simple", "open_clip")
    return " ".join((tokenizer, RULES, *(f"{name} {version(name)}" for name in libraries)))


def encoder(tokenizer: str) -> Encode | None:
    """Make the encoder of texts by a tokenizer, marks of begin and end left out; None for one that is not known.

    `bytes` (UTF-8), `simple` (CLIP's byte pairs, in lower case) or `hf:MODEL` (that of a language model).
    """
    if tokenizer.startswith(PREFIX):
        return HfTokenizer(tokenizer.removeprefix(PREFIX)).encode
    return {"bytes": _bytes, "simple": _simple}.get(tokenizer)


def _bytes(text: str) -> list[int]:
    return list(text.encode("utf-8", "replace"))


def _of_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", "replace")


def _of_simple(ids: Sequence[int]) -> str:
    return str(byte_pairs().decode(list(ids)))


def _simple(text: str) -> list[int]:
    ids = byte_pairs().encode(_LONG.sub(r"\1 ", encodable(text)))
    return [n for n in ids if n < SIMPLE_IDS]  # a text may spell out the marks; it cannot set them


_LONG = re.compile(rf"(\S{{{MAX_WORD}}})(?=\S)")
