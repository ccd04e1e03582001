"""Bench HTML to documents beside trafilatura: pages a second, quality on labelled pages, memory.

    python bench/html_pages.py --home /tmp/bench-html [--runs 5] [--manual gimp-help-en] [--memory-pages 100000]
    python bench/html_pages.py --home /tmp/bench-html --pages DIR [DIR ...]

Two sets of pages, the same bytes for everybody: `labelled`, tests/pages with the main text that is known of each, ten
times over, and `manual`, 200 pages of a real manual (a material, fetched once). Contenders have a process each and
take turns; the medians of --runs count, in seconds of the processor: all work in one thread. Quality is the word F1 of
what is kept against the known text, and the share of kept words that are not of it, means over the labelled pages.
trafilatura has an environment of its own, made at the first run below --home; `trafilatura` is its default,
`trafilatura-recall` its favor_recall. Memory: the resident set of a process that parses --memory-pages pages, cycling
over both sets, at a tenth of them and at the end, in MB.

With --pages, folders of real pages are measured instead, which a user has: in one of the layouts of
`bench/html_sets.py`, which reads the public benchmarks as they are published. Word F1, precision and recall are means
over pages, and so is the shingle F1 of the article benchmark; where images are expected too, the share of them that
was found, that of those kept that were not expected, and that of pages on which they stand in order.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from html_sets import against, file_name, means, read, write
from peers import isolated

ROOT = Path(__file__).resolve().parent.parent
PEER = ("trafilatura==2.3.1", "lxml_html_clean==0.4.6")
WHO = ("curate", "trafilatura", "trafilatura-recall")
SETS = ("labelled", "manual")
TIMES = {"labelled": 10, "manual": 1}
MANUAL_PAGES = 200
TARGET = 5.0
URL = "https://example.org/x/"

Extract = Callable[[bytes], str]


def main() -> None:
    """Parse in turns and print JSON lines, the ratios last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-bench-html")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--manual", default="gimp-help-en", help="a material with HTML pages; '' for none")
    parser.add_argument("--memory-pages", type=int, default=100_000)
    parser.add_argument("--pages", type=Path, nargs="+", help="folders of real pages whose main text is known")
    parser.add_argument("--worker", choices=(*WHO, "memory"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker == "memory":
        memory(given.home, given.memory_pages)
    elif given.worker:
        work(given.worker, given.home)
    elif given.pages:
        compare_on(given.home, given.pages)
    else:
        lay_out(given.home, given.manual)
        compare(given)


def compare_on(home: Path, folders: list[Path]) -> None:
    """Real pages, one folder after the other."""
    for number, folder in enumerate(folders):
        count = write(read(folder), home / f"given-{number}")
        for who in WHO:
            worker = start(who, home)
            found = json.loads(ask(worker, f"given-{number}"))
            worker.communicate()
            for metric, value in found.items():
                say(who, f"{metric}, {folder}", value, unit_of(metric), count)
        for metric, value in images(home / f"given-{number}").items():
            say("curate", f"{metric}, {folder}", value, "share", count)


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
            say(who, metric, value, unit_of(metric), len(pages_of(given.home, "labelled")))
    for (who, name), rate in rates.items():
        if who != "curate":
            say(f"curate/{who}", f"pages_per_cpu_s, {name}", rates["curate", name] / rate, "ratio", given.runs)


def unit_of(metric: str) -> str:
    return "1/s" if metric == "pages_per_cpu_s" else "share"


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
        from pipelines.materials.packages import fetch

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
        if what == "quality" or what.startswith("given"):
            folder = home / ("labelled" if what == "quality" else what)
            print(json.dumps(quality(extract, folder)), flush=True)
            continue
        begin = time.process_time()
        for _ in range(TIMES[what]):
            for page in sets[what]:
                extract(page)
        print((time.process_time() - begin) / TIMES[what], flush=True)


def with_curate() -> Extract:
    from curate.html import PageError, parse

    def extract(page: bytes) -> str:
        try:
            return "\n".join(each["text"] or each["caption"] or "" for each in parse(page, URL).segments)
        except PageError:
            return ""

    return extract


def with_trafilatura() -> Extract:
    import trafilatura  # type: ignore[import-not-found]

    return lambda page: trafilatura.extract(page) or ""


def with_trafilatura_recall() -> Extract:
    import trafilatura

    return lambda page: trafilatura.extract(page, favor_recall=True) or ""


def quality(extract: Extract, folder: Path) -> dict[str, float]:
    """Means over labelled pages, and how many a second there were; a page that cannot be read has no text."""
    scores, seconds = [], 0.0
    for page in read(folder):
        begin = time.process_time()
        found = extract(page.html)
        seconds += time.process_time() - begin
        scores.append(against(found, page.text))
    found_means = means(scores)
    left = {"boilerplate_left": 1 - found_means["word_precision"], "pages_per_cpu_s": len(scores) / seconds}
    return found_means | left


def images(folder: Path) -> dict[str, float]:
    """Shares of the expected images found, of those kept that were not expected, and of pages on which order holds."""
    from curate.html import PageError, parse

    expected = kept = 0
    orders: list[list[int]] = []
    for page in read(folder):
        if not page.images:
            continue
        try:
            names = [file_name(each["url"]) for each in parse(page.html, URL).segments if each["type"] == "image"]
        except PageError:
            names = []
        expected, kept = expected + len(page.images), kept + len(names)
        orders.append(places(names, page.images))
    found = sum(map(len, orders))
    if not expected:
        return {}
    in_order = statistics.fmean(order == sorted(order) for order in orders)
    return {
        "images_found": found / expected,
        "images_unexpected": 1 - found / max(1, kept),
        "images_in_order": in_order,
    }


def places(names: list[str], expected: Sequence[frozenset[str]]) -> list[int]:
    """Places of the expected images among those kept, each taken once; those that are missing have no place."""
    free, found = dict(enumerate(names)), []
    for wanted in expected:
        at = next((n for n, name in free.items() if name in wanted), None)
        if at is not None:
            del free[at]
            found.append(at)
    return found


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
