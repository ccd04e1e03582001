"""HTML pages made into documents, beside trafilatura: pages a second, quality on labelled pages, memory over many.

    python bench/html_pages.py --home /tmp/bench-html [--runs 5] [--manual gimp-help-en] [--memory-pages 100000]

Two sets of pages, the same bytes for everybody: `labelled`, tests/pages with the main text that is known of each, ten
times over, and `manual`, 200 pages of a real manual (a material, fetched once). Contenders have a process each and
take turns; the medians of --runs count, in seconds of the processor: all work in one thread. Quality is the word F1 of
what is kept against the known text, and the share of kept words that are not of it, means over the labelled pages.
trafilatura has an environment of its own, made at the first run below --home; `trafilatura` is its default,
`trafilatura-recall` its favor_recall. Memory: the resident set of a process that parses --memory-pages pages, cycling
over both sets, at a tenth of them and at the end, in MB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from peers import isolated

ROOT = Path(__file__).resolve().parent.parent
PEER = ("trafilatura==2.3.1", "lxml_html_clean==0.4.6")
WHO = ("curate", "trafilatura", "trafilatura-recall")
SETS = ("labelled", "manual")
TIMES = {"labelled": 10, "manual": 1}
MANUAL_PAGES = 200
TARGET = 5.0
URL = "https://example.org/x/"
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")

Extract = Callable[[bytes], str]


def main() -> None:
    """Parse in turns and print JSON lines, the ratios last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-bench-html")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--manual", default="gimp-help-en", help="a material with HTML pages; '' for none")
    parser.add_argument("--memory-pages", type=int, default=100_000)
    parser.add_argument("--worker", choices=(*WHO, "memory"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker == "memory":
        memory(given.home, given.memory_pages)
    elif given.worker:
        work(given.worker, given.home)
    else:
        lay_out(given.home, given.manual)
        compare(given)


def compare(given: argparse.Namespace) -> None:
    workers = {who: start(who, given.home) for who in WHO}
    seconds: dict[tuple[str, str], list[float]] = {(who, name): [] for who in WHO for name in SETS}
    for turn in range(given.runs + 1):
        for who, worker in workers.items():
            for name in SETS:
                taken = float(ask(worker, name))
                if turn:  # the first one warms up
                    seconds[who, name].append(taken)
    scores = {who: json.loads(ask(worker, "quality")) for who, worker in workers.items()}
    for worker in workers.values():
        worker.communicate()
    report(given, seconds, scores)
    if given.memory_pages:
        found = json.loads(child("memory", given.home, given.memory_pages))
        for metric, value in found.items():
            say("curate", metric, value, "MB", given.memory_pages)


def report(
    given: argparse.Namespace, seconds: dict[tuple[str, str], list[float]], scores: dict[str, dict[str, float]]
) -> None:
    rates = {}
    for (who, name), runs in seconds.items():
        pages = len(pages_of(given.home, name))
        if pages:
            rates[who, name] = pages / statistics.median(runs)
            say(who, f"pages_per_cpu_s, {name}", rates[who, name], "1/s", given.runs)
    for who, found in scores.items():
        for metric, value in found.items():
            say(who, metric, value, "share", len(pages_of(given.home, "labelled")))
    for (who, name), rate in rates.items():
        if who != "curate":
            say(f"curate/{who}", f"pages_per_cpu_s, {name}", rates["curate", name] / rate, "ratio", given.runs)


def say(who: str, metric: str, value: float, unit: str, n: int) -> None:
    """One JSON line."""
    line = {"bench": "html_pages", "who": who, "metric": metric, "value": round(value, 4), "unit": unit, "n": n}
    if unit == "ratio":
        line["target"] = TARGET
    print(json.dumps(line), flush=True)


def lay_out(home: Path, manual: str) -> None:
    """The pages, as files below `home`, for contenders that know nothing of this project."""
    (home / "manual").mkdir(parents=True, exist_ok=True)
    (home / "labelled").mkdir(exist_ok=True)
    for path in (ROOT / "tests" / "pages").glob("*.html"):
        (home / "labelled" / path.name).write_bytes(path.read_bytes())
        (home / "labelled" / f"{path.stem}.txt").write_bytes(path.with_suffix(".txt").read_bytes())
    if manual:
        from pipelines.materials import fetch

        found = sorted(fetch(manual).rglob("*.html"))
        for path in found[:: max(1, len(found) // MANUAL_PAGES)][:MANUAL_PAGES]:
            (home / "manual" / path.name).write_bytes(path.read_bytes())


def pages_of(home: Path, name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((home / name).glob("*.html"))]


def start(who: str, home: Path) -> subprocess.Popen[str]:
    """A contender's process, its library loaded."""
    python = sys.executable if who == "curate" else isolated(home, PEER)
    worker = subprocess.Popen(
        [str(python), __file__, "--worker", who, "--home", str(home)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(who),
    )  # fmt: skip
    assert worker.stdout is not None
    if worker.stdout.readline() != "ready\n":
        raise SystemExit(f"{who} did not start")
    return worker


def environment(who: str) -> dict[str, str]:
    return dict(os.environ) if who.startswith("trafilatura") else os.environ | {"PYTHONPATH": str(ROOT)}


def ask(worker: subprocess.Popen[str], what: str) -> str:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(what + "\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        raise SystemExit("a contender died")
    return answer


def child(who: str, home: Path, pages: int) -> str:
    words = [sys.executable, __file__, "--worker", who, "--home", str(home), "--memory-pages", str(pages)]
    return subprocess.run(words, env=environment(who), stdout=subprocess.PIPE, text=True, check=True).stdout


def work(who: str, home: Path) -> None:
    """A contender: load, then answer: seconds for a set of pages, or the quality on the labelled ones."""
    extract = {"curate": with_curate, "trafilatura": with_trafilatura}.get(who, with_trafilatura_recall)()
    sets = {name: pages_of(home, name) for name in SETS}
    print("ready", flush=True)
    for line in sys.stdin:
        what = line.strip()
        if what == "quality":
            print(json.dumps(quality(extract, home / "labelled")), flush=True)
            continue
        begin = time.process_time()
        for _ in range(TIMES[what]):
            for page in sets[what]:
                extract(page)
        print((time.process_time() - begin) / TIMES[what], flush=True)


def with_curate() -> Extract:
    from curate.html import parse

    def extract(page: bytes) -> str:
        return "\n".join(each["text"] or each["caption"] or "" for each in parse(page, URL).segments)

    return extract


def with_trafilatura() -> Extract:
    import trafilatura  # type: ignore[import-not-found]

    return lambda page: trafilatura.extract(page) or ""


def with_trafilatura_recall() -> Extract:
    import trafilatura

    return lambda page: trafilatura.extract(page, favor_recall=True) or ""


def quality(extract: Extract, folder: Path) -> dict[str, float]:
    """Means over the labelled pages: word F1, recall, and the share of kept words that are not of the main text."""
    scores = []
    for path in sorted(folder.glob("*.html")):
        wanted = Counter(_WORD.findall(path.with_suffix(".txt").read_text("utf-8").lower()))
        found = Counter(_WORD.findall(extract(path.read_bytes()).lower()))
        hit = sum((found & wanted).values())
        kept, known = sum(found.values()), sum(wanted.values())
        scores.append((2 * hit / max(1, kept + known), hit / known, 1 - hit / max(1, kept)))
    means = [statistics.fmean(column) for column in zip(*scores, strict=True)]
    return dict(zip(("word_f1", "word_recall", "boilerplate_left"), means, strict=True))


def memory(home: Path, pages: int) -> None:
    """Parse so many pages, each kept for no longer than it takes."""
    from curate.html import parse

    cycle = [page for name in SETS for page in pages_of(home, name)]
    early = 0.0
    for number in range(pages):
        parse(cycle[number % len(cycle)], URL)
        if number == pages // 10:
            early = resident_mb()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"resident at a tenth": early, "resident at the end": resident_mb(), "peak": peak}))


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


if __name__ == "__main__":
    main()
