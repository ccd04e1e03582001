"""A sample that takes all the memory ends as a failed row; full disks are in tests/engine/test_bad_input.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace

pytestmark = pytest.mark.robust

GREEDY = """
import pyarrow as pa
from curate.ops import op

@op(reads="text", writes={"length": pa.int64()}, version=1)
def greedy(texts):
    for text in texts:
        held = []
        while "bad" in text:
            held.append(b"x" * (64 << 20))
    return {"length": [len(text) for text in texts]}
"""
HEADROOM = 5 << 30
"""The memory that Ray and the sample may take before it counts as all of it."""


def memory() -> dict[str, int]:
    told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return {name: int(told[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable")}


def test_sample_that_takes_all_the_memory_fails_alone(place: Workplace, table: list[dict[str, Any]]) -> None:
    place.write_module("greedy_ops", GREEDY)
    texts = [{"text": f"bad {n}" if n == 7 else f"a fine text {n}"} for n in range(20)]
    (place.root / "texts.jsonl").write_text("\n".join(map(json.dumps, texts)) + "\n")
    source = {"type": "text", "path": str(place.root / "texts.jsonl")}
    recipe = place.recipe(kind="text", source=source, steps=[{"op": "greedy_ops:greedy"}])
    now = memory()
    # As if the machine had no more than that above what is in use now.
    share = (now["MemTotal"] - now["MemAvailable"] + HEADROOM) / now["MemTotal"]
    env = {"RAY_memory_usage_threshold": f"{share + 0.03:.3f}", "RAY_memory_monitor_refresh_ms": "20"}
    done = place.command("run", recipe, "--workers=2", "--json", env=env, timeout_s=300)
    assert done.code == 0, done.stderr
    (failed,) = place.failed_rows()
    assert failed["error"] == "worker_died" and "having taken nearly all memory" in failed["detail"]
    assert done.json["samples"] == 19
    table.append({"victim": "memory", "command": "run", "deaths": 1, "outcome": failed["detail"]})
