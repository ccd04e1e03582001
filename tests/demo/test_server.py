"""The demo's web is a real server with a real server's faults."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from storage import free_port

from curate.commit import dump_json
from pipelines.demo.server import PortTakenError, serve
from pipelines.demo.web import DemoWeb, WebAnswer

ANSWERS = {
    "/a.png": WebAnswer(file="a.png"),
    "/a.jpg": WebAnswer(file="a.png", content_type="image/jpeg"),
    "/mine.png": WebAnswer(file="a.png", headers={"X-Robots-Tag": "noai"}),
    "/gone.png": WebAnswer("status", status=410),
    "/flaky.png": WebAnswer("flaky", "a.png", status=503),
    "/old.png": WebAnswer("moved", location="/a.png"),
    "/hang.png": WebAnswer("hang"),
    "/drip.png": WebAnswer("drip"),
}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[DemoWeb]:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.png").write_bytes(b"\x89PNG...")
    (tmp_path / "answers.json").write_text(dump_json({path: asdict(a) for path, a in ANSWERS.items()}))
    demo = DemoWeb(tmp_path / "urls.parquet", tmp_path, {}, free_port())
    with serve(demo):
        yield demo


def get(web: DemoWeb, path: str, timeout: float = 5) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def test_files_come_as_they_are_under_the_type_that_was_planted(web: DemoWeb) -> None:
    assert get(web, "/a.png")[0::2] == (200, b"\x89PNG...")
    assert get(web, "/a.jpg")[1]["Content-Type"] == "image/jpeg"
    assert get(web, "/mine.png")[1]["X-Robots-Tag"] == "noai"


def test_dead_moved_and_flaky_urls_answer_as_planted(web: DemoWeb) -> None:
    assert get(web, "/gone.png")[0] == 410
    assert get(web, "/never-was.png")[0] == 404
    assert get(web, "/../etc/passwd")[0] == 404
    status, headers, _ = get(web, "/old.png")
    assert (status, headers["Location"]) == (301, "/a.png")
    assert [get(web, "/flaky.png")[0] for _ in range(3)] == [503, 200, 200]


def test_hanging_url_outlasts_a_patient_client(web: DemoWeb) -> None:
    with pytest.raises(TimeoutError):
        get(web, "/hang.png", timeout=0.7)


def test_dripping_url_sends_byte_by_byte_and_does_not_end(web: DemoWeb) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=3) as raw:
        raw.sendall(b"GET /drip.png HTTP/1.1\r\nHost: x\r\n\r\n")
        start, got = time.monotonic(), b""
        while time.monotonic() - start < 1.2:
            got += raw.recv(4096)
    body = got.partition(b"\r\n\r\n")[2]
    assert 1 <= len(body) < 10


def test_taken_port_is_an_error_that_says_what_to_do(web: DemoWeb) -> None:
    with pytest.raises(PortTakenError, match=f"{web.port}.*stop what uses that port"), serve(web):
        pass


def test_port_is_free_again_after_the_block(web: DemoWeb) -> None:
    other = DemoWeb(web.table, web.served, {}, free_port())
    for _ in range(2):
        with serve(other):
            assert get(other, "/a.png")[0] == 200
