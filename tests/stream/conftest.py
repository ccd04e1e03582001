"""A dataset in a real S3 server on loopback, behind a proxy, and a mixture that attaches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from batches import QUICK
from storage import KEY, SECRET, Proxy, proxy, s3_server
from train_samples import mixture

from curate import mix
from curate.shards import attach, remote


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Proxy]]:
    """One for the whole process: s3fs keeps its connections and would go on asking where an earlier one was."""
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


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's cache, of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "curate" / "datasets"
