"""Model ops on accelerators: who gets which device, what a device's lack of memory costs, and that the laws hold there.

No GPU is needed: Ray is told that there are some (`--gpus`), and the ops here say what they were given.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome, Workplace, errors

from curate.engine.hands import GpuShare
from curate.engine.placement import place as placed
from curate.engine.stages import stages
from curate.models import devices
from curate.recipe.resolve import load
from curate.recipe.steps import assign_fingerprints

OWN = """
import json, os, signal, time, uuid
from pathlib import Path
import pyarrow as pa
from curate.models.devices import CPU, Device
from curate.ops import op

HERE = Path(__file__).parent

def write(**said):
    (HERE / "seen").mkdir(exist_ok=True)
    said |= {"pid": os.getpid(), "visible": os.environ.get("CUDA_VISIBLE_DEVICES")}
    (HERE / "seen" / f"{time.time_ns()}-{uuid.uuid4()}").write_text(json.dumps(said))

def meet(workers):
    until = time.monotonic() + 60
    while len({p.name for p in (HERE / "met").glob("*")}) < workers and time.monotonic() < until:
        (HERE / "met").mkdir(exist_ok=True)
        (HERE / "met" / str(os.getpid())).touch()
        time.sleep(0.05)

@op(
    reads="text", writes={"length": pa.int64()}, version=1, batch_size=4,
    runs_on="accelerator", memory_gb=1.0, device_batch=8,
)
class model:
    def __init__(self, *, room: int = 100, workers: int = 1, wrong: bool = False, device: Device = CPU):
        self.room, self.workers, self.wrong, self.device = room, workers, wrong, device

    def __call__(self, texts):
        return self.compute([self.prepare(text) for text in texts])

    def prepare(self, text):
        if "unfit" in text:
            raise KeyError("unfit")
        return text

    def compute(self, texts):
        write(rows=len(texts), kind=self.device.kind, threads=self.device.threads)
        meet(self.workers)
        for text in texts:
            if "kill" in text:
                os.kill(os.getpid(), signal.SIGKILL)
            if "hang" in text:
                time.sleep(3600)
            if "odd" in text:
                raise ValueError("odd")
        if len(texts) > self.room:
            import torch
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return {"length": [len(text) for text in texts][self.wrong :]}

@op(reads="image", writes={"side": pa.int64()}, version=1, runs_on="accelerator", device_batch=16)
class side:
    def __init__(self, *, device: Device = CPU):
        pass

    def __call__(self, images):
        return self.compute([self.prepare(image) for image in images])

    def prepare(self, image):
        write(thread=__import__("threading").current_thread().name)
        return max(image.size)

    def compute(self, sides):
        return {"side": sides}
"""


def recipe(place: Workplace, texts: Sequence[str], knobs: dict[str, Any] | None = None, **more: Any) -> Path:
    place.write_module("own_models", OWN)
    (place.root / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts) + "\n")
    source = {"type": "text", "path": str(place.root / "texts.jsonl")}
    steps = [{"op": "text_basic"}, {"op": "own_models:model", "with": knobs or {}}, {"op": "language"}]
    said: dict[str, Any] = {"kind": "text", "source": source, "steps": steps, "shard_samples": 10}
    return place.recipe(**said | more)


def seen(place: Workplace) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((place.root / "seen").glob("*"))]


def samples(place: Workplace) -> dict[str, str]:
    """What was published, but for the choices that dataset.json names: the device is one of them."""
    return {name: digest for name, digest in place.published().items() if name != "dataset.json"}


def failed(outcome: Outcome, step: str = "model") -> dict[str, int]:
    return dict(outcome.steps[step]["failed"])


FINE = [f"a fine text {n}" for n in range(40)]


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "fraction"), [(2, 0.5), pytest.param(1, 0.25, marks=pytest.mark.systems)])
def test_workers_share_gpus_and_each_sees_its_own_alone(place: Workplace, gpus: int, fraction: float) -> None:
    """Four workers, two on each of two GPUs, or all on one."""
    written = recipe(place, FINE, steps=[{"op": "own_models:model", "with": {"workers": 4}}])
    told = ["--json", "-w", "4", "--gpus", str(gpus), "--gpu-fraction", str(fraction)]
    done = place.command("run", written, *told, timeout_s=300)
    assert failed(done) == {} and done.json["samples"] == 40
    of = {said["pid"]: said["visible"] for said in seen(place)}
    assert Counter(of.values()) == {str(gpu): 4 // gpus for gpu in range(gpus)}
    assert {said["kind"] for said in seen(place)} == {"cuda"} and {said["threads"] for said in seen(place)} == {1}


@pytest.mark.slow
def test_row_that_kills_a_worker_with_a_gpu_or_hangs_there_fails_alone(place: Workplace) -> None:
    texts = list(FINE)
    texts[7], texts[31], texts[32] = "kill 7", "hang 31", "unfit 32"
    written = recipe(place, texts, steps=[{"op": "own_models:model"}], limits={"op_timeout_s": 2})
    told = ["--json", "-w", "2", "--gpus", "2", "--gpu-fraction", "1"]
    done = place.command("run", written, *told, timeout_s=300)
    assert failed(done) == {"worker_died": 1, "op_timeout": 1, "key_error": 1} and done.json["samples"] == 37
    assert place.leftovers() == []
    workers = {said["pid"] for said in seen(place)}
    assert len(workers) > 2  # those that died were replaced


def test_device_without_memory_halves_the_batch_and_fails_no_row(place: Workplace) -> None:
    done = place.run(recipe(place, FINE, {"room": 5}), "--gpus", "1")
    assert failed(done) == {} and done.json["samples"] == 40
    lengths = [row["columns"] for row in place.explained()]
    assert all(next(c for name, c in row.items() if name.startswith("model"))["length"] >= 11 for row in lengths)
    assert Counter(said["rows"] for said in seen(place)) == {8: 1, 4: 12}  # 4 shards of 10 rows: 3 calls each


def test_calls_on_a_device_are_of_one_size_and_on_a_processor_as_ever(place: Workplace) -> None:
    assert failed(place.run(recipe(place, FINE), "--gpus", "1")) == {}
    assert Counter(said["rows"] for said in seen(place)) == {8: 8}  # 10 rows a shard: 8, and 2 filled up to 8
    on_device = samples(place)
    place.out = place.root / "other"
    assert failed(place.run(recipe(place, FINE), "--gpus", "0")) == {}
    assert Counter(said["rows"] for said in seen(place)[8:]) == {4: 8, 2: 4}
    assert samples(place) == on_device


def test_row_too_large_for_the_device_ends_the_run_and_is_not_failed(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.engine.workers.PAUSES_S", (0.01,))
    stopped = place.run(recipe(place, FINE, {"room": 0}), "--gpus", "1")
    assert stopped.code == 1 and "CUDA out of memory" in stopped.stderr and "no sample was failed" in stopped.stderr
    assert not list(place.out.glob("pool-*/columns/model-*/*"))


def test_row_that_the_model_fails_on_fails_alone_by_name(place: Workplace) -> None:
    texts = list(FINE)
    texts[3], texts[25] = "odd 3", "unfit 25"
    assert failed(place.run(recipe(place, texts), "--gpus", "1")) == {"value_error": 1, "key_error": 1}


def test_model_that_answers_the_wrong_shape_stops_the_step(place: Workplace) -> None:
    for gpus in ("0", "1"):
        stopped = place.run(recipe(place, FINE, {"wrong": True}), "--gpus", gpus)
        assert stopped.code == 1 and "values in 'length' for" in stopped.stderr
        assert not list(place.out.glob("pool-*/columns/model-*/*"))


def test_images_are_prepared_in_threads_and_those_that_do_not_decode_fail_as_ever(place: Workplace) -> None:
    place.write_module("own_models", OWN)
    (place.images(30) / "00004.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    written = place.recipe(steps=[{"op": "own_models:side"}], publish={"columns": ["side"]})
    done = place.run(written, "--gpus", "1", "--cpus", "2")
    assert failed(done, "side") == {"truncated_image": 1} and done.json["samples"] == 29
    assert {said["thread"].partition("_")[0] for said in seen(place)} == {"prepare"}
    published = samples(place)
    place.out = place.root / "other"
    assert failed(place.run(written, "--gpus", "0", "--set", f"out={place.out}"), "side") == {"truncated_image": 1}
    assert samples(place) == published


def test_loosened_rule_before_a_model_computes_the_new_rows_alone(place: Workplace) -> None:
    steps = [{"op": "text_basic", "keep": {"word_count": {"max": 2}}}, {"op": "own_models:model"}]
    texts = ["two words", "now three words"] * 10
    assert place.run(recipe(place, texts, steps=steps), "--gpus", "1").steps["model"]["computed"] == 10
    steps[0] = {"op": "text_basic", "keep": {"word_count": {"max": 3}}}
    again = place.run(recipe(place, texts, steps=steps), "--gpus", "1")
    assert again.steps["model"]["computed"] == 10 and again.json["samples"] == 20


def test_stages_are_cut_where_the_device_changes_and_not_on_a_machine_without(place: Workplace) -> None:
    written = recipe(place, FINE)
    steps = {n: placed(load(written, [f"resources.gpus={n}"]), 0).resolved.steps for n in (0, 1)}
    of = {n: stages(assign_fingerprints(found, "")) for n, found in steps.items()}
    assert of == {0: [(0, 2)], 1: [(0, 0), (1, 1), (2, 2)]}


@pytest.mark.parametrize(("gpus", "fraction", "workers"), [(8, 1, 8), (4, 0.5, 8), (2, 0.25, 8), (3, 1 / 3, 9)])
def test_as_many_workers_as_the_gpus_hold(gpus: int, fraction: float, workers: int) -> None:
    assert GpuShare(gpus, fraction, 1).workers == workers


def test_recipe_and_step_and_command_line_say_what_is_taken(place: Workplace) -> None:
    written = recipe(place, FINE, resources={"gpu_fraction": 0.5, "cpus": 3, "gpus": 2})
    of_step = ["steps.1.resources.gpu_fraction=0.25", "steps.1.resources.batch=6"]
    for words, expected in (([], (0.5, 3, 8)), (["resources.cpus=2"], (0.5, 2, 8)), (of_step, (0.25, 3, 6))):
        at = placed(load(written, words), 0)
        share = at.share(at.resolved.steps[1:2])
        assert share and (share.fraction, share.cpus, at.resolved.steps[1].placement.batch) == expected


def test_dry_run_says_which_device_each_step_will_have(place: Workplace) -> None:
    written = recipe(place, FINE)
    on_cpu, on_gpu = (place.curate("run", written, "-n", "--inline", "--json", "--gpus", n) for n in ("0", "2"))
    assert [step["runs_on"].partition(":")[0] for step in on_cpu.json["steps"]] == ["cpu", "cpu, float32", "cpu"]
    assert on_gpu.json["steps"][1]["runs_on"].startswith("cuda, float32: up to 2 workers, 1 of a GPU and ")
    assert "cuda" in place.curate("run", written, "--dry-run", "--gpus", "2").stdout


def test_model_on_a_processor_beside_a_gpu_says_so_loudly(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr(devices, "_DRIVER_GPUS", tmp_path / "gpus")
    devices.this_machine.cache_clear()
    try:
        said = [place.run(recipe(place, FINE)), place.curate("run", recipe(place, FINE), "-n", "--inline")]
    finally:
        monkeypatch.undo()
        devices.this_machine.cache_clear()
    for one in said:
        assert one.code == 0 and "WARNING: model: ON THE CPU, though this machine has 1 GPU" in one.stderr


def test_a_share_that_nobody_has_is_refused_with_what_to_do(place: Workplace) -> None:
    errors(place.run(recipe(place, FINE, resources={"gpus": 0, "device": "cuda"})), ["contradict"])
    steps = [{"op": "text_basic", "resources": {"cpus": 2}}]
    errors(place.run(recipe(place, FINE, steps=steps)), ["text_basic", "runs on the processor alone"])
    errors(place.run(recipe(place, FINE), "--gpu-fraction", "1.5"), ["gpu_fraction"])


def test_device_that_is_not_there_is_the_machines_lack() -> None:
    if not devices.this_machine().gpus:
        with pytest.raises(devices.MachineError, match="torch sees none"):
            devices.Device("cuda", "bfloat16").torch()
