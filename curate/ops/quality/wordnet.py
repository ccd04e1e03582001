"""Captions by the listed things that they name, in words of WordNet; and counts as published filters take them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from curate.models.files import file_digest
from curate.ops.spec import Columns, Knobs, op
from curate.settings import seen_from_here
from curate.text.wordnet import FILES, Synset, WordNet, synset_id

IMAGENET_21K = "imagenet-21k"
"""The 21,843 synsets of ImageNet-21k, as timm (which comes with open_clip) lists them: nouns of WordNet 3.0."""

_TOKEN = re.compile(r"[^ \n\r\t\v\f\0]+|\n")


@op(
    reads="text",
    writes={"listed_words": pa.int32(), "listed_word": pa.string()},
    version=1,
    batch_size=1024,
    needs=("open_clip",),
)
class wordnet_words:  # noqa: N801 - ops are named as recipes name them
    """Count the words of each text whose first WordNet sense is on a list of synsets, and name the first of them.

    DataComp's text-based filter keeps English captions with one such word (Gadre et al. 2023, section 3.4). Words stand
    between spaces, so "dog," is none, as published. `wordnet`: a folder with WordNet 3.0's index files (`curate prepare
    wordnet` makes one). `synsets`: `imagenet-21k`, or a file with one a line, as n01440764. `strict`: `datacomp`
    compares places in the data files and not parts of speech, as its code does: words whose first sense is a verb,
    adjective or adverb that happens to stand where a noun of the list does, pass too.
    """

    def __init__(self, *, wordnet: str, synsets: str = IMAGENET_21K, strict: Literal["datacomp"] | None = None) -> None:
        self._wordnet = WordNet(Path(wordnet))
        self._listed = frozenset(read_synsets(synsets))
        self._offsets = frozenset(synset.offset for synset in self._listed) if strict else frozenset()

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digests of the files that are read: WordNet's, and the list's."""
        folder = Path(knobs["wordnet"])
        if not folder.is_dir():
            where = seen_from_here(folder)
            raise ValueError(f"wordnet: no folder {folder}{where}; `curate prepare wordnet` makes work/wordnet/source")
        read_synsets(knobs["synsets"])
        return " ".join(map(file_digest, (*(folder / name for name in FILES), _synsets_file(knobs["synsets"]))))

    def __call__(self, texts: Sequence[str]) -> Columns:
        """A count and a word a text."""
        found = [[word for word in text.split() if self._is_listed(word)] for text in texts]
        return {"listed_words": list(map(len, found)), "listed_word": [words[0] if words else None for words in found]}

    def _is_listed(self, word: str) -> bool:
        first = self._wordnet.first_synset(word)
        return first is not None and (first in self._listed or first.offset in self._offsets)


def read_synsets(synsets: str) -> list[Synset]:
    """The synsets of a list. Raises ValueError for a file that is not there or holds anything else."""
    path = _synsets_file(synsets)
    if not path.is_file():
        raise ValueError(f"synsets: no file {path}{seen_from_here(path)}")
    try:
        return [synset_id(line.strip()) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as err:
        raise ValueError(f"synsets: {path}: {err}") from None


def _synsets_file(synsets: str) -> Path:
    if synsets != IMAGENET_21K:
        return Path(synsets)
    found = importlib.util.find_spec("timm")  # not imported: of torchvision and torch only a text file is wanted
    assert found is not None and found.origin is not None, "open_clip brings timm"
    return Path(found.origin).parent / "data" / "_info" / "imagenet21k_goog_synsets.txt"


@op(
    reads="text",
    writes={"split_words": pa.int32(), "text_length": pa.int32(), "fasttext_tokens": pa.int32()},
    version=1,
    batch_size=1024,
)
def caption_counts(texts: Sequence[str]) -> Columns:
    """Count words between spaces, characters, and fastText's tokens of each text, as DataComp's filters count them.

    Gadre et al. 2023: `basic` wants more than 2 words and 5 characters, the image-based filter more than 1 token and 5
    characters. Code points as they stand, nothing folded; fastText parts at ASCII spaces and NUL, and counts a line's
    end as a token.
    """
    return {
        "split_words": [len(text.split()) for text in texts],
        "text_length": [len(text) for text in texts],
        "fasttext_tokens": [len(_TOKEN.findall(text)) for text in texts],
    }
