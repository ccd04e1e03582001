"""What a reader of shards gives back and what it refuses; other projects' readers open the same shards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tars import rewritten, write_shard

from curate.shards import ShardError, ShardReader, verify


def test_tar_of_another_size_than_its_index_is_refused_with_both_named(tmp_path: Path) -> None:
    """A tar of another size than its index says is refused with both named."""
    write_shard(tmp_path / "a.tar")
    with (tmp_path / "a.tar").open("ab") as tar:
        tar.write(bytes(512))
    with pytest.raises(ShardError, match=r"a\.tar .*a\.arrow .*curate verify"):
        ShardReader(tmp_path / "a.tar")


def test_missing_or_broken_index_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    index = tmp_path / "a.arrow"
    whole = index.read_bytes()
    for data in (b"", b"ARROW1\0\0", whole[:-20], whole[: len(whole) // 2], os.urandom(500)):
        index.write_bytes(data)
        with pytest.raises(ShardError, match="curate index"):
            ShardReader(tmp_path / "a.tar")
    index.unlink()
    with pytest.raises(ShardError, match="curate index"):
        ShardReader(tmp_path / "a.tar")
    (tmp_path / "b.arrow").write_bytes(whole)
    with pytest.raises(ShardError, match="no such file"):
        ShardReader(tmp_path / "b.tar")


@pytest.mark.parametrize("change", ["outside", "negative", "huge", "nameless"])
def test_index_that_points_outside_its_tar_is_refused(tmp_path: Path, change: str) -> None:
    write_shard(tmp_path / "a.tar")
    rewritten(tmp_path / "a.arrow", change)
    with ShardReader(tmp_path / "a.tar") as reader, pytest.raises(ShardError, match=r"a\.arrow"):
        reader.read(0)
    assert verify(tmp_path / "a.tar")


def test_index_of_a_newer_version_says_to_upgrade(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    index = tmp_path / "a.arrow"
    table = pa.ipc.open_file(index).read_all()
    table = table.replace_schema_metadata({**table.schema.metadata, b"version": b"2"})
    with pa.OSFile(str(index), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ShardError, match="upgrade curate"):
        ShardReader(tmp_path / "a.tar")


def test_row_or_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    with ShardReader(tmp_path / "a.tar") as reader:
        for row in (-1, 7):
            with pytest.raises(IndexError):
                reader.read(row)
        with pytest.raises(ShardError, match="png"):
            reader.read_part(0, "png")


def test_tar_cut_while_it_is_read_is_an_error_and_not_short_data(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    with ShardReader(tmp_path / "a.tar") as reader:
        os.truncate(tmp_path / "a.tar", 2000)
        with pytest.raises(ShardError, match="curate verify"):
            reader.read(6)


def test_closed_reader_reads_no_other_file(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    reader = ShardReader(tmp_path / "a.tar")
    reader.close()
    with (tmp_path / "a.tar").open("rb"), pytest.raises(OSError, match="Bad file descriptor"):
        reader.read(0)


def test_many_threads_share_one_reader(tmp_path: Path) -> None:
    samples = write_shard(tmp_path / "a.tar", 50)
    wrong: list[int] = []
    with ShardReader(tmp_path / "a.tar") as reader:

        def work(seed: int) -> None:
            for row in np.random.default_rng(seed).integers(0, 50, 300):
                if reader.read(int(row)) != samples[row][1]:
                    wrong.append(int(row))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # theirs
def test_webdataset_opens_a_shard_unchanged(tmp_path: Path) -> None:
    import webdataset as wds

    samples = write_shard(tmp_path / "00000.tar")
    read = list(wds.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False))
    assert [s["__key__"] for s in read] == [name for name, _ in samples]
    for found, (_, parts) in zip(read, samples, strict=True):
        assert {name: found[name] for name in parts} == parts


def test_datasets_opens_shards_unchanged(tmp_path: Path) -> None:
    samples = write_shard(tmp_path / "00000.tar")
    script = (
        "import sys, datasets; datasets.disable_progress_bars()\n"
        "d = datasets.load_dataset('webdataset', data_files=sys.argv[1], split='train', cache_dir=sys.argv[2])\n"
        "print(d.num_rows, d[3]['__key__'], d[3]['txt'], d[3]['json'], d[3]['jpg'].size)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "*.tar"), str(tmp_path / "cache")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    out = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert out.stdout == f"7 {samples[3][0]} caption 3 é {{'n': 3}} (8, 6)\n", out.stderr
