"""What a writer of shards commits: the same bytes for the same samples, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from tars import WIDTH, uid, write_shard

from curate.commit import remove_leftovers
from curate.shards import ShardError, ShardReader, ShardWriter, scan_tar, verify


def test_written_samples_are_read_back_by_row_in_any_order(tmp_path: Path) -> None:
    """What is written is read back by row in any order."""
    samples = write_shard(tmp_path / "00000.tar")
    with ShardReader(tmp_path / "00000.tar") as reader:
        assert len(reader) == 7
        assert reader.uids.to_pylist() == [name for name, _ in samples]
        assert reader.table.column("width").to_pylist() == list(range(7))
        for row in (6, 0, 3):
            assert reader.read(row) == samples[row][1]
            assert reader.read_part(row, "txt") == samples[row][1]["txt"]


def test_large_samples_are_read_part_by_part_and_come_back_whole(tmp_path: Path) -> None:
    parts = {"jpg": bytes(range(256)) * 2000, "txt": b"", "json": b"{}"}
    with ShardWriter(tmp_path / "a.tar") as shard:
        shard.add("big", parts)
    with ShardReader(tmp_path / "a.tar") as reader:
        assert reader.read(0) == parts


def test_same_samples_give_the_same_bytes_in_tar_and_index(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_shard(tmp_path / folder / "00000.tar")
    for name in ("00000.tar", "00000.arrow"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_committed_info_names_size_and_sha256_of_the_tar(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "00003.tar") as shard:
        shard.add("a", {"txt": b"hello"})
        with pytest.raises(ShardError, match="not committed"):
            _ = shard.info
    data = (tmp_path / "00003.tar").read_bytes()
    info = shard.info
    assert (info.tar, info.index, info.samples, info.bytes) == ("00003.tar", "00003.arrow", 1, len(data))
    assert info.sha256 == hashlib.sha256(data).hexdigest()


def test_headers_hold_no_time_user_or_host(tmp_path: Path) -> None:
    """No time user or host stands in a header."""
    write_shard(tmp_path / "00000.tar", 2)
    with tarfile.open(tmp_path / "00000.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            assert (member.uname, member.gname) == ("", "")


def test_shard_without_samples_is_a_valid_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000.tar", 0)
    with ShardReader(tmp_path / "00000.tar") as reader:
        assert len(reader) == 0
        with pytest.raises(IndexError):
            reader.read(0)
    assert verify(tmp_path / "00000.tar") == []
    assert list(scan_tar(tmp_path / "00000.tar")) == []


@pytest.mark.parametrize("name", ["", "../x", "a.b", "a/b", ".a", "_a", "a\0", "x" * 65, "é"])
def test_uid_that_a_tar_reader_would_not_give_back_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShardError, match="uid"), ShardWriter(tmp_path / "a.tar") as shard:
        shard.add(name, {"txt": b""})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "JPG", "a/b", ".jpg", "jpg.", "x" * 17])
def test_part_name_that_a_tar_reader_would_not_give_back_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShardError, match="part"), ShardWriter(tmp_path / "a.tar") as shard:
        shard.add("a", {name: b""})


def test_second_sample_with_the_same_uid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="already"), ShardWriter(tmp_path / "a.tar") as shard:  # noqa: PT012
        shard.add("a", {"txt": b"1"})
        shard.add("a", {"txt": b"2"})


def test_carried_value_missing_unknown_or_of_another_type_is_refused(tmp_path: Path) -> None:
    """A carried value that is missing unknown or of another type is refused."""
    for values in ({}, {"width": 1, "height": 2}, {"width": "wide"}, {"width": 1 << 40}):
        with pytest.raises(ShardError, match="width"), ShardWriter(tmp_path / "a.tar", columns=WIDTH) as shard:
            shard.add("a", {"txt": b"1"}, values)
    assert list(tmp_path.iterdir()) == []


def test_exception_while_writing_leaves_neither_tar_nor_index(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "a.tar") as shard:  # noqa: PT012
        shard.add("a", {"txt": b"1"})
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_exception_while_rewriting_leaves_the_shard_that_was_there(tmp_path: Path) -> None:
    samples = write_shard(tmp_path / "a.tar")
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "a.tar") as shard:  # noqa: PT012
        shard.add("a", {"txt": b"1"})
        raise RuntimeError
    with ShardReader(tmp_path / "a.tar") as reader:
        assert reader.read(2) == samples[2][1]


FILL = """
import resource, signal, sys
from pathlib import Path
from curate.shards import ShardWriter
folder, size, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with ShardWriter(folder / "a.tar") as shard:
        for n in range(200):
            shard.add(f"s{n}", {"txt": bytes(size)})
except OSError as error:
    print("refused:", error.errno)
print(sorted(p.name for p in folder.iterdir()))
"""


def fill(folder: Path, size: int, limit: int = 0) -> str:
    command = [sys.executable, "-c", FILL, str(folder), str(size), str(limit)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_file_that_may_not_grow_leaves_neither_tar_nor_index(tmp_path: Path) -> None:
    out = fill(tmp_path, 60_000, 1 << 20)
    assert out.startswith("refused:")
    assert out.endswith("[]\n")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("a real full disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", [60_000, 2_000])  # the tar does not fit; the tar fits and its index does not
def test_full_disk_leaves_neither_tar_nor_index(small_disk: Path, size: int) -> None:
    if size == 2_000:
        # 200 samples of 2,560 bytes each and the end blocks take 501 KiB of 512: no room for the index.
        assert 200 * (512 + 2048) + 1024 < 512 << 10
    out = fill(small_disk, size)
    assert out.startswith("refused: 28")
    assert out.endswith("[]\n")


def test_killed_writer_leaves_no_shard_behind(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom curate.shards import ShardWriter\n"
        "with ShardWriter(Path(sys.argv[1])) as shard:\n"
        "    shard.add('a', {'txt': bytes(3 << 20)})\n    print('writing', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a.tar")], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    assert remove_leftovers(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_index_is_mapped_and_not_loaded(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.tar") as shard:
        for n in range(3000):
            shard.add(uid(n), {"txt": b""})
    before = pa.total_allocated_bytes()
    with ShardReader(tmp_path / "a.tar") as reader:
        assert reader.uids[2999].as_py() == uid(2999)
        assert pa.total_allocated_bytes() - before < 10_000 < (tmp_path / "a.arrow").stat().st_size


@pytest.mark.parametrize("name", ["a.jpg", "b" * 32 + ".json", "c" * 100, "d" * 101, "é.txt"])
@pytest.mark.parametrize("size", [0, 1, 511, 123_456_789, 8**11 - 1, 8**11])
def test_members_header_is_the_one_that_tarfile_writes(name: str, size: int) -> None:
    from curate.shards import write

    assert write._header(name, size) == write._by_tarfile(name, size)


def test_tar_without_an_index_has_the_same_bytes_and_says_where_they_lie(tmp_path: Path) -> None:
    for name, indexed in (("a", True), ("b", False)):
        with ShardWriter(tmp_path / f"{name}.tar", indexed=indexed) as shard:
            (place,) = shard.add("one", {"jpg": b"x" * 100_000})
            shard.add("two", {"txt": b"words", "json": b"{}"})
    data = (tmp_path / "b.tar").read_bytes()
    assert data == (tmp_path / "a.tar").read_bytes()
    assert data[place.offset : place.offset + place.size] == b"x" * 100_000
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.arrow", "a.tar", "b.tar"]
