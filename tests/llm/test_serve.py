"""A run serves its own model, for as long as it lasts: a GGUF by llama.cpp, or any by vLLM as a Ray actor."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace

from curate.llm.chat import Answer, ChatRequest, Message
from curate.llm.hosted import ServerError
from curate.llm.outcomes import EndpointError
from curate.llm.prices import find_price
from curate.llm.serve import resolve, serve
from curate.llm.service import GatewayService
from curate.llm.settings import Endpoint
from curate.llm.store import FILE
from curate.models.files import ModelError

STANDING_IN = """
import argparse, json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

words = argparse.ArgumentParser()
for name in ("model", "host", "port", "max-model-len", "tensor-parallel-size", "die"):
    words.add_argument("--" + name)
asked = words.parse_args()
if asked.die == "at once":
    sys.exit("ValueError: the model needs more memory than there is")

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        assert self.path == "/v1/models"
        self.say({"data": [{"id": asked.model}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["messages"][0]["content"] == "die":
            os._exit(9)
        text = f"{asked.tensor_parallel_size} of {os.environ.get('CUDA_VISIBLE_DEVICES')} for {body['model']}"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        self.say({"model": asked.model, "choices": [choice], "usage": usage})

    def say(self, said):
        raw = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *said):
        pass

ThreadingHTTPServer((asked.host, int(asked.port)), Handler).serve_forever()
"""
"""A server of vLLM's command line and surface, in the place of its module."""


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """An endpoint of a machine on which the command that starts vLLM's server starts a scripted one."""
    module = tmp_path / "path" / "vllm" / "entrypoints" / "openai" / "api_server.py"
    module.parent.mkdir(parents=True)
    module.write_text(STANDING_IN)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"), prepend=os.pathsep)
    return endpoint("vllm", "small")


def endpoint(url: str, model: Path | str, **more: Any) -> Endpoint:
    return Endpoint.model_validate({"url": url, "model": str(model), **more})


def requests(*texts: str, max_tokens: int = 40, **more: Any) -> list[ChatRequest]:
    return [ChatRequest((Message("user", (text,)),), max_tokens, **more) for text in texts]


def texts(answers: list[Any]) -> list[str]:
    assert all(isinstance(answer, Answer) for answer in answers), answers
    return [answer.text for answer in answers]


def servers() -> list[int]:
    """The processes of the standing-in server."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"vllm.entrypoints" in command and str(os.getpid()).encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def wait_until_none(pids: list[int]) -> None:
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < until, "the server outlives the run"
        time.sleep(0.05)


def test_a_served_model_is_asked_while_the_run_lasts_and_ends_with_it(tmp_path: Path, vllm: Endpoint) -> None:
    with serve(vllm) as served, GatewayService(served, tmp_path / "answers", "run") as service:
        assert texts(service.ask(requests("hello"))) == ["1 of None for small"]
        port = int(served.url.rpartition(":")[2].partition("/")[0])
    listening = Path("/proc/net/tcp").read_text()
    assert f":{port:04X} 00000000:0000 0A" not in listening


def test_answers_of_a_served_model_are_found_again_whatever_its_port(tmp_path: Path, vllm: Endpoint) -> None:
    urls = set()
    for _ in range(2):
        with serve(vllm) as served, GatewayService(served, tmp_path / "answers", "run") as service:
            urls.add(served.url)
            (answer,) = service.ask(requests("hello"))
    assert len(urls) == 2
    assert isinstance(answer, Answer) and answer.cached


def test_a_name_of_the_users_keeps_answers_when_an_endpoint_moves() -> None:
    (asked,) = requests("hello")
    one, other = (endpoint(f"http://h{n}:8000/v1", "small", known_as="our small") for n in (1, 2))
    assert asked.key(*one.known) == asked.key(*other.known)
    assert asked.key(*one.known) != asked.key(*endpoint("http://h1:8000/v1", "small").known)


def test_what_a_run_serves_costs_no_money() -> None:
    found = find_price(endpoint("vllm", "small", budget={"usd": 1}))
    assert found.of(1000, 1000) == 0


def test_a_server_that_does_not_start_is_told_in_its_words(vllm: Endpoint) -> None:
    broken = endpoint("vllm", "small", server={"arguments": ["--die", "at once"]})
    with (
        pytest.raises(ServerError, match=r"small cannot be served: .*needs more memory.* Name a smaller"),
        serve(broken),
    ):
        pass


def test_a_missing_vllm_is_told_with_the_command_that_brings_it(vllm: Endpoint, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "path")
    with pytest.raises(ServerError, match=r"No module named 'vllm'.*pip install vllm"), serve(vllm):
        pass


def test_a_server_that_is_lost_ends_the_run_with_why(tmp_path: Path, vllm: Endpoint) -> None:
    hurried = vllm.model_copy(update={"patience_s": 0.5})
    with (
        pytest.raises(ServerError, match="the server of small was lost: it ended with code 9"),
        serve(hurried) as served,
        GatewayService(served, tmp_path / "answers", "run") as service,
    ):
        service.ask(requests("die"))


RUNNING = """
import sys, time
from curate.llm.serve import serve
from curate.llm.settings import Endpoint
with serve(Endpoint(url="vllm", model="small")) as served:
    print(served.url, flush=True)
    time.sleep(60)
"""


def test_a_server_ends_with_a_run_that_is_killed(vllm: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARTED_FOR", str(os.getpid()))
    process = subprocess.Popen([sys.executable, "-c", RUNNING], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    found = servers()
    assert found
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until_none(found)


ON_RAY = """
import json, sys, logging, ray
from pathlib import Path
from curate.llm.chat import ChatRequest, Message
from curate.llm.serve import serve
from curate.llm.service import GatewayService
from curate.llm.settings import Endpoint
ray.init(num_cpus=1, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
found = []
for gpus in (2, 3):
    endpoint = Endpoint(url="vllm", model="small", server={"gpus": gpus})
    try:
        with serve(endpoint, ray) as served, GatewayService(served, Path(sys.argv[1]), "run") as service:
            found.append(service.ask([ChatRequest((Message("user", ("hello",)),), 40)])[0].text)
            found.append(ray.available_resources().get("GPU", 0))
    except RuntimeError as err:
        found.append(str(err))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_vllm_is_a_ray_actor_with_its_share_of_gpus(tmp_path: Path, vllm: Endpoint) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY, str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert done.returncode == 0, done.stderr
    answer, left, refused = json.loads(done.stdout)
    assert answer == "2 of 0,1 for small" and left == 0
    assert "wants gpus: 3; Ray has 2" in refused


class TestLocal:
    """`url: local`: a GGUF file, served by llama.cpp."""

    @pytest.mark.parametrize(
        ("data", "error", "said"),
        [
            (None, ModelError, "No such file or directory.*wants the path of a GGUF file"),
            (b"hello", ModelError, "no GGUF file"),
            (b"version https://git-lfs.github.com/spec/v1\n", ModelError, "git lfs pull"),
            (b"GGUF\3\0\0\0" + bytes(200), ServerError, "cannot be served: .*damaged.*fetch it again"),
        ],
        ids=["no file", "text", "pointer", "damaged"],
    )
    def test_a_file_that_is_no_model_is_told(
        self, tmp_path: Path, data: bytes | None, error: type[Exception], said: str
    ) -> None:
        path = tmp_path / "model.gguf"
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(error, match=said), serve(endpoint("local", path)):
            pass

    def test_a_file_larger_than_memory_is_not_begun_with(self, tmp_path: Path) -> None:
        path = tmp_path / "model.gguf"
        path.write_bytes(b"GGUF")
        os.truncate(path, 1 << 40)  # a hole
        with (
            pytest.raises(ServerError, match=r"not enough memory: the model has 1099\.5 GB"),
            serve(endpoint("local", path, known_as="large")),
        ):
            pass

    def test_a_model_is_known_by_its_bytes_wherever_it_lies(self, tmp_path: Path) -> None:
        files = [tmp_path / name for name in ("a.gguf", "b.gguf", "c.gguf")]
        for path, data in zip(files, (b"GGUF 1", b"GGUF 1", b"GGUF 2"), strict=True):
            path.write_bytes(data)
        same, again, other = (resolve(endpoint("local", path)).known for path in files)
        assert same == again != other

    @pytest.mark.slow
    def test_a_small_instruction_model_answers_by_schema_and_by_word(self, tmp_path: Path) -> None:
        from pipelines.materials.packages import PackageUnavailableError
        from pipelines.materials.qwen import prepare

        try:
            model = prepare()
        except PackageUnavailableError as err:
            pytest.skip(str(err))
        schema = {
            "type": "object",
            "properties": {"capital": {"type": "string"}, "letters": {"type": "integer"}},
            "required": ["capital", "letters"],
            "additionalProperties": False,
        }
        asked = requests("What is the capital of France, and how many letters has it?", schema=schema)
        asked += requests("What is the capital of France? One word.", max_tokens=5, parameters={"temperature": 0})
        asked += requests("word " * 600)
        small = endpoint("local", model, server={"context_tokens": 512, "threads": 1}, concurrency=2)
        with serve(small) as served, GatewayService(served, tmp_path, "run") as service:
            by_schema, by_word, too_long = service.ask(asked)
            assert isinstance(by_schema, Answer) and set(json.loads(by_schema.text)) == {"capital", "letters"}
            assert isinstance(by_word, Answer) and "Paris" in by_word.text
            assert getattr(too_long, "error", None) == "prompt_too_long"


ASKING = """
import pyarrow as pa
from curate.llm.chat import ChatRequest, Failure, Message
from curate.llm.model import ChatModel
from curate.ops import Columns, Failed, op

@op(reads="text", writes={"reply": pa.string()}, version=1, timeout_s=0)
class Asking:
    def __init__(self, *, llm: str | None = None, chat: ChatModel) -> None:
        self._chat = chat.connect()

    def __call__(self, texts: list[str]) -> Columns:
        asked = [ChatRequest((Message("user", (text,)),), 40) for text in texts]
        told = self._chat.ask(asked)
        return {"reply": [Failed(a.error, a.detail) if isinstance(a, Failure) else a.text for a in told]}
"""


@pytest.mark.slow
def test_a_recipe_serves_its_model_and_finds_its_answers_again(place: Workplace, vllm: Endpoint) -> None:
    place.write_module("asking", ASKING)
    place.images(12)
    steps = [{"op": "asking:Asking", "keep": {"reply": {"in": ["1 of None for small"]}}}]
    for out in ("one", "two"):
        llm = {"writer": {"url": "vllm", "model": "small", "cache": str(place.root / "answers")}}
        recipe = place.recipe(steps=steps, llm=llm, out=str(place.root / out))
        done = place.command("run", recipe, "--inline", "--json")
        assert done.code == 0 and done.json["samples"] == 12, done
    with sqlite3.connect(place.root / "answers" / FILE) as db:
        spent = db.execute("SELECT requests FROM accounts ORDER BY requests").fetchall()
    db.close()
    assert spent == [(0,), (12,)]


def test_only_a_served_model_has_settings_of_a_server() -> None:
    with pytest.raises(ValueError, match="only of a model that the run serves itself"):
        endpoint("http://127.0.0.1/v1", "small", server={"threads": 2})


def test_an_error_of_the_endpoint_itself_stays_what_it_is(tmp_path: Path, vllm: Endpoint) -> None:
    wrong = vllm.model_copy(update={"answers_as": "large"})
    with (
        pytest.raises(EndpointError, match="answered as 'small'"),
        serve(wrong) as served,
        GatewayService(served, tmp_path / "answers", "run") as service,
    ):
        service.ask(requests("hello"))
