"""A sample that kills, hangs or exits costs its own row, by name; what the machine lacks costs none."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome, Workplace

OWN = """
import errno, os, re, signal, subprocess, sys
from pathlib import Path
import pyarrow as pa
from curate.ops import op

HERE = Path(__file__).parent

def lacks(how):
    if (HERE / "mended").exists():
        return
    if how == "device":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if how == "disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if how == "wrapped":
        try:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        except OSError as err:
            raise ValueError("could not write") from err
    if how == "child":
        subprocess.run(["/nowhere/a-program"])
    if how == "module":
        import a_module_that_is_not_there
    if how == "memory":
        bytearray(1 << 60)

def ends(how):
    if how == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "abort":
        os.abort()
    if how == "exit":
        sys.exit(3)
    if how == "exit-hard":
        os._exit(0)
    if how == "hang":
        re.match("(a+)+$", "a" * 64 + "b")
    if how == "raise":
        raise KeyError("odd")

@op(reads="text", writes={"length": pa.int64()}, version=1)
def careless(texts, *, how: str = "signal"):
    for text in texts:
        if "bad" in text and not (HERE / "mended").exists():
            ends(how)
            lacks(how)
    return {"length": [len(text) for text in texts]}

class Held:
    def __init__(self, *, how: str = "device"):
        lacks(how)
        if how == "signal" and not (HERE / "mended").exists():
            ends(how)
    def __call__(self, texts):
        return {"length": [len(text) for text in texts]}

held = op(reads="text", writes={"length": pa.int64()}, version=1)(Held)
"""

BAD = (7, 31)


def recipe(place: Workplace, how: str, op: str = "own_ops:careless", **more: Any) -> Path:
    """Forty texts in two shards; two of them are bad, one in each."""
    place.write_module("own_ops", OWN)
    texts = [{"text": f"bad {n}" if n in BAD else f"a fine text {n}"} for n in range(40)]
    (place.root / "texts.jsonl").write_text("\n".join(map(json.dumps, texts)) + "\n")
    steps = [{"op": op, "with": {"how": how}}, {"op": "text_basic"}]
    source = {"type": "text", "path": str(place.root / "texts.jsonl")}
    return place.recipe(kind="text", source=source, steps=steps, shard_samples=20, **more)


def failures(outcome: Outcome) -> dict[str, int]:
    assert outcome.code == 0, outcome.stderr
    funnel = json.loads(outcome.stdout)["funnel"]
    return dict(next(line for line in funnel if line["step"] in ("careless", "held", "Held"))["failed"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", ["signal", "exit-hard", *(pytest.param(how, marks=pytest.mark.robust) for how in ("abort", "exit"))]
)
def test_sample_that_ends_its_process_fails_alone_by_name(place: Workplace, how: str) -> None:
    done = place.command("run", recipe(place, how), "--inline", "--json")
    assert failures(done) == {"worker_died": len(BAD)}
    assert len(place.published()) and done.json["samples"] == 38
    detail = [row for row in place.failed_rows() if row["error"] == "worker_died"]
    said = {"signal": "SIGSEGV", "abort": "SIGABRT", "exit": "SystemExit(3)", "exit-hard": "exit code 0"}[how]
    assert len(detail) == len(BAD) and all(said in row["detail"] for row in detail)
    again = place.command("run", place.root / "recipe.yaml", "--inline", "--json")
    assert failures(again) == {"worker_died": len(BAD)} and again.json["funnel"][1]["computed"] == 0


@pytest.mark.slow
def test_sample_that_kills_gives_the_same_bytes_on_one_worker_and_four(place: Workplace) -> None:
    found = []
    for how in (["--workers", "1"], ["--workers", "4"]):
        place.out = place.root / f"out-{how[-1].strip('-')}"
        done = place.command("run", recipe(place, "signal"), "--json", *how)
        assert failures(done) == {"worker_died": len(BAD)}, how
        assert place.leftovers() == []
        columns = sorted(place.out.glob("pool-*/columns/careless-*/*.parquet"))
        found.append((place.published(), [path.read_bytes() for path in columns]))
    assert found[0] == found[1]


@pytest.mark.slow
def test_op_that_hangs_on_a_sample_fails_it_and_the_others_go_on(place: Workplace) -> None:
    """A regular expression that backtracks for ever holds the interpreter: no thread could stop it."""
    done = place.command("run", recipe(place, "hang", limits={"op_timeout_s": 2}), "--inline", "--json")
    assert failures(done) == {"op_timeout": len(BAD)}
    assert "more than 2 s" in place.failed_rows()[0]["detail"]


@pytest.mark.parametrize("how", ["device", "disk", "wrapped", "child", "module", "memory"])
def test_what_the_machine_lacks_fails_no_sample_and_the_run_goes_on_when_it_is_mended(
    place: Workplace, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.engine.workers.PAUSES_S", (0.01,))
    written = recipe(place, how)
    stopped = place.run(written)
    assert stopped.code == 1 and "This machine lacks something: no sample was failed for it" in stopped.stderr
    assert "careless" in stopped.stderr and not list(place.out.glob("pool-*/columns/careless-*/*"))
    (place.root / "mended").touch()
    assert failures(place.run(written)) == {}


def test_model_that_cannot_be_loaded_fails_no_sample(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.engine.workers.PAUSES_S", (0.01,))
    written = recipe(place, "device", "own_ops:held")
    stopped = place.run(written)
    assert stopped.code == 1 and "what it needs cannot be loaded: RuntimeError: CUDA out of memory" in stopped.stderr
    (place.root / "mended").touch()
    assert failures(place.run(written)) == {}


@pytest.mark.slow
def test_model_that_ends_the_process_that_loads_it_fails_no_sample(place: Workplace) -> None:
    written = recipe(place, "signal", "own_ops:held", limits={"failed": 1})
    stopped = place.command("run", written, "--inline", "--json")
    assert stopped.code == 1 and "what it needs cannot be loaded" in stopped.stderr and "SIGSEGV" in stopped.stderr
    assert "no sample was failed for it" in stopped.stderr and place.failed_rows() == []
    (place.root / "mended").touch()
    assert failures(place.command("run", written, "--inline", "--json")) == {}


def test_words_of_a_sample_in_an_error_do_not_stop_the_run(place: Workplace) -> None:
    """A parser quotes what it was given; a stranger could write there what a machine says."""
    own = OWN.replace('raise KeyError("odd")', 'raise ValueError("not a number: No space left on device")')
    written = recipe(place, "raise")
    place.write_module("own_ops", own)
    assert failures(place.run(written)) == {"value_error": len(BAD)}


def test_failures_are_forgotten_by_name_and_computed_again(place: Workplace) -> None:
    written = recipe(place, "raise")
    assert failures(place.run(written)) == {"key_error": len(BAD)}
    (place.root / "mended").touch()
    assert failures(place.run(written)) == {"key_error": len(BAD)}, "what is committed is not computed again unasked"
    forgotten = place.curate("retry", written, "--inline", "--error", "key_error", "--step", "careless")
    assert forgotten.code == 0 and f"{len(BAD)} failures forgotten" in forgotten.stdout, forgotten.stderr
    again = place.run(written)
    assert failures(again) == {} and again.steps["careless"]["computed"] == len(BAD)
    place_fresh = place.published()
    place.out = place.root / "fresh"
    assert failures(place.run(recipe(place, "raise"))) == {} and place.published() == place_fresh


def test_forgetting_tells_what_it_cannot_do(place: Workplace) -> None:
    written = recipe(place, "raise")
    place.run(written)
    for words, said in (
        (["--error", "nothing_such"], "nothing failed by nothing_such"),
        (["--step", "careless"], "name the error, too"),
        (["--error", "key_error", "--step", "carless"], "did you mean 'careless'?"),
        ([], "--error NAME"),
    ):
        told = place.curate("retry", written, "--inline", *words)
        assert said in told.stdout + told.stderr, (words, told)


class Gone(http.server.BaseHTTPRequestHandler):
    """Serves one picture, once it is there."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200 if self.body else 404)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_failures_of_the_source_are_tried_again_by_name(place: Workplace) -> None:
    handler = type("Handler", (Gone,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lines = [f"http://127.0.0.1:{server.server_port}/1.png,here", "ftp://x.org/2.png,elsewhere"]
        (place.root / "urls.csv").write_text("url,text\n" + "\n".join(lines) + "\n")
        source = {"type": "urls", "path": str(place.root / "urls.csv")}
        more = {"download": {"allow_private": ["127.0.0.1"], "retries": 0}, "limits": {"failed": 1}}
        written = place.recipe(source=source, steps=[{"op": "image_size"}], **more)
        assert place.run(written).steps["ingest"]["failed"] == {"forbidden_scheme": 1, "http_404": 1}
        handler.body = place.png()
        for error, said in (
            ("opt_out", "nothing failed by opt_out"),
            ("http_404", "1 failed rows tried again, 1"),
        ):
            told = place.curate("retry", written, "--inline", "--error", error, "--step", "ingest")
            assert said in told.stdout, told
        assert place.run(written).steps["image_size"]["kept"] == 1
        server.shutdown()


@pytest.mark.slow
def test_process_that_is_killed_again_and_again_at_one_shard_ends_in_a_sentence(place: Workplace) -> None:
    """Killed from outside, no sample is to blame: none is failed, and after five deaths the run says so."""
    written = recipe(place, "raise")
    killer = "import os, signal\nfrom curate.engine import steps\n"
    killer += "steps.Annotator._run = lambda *a, **k: os.kill(os.getpid(), signal.SIGABRT)\n"
    place.write_module("sitecustomize", killer)
    done = place.command("run", written, "--inline", "--json")
    assert done.code == 1 and "5 processes died of shard 0, and not of one of its samples" in done.stderr


def test_supervised_command_ends_as_its_work_ends(tmp_path: Path) -> None:
    program = "import sys; from pipelines.supervise import supervise; sys.exit(supervise(lambda: {}))"
    for work, code in (("7", 7), ("__import__('os').kill(__import__('os').getpid(), 15)", -15)):
        done = subprocess.run([sys.executable, "-c", program.format(work)], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
