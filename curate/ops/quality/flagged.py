"""Count words of a user's own lists, a list a language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from curate.models.files import file_digest
from curate.ops.spec import Columns, Knobs, op
from curate.text.words import plain_words

ANY = "any"
_Entries = dict[str, list[tuple[str, ...]]]


@op(
    reads=("text", "language"),
    writes={"flagged_words": pa.int32(), "flagged_word_share": pa.float32(), "flagged_word": pa.string()},
    version=1,
    batch_size=256,
)
class flagged_words:  # noqa: N801 - ops are named as recipes name them
    """Entries of `lists` that stand in a text: how many, the share of its words that are theirs, and the first.

    `lists`: a file a language (`en: words/en.txt`; `any` is for all texts), one entry a line: a word or several, found
    whole and in any case, signs aside; in scripts without spaces by the character or cluster. Reads the `language` of
    an earlier step; null where no list is for it. OBELICS (Laurençon et al. 2023) keeps a share of at most .01; it
    counts one word an entry, by `obelics_text`. Raises ValueError for a list that cannot be read or has no entry.
    """

    def __init__(self, *, lists: dict[str, str]) -> None:
        if not lists:
            raise ValueError("flagged_words: lists is empty; name a file a language, as in `lists: {en: words.txt}`")
        self._lists = {language: _entries(path) for language, path in lists.items()}

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digests of the lists' files."""
        return " ".join(f"{language} {file_digest(Path(path))}" for language, path in sorted(knobs["lists"].items()))

    def __call__(self, texts: Sequence[str], languages: Sequence[str | None]) -> Columns:
        """One count, share and entry a text."""
        rows = [self._found(text, language) for text, language in zip(texts, languages, strict=True)]
        return {
            name: [row[place] for row in rows]
            for place, name in enumerate(("flagged_words", "flagged_word_share", "flagged_word"))
        }

    def _found(self, text: str, language: str | None) -> tuple[int | None, float | None, str | None]:
        lists = [self._lists[name] for name in (language, ANY) if name in self._lists]
        if not lists:
            return None, None, None
        tokens = plain_words(text).tokens
        found: list[tuple[str, ...]] = []
        at = 0
        while at < len(tokens):
            here = [entry for each in lists for entry in each.get(tokens[at], ()) if _stands(entry, tokens, at)]
            found += [max(here, key=len)] if here else []
            at += len(found[-1]) if here else 1
        share = sum(map(len, found)) / len(tokens) if tokens else 0.0
        return len(found), share, " ".join(found[0]) if found else None


def _stands(entry: tuple[str, ...], tokens: Sequence[str], at: int) -> bool:
    return tuple(tokens[at : at + len(entry)]) == entry


def _entries(path: str) -> _Entries:
    """The entries of a file by their first word. Raises ValueError."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise ValueError(f"flagged_words: list {path}: {err}; give a text file with one entry a line") from None
    entries: _Entries = {}
    for line in lines:
        if tokens := tuple(plain_words(line).tokens):
            entries.setdefault(tokens[0], []).append(tokens)
    if not entries:
        raise ValueError(f"flagged_words: list {path} has no entry; give a text file with one entry a line")
    return entries
