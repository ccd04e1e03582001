"""MetaCLIP's balance: texts matched with a list of entries, and rows of common entries thinned out.

Xu et al., "Demystifying CLIP Data", 2023, and "MetaCLIP 2", 2025. The published lists and code are not for commerce:
the list is the user's own, a text file with an entry a line, the lemmas of WordNet for example.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.models.files import file_digest
from curate.ops._keys import uid_keys, uniform
from curate.ops.spec import Columns, Count, Knobs, Natural, Share, TextColumn, group_op, op
from curate.text.unspaced import UNSPACED

BALANCE = {"keep_probability": pa.float64(), "balanced": pa.bool_()}

_TOKEN = re.compile(r"[\w'’-]+|[^\s\w]")
_UNSPACED_END = re.compile(f"[{UNSPACED}]")

Counts = dict[str, npt.NDArray[np.int64]]
"""By language, how many rows have each entry."""


@op(reads="text", writes={"entries": pa.list_(pa.int32())}, version=1, batch_size=1024, needs=("ahocorasick_rs",))
class entries:  # noqa: N801 - ops are named as recipes name them
    """Numbers of the entries of a list that stand in each text, rising: lines of the file `entries`, from 0.

    An entry is found where its words stand, one after the other; of scripts without spaces (Han, kana, Thai, Lao,
    Khmer, Burmese, Tibetan and others) wherever its characters do. Signs are words by themselves, small and capital
    letters are one. Of lines that say the same the first counts. By the automaton of Aho and Corasick 1975: the cost
    does not grow with the list.
    """

    def __init__(self, *, entries: str) -> None:
        from ahocorasick_rs import AhoCorasick, Implementation, MatchKind

        self._numbers: dict[str, int] = {}
        for number, line in enumerate(_lines(entries)):
            pattern = _pattern(line)
            if pattern:
                self._numbers.setdefault(pattern, number)
        if not self._numbers:
            raise ValueError(f"entries: {entries} holds no entry; write one a line")
        self._found = list(self._numbers.values())
        kind = Implementation.ContiguousNFA  # a DFA of 150,000 entries takes gigabytes
        self._automaton = AhoCorasick(list(self._numbers), matchkind=MatchKind.Standard, implementation=kind)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the list."""
        return file_digest(Path(knobs["entries"]))

    def __call__(self, texts: Sequence[str]) -> Columns:
        """A list a text."""
        return {"entries": [self._match(text) for text in texts]}

    def _match(self, text: str) -> list[int]:
        found = self._automaton.find_matches_as_indexes(_spaced(text), overlapping=True)
        return sorted({self._found[pattern] for pattern, _, _ in found})


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as err:
        raise ValueError(f"entries: {path} is no text in UTF-8: {err}") from err


def _spaced(text: str) -> str:
    """The text's words and signs, a space before and behind each."""
    return f" {' '.join(_TOKEN.findall(text.lower()))} "


def _pattern(entry: str) -> str:
    """The entry as it stands in a spaced text; without the space where its script has none. Empty of an empty line."""
    spaced = _spaced(entry)
    if not spaced.strip():
        return ""
    start = 1 if _UNSPACED_END.match(spaced[1]) else 0
    end = -1 if _UNSPACED_END.match(spaced[-2]) else None
    return spaced[start:end]


@group_op(reads=("entries",), writes=BALANCE, version=1)
def balance(  # noqa: PLR0913 - a knob a choice
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    tail_share: Share = 0.06,
    most: Count | None = None,
    language: TextColumn | None = None,
    reference: str = "en",
    seed: Natural = 0,
) -> None:
    """Probability of each row by its entries, 1 - prod(1 - t / count) where a count is above t; and whether it is kept.

    `tail_share`, of all matches those of entries with fewer than t, says t at any scale: about 6 % in MetaCLIP, whose
    t was 20,000 at 400 million pairs and 170,000 at the large scale. `most` says t itself. Where `language` names a
    column, entries are counted by language, and each has a t of its own by one tail share: the one said, or, with
    `most`, the one that it gives in the language `reference` (MetaCLIP 2). A row without an entry is never kept. Chance
    is keyed by (seed, uid). Memory: 8 bytes an entry and language, and a shard.
    """
    del scratch
    counts = _count(inputs)
    tops = _tops(counts, tail_share, most, reference if language else "")
    for source, target in zip(inputs, outputs, strict=True):
        table = pq.read_table(source)
        keep = _keep_probability(table, counts, tops)
        drawn = uniform(uid_keys(seed, table["uid"])) <= keep
        columns = {"keep_probability": pa.array(keep, pa.float64()), "balanced": pa.array(drawn, pa.bool_())}
        pq.write_table(pa.table({"uid": table["uid"], **columns}), target)


def _by_language(table: pa.Table) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """The rows of each language, whose texts have entries; all are of one where no column says it."""
    if "language" not in table.column_names:
        return [("", np.arange(len(table)))]
    said = np.array(["" if one is None else one for one in table["language"].to_pylist()], object)
    return [(one, np.flatnonzero(said == one)) for one in sorted(set(said.tolist()))]


def _count(inputs: Sequence[Path]) -> Counts:
    found: Counts = defaultdict(lambda: np.zeros(0, np.int64))
    for path in inputs:
        table = pq.read_table(path)
        for language, rows in _by_language(table):
            matched = table["entries"].take(pa.array(rows)).combine_chunks().flatten().to_numpy()
            here = np.bincount(matched, minlength=len(found[language])).astype(np.int64)
            here[: len(found[language])] += found[language]
            found[language] = here
    return found


def _tops(counts: Counts, share: float, most: int | None, reference: str) -> Mapping[str, int]:
    """The t of each language."""
    if most is None:
        return {language: top_of_share(found, share) for language, found in counts.items()}
    if reference and reference not in counts:
        said = ", ".join(sorted(counts)[:10])
        raise ValueError(f"balance: no row is of the language {reference!r} whose tail share `most` is to give: {said}")
    if not reference:
        return dict.fromkeys(counts, most)
    share = share_of_top(counts[reference], most)
    return {one: most if one == reference else top_of_share(found, share) for one, found in counts.items()}


def top_of_share(counts: npt.NDArray[np.int64], share: float) -> int:
    """The count t of an entry such that those up to it, the rarest first, have about this share of all matches."""
    rising = np.sort(counts[counts > 0])
    if not len(rising):
        return 1
    so_far = np.cumsum(rising)
    return int(rising[np.abs(so_far / so_far[-1] - share).argmin()])


def share_of_top(counts: npt.NDArray[np.int64], top: int) -> float:
    """The share of all matches that is of entries with fewer than `top`."""
    return float(counts[counts < top].sum() / max(int(counts.sum()), 1))


def _keep_probability(table: pa.Table, counts: Counts, tops: Mapping[str, int]) -> npt.NDArray[np.float64]:
    """(n,) one less the product, entry after entry, of what each leaves; 0 where there is none."""
    found = np.zeros(len(table), np.float64)
    for language, rows in _by_language(table):
        lists = table["entries"].take(pa.array(rows)).combine_chunks()
        lengths = lists.value_lengths().fill_null(0).to_numpy()
        some = np.flatnonzero(lengths)
        if len(some):
            top = tops[language]
            lost = 1 - top / np.maximum(counts[language][lists.flatten().to_numpy()], top)
            starts = np.cumsum(lengths)[some] - lengths[some]
            found[rows[some]] = 1 - np.multiply.reduceat(lost, starts)
    return found
