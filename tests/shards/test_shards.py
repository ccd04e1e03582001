"""Shards: what a writer commits, what a reader gives back, and what a stranger's tar cannot do to us."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.commit import remove_leftovers
from curate.shards import (
    DatasetInfo,
    Part,
    ShardError,
    ShardReader,
    ShardWriter,
    TarFault,
    TarLimits,
    TarSample,
    index_tar,
    load_dataset,
    save_dataset,
    scan_tar,
    verify,
)

WIDTH = pa.schema([("width", pa.int32())])


def a_jpeg(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 255 - shade)).save(out, "JPEG")
    return out.getvalue()


def uid(number: int) -> str:
    return hashlib.blake2b(number.to_bytes(8, "little"), digest_size=16).hexdigest()


def write_shard(path: Path, count: int = 7) -> list[tuple[str, dict[str, bytes]]]:
    samples = [
        (uid(n), {"jpg": a_jpeg(n), "txt": f"caption {n} é".encode(), "json": json.dumps({"n": n}).encode()})
        for n in range(count)
    ]
    with ShardWriter(path, columns=WIDTH) as shard:
        for n, (name, parts) in enumerate(samples):
            shard.add(name, parts, {"width": n})
    return samples


def tar_of(*members: tuple[str | tarfile.TarInfo, bytes], layout: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=layout) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def scanned(path: Path, data: bytes, limits: TarLimits | None = None) -> tuple[list[TarSample], list[TarFault]]:
    path.write_bytes(data)
    found = list(scan_tar(path, limits))
    return [s for s in found if isinstance(s, TarSample)], [f for f in found if isinstance(f, TarFault)]


# --- what a writer commits ---


def test_what_is_written_is_read_back_by_row_in_any_order(tmp_path: Path) -> None:
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


def test_the_same_samples_give_the_same_bytes_in_tar_and_index(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_shard(tmp_path / folder / "00000.tar")
    for name in ("00000.tar", "00000.arrow"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_committed_info_names_size_and_sha256_of_the_tar(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "00003.tar") as shard:
        shard.add("a", {"txt": b"hello"})
        with pytest.raises(ShardError, match="not committed"):
            _ = shard.info
    data = (tmp_path / "00003.tar").read_bytes()
    info = shard.info
    assert (info.tar, info.index, info.samples, info.bytes) == ("00003.tar", "00003.arrow", 1, len(data))
    assert info.sha256 == hashlib.sha256(data).hexdigest()


def test_no_time_user_or_host_stands_in_a_header(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000.tar", 2)
    with tarfile.open(tmp_path / "00000.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            assert (member.uname, member.gname) == ("", "")


def test_a_shard_without_samples_is_a_valid_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000.tar", 0)
    with ShardReader(tmp_path / "00000.tar") as reader:
        assert len(reader) == 0
        with pytest.raises(IndexError):
            reader.read(0)
    assert verify(tmp_path / "00000.tar") == []
    assert list(scan_tar(tmp_path / "00000.tar")) == []


@pytest.mark.parametrize("name", ["", "../x", "a.b", "a/b", ".a", "_a", "a\0", "x" * 65, "é"])
def test_a_uid_that_a_tar_reader_would_not_give_back_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShardError, match="uid"), ShardWriter(tmp_path / "a.tar") as shard:
        shard.add(name, {"txt": b""})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "JPG", "a/b", ".jpg", "jpg.", "x" * 17])
def test_a_part_name_that_a_tar_reader_would_not_give_back_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShardError, match="part"), ShardWriter(tmp_path / "a.tar") as shard:
        shard.add("a", {name: b""})


def test_a_second_sample_with_the_same_uid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="already"), ShardWriter(tmp_path / "a.tar") as shard:  # noqa: PT012
        shard.add("a", {"txt": b"1"})
        shard.add("a", {"txt": b"2"})


def test_a_carried_value_that_is_missing_unknown_or_of_another_type_is_refused(tmp_path: Path) -> None:
    for values in ({}, {"width": 1, "height": 2}, {"width": "wide"}, {"width": 1 << 40}):
        with pytest.raises(ShardError, match="width"), ShardWriter(tmp_path / "a.tar", columns=WIDTH) as shard:
            shard.add("a", {"txt": b"1"}, values)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_while_writing_leaves_neither_tar_nor_index(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "a.tar") as shard:  # noqa: PT012
        shard.add("a", {"txt": b"1"})
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_exception_while_rewriting_leaves_the_shard_that_was_there(tmp_path: Path) -> None:
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


def test_a_file_that_may_not_grow_leaves_neither_tar_nor_index(tmp_path: Path) -> None:
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
def test_a_full_disk_leaves_neither_tar_nor_index(small_disk: Path, size: int) -> None:
    if size == 2_000:
        # 200 samples of 2,560 bytes each and the end blocks take 501 KiB of 512: no room for the index.
        assert 200 * (512 + 2048) + 1024 < 512 << 10
    out = fill(small_disk, size)
    assert out.startswith("refused: 28")
    assert out.endswith("[]\n")


def test_a_killed_writer_leaves_no_shard_behind(tmp_path: Path) -> None:
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


def test_an_index_is_mapped_and_not_loaded(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.tar") as shard:
        for n in range(3000):
            shard.add(uid(n), {"txt": b""})
    before = pa.total_allocated_bytes()
    with ShardReader(tmp_path / "a.tar") as reader:
        assert reader.uids[2999].as_py() == uid(2999)
        assert pa.total_allocated_bytes() - before < 10_000 < (tmp_path / "a.arrow").stat().st_size


# --- what a reader refuses ---


def test_a_tar_of_another_size_than_its_index_says_is_refused_with_both_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    with (tmp_path / "a.tar").open("ab") as tar:
        tar.write(bytes(512))
    with pytest.raises(ShardError, match=r"a\.tar .*a\.arrow .*curate verify"):
        ShardReader(tmp_path / "a.tar")


def test_a_missing_or_broken_index_is_refused_with_what_to_do(tmp_path: Path) -> None:
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


def rewritten(index: Path, change: str) -> None:
    """The index of a stranger who lies: one offset, size or name is changed."""
    table = pa.ipc.open_file(index).read_all()
    rows = table.to_pylist()
    part = rows[3]["parts"][1]
    rows[3]["parts"][1] = {
        "outside": {**part, "offset": 1 << 40},
        "negative": {**part, "offset": -1},
        "huge": {**part, "size": (1 << 63) - 1},
        "nameless": {**part, "name": None},
        "other": {**part, "size": part["size"] - 1},
    }[change]
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in table.schema]
    with pa.OSFile(str(index), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(pa.table(columns, schema=table.schema))


@pytest.mark.parametrize("change", ["outside", "negative", "huge", "nameless"])
def test_an_index_that_points_outside_its_tar_is_refused(tmp_path: Path, change: str) -> None:
    write_shard(tmp_path / "a.tar")
    rewritten(tmp_path / "a.arrow", change)
    with ShardReader(tmp_path / "a.tar") as reader, pytest.raises(ShardError, match=r"a\.arrow"):
        reader.read(0)
    assert verify(tmp_path / "a.tar")


def test_an_index_of_a_newer_version_says_to_upgrade(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    index = tmp_path / "a.arrow"
    table = pa.ipc.open_file(index).read_all()
    table = table.replace_schema_metadata({**table.schema.metadata, b"version": b"2"})
    with pa.OSFile(str(index), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ShardError, match="upgrade curate"):
        ShardReader(tmp_path / "a.tar")


def test_a_row_or_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    with ShardReader(tmp_path / "a.tar") as reader:
        for row in (-1, 7):
            with pytest.raises(IndexError):
                reader.read(row)
        with pytest.raises(ShardError, match="png"):
            reader.read_part(0, "png")


def test_a_tar_cut_while_it_is_read_is_an_error_and_not_short_data(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar")
    with ShardReader(tmp_path / "a.tar") as reader:
        os.truncate(tmp_path / "a.tar", 2000)
        with pytest.raises(ShardError, match="curate verify"):
            reader.read(6)


def test_a_closed_reader_reads_no_other_file(tmp_path: Path) -> None:
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


# --- verify ---


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


def test_a_foreign_tar_gets_the_checksums_that_a_writer_would_have_given(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000.tar")
    index_tar(tmp_path / "00000.tar", tmp_path / "other.arrow")
    tables = [ShardReader(tmp_path / "00000.tar", tmp_path / name).table for name in ("00000.arrow", "other.arrow")]
    assert tables[0].column("xxh3_64").to_pylist() == tables[1].column("xxh3_64").to_pylist()


def test_an_index_from_before_there_were_checksums_is_read_as_it_was(tmp_path: Path) -> None:
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


# --- strangers' tars ---


PAIR = (("a.jpg", b"A" * 700), ("a.txt", b"one"), ("b.jpg", b"B"), ("b.txt", b"two"))


def test_members_are_grouped_by_webdatasets_rule(tmp_path: Path) -> None:
    path = tmp_path / "f.tar"
    data = tar_of(
        ("x.y/a.b.JPG", b"1"), ("x.y/a.txt", b"2"), ("./c.cls", b"3"), ("__notes__", b"4"), (".hid.jpg", b"5")
    )
    samples, faults = scanned(path, data)
    assert [(s.key, [p.name for p in s.parts]) for s in samples] == [("x.y/a", ["b.jpg", "txt"]), ("./c", ["cls"])]
    assert faults == []
    assert data[samples[0].parts[1].offset :][:1] == b"2"


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read_in_every_format(tmp_path: Path, layout: int) -> None:
    names = ["d" * 90 + "/" + "n" * 60, "é/ü"] + (["n" * 300] if layout != tarfile.USTAR_FORMAT else [])
    members = [(f"{name}.txt", name.encode()) for name in names]
    data = tar_of(*members, layout=layout)
    samples, faults = scanned(tmp_path / "f.tar", data)
    assert faults == []
    assert [s.key for s in samples] == names
    for sample, (_, content) in zip(samples, members, strict=True):
        part = sample.parts[0]
        assert data[part.offset : part.offset + part.size] == content


def test_a_tar_cut_at_any_byte_gives_the_whole_samples_before_it_and_one_fault(tmp_path: Path) -> None:
    path = tmp_path / "f.tar"
    data = tar_of(*PAIR)[: 512 * 10]  # the members and one end block
    whole, faults = scanned(path, data)
    assert (len(whole), faults) == (2, [])
    for cut in range(0, len(data), 7):
        samples, faults = scanned(path, data[:cut])
        assert samples == whole[: len(samples)]
        assert [f.error for f in faults] == ["truncated_tar"]
    samples, faults = scanned(path, data[:-513])
    assert [s.key for s in samples] == ["a"]
    assert faults[0].key == "b"


def test_a_damaged_header_ends_the_tar_with_one_fault(tmp_path: Path) -> None:
    data = bytearray(tar_of(*PAIR))
    data[data.index(b"b.txt")] ^= 0xFF
    samples, faults = scanned(tmp_path / "f.tar", bytes(data))
    assert [s.key for s in samples] == ["a"]
    assert [(f.error, f.key) for f in faults] == [("corrupt_tar", "b")]


def test_a_file_that_is_no_tar_is_one_fault(tmp_path: Path) -> None:
    for data, error in ((b"", "truncated_tar"), (b"<html>" * 100, "corrupt_tar"), (b"x", "truncated_tar")):
        samples, faults = scanned(tmp_path / "f.tar", data)
        assert samples == []
        assert [f.error for f in faults] == [error]


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "..\\a.jpg", "C:/a.jpg", "a\nb.jpg", "..", "x/../.h"]
)
def test_a_name_that_leaves_its_folder_is_unsafe_and_its_neighbours_are_kept(tmp_path: Path, name: str) -> None:
    samples, faults = scanned(tmp_path / "f.tar", tar_of(*PAIR[:2], (name, b"evil"), *PAIR[2:]))
    assert [s.key for s in samples] == ["a", "b"]
    assert [f.error for f in faults] == ["unsafe_name"]


def test_a_nul_in_a_pax_name_is_unsafe(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x.jpg")
    member.pax_headers = {"path": "x.jpg\0.png"}
    samples, faults = scanned(tmp_path / "f.tar", tar_of((member, b"1"), *PAIR, layout=tarfile.PAX_FORMAT))
    assert len(samples) == 2
    assert [f.error for f in faults] == ["unsafe_name"]


def test_the_later_of_two_samples_with_one_key_is_a_duplicate(tmp_path: Path) -> None:
    apart = scanned(tmp_path / "f.tar", tar_of(*PAIR, *PAIR[:2]))
    together = scanned(tmp_path / "f.tar", tar_of(*PAIR[:2], *PAIR[:2], *PAIR[2:]))
    for samples, faults in (apart, together):
        assert [s.key for s in samples] == ["a", "b"]
        assert [(f.error, f.key) for f in faults] == [("duplicate_key", "a")]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (tarfile.SYMTYPE, "link_member"),
        (tarfile.LNKTYPE, "link_member"),
        (tarfile.CHRTYPE, "device_member"),
        (tarfile.BLKTYPE, "device_member"),
        (tarfile.FIFOTYPE, "device_member"),
        (tarfile.GNUTYPE_SPARSE, "sparse_member"),
        (b"V", "unsupported_member"),
    ],
)
def test_links_devices_and_sparse_files_fail_their_sample_by_name(tmp_path: Path, kind: bytes, error: str) -> None:
    member = tarfile.TarInfo("c.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    samples, faults = scanned(tmp_path / "f.tar", tar_of(*PAIR[:2], (member, b""), ("c.txt", b"3"), *PAIR[2:]))
    assert [s.key for s in samples] == ["a", "b"]
    assert [(f.error, f.key) for f in faults] == [(error, "c")]


def test_folders_are_no_samples_and_no_faults(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("x.y")
    folder.type = tarfile.DIRTYPE
    samples, faults = scanned(tmp_path / "f.tar", tar_of((folder, b""), *PAIR))
    assert (len(samples), faults) == (2, [])


def test_a_file_without_an_extension_is_counted_and_splits_nothing(tmp_path: Path) -> None:
    samples, faults = scanned(tmp_path / "f.tar", tar_of(PAIR[0], ("README", b""), *PAIR[1:]))
    assert [len(s.parts) for s in samples] == [2, 2]
    assert [(f.error, f.key) for f in faults] == [("no_extension", "README")]


def test_members_names_headers_parts_and_samples_are_bounded(tmp_path: Path) -> None:
    path, data = tmp_path / "f.tar", tar_of(*PAIR)
    cases = [
        (TarLimits(member_bytes=699), "member_too_large", ["b"]),
        (TarLimits(parts=1), "too_many_parts", []),
        (TarLimits(samples=1), "too_many_samples", ["a"]),
    ]
    for limits, error, kept in cases:
        samples, faults = scanned(path, data, limits)
        assert [s.key for s in samples] == kept
        assert {f.error for f in faults} == {error}
    long = tar_of(("n" * 2000 + ".jpg", b""), *PAIR)
    assert [f.error for f in scanned(path, long)[1]] == ["unsafe_name"]
    assert len(scanned(path, long)[0]) == 2
    assert [f.error for f in scanned(path, long, TarLimits(header_bytes=1000))[1]] == ["header_too_large"]


def test_a_header_that_claims_more_than_the_file_holds_is_truncated(tmp_path: Path) -> None:
    member = tarfile.TarInfo("c.jpg")
    member.size = 1 << 60
    header = member.tobuf(tarfile.GNU_FORMAT)
    samples, faults = scanned(tmp_path / "f.tar", tar_of(*PAIR)[: 512 * 9] + header + b"tiny")
    assert [s.key for s in samples] == ["a", "b"]
    assert [(f.error, f.key) for f in faults] == [("truncated_tar", "c")]


def test_data_behind_the_end_of_the_archive_is_not_lost_silently(tmp_path: Path) -> None:
    samples, faults = scanned(tmp_path / "f.tar", tar_of(*PAIR[:2]) + tar_of(*PAIR[2:]))
    assert [s.key for s in samples] == ["a"]
    assert [f.error for f in faults] == ["corrupt_tar"]


def test_a_compressed_tar_says_to_decompress_it(tmp_path: Path) -> None:
    path = tmp_path / "f.tar.gz"
    samples, faults = scanned(path, gzip.compress(tar_of(*PAIR)))
    assert samples == []
    assert [f.error for f in faults] == ["compressed_tar"]
    with pytest.raises(ShardError, match="gunzip"):
        index_tar(path, tmp_path / "f.arrow")


def test_a_foreign_tar_is_indexed_unchanged_and_read_at_random(tmp_path: Path) -> None:
    path, data = tmp_path / "f.tar", tar_of(*PAIR)
    path.write_bytes(data)
    info = index_tar(path)
    assert (info.samples, info.bytes, info.sha256) == (2, len(data), hashlib.sha256(data).hexdigest())
    assert path.read_bytes() == data
    with ShardReader(path) as reader:
        assert reader.uids.to_pylist() == ["a", "b"]
        assert reader.read(1) == {"jpg": b"B", "txt": b"two"}
        assert reader.parts(0)[0] == Part("jpg", 512, 700)
    assert verify(path) == []


def test_a_foreign_tar_with_a_fault_is_not_indexed(tmp_path: Path) -> None:
    path = tmp_path / "f.tar"
    path.write_bytes(tar_of(*PAIR, *PAIR[:2]))
    with pytest.raises(ShardError, match="duplicate_key"):
        index_tar(path)
    assert not (tmp_path / "f.arrow").exists()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=3000))
def test_random_bytes_give_faults_and_never_an_exception(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    samples, faults = scanned(tmp_path_factory.getbasetemp() / "random.tar", data)
    assert samples or faults or not any(data[:512])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.lists(st.tuples(st.integers(0, 8191), st.binary(min_size=1, max_size=16)), min_size=1, max_size=6),
)
def test_a_mutated_tar_gives_faults_and_never_an_exception(
    tmp_path_factory: pytest.TempPathFactory, layout: int, changes: list[tuple[int, bytes]]
) -> None:
    link = tarfile.TarInfo("l.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "é" * 120
    data = bytearray(tar_of(*PAIR, ("n" * 200 + ".jpg", b"1"), (link, b""), layout=layout))
    for offset, change in changes:
        data[offset : offset + len(change)] = change
        # The checksums are put right again, so that the mutation reaches what lies behind them.
        for block in range(0, len(data), 512):
            if data[block + 257 : block + 262] == b"ustar":
                data[block + 148 : block + 156] = b" " * 8
                data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    for found in scanned(tmp_path_factory.getbasetemp() / "mutated.tar", bytes(data))[0]:
        assert all(0 <= part.offset <= part.offset + part.size <= len(data) for part in found.parts)


NAMES = st.text(
    st.characters(min_codepoint=33, blacklist_categories=["Cs", "Cc"], blacklist_characters="./\\:"), min_size=1
)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        NAMES, st.dictionaries(st.sampled_from(["jpg", "txt", "a.b"]), st.binary(), min_size=1), max_size=6
    ),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_what_pythons_tarfile_writes_is_scanned_back(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, dict[str, bytes]], layout: int
) -> None:
    members = [(f"{key}.{name}", data) for key, parts in content.items() for name, data in parts.items()]
    raw = tar_of(*members, layout=layout)
    samples, faults = scanned(tmp_path_factory.getbasetemp() / "round.tar", raw)
    assert faults == []
    found = {s.key: {p.name: raw[p.offset : p.offset + p.size] for p in s.parts} for s in samples}
    assert found == content


# --- other readers ---


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


# --- dataset.json ---


def a_dataset(folder: Path, count: int = 7) -> DatasetInfo:
    write_shard(folder / "00000.tar", count)
    shard = index_tar(folder / "00000.tar")
    return DatasetInfo(
        name="birds", kind="caption", samples=count, bytes=shard.bytes, recipe="0123456789abcdef", shards=(shard,)
    )


def test_a_dataset_file_comes_back_as_it_was_and_has_the_same_bytes_again(tmp_path: Path) -> None:
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
def test_a_dataset_file_that_cannot_be_true_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    file = save_dataset(a_dataset(tmp_path), tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path)


def test_a_missing_or_broken_dataset_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="publish"):
        load_dataset(tmp_path)
    for data in (b"", b"[]", b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "dataset.json").write_bytes(data)
        with pytest.raises(ShardError, match="publish"):
            load_dataset(tmp_path)


@pytest.mark.parametrize("name", ["a.jpg", "b" * 32 + ".json", "c" * 100, "d" * 101, "é.txt"])
@pytest.mark.parametrize("size", [0, 1, 511, 123_456_789, 8**11 - 1, 8**11])
def test_a_members_header_is_the_one_that_tarfile_writes(name: str, size: int) -> None:
    from curate.shards import write

    assert write._header(name, size) == write._by_tarfile(name, size)


def test_a_tar_without_an_index_has_the_same_bytes_and_says_where_they_lie(tmp_path: Path) -> None:
    for name, indexed in (("a", True), ("b", False)):
        with ShardWriter(tmp_path / f"{name}.tar", indexed=indexed) as shard:
            (place,) = shard.add("one", {"jpg": b"x" * 100_000})
            shard.add("two", {"txt": b"words", "json": b"{}"})
    data = (tmp_path / "b.tar").read_bytes()
    assert data == (tmp_path / "a.tar").read_bytes()
    assert data[place.offset : place.offset + place.size] == b"x" * 100_000
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.arrow", "a.tar", "b.tar"]
