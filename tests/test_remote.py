"""Datasets in object storage: the same batches as from a local disk, whatever the network does; the host's cache."""

from __future__ import annotations

import gc
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from storage import KEY, SECRET, Proxy, free_port, http_server, proxy, s3_server
from torch.utils.data import DataLoader
from train_samples import dataset, mixture

from curate import mix
from curate.mix.count_tokens import add_text_tokens
from curate.settings import validate
from curate.shards import (
    ShardCache,
    ShardError,
    ShardReader,
    UnreachableError,
    attach,
    attach_cached,
    fetch_dataset_json,
    load_dataset,
    remote,
    verify_shard,
)
from curate.stream.reading import DatasetReader, ShardReaderCache
from curate.stream.resize import Fit
from curate.stream.stream import ReadOptions, Stream, StreamError
from pipelines.cli.main import main

pytest.importorskip("s3fs")
QUICK = remote.Patience(attempts=7, first_s=0.02)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Proxy]]:
    root = tmp_path_factory.mktemp("s3")
    (root / "bucket").mkdir()
    mixture(root / "bucket")
    with s3_server(root) as port, proxy(port) as before:
        yield root / "bucket", before


@pytest.fixture
def store(served: tuple[Path, Proxy], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Proxy]:
    import s3fs

    local, before = served
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", before.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # our own tries are what is tested
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setattr(remote.Patience.__init__, "__defaults__", (QUICK.attempts, QUICK.first_s, QUICK.longest_s))
    before.fault, before.asked = lambda number, path: "", []
    return local, before


@pytest.fixture
def attached(store: tuple[Path, Proxy], tmp_path: Path) -> Path:
    """A manifest whose two datasets lie in S3."""
    for name in ("many", "few"):
        attach(f"s3://bucket/{name}", tmp_path / name)
    mix.build([(tmp_path / "many", 3.0), (tmp_path / "few", 1.0)], 7, tmp_path / "mixture.json")
    store[1].asked.clear()
    return tmp_path / "mixture.json"


def batches(manifest: Path, reading: ReadOptions | None = None, count: int = 4) -> list[tuple[str, ...]]:
    stream = Stream(manifest, 16, Fit(16), reading=reading)
    try:
        return [batch.uids for batch in itertools.islice(stream, count)]
    finally:
        stream.close()


def test_a_dataset_in_s3_gives_the_batches_of_a_local_one(store: tuple[Path, Proxy], attached: Path) -> None:
    assert batches(attached) == batches(store[0] / "mixture.json")
    assert not list((attached.parent / "many").glob("*.tar"))


def test_neighbours_are_fetched_in_one_request(store: tuple[Path, Proxy], attached: Path) -> None:
    folder = attached.parent / "many"
    shard = load_dataset(folder).shards[0]
    with remote.open_shard(folder, shard) as far, ShardReader(store[0] / "many" / shard.tar) as near:
        store[1].asked.clear()
        rows = [7, 2, 3, 29]
        assert far.read_many(rows) == near.read_many(rows)
        assert len([name for name, ranged, _ in store[1].asked if ranged]) == 1


@pytest.mark.parametrize("fault", ["503", "cut", "slow"])
def test_what_the_network_does_changes_no_batch(store: tuple[Path, Proxy], attached: Path, fault: str) -> None:
    expected = batches(store[0] / "mixture.json")
    store[1].fault = lambda number, path: fault if path.endswith(".tar") and number % 3 == 0 else ""
    assert batches(attached, ReadOptions(threads=2)) == expected
    assert batches(attached, ReadOptions(cache=attached.parent / "cache")) == expected
    assert [1 for _, _, befell in store[1].asked if befell == fault]


def test_storage_that_stays_away_stops_the_stream_and_replaces_nothing(
    store: tuple[Path, Proxy], attached: Path
) -> None:
    store[1].fault = lambda number, path: "503" if path.endswith(".tar") else ""
    with pytest.raises(StreamError, match=r"s3://bucket/.*\.tar: could not be read in 7 tries"):
        batches(attached)


def test_a_tar_that_changed_where_it_lies_is_refused(store: tuple[Path, Proxy], tmp_path: Path) -> None:
    folder = dataset(store[0] / f"changing{time.time_ns()}", 20, seed=9)
    attach(f"s3://bucket/{folder.name}", tmp_path / "here")
    info = load_dataset(tmp_path / "here").shards[0]
    data = bytearray((folder / info.tar).read_bytes())
    data[2000] ^= 1
    (folder / info.tar).write_bytes(data)
    cache = ShardCache(tmp_path / "cache", 1 << 30)
    with pytest.raises(ShardError, match="changed where it lies"):
        remote.open_shard(tmp_path / "here", info, cache)
    assert cache.used_bytes() == 0
    (folder / info.tar).write_bytes(data[:-512])
    with pytest.raises(ShardError, match="it was changed"):
        remote.open_shard(tmp_path / "here", info)
    shutil.rmtree(folder)


def test_a_sample_that_changed_where_it_lies_is_noticed_and_replaced_though_the_tar_kept_its_size(
    store: tuple[Path, Proxy], tmp_path: Path
) -> None:
    folder = dataset(store[0] / f"flipped{time.time_ns()}", 40, seed=9)
    attach(f"s3://bucket/{folder.name}", tmp_path / "here")
    mix.build([(tmp_path / "here", 1.0)], 7, tmp_path / "mixture.json")
    with ShardReader(folder / "00001.tar") as reader:
        uid, place = reader.uids[4].as_py(), reader.parts(4)[1].offset
    data = bytearray((folder / "00001.tar").read_bytes())
    data[place] ^= 1  # a letter of a caption, at which no decoder would stumble
    (folder / "00001.tar").write_bytes(data)
    info = load_dataset(tmp_path / "here").shards[1]
    with remote.open_shard(tmp_path / "here", info) as far:
        assert far.read_many([3, 5])
        for read in (lambda: far.read_many([3, 4]), lambda: far.read(4)):
            with pytest.raises(ShardError, match=rf"{uid} \(row 4\) is not the one that was published"):
                read()
    assert [uid in said for said in verify_shard(tmp_path / "here", info)] == [True]
    assert verify_shard(tmp_path / "here", load_dataset(tmp_path / "here").shards[0]) == []
    stream = Stream(tmp_path / "mixture.json", 20, Fit(16))
    given = [next(stream) for _ in range(2)]
    stream.close()
    assert all(uid not in batch.uids for batch in given)
    assert [r.row for batch in given for r in batch.replaced] == [24]
    shutil.rmtree(folder)
    assert "FileNotFoundError" in verify_shard(tmp_path / "here", info)[0]


def test_the_command_attaches_a_dataset(
    store: tuple[Path, Proxy], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attach", "s3://bucket/few", str(tmp_path / "few")]) == 0
    assert "21 samples in 2 shards at s3://bucket/few" in capsys.readouterr().out
    assert main(["attach", "s3://bucket/none", str(tmp_path / "none")]) == 1


def test_a_missing_object_is_named_at_once(store: tuple[Path, Proxy], tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"s3://bucket/none/dataset\.json"):
        attach("s3://bucket/none", tmp_path / "none")
    with http_server(store[0]) as port, proxy(port) as before:
        with pytest.raises(ShardError, match=r"/none/dataset\.json: FileNotFoundError"):
            attach(f"{before.url}/none", tmp_path / "none")
        assert len(before.asked) == 2  # its size, asked in both ways that a web server may know


def test_a_web_server_that_is_down_is_not_taken_for_one_without_the_file(
    store: tuple[Path, Proxy], tmp_path: Path
) -> None:
    with http_server(store[0]) as port, proxy(port) as before:
        before.fault = lambda number, path: "503"
        with pytest.raises(remote.UnreachableError, match=r"could not be read in 7 tries .*503"):
            attach(f"{before.url}/few", tmp_path / "few")
    with pytest.raises(remote.UnreachableError, match=r"could not be read in 7 tries .*Connect"):
        attach(f"http://127.0.0.1:{free_port()}/few", tmp_path / "few")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_worker_processes_read_from_s3_too(store: tuple[Path, Proxy], attached: Path) -> None:
    expected = batches(store[0] / "mixture.json")
    assert batches(attached) == expected  # the main process has had its connections open before it forks
    reading = ReadOptions(threads=1, prefetch=1, cache=attached.parent / "cache")
    loader = DataLoader(Stream(attached, 16, Fit(16), reading=reading), batch_size=None, num_workers=2)
    assert [batch.uids for batch in itertools.islice(loader, 4)] == expected


def test_a_web_server_serves_a_dataset(store: tuple[Path, Proxy], tmp_path: Path) -> None:
    with http_server(store[0]) as port:
        info = attach(f"http://127.0.0.1:{port}/few", tmp_path / "few")
        with (
            remote.open_shard(tmp_path / "few", info.shards[0]) as far,
            ShardReader(store[0] / "few/00000.tar") as near,
        ):
            assert far.read_many([9, 0, 3]) == near.read_many([9, 0, 3])


def test_a_web_server_that_knows_no_ranges_is_not_taken_at_its_word(store: tuple[Path, Proxy], tmp_path: Path) -> None:
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(store[0])))
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(server.serve_forever)
        try:
            info = attach(f"http://127.0.0.1:{server.server_port}/few", tmp_path / "few")
            refused = pytest.raises((UnreachableError, ShardError))
            with remote.open_shard(tmp_path / "few", info.shards[0]) as reader, refused:
                reader.read_many([0, 3])
        finally:
            server.shutdown()
            server.server_close()
            serving.result()


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's cache, of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "curate" / "datasets"


def test_a_mixture_names_datasets_in_s3_by_their_urls(
    store: tuple[Path, Proxy], tmp_path: Path, at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mixture.json"
    assert main(["mix", "s3://bucket/many=3", "s3://bucket/few/=1", "--seed", "7", "-o", str(out)]) == 0
    manifest = mix.load(out)
    assert [d.path for d in manifest.datasets] == ["s3://bucket/many", "s3://bucket/few"]
    assert batches(out) == batches(store[0] / "mixture.json")
    assert main(["mix", "at", str(out), "--step", "0", "--batch", "16"]) == 0
    assert [line.split("\t")[4] for line in capsys.readouterr().out.splitlines()[-16:]] == list(
        batches(out, count=1)[0]
    )
    assert len(list(at_home.iterdir())) == 2
    assert not list(at_home.rglob("*.tar"))
    # Once its indexes are here, a manifest asks for each dataset.json and no more, and looking into it for nothing.
    store[1].asked.clear()
    mix.load(out)
    assert {name.rpartition("/")[2] for name, _, _ in store[1].asked} == {"dataset.json"}
    store[1].asked.clear()
    mix.uids_at(mix.read(out), out, mix.positions_of(manifest, 3, 16))
    assert not store[1].asked
    # Another host reads the same file.
    shutil.rmtree(at_home)
    assert batches(out) == batches(store[0] / "mixture.json")


@pytest.mark.parametrize("fault", ["503", "cut", "slow"])
def test_what_a_web_server_does_changes_neither_a_mixture_nor_a_batch(
    store: tuple[Path, Proxy], tmp_path: Path, at_home: Path, fault: str
) -> None:
    with http_server(store[0]) as port, proxy(port) as before:
        before.fault = lambda number, path: fault if number % 3 == 0 else ""
        url, out = before.url, tmp_path / "mixture.json"
        mix.build([(f"{url}/many", 3.0), (f"{url}/few", 1.0)], 7, out)
        assert batches(out, ReadOptions(threads=2)) == batches(store[0] / "mixture.json")
        assert {befell for _, _, befell in before.asked} == {fault, ""}


def test_a_tar_that_changed_on_a_web_server_is_refused(
    store: tuple[Path, Proxy], tmp_path: Path, at_home: Path
) -> None:
    folder = dataset(tmp_path / "web" / "one", 20, seed=9, shards=1)
    with http_server(tmp_path / "web") as port:
        here = attach_cached(f"http://127.0.0.1:{port}/one")
        info, tar = load_dataset(here).shards[0], folder / "00000.tar"
        with ShardReader(tar) as reader:
            place = reader.parts(7)[0].offset
        data = bytearray(tar.read_bytes())
        data[place] ^= 1
        tar.write_bytes(data)
        with remote.open_shard(here, info) as far:
            assert len(far.read_many([0, 6, 8])) == 3
            with pytest.raises(ShardError, match=r"row 7\) is not the one that was published"):
                far.read_many([6, 7])
            tar.write_bytes(data[:2000])  # while it is being read
            with pytest.raises((ShardError, UnreachableError), match=r"one/00000\.tar"):
                far.read_many([15])
        with pytest.raises(ShardError, match=r"has 2000 bytes.*it was changed"):
            remote.open_shard(here, info)


def test_a_mixture_goes_on_with_a_dataset_that_lies_elsewhere_and_tokens_are_read_from_its_indexes(
    store: tuple[Path, Proxy], tmp_path: Path, at_home: Path
) -> None:
    out, tokens = tmp_path / "old" / "mixture.json", "unit: text_tokens\nbatch: 8\nsources: [{path: s3://bucket/PATH}]"
    (tmp_path / "old").mkdir()
    mix.build([("s3://bucket/many", 1.0)], 7, out)
    new = tmp_path / "mixture.json"
    mix.skip(mix.Onto(mix.load(out), out, 0), new, [])
    assert mix.load(new).datasets[0].path == "s3://bucket/many"
    folder = dataset(store[0] / f"counted{time.time_ns()}", 20, seed=9)
    spec = validate(yaml.safe_load(tokens.replace("PATH", folder.name)), mix.MixtureSpec, "spec.yaml")
    with pytest.raises(mix.MixtureError, match="no column 'text_tokens'"):
        mix.compose(spec, tmp_path, out)
    add_text_tokens(folder, "words")
    assert mix.compose(spec, tmp_path, out).manifest.datasets[0].units == 20 * 5
    shutil.rmtree(folder)


def test_a_dataset_that_changed_or_cannot_be_reached_where_it_lies_is_named(
    store: tuple[Path, Proxy], tmp_path: Path, at_home: Path
) -> None:
    out = tmp_path / "mixture.json"
    folder = dataset(store[0] / f"changing{time.time_ns()}", 20, seed=9)
    url = f"s3://bucket/{folder.name}"
    mix.build([(url, 1.0)], 7, out)
    store[1].fault = lambda number, path: "503"
    with pytest.raises(mix.MixtureError, match=r"could not be read in 7 tries"):
        mix.load(out)
    at_home.parent.rename(tmp_path / "away")
    with pytest.raises(mix.MixtureError, match=r"dataset 'changing.*could not be read in 7 tries"):
        mix.folder_of(mix.read(out), out, 0)
    shutil.rmtree(at_home.parent, ignore_errors=True)
    (tmp_path / "away").rename(at_home.parent)
    store[1].fault = lambda number, path: ""
    shutil.rmtree(folder)
    dataset(folder, 21, seed=9)
    with pytest.raises(mix.MixtureError, match=rf"{url} has changed since it was mixed.*curate mix"):
        mix.load(out)
    shutil.rmtree(at_home)
    with pytest.raises(ShardError, match="no longer the dataset"):
        mix.folder_of(mix.read(out), out, 0)
    shutil.copy(store[0] / "few" / "00000.arrow", folder)
    with pytest.raises(ShardError, match=r"00000\.arrow: is the index of another tar"):
        mix.build([(url, 1.0)], 7, out)
    assert not list(at_home.rglob("dataset.json"))
    shutil.rmtree(folder)
    with pytest.raises(ShardError, match="FileNotFoundError"):
        mix.load(out)
    with pytest.raises(
        ShardError, match=r"oci://a/dataset\.json: cannot be read here: .*ocifs"
    ):  # a library that is not there
        fetch_dataset_json("oci://a")


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


def test_shards_come_into_the_cache_before_they_are_needed_and_give_the_same_batches(
    store: tuple[Path, Proxy], in_six: Path
) -> None:
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


def test_a_shard_that_was_read_in_ranges_is_read_from_the_cache_once_it_is_there(
    store: tuple[Path, Proxy], attached: Path
) -> None:
    cache = ShardCache(attached.parent / "cache", 0)
    dataset = DatasetReader("few", attached.parent / "few", cache)
    first = dataset.read_many([1, 4])
    assert cache.used_bytes() == 0
    cache.budget_bytes = 1 << 30
    remote.prefetch_shard(dataset.folder, dataset.shards[0], cache, (), lambda: True)
    store[1].asked.clear()
    assert dataset.read_many([1, 4]) == first and store[1].asked == []
    dataset.close()


def test_a_cache_that_cannot_be_written_changes_no_batch(store: tuple[Path, Proxy], attached: Path) -> None:
    cache = attached.parent / "cache"
    for name in ("many", "few"):
        for shard in load_dataset(attached.parent / name).shards:
            (cache / f"{shard.sha256}.part").mkdir(parents=True)  # a file cannot be made of that name
    stream = Stream(attached, 16, Fit(16), reading=ReadOptions(cache=cache))
    given = [next(stream) for _ in range(4)]
    stream.close()
    assert [batch.uids for batch in given] == batches(store[0] / "mixture.json")
    assert not any(batch.replaced for batch in given)


def test_a_stream_that_is_dropped_fetches_nothing_more_and_leaves_no_file_open(in_six: Path) -> None:
    before = threading.active_count()
    stream = Stream(in_six, 4, reading=ReadOptions(cache=in_six.parent / "cache"))
    next(stream)
    assert threading.active_count() > before
    del stream
    gc.collect()
    until(lambda: not any(thread.name == "prefetch" for thread in threading.enumerate()))


def test_tars_that_the_cache_dropped_are_closed_once_they_are_not_needed(
    store: tuple[Path, Proxy], attached: Path
) -> None:
    cache, readers = ShardCache(attached.parent / "cache", 1 << 30), ShardReaderCache(9)
    dataset = DatasetReader("many", attached.parent / "many", cache, readers)
    dataset.read_many([0, 40])
    for file in cache.folder.glob("*.tar"):
        file.unlink()
    readers.close_dropped({("many", 1)})
    assert [readers.get("many", shard) is None for shard in range(2)] == [True, False]
    dataset.close()
