"""The file that names a dataset's shards: it comes back as it was, and what cannot be true is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tars import write_shard

from curate.shards import DatasetInfo, ShardError, index_tar, load_dataset, save_dataset


def a_dataset(folder: Path, count: int = 7) -> DatasetInfo:
    write_shard(folder / "00000.tar", count)
    shard = index_tar(folder / "00000.tar")
    return DatasetInfo(
        name="birds", kind="caption", samples=count, bytes=shard.bytes, recipe="0123456789abcdef", shards=(shard,)
    )


def test_dataset_file_comes_back_as_it_was_and_has_the_same_bytes_again(tmp_path: Path) -> None:
    info = a_dataset(tmp_path)
    file = save_dataset(info, tmp_path)
    first = file.read_bytes()
    assert load_dataset(tmp_path) == load_dataset(file) == info
    save_dataset(load_dataset(tmp_path), tmp_path)
    assert file.read_bytes() == first
    assert list(json.loads(first)) == sorted(json.loads(first))
    assert first.endswith(b"}\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "upgrade curate"),
        ({"samples": 8}, "add up to 7"),
        ({"kind": "sound"}, "kind"),
        ({"nmae": "x"}, "name"),
        (
            {"shards": [{"tar": "../a.tar", "index": "a.arrow", "samples": 7, "bytes": 1, "sha256": ""}]},
            "plain file name",
        ),
    ],
)
def test_dataset_file_that_cannot_be_true_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    file = save_dataset(a_dataset(tmp_path), tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path)


def test_missing_or_broken_dataset_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="publish"):
        load_dataset(tmp_path)
    for data in (b"", b"[]", b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "dataset.json").write_bytes(data)
        with pytest.raises(ShardError, match="publish"):
            load_dataset(tmp_path)
