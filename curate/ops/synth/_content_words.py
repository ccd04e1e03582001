"""Content words of a text: what it speaks of, without what serves grammar."""

from __future__ import annotations

from curate.text.function_words import FUNCTION_WORDS
from curate.text.words import plain_words


def content_words(text: str) -> set[str]:
    """The words of a text in lower case, without English function words and a plural's s."""
    words = set(plain_words(text).tokens) - FUNCTION_WORDS["en"]
    return {word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words}
