"""Prepare WordNet 3.0 (Debian's wordnet-base): what `wordnet_words` reads, and every lemma as a list of entries."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from curate.commit import commit_text
from curate.text.wordnet import FILES, WordNet
from pipelines.materials.packages import prepare_source

_VERSION = 1


@dataclass(frozen=True)
class PreparedWordNet:
    """Count of WordNet's words and collocations, `lemmas.txt` a line each."""

    lemmas: int


def prepare(folder: Path, cache: Path | None = None) -> PreparedWordNet:
    """Fetch Debian's wordnet-base and lay down WordNet's index files and `lemmas.txt` in `folder`/source; done once.

    Raises PackageUnavailableError where the package cannot be had, and HeldError while another command is at work.
    """
    return PreparedWordNet(**prepare_source(folder, ("wordnet-base",), _VERSION, _lay_down, cache))


def _lay_down(places: Mapping[str, Path], target: Path) -> dict[str, int]:
    target.mkdir(parents=True)
    for name in FILES:
        shutil.copy(places["wordnet-base"] / "usr/share/wordnet" / name, target / name)
    lemmas = WordNet(target).lemmas()
    commit_text(target / "lemmas.txt", "".join(f"{lemma}\n" for lemma in lemmas))
    return {"lemmas": len(lemmas)}
