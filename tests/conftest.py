"""What the tests share: a workplace with a real source, and the real command line run on it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import hypothesis
import pyarrow.parquet as pq
import pytest
from PIL import Image
from skips import pytest_sessionfinish, pytest_terminal_summary

__all__ = ["Workplace", "pytest_sessionfinish", "pytest_terminal_summary"]

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
hypothesis.settings.register_profile("curate", deadline=None)  # what a clock says of a busy machine is no promise
hypothesis.settings.load_profile("curate")
if WORKERS := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # each of them its part of the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(WORKERS))))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `&` hands that down; tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--short", action="store_true", help="Of each file of tests its first fast one alone.")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes by how many they are: gzip writes the time into its own, and tests must have one name in all processes."""
    return f"{len(val)}B" if isinstance(val, bytes) and len(val) > 8 else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --short, leave out all but the first fast test of each file."""
    if config.getoption("--short"):
        fast = [item for item in items if not {"slow", "robust"} & {mark.name for mark in item.iter_markers()}]
        chosen = list({item.path: item for item in reversed(fast)}.values())
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = reversed(chosen)


@dataclass(frozen=True)
class Outcome:
    """What a command gave back."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """The funnel's lines by step, of a `run --json`."""
        assert self.code == 0, self.stderr
        return {line["step"]: line for line in self.json["funnel"]}


class Workplace:
    """A folder with a recipe, its source and its `out`; commands run on it as a user would run them."""

    def __init__(self, root: Path) -> None:
        self.root, self.src, self.out = root, root / "src", root / "out"
        self.src.mkdir(parents=True, exist_ok=True)

    def png(self, width: int = 20, height: int = 20, seed: int = 0) -> bytes:
        """A small PNG whose pixels depend on `seed`."""
        image = Image.frombytes("RGB", (width, height), Random(seed).randbytes(3 * width * height))
        image.save(body := io.BytesIO(), "PNG")
        return body.getvalue()

    def images(self, count: int) -> Path:
        """A folder of `count` small PNGs of different sizes, each with a caption beside it."""
        for number in range(count):
            chance = Random(number)
            body = self.png(chance.randrange(8, 40), chance.randrange(8, 40), number)
            (self.src / f"{number:05d}.png").write_bytes(body)
            words = " ".join(chance.choices(["red", "cat", "a", "house", "of", "light"], k=chance.randrange(1, 9)))
            (self.src / f"{number:05d}.txt").write_text(f"{words} {number}")
        return self.src

    def recipe(self, **changes: Any) -> Path:
        """Write a recipe; what is not said is a folder source without steps."""
        said: dict[str, Any] = {
            "name": "test",
            "out": str(self.out),
            "source": {"type": "folder", "path": str(self.src)},
            "shard_samples": 10,
        }
        path = self.root / "recipe.yaml"
        path.write_text(json.dumps(said | changes, indent=1, ensure_ascii=False))
        return path

    def write_module(self, name: str, text: str) -> None:
        """A module of the user's own, importable by this process until the test ends, and by `command`."""
        (self.root / f"{name}.py").write_text(text)

    def curate(self, *words: str | Path) -> Outcome:
        """The command line in this process."""
        from pipelines.cli.main import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(w) for w in words])
        return Outcome(code, out.getvalue(), err.getvalue())

    def run(self, recipe: Path, *words: str) -> Outcome:
        """`curate run --inline --json` in this process."""
        return self.curate("run", recipe, "--inline", "--json", *words)

    def start(self, *words: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The command line as a process with a group of its own."""
        path = os.pathsep.join([str(self.root), str(ROOT), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines", *map(str, words)],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def command(self, *words: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 120) -> Outcome:
        """The command line as a process, to its end."""
        process = self.start(*words, env=env)
        try:
            out, err = process.communicate(timeout=timeout_s)
        finally:
            kill_group(process)
        return Outcome(process.returncode, out, err)

    @property
    def dataset(self) -> Path:
        return self.out / "dataset"

    def published(self) -> dict[str, str]:
        """SHA-256 of every file of the dataset, by its name."""
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(self.dataset.iterdir())}

    def leftovers(self) -> list[str]:
        """Whatever a finished run should not leave below `out`."""
        wanted = ("pool-*", "stages", "decisions", "dataset", "report", "*.json", "*.html", "*.md", ".lock")
        odd = [p for p in self.out.iterdir() if not any(p.match(w) for w in wanted)]
        odd += [p for p in (self.out / "stages").glob("*") if p.is_dir()]
        return sorted(str(p.relative_to(self.out)) for p in [*odd, *self.out.rglob("*.tmp")])

    def explained(self, uid: str = "") -> list[dict[str, Any]]:
        """`curate explain --json`."""
        found = self.curate("explain", uid, "--out", self.out, "--json")
        assert found.code == 0, found.stderr
        return list(found.json)

    def failed_rows(self) -> list[dict[str, Any]]:
        """The rows that failed at a step, with error and detail, as the columns hold them."""
        files = sorted(self.out.glob("pool-*/columns/*/*.parquet"))
        rows = [row for file in files for row in pq.read_table(file, columns=["row", "error", "detail"]).to_pylist()]
        return [row for row in rows if row["error"] is not None]


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill -9 a process that a test started, with all that it started itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Workplace(tmp_path)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture(scope="session")
def make_place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workplace that several tests of a module share."""
    return lambda name: Workplace(tmp_path_factory.mktemp(name))


def errors(outcome: Outcome, names: Sequence[str]) -> None:
    """The run was refused, and the sentence holds all these words."""
    assert outcome.code == 2, (outcome.code, outcome.stderr)
    missing = [n for n in names if n not in outcome.stderr]
    assert not missing, f"{missing} not in: {outcome.stderr}"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package index; nothing else is asked."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder
