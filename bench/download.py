"""Bench downloads from nginx on loopback, beside img2dataset's command line in the same run.

    python bench/download.py --home /tmp/bench-download

Three cases: the bytes kept; resized to 256; and 10 % dead URLs with 2 % hanging servers. nginx comes from Debian's
nginx-light; img2dataset is installed by this script into an environment of its own below --home. Rates are of the
shards alone, from the first one's start to the last one's end, without either program's start. CPU seconds are of
whole processes: without those of a run of two rows, and with them as for a run of 2,000 rows. Medians of --runs, the
two taking turns; both write to --scratch, best a file system in memory. Only a quiet machine gives rates that mean
anything: beside other work, the peer's hundreds of threads are given more of the processor than our few.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peers import isolated

PEER = "img2dataset==1.47.0"
PROCESSES = 2
SHARD_ROWS = 1000
DISTINCT = 300
TIMEOUT_S = 10
NGINX = """
{user} worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; types {{ image/jpeg jpg; }}
  client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home};
  uwsgi_temp_path {home}; scgi_temp_path {home};
  server {{ listen 127.0.0.1:{port} backlog=4096; root {home}/www; }}
}}
"""


@dataclass(frozen=True)
class Case:
    """One line of the table: what is asked of both, and the ratio of rates that is to be reached."""

    name: str
    images: int
    resize_px: int | None
    faults: bool
    threads: int  # of img2dataset, a process
    target: float


CASES = (
    Case("kept", 6000, None, False, 64, 2.0),
    Case("resized_256", 2000, 256, False, 64, 1.5),
    Case("faults", 6000, None, True, 256, 2.0),
)


@dataclass(frozen=True)
class Figures:
    """One run: images a second in the shards, and CPU seconds of all its processes."""

    rate: float
    cpu_s: float
    ok: int


def main() -> None:
    """Run every case and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-bench-download")
    memory = Path("/dev/shm")
    scratch = memory if memory.is_dir() else Path(tempfile.gettempdir())
    parser.add_argument("--scratch", type=Path, default=scratch / "curate-bench-download")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=[case.name for case in CASES])
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker)
        return
    given.home.mkdir(parents=True, exist_ok=True)
    command = peer(given.home)
    draw(given.scratch / "www")
    with nginx(given.scratch) as port, hanging() as hang_port:
        for case in CASES:
            if given.only in (None, case.name):
                compare(case, command, given, (port, hang_port))
    shutil.rmtree(given.scratch)


def compare(case: Case, command: Path, given: argparse.Namespace, ports: tuple[int, int]) -> None:
    """Both take turns on the same URLs; prints each one's medians, then the ratios."""
    urls = [url_of(case, number, ports) for number in range(case.images)]
    starts = {who: run(who, case, urls[1:3], command, given.scratch).cpu_s for who in ("img2dataset", "curate")}
    found: dict[str, list[Figures]] = {"img2dataset": [], "curate": []}
    for _ in range(given.runs):
        for who, runs in found.items():
            runs.append(run(who, case, urls, command, given.scratch))
    medians: dict[str, dict[str, float]] = {}
    for who, runs in found.items():
        assert len({figures.ok for figures in runs}) == 1, f"{who} did not get the same images each time"
        cpu_s = statistics.median(figures.cpu_s for figures in runs)
        medians[who] = {
            "images_per_s": statistics.median(figures.rate for figures in runs),
            "cpu_s_per_1000_without_start": (cpu_s - starts[who]) / case.images * 1000,
            "images": runs[0].ok,
        }
        medians[who]["cpu_s_per_1000"] = starts[who] / 2 + medians[who]["cpu_s_per_1000_without_start"]
        for metric, value in medians[who].items():
            unit = {"images_per_s": "1/s", "images": "images"}.get(metric, "s")
            say(case, who, metric, value, unit, given.runs)
    for metric in ("cpu_s_per_1000", "cpu_s_per_1000_without_start", "images_per_s"):
        value = medians["curate"][metric] / medians["img2dataset"][metric]
        say(case, "curate/img2dataset", metric, value, "ratio", given.runs)


def say(case: Case, who: str, metric: str, value: float, unit: str, runs: int) -> None:
    """One JSON line."""
    line = {"bench": f"download_{case.name}", "who": who, "metric": metric, "value": round(value, 3)}
    print(json.dumps(line | {"unit": unit, "n": runs}), flush=True)


def url_of(case: Case, number: int, ports: tuple[int, int]) -> str:
    """The case's URL of this number: with faults, 2 in 100 go to servers that hang, 10 in 100 to a missing page."""
    if case.faults and number % 100 in (7, 57):
        return f"http://127.1.{number // 250}.{number % 250 + 1}:{ports[1]}/{number}.jpg"
    if case.faults and number % 10 == 3:
        return f"http://127.0.0.1:{ports[0]}/missing/{number}.jpg"
    return f"http://127.0.0.1:{ports[0]}/{number % DISTINCT}.jpg?{number}"


def run(who: str, case: Case, urls: list[str], command: Path, home: Path) -> Figures:
    """One run in a fresh folder, with the CPU time of every process it starts."""
    out = home / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start, end, ok = run_peer(case, urls, command, out) if who == "img2dataset" else run_ours(case, urls, out)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Figures(len(urls) / (end - start), cpu_s, ok)


def run_peer(case: Case, urls: list[str], command: Path, out: Path) -> tuple[float, float, int]:
    """img2dataset's command line on a text file of URLs; start, end and successes by its own statistics."""
    (out / "urls.txt").write_text("\n".join(urls))
    options: dict[str, Any] = {
        "url_list": out / "urls.txt", "output_folder": out / "shards", "output_format": "webdataset",
        "processes_count": PROCESSES, "thread_count": case.threads, "number_sample_per_shard": SHARD_ROWS,
        "timeout": TIMEOUT_S, "retries": 0, "extract_exif": False, "compute_hash": "sha256",
    }  # fmt: skip
    if case.resize_px is None:
        options["disable_all_reencoding"] = True
    else:
        options |= {"image_size": case.resize_px, "resize_mode": "keep_ratio", "encode_quality": 95}
    with (out / "log").open("wb") as log:
        words = [str(command), *(f"--{name}={value}" for name, value in options.items())]
        environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}
        subprocess.run(words, check=True, stdout=log, stderr=log, env=environment)
    stats = [json.loads(path.read_text()) for path in (out / "shards").glob("*_stats.json")]
    assert sum(shard["count"] for shard in stats) == len(urls)
    return (
        min(shard["start_time"] for shard in stats),
        max(shard["end_time"] for shard in stats),
        sum(shard["successes"] for shard in stats),
    )


def run_ours(case: Case, urls: list[str], out: Path) -> tuple[float, float, int]:
    """As many processes, each a Downloader that does its share of the shards and writes their tars."""
    rows = min(SHARD_ROWS, len(urls) // PROCESSES)  # of the two rows that measure the start, one for each process
    shards = [urls[at : at + rows] for at in range(0, len(urls), rows)]
    running = []
    for number in range(PROCESSES):
        share = dict(list(enumerate(shards))[number::PROCESSES])
        if share:
            (out / f"{number}.json").write_text(json.dumps(share))
            order = {"case": asdict(case), "shards": str(out / f"{number}.json"), "out": str(out)}
            words = [sys.executable, __file__, "--worker", json.dumps(order)]
            running.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # ready
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [json.loads(process.communicate()[0]) for process in running]
    assert not any(process.returncode for process in running)
    return min(f["start"] for f in found), max(f["end"] for f in found), sum(f["ok"] for f in found)


def work(order: dict[str, Any]) -> None:
    """One of our processes: its shards in order, one tar each; prints when it began and ended."""
    from curate.download import Downloader, DownloadSettings, ResizeSettings
    from curate.sample import uid_of
    from curate.shards import ShardWriter

    case = Case(**order["case"])
    resize = {"mode": "keep_ratio", "size_px": case.resize_px} if case.resize_px else None
    settings = DownloadSettings(
        allow_private=("127.0.0.0/8",), timeout_s=TIMEOUT_S, retries=0, per_host=48, concurrency=256,
        resize=ResizeSettings.model_validate(resize) if resize else None,
    )  # fmt: skip
    shards = {int(number): urls for number, urls in json.loads(Path(order["shards"]).read_text()).items()}
    rows = ((uid_of("caption", url), url) for urls in shards.values() for url in urls)
    with Downloader(settings) as downloader:
        print("ready", flush=True)
        input()
        start, ok = time.time(), 0
        fetched = downloader.fetch(rows)
        for number, urls in shards.items():
            with ShardWriter(Path(order["out"]) / f"{number:05d}.tar", indexed=False) as tar:  # as an ingest does
                for row in itertools.islice(fetched, len(urls)):
                    if row.body is not None and row.ext is not None:
                        tar.add(row.key, {row.ext: row.body})
                        ok += 1
        print(json.dumps({"start": start, "end": time.time(), "ok": ok}))


def draw(folder: Path) -> None:
    """Some hundred JPEG files of 570x446 pixels and about 80 KB, the same each time."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0)
    for number in range(DISTINCT):
        coarse = Image.fromarray(noise.integers(0, 256, (60, 76, 3), dtype=np.uint8))
        out = io.BytesIO()
        coarse.resize((570, 446), Image.Resampling.BICUBIC).save(out, "jpeg", quality=90)
        (folder / f"{number}.jpg").write_bytes(out.getvalue())


def peer(home: Path) -> Path:
    """img2dataset's command in an environment of its own, made at the first run."""
    return isolated(home, (PEER,)).with_name("img2dataset")


@contextlib.contextmanager
def nginx(home: Path) -> Iterator[int]:
    """nginx over `home`/www on a free port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise SystemExit("nginx is not installed; on Debian: apt-get install nginx-light")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "nginx.conf").write_text(NGINX.format(home=home.resolve(), port=port, user=user))
    server = subprocess.Popen([program, "-p", home, "-e", home / "error.log", "-c", (home / "nginx.conf").resolve()])
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            raise SystemExit(f"nginx did not start; see {home / 'error.log'}")
        yield port
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def hanging() -> Iterator[int]:
    """A port on every loopback address where connections are accepted by the kernel and nobody ever answers."""
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        sock.listen(4096)
        yield sock.getsockname()[1]


if __name__ == "__main__":
    main()
