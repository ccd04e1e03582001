"""Encoders: how a text is spelled in tokens, by the name that a mixture gives."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

MAX_WORD = 64
"""Characters of a word that are spelled at once: the cost of byte pairs is the square of a word's length."""

MAX_REMEMBERED = 100_000
"""Words whose byte pairs are remembered; open_clip by itself remembers every word it ever saw."""

RULES = "3"
"""The version of this module's reading: it changes with what a text or a document is taken to say."""

SIMPLE_IDS = 49_406
"""CLIP's byte pairs, its marks of begin and end left out."""

Encode = Callable[[str], list[int]]


def counting(tokenizer: str) -> str:
    """Names how texts are counted by a tokenizer that `encoder` knows: where two names differ, counts may."""
    libraries = ("open_clip_torch", "ftfy") if tokenizer == "simple" else ()
    return " ".join((tokenizer, RULES, *(f"{name} {version(name)}" for name in libraries)))


def encoder(tokenizer: str) -> Encode | None:
    """Make the encoder of texts by a tokenizer, marks of begin and end left out; None for one that is not known.

    `bytes` (UTF-8) or `simple` (CLIP's byte pairs, in lower case).
    """
    return {"bytes": _bytes, "simple": _simple}.get(tokenizer)


def _bytes(text: str) -> list[int]:
    return list(text.encode("utf-8", "replace"))


def _simple(text: str) -> list[int]:
    pairs = _pairs()
    if len(pairs.cache) > MAX_REMEMBERED:
        pairs.cache = {mark: mark for mark in ("<start_of_text>", "<end_of_text>")}
    bounded = _LONG.sub(r"\1 ", text.encode("utf-8", "replace").decode("utf-8"))
    return [n for n in pairs.encode(bounded) if n < SIMPLE_IDS]  # a text may spell out the marks; it cannot set them


_LONG = re.compile(rf"(\S{{{MAX_WORD}}})(?=\S)")


@functools.cache
def _pairs() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()
