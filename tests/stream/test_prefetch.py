"""Shards come into the host's cache before they are needed, and whatever befalls that changes no batch."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from batches import batches
from storage import Proxy
from train_samples import dataset

from curate import mix
from curate.settings import validate
from curate.shards import ShardCache, attach, attach_cached, load_dataset, remote
from curate.stream.reading import DatasetReader, ShardReaderCache
from curate.stream.resize import Fit
from curate.stream.stream import ReadOptions, Stream, StreamError

pytest.importorskip("s3fs")


def test_many_that_want_a_dataset_at_once_fetch_it_once(
    store: tuple[Path, Proxy], tmp_path: Path, at_home: Path
) -> None:
    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(lambda _: attach_cached("s3://bucket/many"), range(6)))
    assert len(folders) == 1
    got = [name for name, ranged, _ in store[1].asked if name.startswith("GET") and name.endswith(".arrow")]
    assert len(got) == 2


@pytest.fixture
def in_six(store: tuple[Path, Proxy], tmp_path: Path) -> Iterator[Path]:
    """A manifest of one dataset in S3, in six shards of ten samples that are read one after another."""
    folder = dataset(store[0] / f"six{time.time_ns()}", 60, seed=9, shards=6)
    attach(f"s3://bucket/{folder.name}", tmp_path / "six")
    spec = validate({"seed": 7, "open_shards": 1, "sources": [{"path": "six"}]}, mix.MixtureSpec, "spec.yaml")
    mix.compose(spec, tmp_path, tmp_path / "six.json")
    yield tmp_path / "six.json"
    shutil.rmtree(folder)


def until(met: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    give_up = time.monotonic() + 60
    while not met() and time.monotonic() < give_up:
        time.sleep(0.005)
    assert met()


def test_shards_are_cached_before_they_are_needed_and_batches_are_the_same(
    store: tuple[Path, Proxy], in_six: Path
) -> None:
    """Shards come into the cache before they are needed and give the same batches."""
    cache = ShardCache(in_six.parent / "cache", 1 << 30)
    stream = Stream(in_six, 4, reading=ReadOptions(cache=cache.folder))
    given = [next(stream).uids]
    until(lambda: len(list(cache.folder.glob("*.tar"))) == 6)
    store[1].asked.clear()
    given += [next(stream).uids for _ in range(14)]
    stream.close()
    assert store[1].asked == []
    alone = Stream(in_six, 4)
    assert [next(alone).uids for _ in range(15)] == given
    alone.close()


def test_fetching_ahead_that_fails_is_left_to_the_read_that_needs_it(store: tuple[Path, Proxy], in_six: Path) -> None:
    alone = Stream(in_six, 4)
    expected = [next(alone).uids for _ in range(15)]
    alone.close()
    store[1].fault = lambda number, path: ("", "503", "cut")[number % 3] if path.endswith(".tar") else ""
    stream = Stream(in_six, 4, reading=ReadOptions(cache=in_six.parent / "cache"))
    assert [next(stream).uids for _ in range(15)] == expected
    stream.close()
    store[1].fault = lambda number, path: "503" if path.endswith(".tar") else ""
    stream = Stream(in_six, 4, reading=ReadOptions(cache=in_six.parent / "empty"))
    with pytest.raises(StreamError, match=r"\.tar: could not be read in 7 tries"):
        next(stream)
    stream.close()


def test_shard_that_was_read_in_ranges_is_read_from_cache_once_it_is_there(
    store: tuple[Path, Proxy], attached: Path
) -> None:
    cache = ShardCache(attached.parent / "cache", 0)
    shelf = DatasetReader("few", attached.parent / "few", cache)
    first = shelf.read_many([1, 4])
    assert cache.used_bytes() == 0
    cache.budget_bytes = 1 << 30
    remote.prefetch_shard(shelf.folder, shelf.shards[0], cache, (), lambda: True)
    store[1].asked.clear()
    assert shelf.read_many([1, 4]) == first and store[1].asked == []
    shelf.close()


def test_cache_that_cannot_be_written_changes_no_batch(store: tuple[Path, Proxy], attached: Path) -> None:
    cache = attached.parent / "cache"
    for name in ("many", "few"):
        for shard in load_dataset(attached.parent / name).shards:
            (cache / f"{shard.sha256}.part").mkdir(parents=True)  # a file cannot be made of that name
    stream = Stream(attached, 16, Fit(16), reading=ReadOptions(cache=cache))
    given = [next(stream) for _ in range(4)]
    stream.close()
    assert [batch.uids for batch in given] == batches(store[0] / "mixture.json")
    assert not any(batch.replaced for batch in given)


def test_dropped_stream_fetches_nothing_more_and_leaves_no_file_open(in_six: Path) -> None:
    """A stream that is dropped fetches nothing more and leaves no file open."""
    before = threading.active_count()
    stream = Stream(in_six, 4, reading=ReadOptions(cache=in_six.parent / "cache"))
    next(stream)
    assert threading.active_count() > before
    del stream
    gc.collect()
    until(lambda: not any(thread.name == "ahead" for thread in threading.enumerate()))


def test_tars_that_the_cache_dropped_are_closed_once_they_are_not_needed(
    store: tuple[Path, Proxy], attached: Path
) -> None:
    cache, readers = ShardCache(attached.parent / "cache", 1 << 30), ShardReaderCache(9)
    shelf = DatasetReader("many", attached.parent / "many", cache, readers)
    shelf.read_many([0, 40])
    for file in cache.folder.glob("*.tar"):
        file.unlink()
    readers.close_dropped({("many", 1)})
    assert [readers.get("many", shard) is None for shard in range(2)] == [True, False]
    shelf.close()
