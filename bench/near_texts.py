"""Measure text near-deduplication on real texts with planted copies, beside datasketch.

    python bench/near_texts.py --home /tmp/bench-near-texts

Texts: English sayings (14,397) and sections of Debian's reference. One in five gets a copy: words replaced (1 to 10 %
of them), cut to nine tenths, a notice put before it, or set in capitals with other spaces. Natural copies stay.

- curate: text_signature and near_duplicate_texts, as the engine calls them.
- datasketch: MinHash with 125 permutations over the same runs of five words, MinHashLSH with the same threshold and
  its own choice of bands, each text asked for among those before it, the longest first; in an environment of its own
  that this script makes below --home.

Recall: of the planted copies whose Jaccard similarity with their original is .8 or more (exact, of the sets of runs),
those that were removed, or whose original was. Precision: of the removed, those with .7 or more to the kept text that
they are said to repeat. Rates from texts to answers, one thread where it can be said, medians of --runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from peers import isolated

PEER = ("datasketch==2.0.0",)
TARGET = 2.0
THRESHOLD = 0.75
SHINGLE_WORDS = 5
COPIES = 0.2
NOTICE = "This text was found on the web and is shown here as it stood there ."

Removed = dict[int, int]


def main() -> None:
    """Search in turns and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-bench-near-texts")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--texts", type=int, default=20_000, help="At most so many before copies are planted.")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    table = given.home / "texts.json"
    if given.worker:
        found, seconds = with_datasketch(json.loads(table.read_text()))
        print(json.dumps([list(found.items()), seconds]))
        return
    texts, origins = planted(list(documents())[: given.texts])
    table.write_text(json.dumps(texts))
    contenders: dict[str, Callable[[], tuple[Removed, float]]] = {
        "curate": lambda: with_curate(texts, given.home),
        "datasketch": lambda: in_its_own_environment(given.home),
    }
    times: dict[str, list[float]] = {who: [] for who in contenders}
    answers: dict[str, Removed] = {}
    for _ in range(given.runs):
        for who, search in contenders.items():
            answers[who], seconds = search()
            times[who].append(seconds)
    for who, found in answers.items():
        report(who, found, texts, origins, given.runs)
    rates = {who: len(texts) / statistics.median(each) for who, each in times.items()}
    for who, rate in rates.items():
        say(who, "texts_per_s", rate, "1/s", given.runs)
    say("curate/datasketch", "texts_per_s", rates["curate"] / rates["datasketch"], "ratio", given.runs)


def documents() -> Iterator[str]:
    """The texts, from the package archive."""
    from pipelines.materials.packages import fetch
    from pipelines.materials.plain_texts import sayings, sections

    name = "debian-reference-en"
    yield from (row["text"] for row in sections(name, fetch(name)))
    yield from (row["text"] for row in sayings("fortunes", fetch("fortunes")) if row)


def planted(texts: list[str]) -> tuple[list[str], dict[int, int]]:
    """The texts with copies behind them, and each copy's original."""
    chance = random.Random(0)
    found, origins = list(texts), dict[int, int]()
    for number, text in enumerate(texts):
        if chance.random() < COPIES:
            origins[len(found)] = number
            found.append(changed(text, chance))
    return found, origins


def changed(text: str, chance: random.Random) -> str:
    """A copy."""
    words = text.split(" ")
    way = chance.randrange(4)
    if way == 0:
        for place in chance.sample(range(len(words)), max(1, int(len(words) * chance.uniform(0.01, 0.1)))):
            words[place] = f"word{chance.randrange(1000)}"
    elif way == 1:
        words = words[: max(1, len(words) * 9 // 10)]
    elif way == 2:
        words = [*NOTICE.split(), *words]
    else:
        return "  ".join(words).upper()
    return " ".join(words)


def with_curate(texts: list[str], home: Path) -> tuple[Removed, float]:
    """The row op in batches, its columns in shards of 5,000, then the group op."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from curate.ops.dedup.near_texts import near_duplicate_texts, text_signature

    with tempfile.TemporaryDirectory(dir=home) as folder:
        begin = time.perf_counter()
        inputs, outputs = [], []
        for number, start in enumerate(range(0, len(texts), 5000)):
            batch = texts[start : start + 5000]
            parts = [text_signature(batch[at : at + 64]) for at in range(0, len(batch), 64)]
            columns = {name: [value for part in parts for value in part[name]] for name in parts[0]}
            table = pa.table(
                {
                    "uid": [f"{start + n:032d}" for n in range(len(batch))],
                    "minhash": pa.array(columns["minhash"], pa.binary()),
                    "text_characters": pa.array(columns["text_characters"], pa.int64()),
                }
            )
            inputs.append(Path(folder, f"{number}.parquet"))
            outputs.append(Path(folder, f"{number}.out.parquet"))
            pq.write_table(table, inputs[-1])
        near_duplicate_texts(inputs, outputs, Path(folder, "scratch"), min_similarity=THRESHOLD)
        rows = [row for path in outputs for row in pq.read_table(path).to_pylist()]
        seconds = time.perf_counter() - begin
    return {int(row["uid"]): int(row["duplicate_of"]) for row in rows if row["duplicate_of"]}, seconds


def in_its_own_environment(home: Path) -> tuple[Removed, float]:
    """The peer's answer, from a process of its own."""
    words = [isolated(home, PEER), __file__, "--worker", "datasketch", "--home", home]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    found, seconds = json.loads(done.stdout)
    return dict(found), seconds


def with_datasketch(texts: list[str]) -> tuple[Removed, float]:
    """Its index, asked for each text in turn."""
    from datasketch import MinHash, MinHashLSH

    begin = time.perf_counter()
    index, kept = MinHashLSH(threshold=THRESHOLD, num_perm=125), {}
    found: Removed = {}
    for number in sorted(range(len(texts)), key=lambda n: (-len(texts[n]), n)):
        runs = shingles(texts[number])
        if not runs:
            continue
        signature = MinHash(num_perm=125)
        signature.update_batch([" ".join(run).encode() for run in runs])
        near = [(signature.jaccard(kept[other]), -other) for other in index.query(signature)]
        likest, other = max(near, default=(0.0, 0))
        if likest >= THRESHOLD:
            found[number] = -other
        else:
            index.insert(number, signature)
            kept[number] = signature
    return found, time.perf_counter() - begin


def shingles(text: str) -> set[tuple[str, ...]]:
    """Runs of words in lower case, signs left out; of a shorter text, all of them."""
    words = ["".join(filter(str.isalnum, word)) for word in text.lower().split()]
    words = [word for word in words if word]
    length = min(SHINGLE_WORDS, len(words))
    return {tuple(words[at : at + length]) for at in range(len(words) - length + 1)} if words else set()


def report(who: str, removed: Removed, texts: list[str], origins: dict[int, int], runs: int) -> None:
    """Recall and precision of one contender."""
    wanted = [copy for copy, origin in origins.items() if similarity(texts, copy, origin) >= 0.8]
    found = sum(copy in removed or origins[copy] in removed for copy in wanted)
    right = sum(similarity(texts, copy, kept) >= 0.7 for copy, kept in removed.items())
    say(who, "recall", found / len(wanted), "share", len(wanted))
    say(who, "precision", right / len(removed), "share", len(removed))


def similarity(texts: list[str], first: int, second: int) -> float:
    """Jaccard similarity of two texts, exact."""
    a, b = shingles(texts[first]), shingles(texts[second])
    return len(a & b) / len(a | b) if a | b else 0.0


def say(who: str, metric: str, value: float, unit: str, runs: int) -> None:
    """One JSON line."""
    line = {"bench": "near_texts", "who": who, "metric": metric, "value": round(value, 4), "unit": unit, "n": runs}
    print(json.dumps(line | ({"target": TARGET} if unit == "ratio" else {})), flush=True)


if __name__ == "__main__":
    main()
