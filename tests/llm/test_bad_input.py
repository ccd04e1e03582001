"""Endpoints, caches and requests that are wrong are told with what to do, and nothing that was paid for is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chat_server import Reply, completion, error, serving

from curate.llm.chat import Answer, ChatPicture, ChatRequest, Failure, Message
from curate.llm.outcomes import EndpointError
from curate.llm.service import GatewayService
from curate.llm.settings import Endpoint
from curate.llm.store import FILE, AnswerStore, StoreError


def requests(count: int, text: str = "text") -> list[ChatRequest]:
    return [ChatRequest((Message("user", (f"{text} {n}",)),), 50) for n in range(count)]


def ask(url: str, folder: Path, asked: list[ChatRequest], **more: Any) -> list[Answer | Failure]:
    endpoint = Endpoint.model_validate({"url": url, "model": "small", "key": None, **more})
    with GatewayService(endpoint, folder, "run") as service:
        return service.ask(asked)


@contextmanager
def speaking(words: bytes) -> Iterator[str]:
    """A server that says these words to whoever comes, in no language that is asked for."""
    listener = socket.create_server(("127.0.0.1", 0))

    def speak() -> None:
        while True:
            try:
                talk, _ = listener.accept()
            except OSError:
                return
            with talk:
                talk.recv(1 << 16)
                talk.sendall(words)

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize(
    "words", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b""]
)
def test_what_is_no_endpoint_is_told_long_before_patience_ends(
    tmp_path: Path, words: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.llm.gateway.FIRST_CONTACT_S", 0.5)
    with speaking(words) as url, pytest.raises(EndpointError, match=r"nothing that can be talked to .*correct `url`"):
        ask(url, tmp_path, requests(3))


def test_a_host_without_a_name_is_told_long_before_patience_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.llm.gateway.FIRST_CONTACT_S", 0.5)
    with pytest.raises(EndpointError, match="nothing that can be talked to is at http://no-such-host"):
        ask("http://no-such-host.invalid/v1", tmp_path, requests(1))


def test_a_server_of_something_else_is_told_by_what_it_says(tmp_path: Path) -> None:
    other = Reply(body={"detail": [], "hello": "world"})
    with serving(lambda n, body: other) as server, pytest.raises(EndpointError, match="refused the first 20 requests"):
        ask(server.url, tmp_path, requests(60))


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, error("image input is not supported - hint: you may need to provide the mmproj")),
        Reply(400, error("Invalid content type. image_url is only supported by certain models.")),
        Reply(400, error("small is not a multimodal model")),
        Reply(404, error("No endpoints found that support image input")),
        Reply(422, error("Failed to deserialize: messages[0]: unknown variant `image_url`, expected `text`")),
    ],
    ids=["llama.cpp", "openai", "vllm", "openrouter", "deepseek"],
)
def test_a_model_without_vision_that_is_given_pictures_ends_the_run(tmp_path: Path, reply: Reply) -> None:
    seen = [ChatRequest((Message("user", (ChatPicture("1" * 64, b"\xff\xd8"), "What is it?")),), 20)]
    with serving(lambda n, body: reply) as server, pytest.raises(EndpointError, match="takes no pictures"):
        ask(server.url, tmp_path, seen)
    assert server.requests == 1


@pytest.mark.parametrize(
    ("reply", "name", "remedy"),
    [
        (Reply(413, b"<html>Request Entity Too Large</html>"), "request_too_large", "have pictures made smaller"),
        (Reply(400, error("image exceeds 5 MB maximum: 7340032 bytes")), "request_too_large", "made smaller"),
        (Reply(400, error("the request exceeds the available context size")), "prompt_too_long", "longer context"),
    ],
    ids=["413", "picture", "context"],
)
def test_what_is_too_large_fails_its_row_with_a_remedy(tmp_path: Path, reply: Reply, name: str, remedy: str) -> None:
    def script(number: int, body: dict[str, Any]) -> Any:
        return reply if body["messages"][0]["content"] == "text 1" else "well"

    with serving(script) as server:
        first, second, third = ask(server.url, tmp_path, requests(3))
    assert isinstance(first, Answer) and isinstance(third, Answer)
    assert isinstance(second, Failure) and second.error == name and remedy in second.detail


def test_a_cache_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("not a folder")
    with pytest.raises(StoreError, match="its folder is a file: name another folder as `cache`"):
        AnswerStore(tmp_path / "answers")


def test_a_cache_whose_pages_are_damaged_is_told_and_the_answer_is_not_sent_again_unasked(tmp_path: Path) -> None:
    with serving(lambda n, body: "well") as server:
        ask(
            server.url,
            tmp_path,
            requests(300, "a text that fills pages of the file, so that there are several of them"),
        )
        path = tmp_path / FILE
        data = bytearray(path.read_bytes())
        assert len(data) > 40_000
        data[8192:-4096] = b"\xaa" * len(data[8192:-4096])
        path.write_bytes(data)
        sent = server.requests
        with pytest.raises(StoreError, match=r"damaged.*\.recover.*name another"):
            ask(server.url, tmp_path, requests(300, "a text that fills pages of the file"))
        assert server.requests == sent


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_ends_the_run_and_nothing_that_was_paid_for_is_lost(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip("no right to mount")
    try:
        long = completion("x" * 20_000)
        with serving(lambda n, body: Reply(body=long, after_s=0.01)) as server:
            with pytest.raises(StoreError, match="make room, then run again"):
                ask(server.url, disk / "answers", requests(500), concurrency=16)
            paid = server.requests
            assert 20 < paid < 500
            store = AnswerStore(disk / "answers")
            kept = store.account("run").spent.requests
            store.close()
            assert kept == paid
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            assert len(ask(server.url, disk / "answers", requests(500), concurrency=16)) == 500
            assert server.requests == 500
    finally:
        subprocess.run(["umount", str(disk)], check=True)
