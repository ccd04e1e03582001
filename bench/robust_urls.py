"""Fetch a hundred thousand URLs of which a third goes wrong in 23 ways, and count each of them.

    python bench/robust_urls.py [--urls 100000] [--workers 2] [--home /tmp/robust-urls]

A server on loopback answers on some hundred addresses: with pictures that bear their own URL, and with all that web
servers do instead. The recipe is run as a user would. Counted are rows by the name of their error, pictures published
under another's URL, and requests that an address bore at once; printed are URLs a second of the ingest (the server
shares the processors) and the driver's largest resident memory. Ends with 1 where a count is not what was dealt out.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import io
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADDRESSES = 40
PER_HOST = 6
MAX_BYTES = 100_000
TIMEOUT_S = 3


@dataclass(frozen=True)
class Kind:
    """One way in which a URL ends: how many of a thousand, the error (None: it comes), and what the server sends.

    An answer holds the place of the picture as `%`; None for silence. `hangs_up`: it closes the connection then.
    """

    share: int
    error: str | None
    answer: bytes | None = b""
    hangs_up: bool = False
    url: Callable[[str, int, int], str] | None = None


def _said(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def _there(*headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Length: {length}", *headers, "", ""]).encode() + b"%"


KINDS: dict[str, Kind] = {
    "there": Kind(640, None, _there("Content-Type: image/jpeg")),
    "moved": Kind(20, None, _said("302 Found", b"", "Location: /there/{number}")),
    "binary": Kind(10, None, _there("Content-Encoding: binary")),
    "busy": Kind(5, None, _said("429 Too Many Requests", b"", "Retry-After: 1")),  # the second time it is there
    "excess": Kind(5, None, _there() + _said("200 OK", b"\xff\xd8\xff another's")),
    "gone": Kind(100, "http_404", _said("404 Not Found", b"gone")),
    "forbidden": Kind(20, "http_403", _said("403 Forbidden")),
    "removed": Kind(10, "http_410", _said("410 Gone")),
    "busy-still": Kind(5, "http_429", _said("429 Too Many Requests", b"", "Retry-After: 1")),
    "broken": Kind(20, "http_500", _said("500 Broken")),
    "silent": Kind(5, "timeout", None),
    "cut": Kind(20, "truncated_body", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n\xff\xd8\xff", True),
    "reset": Kind(20, "connection_reset", b"", True),
    "circle": Kind(10, "redirect_loop", _said("302 Found", b"", "Location: /circle/{number}")),
    "onward": Kind(5, "too_many_redirects", _said("302 Found", b"", "Location: /onward/{number}?{count}")),
    "page": Kind(20, "html_instead_of_image", _said("200 OK", b"<html>log in</html>", "Content-Type: image/jpeg")),
    "words": Kind(10, "not_an_image", _said("200 OK", b"sorry", "Content-Type: image/jpeg")),
    "empty": Kind(10, "empty_body", _said("200 OK")),
    "large": Kind(5, "body_too_large", _said("200 OK", b"\xff\xd8\xff" + bytes(MAX_BYTES))),
    "bomb": Kind(5, "body_too_large", _said("200 OK", gzip.compress(bytes(1 << 24)), "Content-Encoding: gzip")),
    "false": Kind(5, "bad_encoding", _said("200 OK", b"\x1f\x8b\x08 no gzip", "Content-Encoding: gzip")),
    "heads": Kind(5, "headers_too_large", _said("200 OK", b"", *(f"X-{n}: {'a' * 1000}" for n in range(300)))),
    "noise": Kind(5, "bad_response", b"\x00\x01 this is not http\r\n\r\n", True),
    "opted-out": Kind(5, "opt_out", _there("X-Robots-Tag: noai")),
    "inside": Kind(5, "private_address", _said("302 Found", b"", "Location: http://169.254.169.254/keys")),
    "private": Kind(5, "private_address", url=lambda host, port, n: f"http://10.0.0.1/{n}"),
    "closed": Kind(5, "connection_refused", url=lambda host, port, n: f"http://{host}:1/{n}"),
    "plain": Kind(5, "tls", _said("400 Bad Request"), url=lambda host, port, n: f"https://{host}:{port}/plain/{n}"),
    "file": Kind(5, "forbidden_scheme", url=lambda host, port, n: f"file:///etc/passwd?{n}"),
    "bad": Kind(10, "bad_url", url=lambda host, port, n: f"http://[{n}/"),
}


def main() -> int:
    """Deal out, run, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--urls", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2, help="0: in one process")
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "curate-robust-urls")
    given = parser.parse_args()
    shutil.rmtree(given.home, ignore_errors=True)
    given.home.mkdir(parents=True)
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()
    dealt = Counter(kind for _, kind, _ in deal(given.urls, port))
    found, spent_s, peak_mb = run(given, port)
    ours.send("end")
    first, last, most_at_once = ours.recv()
    server.join()
    expected = Counter[str]()
    for name, count in dealt.items():
        expected[KINDS[name].error or "kept"] += count
    counted = Counter(found["failed"]) + Counter({"kept": found["kept"]})
    wrong = swapped(given.home / "out" / "dataset")
    differs = {name: (counted[name], expected[name]) for name in counted | expected if counted[name] != expected[name]}
    line = {
        "bench": "robust_urls", "urls": given.urls, "kinds_of_error": len(expected) - 1, "workers": given.workers,
        "urls_per_s": round(given.urls / (last - first), 1), "whole_run_s": round(spent_s, 1),
        "driver_peak_mb": round(peak_mb), "most_at_once_of_a_host": most_at_once, "per_host": PER_HOST,
        "pictures_of_another": wrong, "counts_that_differ": differs, "failed": dict(sorted(found["failed"].items())),
    }  # fmt: skip
    print(json.dumps(line))
    return int(bool(differs or wrong or most_at_once > PER_HOST))


def deal(count: int, port: int) -> Iterator[tuple[str, str, int]]:
    """URLs, the kind of each, and its number; kinds are spread evenly, those that ask for quiet stand alone."""
    thousand = [name for name, kind in KINDS.items() for _ in range(kind.share)]
    assert len(thousand) == 1000
    for number in range(count):
        name = thousand[number * 619 % 1000]
        host = f"127.1.0.{number * 7 % ADDRESSES + 1}"
        if name.startswith("busy"):
            host = f"127.2.{number // 200 % 250}.{number % 200 + 1}"
        build = KINDS[name].url
        yield build(host, port, number) if build else f"http://{host}:{port}/{name}/{number}", name, number


def run(given: argparse.Namespace, port: int) -> tuple[dict[str, object], float, float]:
    """Run the recipe; the funnel's line of the ingest, seconds, and the driver's peak in MB."""
    home = given.home
    with (home / "urls.jsonl").open("w") as table:
        table.writelines(json.dumps({"url": url, "text": f"{n}"}) + "\n" for url, _, n in deal(given.urls, port))
    recipe = {
        "name": "robust", "out": str(home / "out"), "limits": {"failed": 1.0}, "shard_samples": 1000,
        "source": {"type": "urls", "path": str(home / "urls.jsonl")},
        "download": {"allow_private": ["127.0.0.0/8"], "timeout_s": TIMEOUT_S, "connect_timeout_s": TIMEOUT_S,
                     "retries": 1, "backoff_s": 0.1, "per_host": PER_HOST, "host_failures": 1_000_000,
                     "max_bytes": MAX_BYTES},
    }  # fmt: skip
    (home / "recipe.yaml").write_text(json.dumps(recipe))
    how = ["--workers", str(given.workers)] if given.workers else ["--inline"]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    started, peak_mb = time.monotonic(), 0.0
    with (home / "said.json").open("w") as said:
        command = [sys.executable, "-m", "pipelines", "run", str(home / "recipe.yaml"), *how, "--json"]
        driver = subprocess.Popen(command, stdout=said, env=os.environ | {"PYTHONPATH": path})
        while driver.poll() is None:
            peak_mb = max(peak_mb, _peak_mb(driver.pid))
            time.sleep(0.2)
    if driver.returncode:
        raise SystemExit(f"the run ended with {driver.returncode}")
    funnel = json.loads((home / "said.json").read_text())["funnel"]
    return next(line for line in funnel if line["step"] == "ingest"), time.monotonic() - started, peak_mb


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0.0)


def swapped(dataset: Path) -> int:
    """Pictures that were published under another's URL: each bears the number of its own, which is its text too."""
    wrong = 0
    for path in sorted(dataset.glob("*.tar")):
        samples: dict[str, dict[str, bytes]] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, part = member.name.partition(".")
                samples.setdefault(key, {})[part] = tar.extractfile(member).read()  # type: ignore[union-attr]
        wrong += sum(not sample["jpg"].endswith(b"#" + sample["txt"].strip()) for sample in samples.values())
    return wrong


@dataclass
class Server:
    """What was asked of each address at once, and what it answers."""

    picture: bytes
    now: Counter[str] = field(default_factory=Counter)
    most: int = 0
    first: float = 0.0
    last: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)

    def answer(self, path: str) -> tuple[bytes | None, bool]:
        """The bytes for a path, and whether to hang up after them."""
        name, number = path.partition("?")[0].split("/")[1:3]
        self.seen[path.partition("?")[0]] += 1
        count = self.seen[path.partition("?")[0]]
        kind = KINDS["there"] if name == "busy" and count > 1 else KINDS[name]
        if kind.answer is None:
            return None, False
        body = self.picture + b"#" + number.encode()
        said = kind.answer.replace(b"{number}", number.encode()).replace(b"{count}", b"%d" % count)
        if b"{length}" in said:
            said = said.replace(b"{length}", b"%d" % len(body)).replace(b"\r\n\r\n%", b"\r\n\r\n" + body, 1)
        return said, kind.hangs_up


class Talk(asyncio.Protocol):
    """One connection to the server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._read = b""
        self._open = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the address that was asked."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._address = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        """Answer each request a little later, so that several are under way at once."""
        self._read += data
        if self._read.startswith(b"\x16"):  # TLS, which is not spoken here
            self._transport.write(KINDS["plain"].answer or b"")
            self._transport.close()
            return
        while b"\r\n\r\n" in self._read:
            request, _, self._read = self._read.partition(b"\r\n\r\n")
            server = self._server
            server.last = time.monotonic()
            server.first = server.first or server.last
            self._open += 1
            server.now[self._address] += 1
            server.most = max(server.most, server.now[self._address])
            answer, hangs_up = server.answer(request.split(b" ")[1].decode())
            if answer is not None:
                asyncio.get_running_loop().call_later(0.005, self._say, answer, hangs_up)

    def connection_lost(self, err: Exception | None) -> None:
        """What was under way has ended."""
        self._server.now[self._address] -= self._open
        self._open = 0

    def _say(self, answer: bytes, hangs_up: bool) -> None:
        if self._open:
            self._open -= 1
            self._server.now[self._address] -= 1
            self._transport.write(answer)
            if hangs_up:
                self._transport.close()


def serve(pipe: Connection) -> None:
    """The server's process: tells its port, and at the end its first and last request and the most at once."""
    from PIL import Image

    Image.new("RGB", (64, 48), (200, 30, 30)).save(out := io.BytesIO(), "JPEG")
    server = Server(out.getvalue())

    async def listen() -> None:
        sock = socket.create_server(("0.0.0.0", 0), backlog=4096)
        await asyncio.get_running_loop().create_server(lambda: Talk(server), sock=sock)
        pipe.send(sock.getsockname()[1])
        await asyncio.to_thread(pipe.recv)

    asyncio.run(listen())
    pipe.send((server.first, server.last, server.most))


if __name__ == "__main__":
    sys.exit(main())
