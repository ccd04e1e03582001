"""Bench the stream beside other loaders: samples a second, CPU, start and resume.

    python bench/loader.py --work DIR [--samples 4000] [--runs 5] [--only webdataset,litdata]

`view` is curate's other reader: the mixture as a list (`MixtureView`), read in order by torch's own DataLoader. Peers:
webdataset, mosaicml-streaming, megatron-energon, litdata; each in an environment of its own that this script makes
below --work (torch comes from the environment it runs in). curate, webdataset and energon read the very same tars;
streaming and litdata read the same samples in their own formats, converted before the clock starts.

Tasks, all shuffled, batches of 64, two workers (two threads for curate):
- bytes: the encoded image and the caption, nothing decoded.
- uint8: JPEG 570x446 to 224x224 uint8; the peers by Pillow (bicubic, centre cut), curate by `Fit(224)`.
- exact: open_clip's inference transform; the peers with its floats, curate with its pixels in uint8 (`exact=True`),
  to be normalised on the device.

A rate is taken from the first batch on, over --samples and at least 2 seconds, 5 at most. CPU seconds are those of the
process and its workers over the same time. `start` is from the making of the loader to its first batch; task `resume`
has it for bytes, and `resume` is the same at 80 % of an epoch, in a loader made anew from a saved state. One JSON line
a run, medians, ratios last.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peers import PEERS, environment

TASKS = ("bytes", "uint8", "exact")
BATCH, WORKERS, SHARD = 64, 2, 500
LIMIT_S = 120
LEAST_S, MOST_S = 2, 5
WIDTH, HEIGHT, SIDE = 570, 446, 224
ROOT = Path(__file__).resolve().parent.parent


# What is read: pictures with edges, slopes and some grain, as photographs have, so that a JPEG is about 50 kB.
def picture(number: int) -> bytes:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (14, 18, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT), 3)
    grain = rng.integers(-9, 10, (64, 64, 1), dtype=np.int16)
    tiled = np.tile(grain, (HEIGHT // 64 + 1, WIDTH // 64 + 1, 1))[:HEIGHT, :WIDTH]
    file = io.BytesIO()
    Image.fromarray((np.asarray(coarse) + tiled).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def materials(work: Path, count: int) -> Path:
    """Tars with indexes, a dataset.json and a mixture of one; made once."""
    from curate import mix
    from curate.sample import uid_of
    from curate.shards import DatasetInfo, ShardWriter, save_dataset

    folder = work / f"tars-{count}"
    if (work / f"mixture-{count}.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    infos = []
    for shard in range(-(-count // SHARD)):
        with ShardWriter(folder / f"{shard:05d}.tar") as writer:
            for number in range(shard * SHARD, min((shard + 1) * SHARD, count)):
                parts = {"jpg": picture(number), "txt": f"picture {number} of many".encode()}
                writer.add(uid_of("caption", "bench", str(number)), parts)
        infos.append(writer.info)
    size = sum(info.bytes for info in infos)
    save_dataset(
        DatasetInfo(name="bench", kind="caption", samples=count, bytes=size, recipe="bench", shards=tuple(infos)),
        folder,
    )
    mix.build([(folder, 1.0)], 0, work / f"mixture-{count}.json")
    return folder


def samples(folder: Path) -> Iterator[dict[str, bytes]]:
    import tarfile

    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found: dict[str, bytes] = {}
            for member in tar:
                data = tar.extractfile(member)
                assert data is not None
                found[member.name.rpartition(".")[2]] = data.read()
                if {"jpg", "txt"} <= found.keys():
                    yield found
                    found = {}


# What a peer does with a sample's bytes, in its workers.
def prepared(task: str) -> Callable[[bytes, bytes], Any]:
    if task == "bytes":
        return lambda jpg, txt: (jpg, txt)
    if task == "exact":
        from open_clip.transform import image_transform

        transform: Any = image_transform(SIDE, is_train=False)
    else:
        from torchvision import transforms as t

        cubic = t.InterpolationMode.BICUBIC
        transform = t.Compose([t.Resize(SIDE, cubic), t.CenterCrop(SIDE), t.PILToTensor()])

    def decode(jpg: bytes, txt: bytes) -> Any:
        from PIL import Image

        return transform(Image.open(io.BytesIO(jpg)).convert("RGB")), txt

    return decode


def stacked(batch: list[Any]) -> Any:
    import torch

    first = [item[0] for item in batch]
    return (torch.stack(first) if torch.is_tensor(first[0]) else first), [item[1] for item in batch]


# The loaders. Each takes (folder, task, state) and returns (iterator of batches, how to get its state after n samples).
Made = tuple[Iterator[Any], Callable[[int], Any] | None]


def curate(folder: Path, task: str, state: Any) -> Made:
    from curate.stream.resize import Fit
    from curate.stream.stream import ReadOptions, Stream

    manifest = folder.parent / f"{folder.name.replace('tars', 'mixture')}.json"
    prepare = None if task == "bytes" else Fit(SIDE, exact=task == "exact")
    stream = Stream(manifest, BATCH, prepare, reading=ReadOptions(threads=WORKERS))
    if state is not None:
        stream.load_state_dict(state)
    return iter(stream), lambda _: stream.state_dict()


def view(folder: Path, task: str, state: Any) -> Made:
    from torch.utils.data import DataLoader, Subset

    from curate.stream import Fit, MixtureView

    manifest = folder.parent / f"{folder.name.replace('tars', 'mixture')}.json"
    prepare = None if task == "bytes" else Fit(SIDE, exact=task == "exact")
    items = MixtureView(manifest, prepare, length=1 << 40)
    start = items.position_of(state) if state is not None else 0
    collate = as_read if task == "bytes" else None
    rest = DataLoader(Subset(items, range(start, len(items))), BATCH, num_workers=WORKERS, collate_fn=collate)
    return counted(rest), lambda seen: items.state_at(start + seen)


def as_read(items: list[Any]) -> tuple[list[Any]]:
    """A batch of samples as they were read."""
    return (items,)


def counted(batches: Any) -> Iterator[tuple[Any]]:
    """Batches whose first part is as long as the batch."""
    for batch in batches:
        yield (batch["image"],) if isinstance(batch, dict) else batch


def webdataset(folder: Path, task: str, state: Any) -> Made:
    import webdataset as wds

    decode = prepared(task)
    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    dataset = wds.WebDataset(shards, shardshuffle=100, empty_check=False).shuffle(1000).to_tuple("jpg", "txt")
    dataset = dataset.map(lambda item: decode(*item)).batched(BATCH, collation_fn=stacked)
    return iter(wds.WebLoader(dataset.repeat(), batch_size=None, num_workers=WORKERS)), None


def streaming(folder: Path, task: str, state: Any) -> Made:
    from streaming import StreamingDataLoader, StreamingDataset

    own = folder.with_name(folder.name + "-mds")
    decode = prepared(task)

    class Pictures(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            sample = super().__getitem__(index)
            return decode(sample["jpg"], sample["txt"])

    dataset = Pictures(local=str(own), shuffle=True, batch_size=BATCH)
    loader = StreamingDataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=stacked)
    if state is not None:
        loader.load_state_dict(state)
    return cycled(loader), lambda _: loader.state_dict()


def litdata(folder: Path, task: str, state: Any) -> Made:
    import litdata as lit

    own = folder.with_name(folder.name + "-lit")
    decode = prepared(task)

    class Pictures(lit.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> Any:
            sample = super().__getitem__(index)
            return decode(sample["jpg"], sample["txt"])

    dataset = Pictures(str(own), shuffle=True)
    loader = lit.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=stacked)
    if state is not None:
        loader.load_state_dict(state)
    return cycled(loader), lambda _: loader.state_dict()


def energon(folder: Path, task: str, state: Any) -> Made:
    from megatron import energon as en

    decode = prepared(task)

    @en.stateless
    def cook(sample: Any) -> Any:
        return {**en.basic_sample_keys(sample), "item": decode(sample["jpg"], sample["txt"])}

    class Encoder(en.DefaultTaskEncoder):  # type: ignore[misc]
        decoder = None
        cookers = [en.Cooker(cook)]  # noqa: RUF012

        def batch(self, batch: Any) -> Any:
            return stacked([sample["item"] for sample in batch])

    config = en.WorkerConfig(rank=0, world_size=1, num_workers=WORKERS)
    dataset = en.get_train_dataset(
        str(folder),
        worker_config=config,
        batch_size=BATCH,
        shuffle_buffer_size=1000,
        max_samples_per_sequence=100,
        task_encoder=Encoder(),
    )
    loader = en.get_savable_loader(dataset)
    if state is not None:
        loader.restore_state_rank(state)
    return iter(loader), lambda _: loader.save_state_rank()


def cycled(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


MAKERS = {
    "curate": curate,
    "view": view,
    "webdataset": webdataset,
    "streaming": streaming,
    "energon": energon,
    "litdata": litdata,
}


def same(sample: dict[str, bytes]) -> dict[str, bytes]:
    return sample


def convert(name: str, folder: Path) -> dict[str, Any]:
    """Lay the samples out as a peer wants them, once."""
    mds, lit = (folder.with_name(folder.name + end) for end in ("-mds", "-lit"))
    if name == "streaming" and not (mds / "index.json").exists():
        from streaming import MDSWriter

        with MDSWriter(out=str(mds), columns={"jpg": "bytes", "txt": "bytes"}, exist_ok=True) as writer:
            for sample in samples(folder):
                writer.write(sample)
    if name == "litdata" and not (lit / "index.json").exists():
        import litdata

        options = {"chunk_bytes": "64MB", "num_workers": 1, "mode": "overwrite"}
        litdata.optimize(fn=same, inputs=list(samples(folder)), output_dir=str(lit), **options)
    if name == "energon" and not (folder / ".nv-meta").exists():
        command = [str(Path(sys.executable).parent / "energon"), "prepare", "--non-interactive", "--no-progress"]
        options = ["--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset", "--num-workers", "2"]
        subprocess.run([*command, *options, str(folder)], check=True, stdout=sys.stderr)
    return {"converted": name}


def cpu_seconds() -> float:
    """User and system time of this process and all below it, those that have ended too."""
    ticks, total, below = os.sysconf("SC_CLK_TCK"), 0.0, {os.getpid()}
    table = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        table[int(entry.parent.name)] = (int(fields[1]), sum(map(int, fields[11:13])))
    while more := {pid for pid, (parent, _) in table.items() if parent in below} - below:
        below |= more
    total = sum(table[pid][1] for pid in below if pid in table) / ticks
    ended = os.times()
    return total + ended.children_user + ended.children_system


def rate(name: str, folder: Path, task: str, count: int) -> dict[str, Any]:
    """One run: samples a second and CPU after the first batch; seconds to that batch."""
    warm(name, task)
    begun = time.perf_counter()
    batches, _ = MAKERS[name](folder, task, None)
    next(batches)
    start = time.perf_counter() - begun
    begun, cpu, seen = time.perf_counter(), cpu_seconds(), 0
    while (took := time.perf_counter() - begun) < LEAST_S or (seen < count and took < MOST_S):
        batch = next(batches)
        seen += len(getattr(batch, "uids", None) or batch[0])
    return {"rate": seen / took, "cpu_per_1000": 1000 * (cpu_seconds() - cpu) / seen, "start": start}


OWN = {name: ("curate.stream",) for name in ("curate", "view")} | {"energon": ("megatron.energon",)}


def warm(name: str, task: str) -> None:
    """Import what is needed: that is not what is measured."""
    prepared(task)
    for module in OWN.get(name, (name,)):
        importlib.import_module(module)


def resume(name: str, folder: Path, count: int) -> dict[str, Any]:
    """Seconds to the first batch at the beginning, and at 80 % of an epoch from a state."""
    out = {}
    state = None
    warm(name, "bytes")
    for what, upto in (("start", int(0.8 * count) // BATCH), ("resume", 1)):
        begun = time.perf_counter()
        batches, saved = MAKERS[name](folder, "bytes", state)
        next(batches)
        out[what] = time.perf_counter() - begun
        if saved is None:
            break
        for _ in itertools.islice(batches, upto - 1):
            pass
        state = saved(upto * BATCH)
    return out


def one(name: str, python: str, folder: Path, what: str, count: int) -> dict[str, Any]:
    """A run in a process of its own."""
    command = [python, str(Path(__file__).resolve()), "--child", name, what, str(folder), str(count)]
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    environ = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        running = subprocess.Popen(command, env=environ, stdout=out, stderr=err, start_new_session=True)
        try:
            running.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)  # workers that outlive their loader
            running.wait()
        out.seek(0), err.seek(0)
        lines, errors = out.read().splitlines(), err.read().strip().splitlines()
    if running.returncode or not lines:
        sys.stderr.write("\n".join([f"{name} {what}:", *errors[-6:], ""]))
        return {"failed": errors[-1] if errors else "took too long"}
    return dict(json.loads(lines[-1]))


def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    whole = [run for run in runs if "failed" not in run]
    keys = whole[0] if whole else {}
    return {key: round(statistics.median(run[key] for run in whole), 4) for key in keys}


def compare(found: dict[str, dict[str, float]], what: str) -> dict[str, Any]:
    """Ratios of curate's figures to the best of the others'; above 1 is better for a rate, below 1 for seconds."""
    ours, others = found["curate"], {name: f for name, f in found.items() if name not in ("curate", "view") and f}
    out: dict[str, Any] = {"ratio": what}
    for key in ours:
        better = max if key == "rate" else min
        rates = {name: figures[key] for name, figures in others.items() if key in figures}
        if rates:
            best = better(rates, key=lambda name: rates[name])
            out[key] = {"to": best, "ratio": round(ours[key] / rates[best], 3)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work/bench-loader"))
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default=",".join(PEERS))
    parser.add_argument("--tasks", default=",".join((*TASKS, "resume")))
    asked = parser.parse_args()
    folder = materials(asked.work.resolve(), asked.samples)
    pythons = {"curate": sys.executable, "view": sys.executable}
    pythons |= {name: environment(asked.work.resolve(), name) for name in asked.only.split(",") if name}
    for name, python in pythons.items():
        one(name, python, folder, "convert", asked.samples)
    for task in asked.tasks.split(","):
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
        for number in range(asked.runs):
            for name, python in pythons.items():
                runs[name].append(one(name, python, folder, task, asked.samples))
                print(json.dumps({"task": task, "run": number, "loader": name, **runs[name][-1]}), flush=True)
        found = {name: medians(of) for name, of in runs.items()}
        for name, figures in found.items():
            print(json.dumps({"task": task, "median": name, **figures}))
        if found["curate"]:
            print(json.dumps(compare(found, task)), flush=True)


def child(name: str, what: str, folder: Path, count: int) -> None:
    if what == "convert":
        out = convert(name, folder)
    else:
        out = resume(name, folder, count) if what == "resume" else rate(name, folder, what, count)
    print(json.dumps(out), flush=True)
    os._exit(0)  # some loaders' workers take their time to end


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
