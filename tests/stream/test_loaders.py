"""The stream in other people's trainers: torch's DataLoader and torchdata's, any number of workers, exact resume."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from train_samples import mixture

from curate import mix
from curate.stream.resize import Fit
from curate.stream.stream import Batch, ReadOptions, Share, Stream, StreamError

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than cores
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata calls it
]

GLOBAL = 24
ONE = ReadOptions(threads=1, prefetch=1)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture"))


def streams(manifest: Path, world: int, state: Mapping[str, Any] | None = None) -> list[Stream]:
    made = [Stream(manifest, GLOBAL, Fit(16), Share(rank, world), ONE) for rank in range(world)]
    for stream in made:
        if state:
            stream.load_state_dict(state)
    return made


def loaded(stream: Stream, workers: int, count: int) -> list[Batch]:
    """`count` batches as torch's DataLoader gives them."""
    return list(itertools.islice(DataLoader(stream, batch_size=None, num_workers=workers), count))


def contents(batches: list[Batch]) -> list[tuple[str, ...]]:
    return [batch.uids for batch in batches]


@pytest.fixture(scope="module")
def whole(manifest: Path) -> list[Batch]:
    stream = Stream(manifest, GLOBAL, Fit(16))
    batches = list(itertools.islice(stream, 9))
    stream.close()
    return batches


@pytest.mark.slow
@pytest.mark.parametrize("workers", range(5))
def test_torchs_dataloader_gives_same_batches_with_any_number_of_workers(
    manifest: Path, whole: list[Batch], workers: int
) -> None:
    batches = loaded(Stream(manifest, GLOBAL, Fit(16), reading=ONE), workers, 7)
    assert contents(batches) == contents(whole[:7])
    assert all(torch.equal(a.tensors["image"], b.tensors["image"]) for a, b in zip(batches, whole, strict=False))


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_global_batch_is_the_same_for_any_number_of_ranks(manifest: Path, whole: list[Batch], world: int) -> None:
    ranks = [list(itertools.islice(stream, 3)) for stream in streams(manifest, world)]
    for number in range(3):
        assert whole[number].uids == tuple(uid for rank in ranks for uid in rank[number].uids)


@pytest.mark.slow
def test_ranks_and_workers_may_change_in_the_middle_of_a_run(manifest: Path, whole: list[Batch]) -> None:
    state: Mapping[str, Any] | None = None
    seen: list[set[str]] = []
    for world, workers, count in ((2, 3, 3), (3, 0, 2), (1, 2, 2), (8, 1, 2)):
        ranks = [loaded(stream, workers, count) for stream in streams(manifest, world, state)]
        seen += [{uid for rank in ranks for uid in rank[n].uids} for n in range(count)]
        states = {json.dumps(rank[-1].state) for rank in ranks}
        assert len(states) == 1 and len(states.copy().pop()) <= 1024
        state = json.loads(states.pop())
    assert seen == [set(batch.uids) for batch in whole]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_torchdatas_stateful_loader_resumes_at_the_next_batch(manifest: Path, whole: list[Batch], workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    loader = stateful(Stream(manifest, GLOBAL, Fit(16), reading=ONE), batch_size=None, num_workers=workers)
    first = list(itertools.islice(loader, 4))
    state = loader.state_dict()
    again = stateful(Stream(manifest, GLOBAL, Fit(16), reading=ONE), batch_size=None, num_workers=workers)
    again.load_state_dict(state)
    assert contents(first + list(itertools.islice(again, 5))) == contents(whole)


def test_worker_refuses_the_state_of_another(manifest: Path) -> None:
    stream = Stream(manifest, GLOBAL)
    with pytest.raises(StreamError, match="another number of workers"):
        stream.load_state_dict({"position": 0, "manifest": stream.digest, "worker": [1, 3]})


def test_without_preparation_a_batch_holds_the_bytes_of_its_samples(manifest: Path, whole: list[Batch]) -> None:
    stream = Stream(manifest, GLOBAL)
    batch = next(stream)
    stream.close()
    assert batch.uids == whole[0].uids == tuple(sample.uid for sample in batch.samples)
    assert all(sample.parts["png"].startswith(b"\x89PNG") and sample.parts["txt"] for sample in batch.samples)


def test_samples_that_were_prepared_to_different_shapes_are_named(manifest: Path) -> None:
    stream = Stream(manifest, GLOBAL, lambda drawn: {"image": torch.zeros(len(drawn.parts["txt"]))})
    with pytest.raises(StreamError, match="prepare every sample to one shape"):
        next(stream)
    stream.close()


def test_stream_stops_before_the_end_of_its_manifest(manifest: Path, whole: list[Batch]) -> None:
    ending = manifest.with_name("ending.json")
    mix.save(mix.load(manifest).manifest.model_copy(update={"end": 2 * GLOBAL + 5}), ending)
    stream = Stream(ending, GLOBAL)
    assert contents(list(stream)) == contents(whole[:2])
    stream.close()
