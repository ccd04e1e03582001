"""Verify finds what changed in a shard: a byte, a sample, an index that disagrees with its tar."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from tars import rewritten, write_shard

from curate.shards import ShardError, ShardReader, index_tar, verify


def test_verify_finds_nothing_in_a_sound_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    assert verify(tmp_path / "a.tar") == []


def test_verify_finds_one_changed_byte_of_a_payload(tmp_path: Path) -> None:
    samples = write_shard(tmp_path / "a.tar")
    data = bytearray((tmp_path / "a.tar").read_bytes())
    data[data.index(samples[3][1]["txt"])] ^= 1
    (tmp_path / "a.tar").write_bytes(data)
    assert "SHA-256" in verify(tmp_path / "a.tar")[0]


def test_verify_names_the_samples_that_were_changed(tmp_path: Path) -> None:
    samples = write_shard(tmp_path / "00000.tar")
    with ShardReader(tmp_path / "00000.tar") as reader:
        places = [reader.parts(row)[0].offset for row in (2, 5)]
    data = bytearray((tmp_path / "00000.tar").read_bytes())
    for place in places:
        data[place] ^= 1
    (tmp_path / "00000.tar").write_bytes(data)
    problems = verify(tmp_path / "00000.tar")
    assert "SHA-256" in problems[0]
    assert [samples[row][0] in said for row, said in zip((2, 5), problems[1:], strict=True)] == [True, True]
    with ShardReader(tmp_path / "00000.tar") as reader:
        assert reader.read(1, checked=True) == samples[1][1]
        with pytest.raises(ShardError, match=r"row 2\) is not the one that was published"):
            reader.read(2, checked=True)


def test_foreign_tar_gets_the_checksums_that_a_writer_would_have_given(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000.tar")
    index_tar(tmp_path / "00000.tar", tmp_path / "other.arrow")
    tables = [ShardReader(tmp_path / "00000.tar", tmp_path / name).table for name in ("00000.arrow", "other.arrow")]
    assert tables[0].column("xxh3_64").to_pylist() == tables[1].column("xxh3_64").to_pylist()


def test_index_from_before_there_were_checksums_is_read_as_it_was(tmp_path: Path) -> None:
    samples = write_shard(tmp_path / "00000.tar")
    with pa.memory_map(str(tmp_path / "00000.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    for change in (table.drop_columns(["xxh3_64"]), _replaced(table, pa.nulls(7, pa.uint64()))):
        with pa.OSFile(str(tmp_path / "old.arrow"), "wb") as sink, pa.ipc.new_file(sink, change.schema) as writer:
            writer.write_table(change)
        with ShardReader(tmp_path / "00000.tar", tmp_path / "old.arrow") as reader:
            if "xxh3_64" not in change.column_names:
                assert reader.read(3, checked=True) == samples[3][1]
            else:
                with pytest.raises(ShardError, match="without gaps"):
                    reader.read(3)


def _replaced(table: pa.Table, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index("xxh3_64"), "xxh3_64", column)


def test_verify_finds_an_index_that_disagrees_with_the_headers(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    rewritten(tmp_path / "a.arrow", "other")
    problems = verify(tmp_path / "a.tar")
    assert len(problems) == 1
    assert "sample 3" in problems[0]


def test_verify_finds_a_missing_index_and_a_cut_tar(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    os.truncate(tmp_path / "a.tar", 3000)
    assert "bytes" in verify(tmp_path / "a.tar")[0]
    (tmp_path / "a.arrow").unlink()
    assert "no such index" in verify(tmp_path / "a.tar")[0]
