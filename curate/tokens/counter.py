"""Tokenizers by name: how many tokens a text has, marks of begin and end left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from curate.commit import file_sha256
from curate.extras import require
from curate.tokens.encoders import RULES, counting, encoder

Count = Callable[[str], int]


def token_counter(tokenizer: str) -> tuple[Count, str]:
    """Make a counter of a text's tokens, and the name of that counting: where two names differ, counts may.

    `tokenizer`: simple (CLIP's), words, bytes, hf:MODEL (a language model's), or the path of a tokenizer.json. Raises
    ValueError for one not known.
    """
    if tokenizer == "words":
        return lambda text: len(text.split()), counting(tokenizer)
    if (encode := encoder(tokenizer)) is not None:
        return lambda text: len(encode(text)), counting(tokenizer)
    if Path(tokenizer).suffix == ".json":
        return _described(Path(tokenizer)), f"{tokenizer} {RULES} {file_sha256(Path(tokenizer))[:16]}"
    raise ValueError(
        f"unknown tokenizer {tokenizer!r} (allowed: simple, words, bytes, hf:MODEL, or the path of a tokenizer.json of"
        " the Hugging Face `tokenizers` library)"
    )


def _described(path: Path) -> Count:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the tokenizer.json that comes with a model")
    require(f"{path}:", "tokenizers")
    from tokenizers import Tokenizer

    described = Tokenizer.from_file(str(path))
    return lambda text: len(described.encode(text, add_special_tokens=False).ids)
