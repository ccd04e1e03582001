"""A skip that is not on the list fails the run, in one process and in several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("several", [(), ("-n", "2")], ids=["one process", "two"])
@pytest.mark.parametrize(
    ("reason", "code", "said"),
    [
        ("DejaVu Sans is not installed", 0, "1 skipped, 0 of them not on the list"),
        ("I did not feel like it", 1, "FAILED: skipped without leave: I did not feel like it"),
    ],
)
def test_a_skip_without_leave_fails_the_run(
    tmp_path: Path, reason: str, code: int, said: str, several: tuple[str, ...]
) -> None:
    (tmp_path / "conftest.py").write_text("from skips import pytest_sessionfinish, pytest_terminal_summary\n")
    (tmp_path / "test_it.py").write_text(
        f"import pytest\n\ndef test_a():\n    pytest.skip({reason!r})\n\ndef test_b():\n    pass\n"
    )
    env = {n: v for n, v in os.environ.items() if not n.startswith("PYTEST_")} | {"PYTHONPATH": str(HERE)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        *several,
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout
