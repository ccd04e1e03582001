"""The peers of bench/near_texts.py, in an environment of their own, which has nothing of this project.

python bench/near_texts_peers.py CONTENDER HOME
"""

from __future__ import annotations

import collections
import json
import re
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

BANDS, ROWS = 24, 4
THRESHOLDS = {2: 0.62, 5: 0.75}
PIECE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0e7f]|[^\W\u3040-\u30ff\u3400-\u9fff]+|\s+|.")
"""A word, a character of a script without spaces, white space, or a sign."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")

Found = list[list[int | None]]


def main() -> None:
    """Print the answer of one contender, [pairs, seconds of processor time], or the pairs that are right."""
    who, home = sys.argv[1], Path(sys.argv[2])
    planted = json.loads((home / "texts.json").read_text())
    if who == "judge":
        answers = json.loads((home / "answers.json").read_text())
        print(json.dumps(judge(planted, [pair for found in answers.values() for pair in found])))
        return
    PEERS[who](planted["texts"][:200])
    begin = time.process_time()
    found = PEERS[who](planted["texts"])
    print(json.dumps([found, time.process_time() - begin]))


def judge(planted: dict[str, list[list[int]]], pairs: Sequence[Sequence[int]]) -> list[list[int]]:
    """The pairs of one family, or of which .8 of the words are the same."""
    from rapidfuzz.distance import Levenshtein

    texts, family = planted["texts"], {copy: original for copy, original, *_ in planted["copies"]}
    right = []
    for one, other in {(one, other) for one, other in pairs if other is not None}:
        kin = family.get(one, one) == family.get(other, other)
        if kin or Levenshtein.normalized_similarity(words(texts[one]), words(texts[other])) >= 0.8:
            right.append([one, other])
    return right


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def runs(text: str, length: int) -> list[str]:
    """Runs of words; of a shorter text, all of them."""
    found = words(text)
    if len(found) <= length:
        return [" ".join(found)] if found else []
    return list(map(" ".join, zip(*(found[at:] for at in range(length)), strict=False)))


def longest_first(texts: Sequence[str]) -> list[int]:
    return sorted(range(len(texts)), key=lambda number: (-len(texts[number]), number))


def datasketch(texts: Sequence[str], length: int) -> Found:
    """Its index, asked for each text in turn."""
    from datasketch import MinHash, MinHashLSH

    index, kept, found = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS)), {}, []
    for number in longest_first(texts):
        tokens = runs(texts[number], length)
        if not tokens:
            continue
        signature = MinHash(num_perm=BANDS * ROWS)
        signature.update_batch([token.encode() for token in tokens])
        near = [(signature.jaccard(kept[other]), -other) for other in index.query(signature)]
        likest, other = max(near, default=(0.0, 0))
        if likest >= THRESHOLDS[length]:
            found.append([number, -other])
        else:
            index.insert(number, signature)
            kept[number] = signature
    return found


def rensa_r(texts: Sequence[str], length: int) -> Found:
    """Its deduplicator, and of what it removed the likest of the duplicates that it names."""
    from rensa import RMinHash, RMinHashDeduplicator

    index = RMinHashDeduplicator(THRESHOLDS[length], BANDS * ROWS, use_lsh=True, num_bands=BANDS)
    return _removed(texts, length, index, lambda sets: RMinHash.from_token_sets(sets, BANDS * ROWS, 42))


def rensa_c(texts: Sequence[str], length: int) -> Found:
    """The same, by C-MinHash."""
    from rensa import CMinHash, CMinHashDeduplicator

    index = CMinHashDeduplicator(THRESHOLDS[length], num_perm=BANDS * ROWS)
    return _removed(texts, length, index, lambda sets: CMinHash.from_token_sets(sets, BANDS * ROWS, 42))


def _removed(texts: Sequence[str], length: int, index: Any, signed: Callable[[list[list[str]]], list[Any]]) -> Found:
    sets = {number: tokens for number in longest_first(texts) if (tokens := runs(texts[number], length))}
    signatures = dict(zip(sets, signed(list(sets.values())), strict=True))
    keep = index.add_pairs((str(number), signature) for number, signature in signatures.items())
    found: Found = []
    for number, kept in zip(sets, keep, strict=True):
        if not kept:
            mine = signatures[number]
            near = [(mine.jaccard(signatures[int(other)]), int(other)) for other in index.get_duplicates(mine)]
            found.append([number, max(near)[1] if near else None])
    return found


def rensa_rho(texts: Sequence[str], length: int) -> Found:
    """Its bulk filter: texts that share a key with another, named by none."""
    from rensa import RMinHash, RMinHashLSH

    matrix = RMinHash.digest_matrix_from_token_sets_rho([runs(text, length) for text in texts], BANDS * ROWS, 42)
    flags = RMinHashLSH(THRESHOLDS[length], BANDS * ROWS, BANDS).query_duplicate_flags_matrix_one_shot(matrix)
    return [[number, None] for number, flag in enumerate(flags) if flag]


def datatrove(texts: Sequence[str], length: int) -> Found:
    """Its three stages: whatever shares keys is one cluster, of which one text is kept."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import minhash

    config = minhash.MinhashConfig(n_grams=length, num_buckets=BANDS, hashes_per_bucket=ROWS)
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        signatures, buckets, clusters = (f"{folder}/{name}" for name in ("signatures", "buckets", "clusters"))
        minhash.MinhashDedupSignature(signatures, config).run(iter(documents), 0, 1)
        for bucket in range(BANDS):
            minhash.MinhashDedupBuckets(signatures, buckets, config=config).run(None, bucket, BANDS)
        minhash.MinhashDedupCluster(buckets, clusters, config, save_cluster_id=True).run(None, 0, 1)
        removed = {number for (number,) in _numbers(Path(clusters, "000000.remove"), "<I")}
        members = collections.defaultdict(list)
        for number, cluster in _numbers(Path(clusters, "000000.clusters"), "<II"):
            members[cluster].append(number)
    kept = {number: next(n for n in each if n not in removed) for each in members.values() for number in each}
    return [[number, kept[number]] for number in sorted(removed)]


def _numbers(path: Path, form: str) -> Iterator[tuple[int, ...]]:
    return struct.iter_unpack(form, path.read_bytes())


_CONTENDERS = {
    "rensa-r": rensa_r,
    "rensa-c": rensa_c,
    "rensa-rho": rensa_rho,
    "datasketch": datasketch,
    "datatrove": datatrove,
}
PEERS: dict[str, Callable[[Sequence[str]], Found]] = {
    f"{name}/{length}": lambda texts, search=search, length=length: search(texts, length)  # type: ignore[misc]
    for name, search in _CONTENDERS.items()
    for length in THRESHOLDS
}

if __name__ == "__main__":
    main()
