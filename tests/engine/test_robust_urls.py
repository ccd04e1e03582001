"""A third of a table's URLs go wrong in every known way: each row ends by its name, and no other is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "robust_urls.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "workers", [pytest.param("0", marks=pytest.mark.robust), pytest.param("2", marks=pytest.mark.systems)]
)
def test_two_thousand_urls_with_every_kind_of_error_are_counted_exactly(tmp_path: Path, workers: str) -> None:
    command = [sys.executable, str(SCRIPT), "--urls", "2000", "--workers", workers, "--home", str(tmp_path / "home")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert found["kinds_of_error"] >= 15 and not found["counts_that_differ"] and not found["pictures_of_another"]
    assert found["most_at_once_of_a_host"] <= found["per_host"]
