"""Google's storage and the Hugging Face Hub: the batches of a local dataset, whatever befalls the requests."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from fsspec.registry import _registry
from storage import Hub, Proxy, gcs_server, http_server, proxy, serving
from train_samples import mixture

from curate import mix
from curate.shards import ShardError, attach, remote
from curate.stream.resize import Fit
from curate.stream.stream import ReadOptions, Stream, StreamError

pytest.importorskip("gcsfs")
pytest.importorskip("gcp_storage_emulator")
TOKEN = "hf_not_a_secret"


@dataclass
class Store:
    """A mixture of two datasets here, `url` of the folder that holds them elsewhere, and the proxies on the way."""

    local: Path
    url: str
    proxies: list[Proxy]
    hub: Hub | None = None

    def befalls(self, fault: str, every: int = 3) -> None:
        for before in self.proxies:
            before.fault = lambda number, path: (
                fault if path.split("?")[0].endswith(".tar") and number % every == 0 else ""
            )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stores")
    mixture(root)
    return root


@pytest.fixture(scope="module")
def gs(home: Path) -> Iterator[Store]:
    with gcs_server(home) as port, proxy(port) as before:
        yield Store(home, "gs://bucket", [before])


@pytest.fixture(scope="module")
def hf(home: Path) -> Iterator[Store]:
    with ExitStack() as stack:
        store = stack.enter_context(proxy(stack.enter_context(http_server(home))))
        hub = stack.enter_context(serving(Hub("us/ours", TOKEN, store.url)))
        before = stack.enter_context(proxy(hub.server_port))
        yield Store(home, "hf://datasets/us/ours", [before, store], hub)


@pytest.fixture(params=["gs", "hf"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    from gcsfs.core import GCSFileSystem

    found: Store = request.getfixturevalue(request.param)
    front = found.proxies[0].url
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front)
    monkeypatch.setenv("HF_ENDPOINT", front)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    # Our own tries are what is tested.
    monkeypatch.setattr(GCSFileSystem, "_request", GCSFileSystem._request.__wrapped__)
    monkeypatch.setattr(remote.Patience.__init__, "__defaults__", (7, 0.02, 10.0))
    for before in found.proxies:
        before.fault, before.asked, before.signed = (lambda number, path: ""), [], set()
    return found


def batches(manifest: Path, reading: ReadOptions | None = None) -> list[tuple[str, ...]]:
    stream = Stream(manifest, 16, Fit(16), reading=reading)
    try:
        return [batch.uids for batch in itertools.islice(stream, 3)]
    finally:
        stream.close()


def mixed(store: Store, out: Path) -> Path:
    mix.build([(f"{store.url}/many", 3.0), (f"{store.url}/few", 1.0)], 7, out)
    return out


def test_a_mixture_of_datasets_elsewhere_gives_the_batches_of_local_ones(store: Store, tmp_path: Path) -> None:
    out = mixed(store, tmp_path / "mixture.json")
    assert [source.path for source in mix.load(out).datasets] == [f"{store.url}/many", f"{store.url}/few"]
    assert batches(out) == batches(store.local / "mixture.json")
    assert batches(out, ReadOptions(cache=tmp_path / "cache")) == batches(store.local / "mixture.json")


@pytest.mark.parametrize("fault", ["503", "cut", pytest.param("slow", marks=pytest.mark.slow)])
def test_what_befalls_requests_changes_no_batch(store: Store, tmp_path: Path, fault: str) -> None:
    out = mixed(store, tmp_path / "mixture.json")
    store.befalls(fault)
    assert batches(out, ReadOptions(threads=4)) == batches(store.local / "mixture.json")
    assert all(fault in {befell for _, _, befell in before.asked} for before in store.proxies)


def test_storage_that_stays_away_stops_the_stream_and_replaces_nothing(store: Store, tmp_path: Path) -> None:
    out = mixed(store, tmp_path / "mixture.json")
    store.befalls("503", every=1)
    with pytest.raises(StreamError, match=rf"{store.url}/.*\.tar: could not be read in 7 tries"):
        batches(out)


def test_a_dataset_that_is_not_there_is_named_at_once(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=rf"{store.url}/none/dataset\.json"):
        attach(f"{store.url}/none", tmp_path / "none")
    assert all(len(before.asked) <= 4 for before in store.proxies)  # the ways of asking for a size, each once


def test_few_bytes_are_fetched_for_a_sample(store: Store, tmp_path: Path) -> None:
    info = attach(f"{store.url}/many", tmp_path / "many")
    with remote.open_shard(tmp_path / "many", info.shards[0]) as reader:
        for before in store.proxies:
            before.asked.clear()
        assert reader.read_many([3, 4]) == reader.read_many([3, 4])
    for before in store.proxies:
        assert [name.partition(" ")[0] for name, ranged, _ in before.asked if ranged] == ["GET", "GET"]


def test_the_token_of_the_hub_goes_to_the_hub_alone(hf: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hf.proxies[0].url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for before in hf.proxies:
        before.fault, before.signed = (lambda number, path: ""), set()
    assert hf.hub is not None
    hf.hub.revisions.clear()
    attach("hf://datasets/us/ours@v1.0/many", tmp_path / "many")
    attach("hf://datasets/us/ours@refs/pr/7/few", tmp_path / "few")
    assert set(hf.hub.revisions) == {"v1.0", "refs%2Fpr%2F7"}
    assert [before.signed for before in hf.proxies] == [{f"Bearer {TOKEN}"}, {None}]
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(ShardError, match=r"hf://datasets/us/ours/many/dataset\.json: .*401"):
        attach("hf://datasets/us/ours/many", tmp_path / "other")


def test_a_library_that_is_not_installed_is_named_with_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library, url, extra in (("gcsfs.core", "gs://bucket/a", "gs"), ("s3fs", "s3://bucket/a", "s3")):
        monkeypatch.setitem(sys.modules, library, None)
        monkeypatch.delitem(_registry, extra, raising=False)  # what fsspec has imported before
        with pytest.raises(ShardError, match=rf"cannot be read here: .*pip install 'curate-mm\[{extra}\]'"):
            attach(url, tmp_path / extra)
    with pytest.raises(ShardError, match=r"oci://a/dataset\.json: cannot be read here: .*ocifs"):
        attach("oci://a", tmp_path / "oci")


def test_a_file_of_the_hub_is_told_from_its_address() -> None:
    found = remote.HUB.fullmatch("hf://datasets/us/ours/a/00000.tar")
    assert found is not None and found.groups() == ("datasets", "us/ours", None, "a/00000.tar")
    found = remote.HUB.fullmatch("hf://us/ours@main/a.tar")
    assert found is not None and found.groups() == (None, "us/ours", "main", "a.tar")
    assert remote.HUB.fullmatch("hf://us") is None
