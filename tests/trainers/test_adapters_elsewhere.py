"""The adapters of trainers that are no dependency, each in an environment that holds it: `make systems` makes them."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from own_trainer import FIRST, first_uids
from train_samples import composed, mixture, prose, published

from bench import peers
from curate.mix.count_tokens import add_text_tokens

pytestmark = [pytest.mark.slow, pytest.mark.systems]

ROOT = Path(peers.__file__).resolve().parents[1]


def seen_by(trainer: str, manifest: Path, folder: Path) -> dict[str, Any]:
    """What that trainer sees of a mixture, told by `readers.py` in its environment, which is made at the first run."""
    try:
        python = peers.environment(ROOT / "work" / "trainers", trainer)
    except subprocess.CalledProcessError:
        pytest.skip(f"(pypi): {trainer} cannot be installed")
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environ = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [python, Path(__file__).with_name("readers.py"), trainer, manifest, folder]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_grain_sees_the_mixtures_first_uids_however_it_reads(tmp_path: Path) -> None:
    manifest = mixture(tmp_path)
    seen, expected = seen_by("grain", manifest, tmp_path), first_uids(manifest)
    for reader in ("one", "workers", "ranks", "resumed"):
        assert seen[reader] == expected, reader
    assert seen["source"] in seen["refused"] and "MixtureView(other.json" in seen["refused"]


def test_trl_sees_the_mixtures_first_uids_and_goes_on_with_another_batch(tmp_path: Path) -> None:
    manifest = mixture(tmp_path)
    seen, expected = seen_by("trl", manifest, tmp_path), first_uids(manifest)
    assert seen["one"] == expected and seen["resumed"] == expected[400:]


def test_torchtitan_sees_the_mixtures_first_uids_and_goes_on_with_twice_the_ranks(tmp_path: Path) -> None:
    for name in ("prose", "verse"):
        published(tmp_path / name, "text", [prose(n + len(name) * 100) for n in range(90 - 7 * len(name))])
        add_text_tokens(tmp_path / name, "bytes", ())
    manifest = composed(tmp_path, "sources: [{path: prose, weight: 2}, {path: verse, weight: 1}]")
    seen, expected = seen_by("torchtitan", manifest, tmp_path), first_uids(manifest)
    for window in range(0, FIRST, 200):
        assert sorted(seen["uids"][window : window + 200]) == sorted(expected[window : window + 200])
    assert seen["shapes"] == [[4, 256]] * 3 and seen["first"]
    assert seen["dealt"] == seen["later"]


def test_energon_draws_our_samples_by_our_weights_in_an_order_of_its_own(tmp_path: Path) -> None:
    manifest = mixture(tmp_path)
    seen = seen_by("megatron-energon", manifest, tmp_path)["seen"]
    assert len(seen) == FIRST and {uid for uid, _ in seen} == set(first_uids(manifest))
    assert [uid for uid, _ in seen] != first_uids(manifest)
    strays = abs(Counter(source for _, source in seen)["few"] - FIRST / 4)
    assert strays < 4 * math.sqrt(FIRST * 0.25 * 0.75)
