"""The adapter for lmms-eval, as docs/training-evaluate.md prints it, against lmms-eval's own classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Workplace
from tiny_answerers import untrained
from train_samples import square

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.systems
def test_lmms_eval_is_told_what_curate_ask_tells(place: Workplace) -> None:
    site = place.root / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
    if subprocess.run([*pip, "lmms-eval==0.7.3", "loguru"], capture_output=True, check=False).returncode:
        pytest.skip("(pypi): lmms-eval cannot be installed")
    model, picture = untrained(place.root / "tiny.safetensors"), place.root / "square.png"
    picture.write_bytes(square(4)[0])
    paths = os.pathsep.join(map(str, (ROOT, site)))
    reader = [sys.executable, str(Path(__file__).with_name("lmms_reader.py")), str(model), str(picture), "What is it?"]
    done = subprocess.run(reader, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [place.curate("ask", model, *shown, "What is it?", "--tokens", "12", "--json") for shown in ([picture], [])]
    assert json.loads(done.stdout.splitlines()[-1]) == [one.json[0]["answer"] for one in told]
