"""Bench Gopher's, FineWeb's and C4's filters beside datatrove's, and how often both decide alike.

    python bench/text_filters.py --home /tmp/bench-text-filters

Texts: the English sections of Debian's reference and English sayings, several to a document: some 880 of 3,700
characters in the mean. Each contender has a process of its own and one thread; they take turns, and the medians of
--runs count. Every document goes through all four filters, whatever the first ones think of it.

- curate: the ops gopher_quality, gopher_repetition, fineweb and c4_lines in batches of 64, as the engine calls them.
- datatrove: its four filters with their default thresholds, in an environment of its own that this script makes below
  --home. They stop at the first threshold that a document breaks; the ops always measure all.

Agreement: documents of which both say the same, keep or drop, by each filter; `words` is datatrove's own tokenizer
(spaCy), `same words` datatrove's filters given our words: what is left is how the measures are defined.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peers import isolated

PEER = ("datatrove==0.10.1", "spacy==3.8.18", "nltk==3.10.4", "regex")
TARGET = 2.0
SAYINGS_CHARACTERS = 2500
FILTERS = ("gopher_quality", "gopher_repetition", "fineweb", "c4_lines")


def main() -> None:
    """Filter in turns and print JSON lines, the ratios last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-bench-text-filters")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    texts = given.home / "texts.json"
    if given.worker:
        work(given.worker, json.loads(texts.read_text()), given.home)
        return
    texts.write_text(json.dumps(list(documents())))
    workers = {who: start(who, given.home) for who in ("curate", "datatrove")}
    seconds: dict[str, list[float]] = {who: [] for who in workers}
    for turn in range(given.runs + 1):
        for who, worker in workers.items():
            took = ask(worker)
            if turn:  # the first one warms up
                seconds[who].append(took)
    for worker in workers.values():
        worker.communicate()
    report(seconds, len(json.loads(texts.read_text())), given)


def documents() -> Iterator[str]:
    """The texts, from the package archive."""
    from pipelines.materials.packages import fetch
    from pipelines.materials.plain_texts import sayings, sections

    name = "debian-reference-en"
    yield from (row["text"] for row in sections(name, fetch(name)) if len(row["text"]) > 200)
    held: list[str] = []
    for row in sayings("fortunes", fetch("fortunes")):
        held.append(row["text"] if row else "")
        if sum(map(len, held)) > SAYINGS_CHARACTERS:
            yield "\n".join(held)
            held = []


def report(seconds: dict[str, list[float]], count: int, given: argparse.Namespace) -> None:
    """One line a contender, a filter's agreement, and the ratio."""
    rates = {who: count / statistics.median(each) for who, each in seconds.items()}
    for who, rate in rates.items():
        say(who, "documents_per_s", rate, "1/s", given.runs)
    decided = [json.loads((given.home / f"{who}.json").read_text()) for who in ("curate", "datatrove", "same")]
    ours, theirs, same = decided
    for name in FILTERS:
        for kind, other in (("words", theirs), ("same words", same)):
            alike = sum(a == b for a, b in zip(ours[name], other[name], strict=True)) / count
            say("curate/datatrove", f"{name} agreement, {kind}", alike, "share", count)
    say("curate/datatrove", "documents_per_s", rates["curate"] / rates["datatrove"], "ratio", given.runs)


def say(who: str, metric: str, value: float, unit: str, runs: int) -> None:
    """One JSON line."""
    line = {"bench": "text_filters", "who": who, "metric": metric, "value": round(value, 4), "unit": unit, "n": runs}
    print(json.dumps(line | ({"target": TARGET} if unit == "ratio" else {})), flush=True)


def start(who: str, home: Path) -> subprocess.Popen[str]:
    """A contender's process."""
    python = Path(sys.executable) if who == "curate" else isolated(home, PEER)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [str(python), __file__, "--worker", who, "--home", str(home)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(worker: subprocess.Popen[str]) -> float:
    """Let a contender filter the texts once; seconds."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("seconds "):
            return float(line.split()[1])
    raise SystemExit("a contender died")


def work(who: str, texts: list[str], home: Path) -> None:
    """A contender: filter all texts whenever a line comes in; what was decided is written down once, behind."""
    run: Callable[[list[str]], dict[str, list[bool]]] = with_curate if who == "curate" else with_datatrove()
    decided: dict[str, list[bool]] = {}
    for _ in sys.stdin:
        begin = time.perf_counter()
        decided = run(texts)
        print("seconds", time.perf_counter() - begin, flush=True)
    (home / f"{who}.json").write_text(json.dumps(decided))
    if who == "curate":
        from curate.text.words import words

        (home / "words.json").write_text(json.dumps([words(text).tokens for text in texts]))
    else:
        (home / "same.json").write_text(json.dumps(given_our_words(run, texts, home / "words.json")))


def with_curate(texts: list[str]) -> dict[str, list[bool]]:
    """All four ops, and datatrove's default thresholds on their columns."""
    from curate.ops.quality.gopher_c4_fineweb import c4_lines, fineweb, gopher_quality
    from curate.ops.quality.repetition import gopher_repetition

    decided: dict[str, list[bool]] = {name: [] for name in FILTERS}
    for at in range(0, len(texts), 64):
        batch = texts[at : at + 64]
        for op in (gopher_quality, gopher_repetition, fineweb, c4_lines):
            columns = op(batch)
            rows = ({name: columns[name][n] for name in columns} for n in range(len(batch)))
            decided[op.__name__] += [passes(op.__name__, row) for row in rows]
    return decided


def passes(name: str, row: dict[str, Any]) -> bool:
    """Whether a document keeps within the thresholds of datatrove's filter of this name."""
    if name == "c4_lines":
        return row["c4_sentences"] >= 5 and not row["c4_lorem_ipsum"] and not row["c4_curly_bracket"]
    most = {
        "gopher_quality": {
            "hash_ratio": 0.1, "ellipsis_ratio": 0.1, "bullet_lines": 0.9, "ellipsis_lines": 0.3,
            "mean_word_length": 10, "words": 100_000,
        },
        "gopher_repetition": {
            "repeated_paragraphs": 0.3, "repeated_lines": 0.3, "repeated_paragraph_characters": 0.2,
            "repeated_line_characters": 0.2, "top_2_gram": 0.2, "top_3_gram": 0.18, "top_4_gram": 0.16,
            **{f"repeated_{n}_grams": (20 - n) / 100 for n in range(5, 11)},
        },
        "fineweb": {"short_lines": 0.67, "repeated_line_characters": 0.01, "newlines_a_word": 0.3},
    }[name]  # fmt: skip
    least = {
        "gopher_quality": {"words": 50, "mean_word_length": 3, "alphabetic_words": 0.8, "stop_words": 2},
        "fineweb": {"lines_ended": 0.12},
    }.get(name, {})
    prefix = name.partition("_")[0]
    high = all(row[f"{prefix}_{column}"] <= limit for column, limit in most.items())
    return high and all(row[f"{prefix}_{column}"] >= limit for column, limit in least.items())


def with_datatrove() -> Callable[[list[str]], dict[str, list[bool]]]:
    """The peer's four filters."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    kinds = (GopherQualityFilter, GopherRepetitionFilter, FineWebQualityFilter, C4QualityFilter)
    filters = dict(zip(FILTERS, [kind() for kind in kinds], strict=True))

    def run(texts: list[str]) -> dict[str, list[bool]]:
        decided: dict[str, list[bool]] = {name: [] for name in FILTERS}
        for text in texts:
            document = Document(text=text, id="")
            for name, each in filters.items():
                decided[name].append(each.filter(document) is True)
        return decided

    return run


def given_our_words(
    run: Callable[[list[str]], dict[str, list[bool]]], texts: list[str], words: Path
) -> dict[str, list[bool]]:
    """Decisions of the peer where a word is what it is to us."""
    import datatrove.pipeline.filters as peers

    until = time.monotonic() + 60
    while not words.exists() and time.monotonic() < until:  # the other contender writes it when it ends
        time.sleep(0.2)
    time.sleep(1)
    ours = dict(zip(texts, json.loads(words.read_text()), strict=True))
    for module in ("gopher_quality_filter", "gopher_repetition_filter", "fineweb_quality_filter"):
        getattr(peers, module).split_into_words = lambda text, language: ours[text]
    return run(texts)


if __name__ == "__main__":
    main()
