"""What a stranger's tar cannot do to us: named faults for what is broken, and its neighbours are kept."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.shards import (
    Part,
    ShardError,
    ShardReader,
    TarFault,
    TarLimits,
    TarSample,
    index_tar,
    scan_tar,
    verify,
)


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


def test_tar_cut_at_any_byte_gives_whole_samples_before_it_and_one_fault(tmp_path: Path) -> None:
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


def test_damaged_header_ends_the_tar_with_one_fault(tmp_path: Path) -> None:
    data = bytearray(tar_of(*PAIR))
    data[data.index(b"b.txt")] ^= 0xFF
    samples, faults = scanned(tmp_path / "f.tar", bytes(data))
    assert [s.key for s in samples] == ["a"]
    assert [(f.error, f.key) for f in faults] == [("corrupt_tar", "b")]


def test_file_that_is_no_tar_is_one_fault(tmp_path: Path) -> None:
    for data, error in ((b"", "truncated_tar"), (b"<html>" * 100, "corrupt_tar"), (b"x", "truncated_tar")):
        samples, faults = scanned(tmp_path / "f.tar", data)
        assert samples == []
        assert [f.error for f in faults] == [error]


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "..\\a.jpg", "C:/a.jpg", "a\nb.jpg", "..", "x/../.h"]
)
def test_name_that_leaves_its_folder_is_unsafe_and_its_neighbours_are_kept(tmp_path: Path, name: str) -> None:
    samples, faults = scanned(tmp_path / "f.tar", tar_of(*PAIR[:2], (name, b"evil"), *PAIR[2:]))
    assert [s.key for s in samples] == ["a", "b"]
    assert [f.error for f in faults] == ["unsafe_name"]


def test_nul_in_a_pax_name_is_unsafe(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x.jpg")
    member.pax_headers = {"path": "x.jpg\0.png"}
    samples, faults = scanned(tmp_path / "f.tar", tar_of((member, b"1"), *PAIR, layout=tarfile.PAX_FORMAT))
    assert len(samples) == 2
    assert [f.error for f in faults] == ["unsafe_name"]


def test_later_of_two_samples_with_one_key_is_a_duplicate(tmp_path: Path) -> None:
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


def test_file_without_an_extension_is_counted_and_splits_nothing(tmp_path: Path) -> None:
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


def test_header_that_claims_more_than_the_file_holds_is_truncated(tmp_path: Path) -> None:
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


def test_compressed_tar_says_to_decompress_it(tmp_path: Path) -> None:
    path = tmp_path / "f.tar.gz"
    samples, faults = scanned(path, gzip.compress(tar_of(*PAIR)))
    assert samples == []
    assert [f.error for f in faults] == ["compressed_tar"]
    with pytest.raises(ShardError, match="gunzip"):
        index_tar(path, tmp_path / "f.arrow")


def test_foreign_tar_is_indexed_unchanged_and_read_at_random(tmp_path: Path) -> None:
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


def test_foreign_tar_with_a_fault_is_not_indexed(tmp_path: Path) -> None:
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
def test_mutated_tar_gives_faults_and_never_an_exception(
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
def test_tars_that_pythons_tarfile_writes_are_scanned_back(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, dict[str, bytes]], layout: int
) -> None:
    """What Python's tarfile writes is scanned back."""
    members = [(f"{key}.{name}", data) for key, parts in content.items() for name, data in parts.items()]
    raw = tar_of(*members, layout=layout)
    samples, faults = scanned(tmp_path_factory.getbasetemp() / "round.tar", raw)
    assert faults == []
    found = {s.key: {p.name: raw[p.offset : p.offset + p.size] for p in s.parts} for s in samples}
    assert found == content
