"""Measure text near-deduplication on real texts with planted copies, beside datasketch, rensa and datatrove.

    python bench/near_texts.py --home /tmp/bench-near-texts [--runs 3] [--share 0.3]

Texts: the sections of Debian's reference in five languages, pages of Gimp's manual and sayings in four languages, some
of them in scripts without spaces. Three in ten get a copy in which 1, 2, 5 or 10 % of the words (of texts that have so
many) are replaced by others of the same collection, left out, put in, or all three. Natural copies stay.

All contenders get the same runs of two words (and of five, at .75, as `peer/5`), the same 24 keys of 4 MinHashes, and
compare a pair that has a key in common: rensa's R-MinHash and datasketch by 96 MinHashes; rensa's C-MinHash has no
bands; its rho sketch and datatrove do not compare. Scripts without spaces are split for all but datatrove, which has
its own tokenizer; each in a process of its own, with one thread, in an environment that this script makes in --home.

Recall: of the planted copies, those that were removed, or whose original was; by the share of words edited. Precision:
of the removed, those whose named text is of the same family, or has .8 or more of its words in common by edit distance
(rapidfuzz); rho names none, so there it is those that are in such a pair of anybody's. Seconds of processor time from
texts to answers, medians of --runs in turns.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from near_texts_peers import PEERS, PIECE, Found
from peers import isolated

PACKAGES = ("rensa==0.5.0", "datasketch==2.0.0", "datatrove[processing]==0.10.1", "rapidfuzz==3.14.6", "spacy", "regex")
SHARES = (0.01, 0.02, 0.05, 0.10)
WAYS = ("replaced", "left out", "put in")
SAYINGS = 4000
THRESHOLDS = {2: 0.62, 5: 0.75}


def main() -> None:
    """Search in turns and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-bench-near-texts")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.3, help="Of the texts, so many get a copy.")
    parser.add_argument("--who", nargs="+", default=["curate", *PEERS], choices=["curate", *PEERS])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    if given.worker:
        texts = json.loads((given.home / "texts.json").read_text())["texts"]
        with_curate(texts[:200], given.home)
        print(json.dumps(with_curate(texts, given.home)))
        return
    planted = plant(list(documents()), given.share)
    (given.home / "texts.json").write_text(json.dumps(planted))
    runs: dict[str, list[float]] = collections.defaultdict(list)
    answers: dict[str, Found] = {}
    for _ in range(given.runs):
        for who in given.who:
            answers[who], seconds = search(who, given.home)
            runs[who].append(seconds)
    (given.home / "answers.json").write_text(json.dumps(answers))
    right = {tuple(pair) for pair in json.loads(peer("judge", given.home))}
    for who, found in answers.items():
        report(who, found, planted, right)
    for who, seconds_each in runs.items():
        say(who, "processor_s", statistics.median(seconds_each), "s", len(planted["texts"]))
    for who in sorted(set(runs) - {"curate"}):
        ratio = statistics.median(theirs / ours for theirs, ours in zip(runs[who], runs["curate"], strict=True))
        say(f"{who}/curate", "processor_s", ratio, "ratio", given.runs)


def documents() -> Iterator[tuple[str, str]]:
    """(collection, text) from the package archive."""
    from curate.html import parse
    from pipelines.materials.packages import fetch
    from pipelines.materials.plain_texts import sayings, sections

    for language in ("en", "de", "fr", "ja", "zh-cn"):
        name = f"debian-reference-{language}"
        yield from ((name, row["text"]) for row in sections(name, fetch(name)))
    for path in sorted(fetch("gimp-help-en").rglob("*.html")):
        segments = parse(path.read_bytes()).segments
        yield "gimp-help", "\n".join(segment["text"] for segment in segments if segment.get("text"))
    for name in ("fortunes", "fortunes-de", "fortunes-ru", "fortunes-zh"):
        found = [(name, row["text"]) for row in sayings(name, fetch(name)) if row]
        yield from random.Random(1).sample(found, SAYINGS)


def plant(found: Sequence[tuple[str, str]], share: float) -> dict[str, Any]:
    """`texts` with copies behind them; `copies`: each one's number, its original's, the share and way of its edits."""
    chance, texts, copies = random.Random(0), [text for _, text in found], []
    words = collections.defaultdict(list)
    for collection, text in found:
        words[collection] += [piece for piece in PIECE.findall(text) if piece[0].isalnum()][:50]
    for number, (collection, text) in enumerate(found):
        if chance.random() < share:
            edits, way = chance.choice(SHARES), chance.choice((*WAYS, "mixed"))
            changed = edited(text, edits, way, words[collection], chance)
            if changed is not None:
                copies.append([len(texts), number, edits, way])
                texts.append(changed)
    return {"texts": texts, "copies": copies}


def edited(text: str, share: float, way: str, words: Sequence[str], chance: random.Random) -> str | None:
    """The text with a share of its words edited; None where that is no whole word."""
    pieces = PIECE.findall(text)
    places = [place for place, piece in enumerate(pieces) if piece[0].isalnum()]
    edits = int(share * len(places))
    for place in chance.sample(places, edits):
        how = chance.choice(WAYS) if way == "mixed" else way
        other = chance.choice(words)
        pieces[place] = {"replaced": other, "left out": "", "put in": f"{pieces[place]} {other}"}[how]
    return "".join(pieces) if edits else None


def search(who: str, home: Path) -> tuple[Found, float]:
    """[removed, kept] texts, and seconds of processor time."""
    if who == "curate":
        words = [sys.executable, __file__, "--worker", who, "--home", str(home)]
        answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    else:
        answer = peer(who, home)
    found, seconds = json.loads(answer)
    return found, seconds


def peer(who: str, home: Path) -> str:
    """Run a contender in the peers' environment; its output."""
    script = Path(__file__).with_name("near_texts_peers.py")
    threads = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    words = [str(isolated(home, PACKAGES)), str(script), who, str(home)]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads).stdout


def with_curate(texts: Sequence[str], home: Path) -> tuple[Found, float]:
    """The row op in batches, its columns in shards of 5,000, then the group op."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from curate.ops.dedup.near_texts import SIGNATURE, near_duplicate_texts, text_signature

    with tempfile.TemporaryDirectory(dir=home) as folder:
        begin = time.process_time()
        inputs, outputs = [], []
        for number, start in enumerate(range(0, len(texts), 5000)):
            batch = texts[start : start + 5000]
            parts = [text_signature(batch[at : at + 256]) for at in range(0, len(batch), 256)]
            columns = {
                name: pa.array([value for part in parts for value in part[name]], kind)
                for name, kind in SIGNATURE.items()
            }
            inputs.append(Path(folder, f"{number}.parquet"))
            outputs.append(Path(folder, f"{number}.out.parquet"))
            pq.write_table(pa.table({"uid": [f"{start + n:032d}" for n in range(len(batch))], **columns}), inputs[-1])
        near_duplicate_texts(inputs, outputs, Path(folder, "scratch"))
        rows = [row for path in outputs for row in pq.read_table(path).to_pylist()]
        seconds = time.process_time() - begin
    return [[int(row["uid"]), int(row["duplicate_of"])] for row in rows if row["duplicate_of"]], seconds


def report(who: str, found: Found, planted: dict[str, Any], right: set[tuple[int, ...]]) -> None:
    """Recall and precision of one contender."""
    removed = {text for text, _ in found}
    hits = collections.defaultdict(list)
    for copy, original, share, way in planted["copies"]:
        for key in (f"recall, {share:.0%} of words", f"recall, words {way}", "recall"):
            hits[key].append(copy in removed or original in removed)
    for key, each in sorted(hits.items()):
        say(who, key, statistics.mean(each), "share", len(each))
    known = {text for pair in right for text in pair}
    good = [(text, kept) in right if kept is not None else text in known for text, kept in found]
    say(who, "precision", statistics.mean(good), "share", len(good))


def say(who: str, metric: str, value: float, unit: str, count: int) -> None:
    """One JSON line."""
    line = {"bench": "near_texts", "who": who, "metric": metric, "value": round(value, 4), "unit": unit, "n": count}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
