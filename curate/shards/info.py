"""Describe a dataset: one entry a shard, and the `dataset.json` that lists them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from curate.commit import commit_text, dump_json
from curate.sample import Kind
from curate.settings import Settings, validate

DATASET_FILE = "dataset.json"
DATASET_VERSION = 1
MAX_DATASET_FILE_BYTES = 1 << 30


class ShardError(ValueError):
    """A shard, index or dataset file that cannot be used; the message says where, what and what to do."""


@dataclass(frozen=True)
class ShardInfo:
    """One committed shard: file names (never paths), its samples, and the size and SHA-256 (hex) of its tar."""

    tar: str
    index: str
    samples: int
    bytes: int
    sha256: str


class DatasetInfo(Settings):
    """The content of `dataset.json`: what was published, by which recipe (its fingerprint), in which shards."""

    version: Literal[1] = 1
    name: str = Field(min_length=1)
    kind: Kind
    samples: int = Field(ge=0)
    bytes: int = Field(ge=0)
    recipe: str
    shards: tuple[ShardInfo, ...]

    @field_validator("shards")
    @classmethod
    def _plain_names(cls, shards: tuple[ShardInfo, ...]) -> tuple[ShardInfo, ...]:
        names = [name for shard in shards for name in (shard.tar, shard.index)]
        for name in names:
            if name in ("", ".", "..") or any(c in name for c in "/\\\0"):
                raise ValueError(f"{name!r} is not a plain file name; shards lie in the dataset's own folder")
        if len(set(names)) != len(names):
            raise ValueError("two shards share a file name")
        return shards

    @model_validator(mode="after")
    def _totals(self) -> DatasetInfo:
        samples, size = sum(s.samples for s in self.shards), sum(s.bytes for s in self.shards)
        if (samples, size) != (self.samples, self.bytes):
            raise ValueError(
                f"says {self.samples} samples and {self.bytes} bytes, but its shards add up to {samples} and {size}"
            )
        return self


def dataset_file(path: Path) -> Path:
    """The `dataset.json` that `path` (a dataset's folder, or the file itself) means."""
    return path / DATASET_FILE if path.is_dir() else path


def load_dataset(path: Path) -> DatasetInfo:
    """Read the `dataset.json` of a dataset's folder (or that file itself). Raises ShardError, SettingsError."""
    file = dataset_file(Path(path))
    below = file.parent / "dataset" / DATASET_FILE  # a recipe's `out`
    usual = "publish the dataset again, or give the folder that holds its dataset.json"
    data = read_json(file, f"the dataset of that run is {below.parent}" if below.is_file() else usual)
    check_version(file, data, DATASET_VERSION)
    return validate(data, DatasetInfo, str(file))


def save_dataset(info: DatasetInfo, path: Path) -> Path:
    """Write `dataset.json` into a dataset's folder, whole or not at all; the same info, the same bytes."""
    file = Path(path) if Path(path).suffix == ".json" else Path(path) / DATASET_FILE
    commit_text(file, dump_json(info.model_dump(mode="json")))
    return file


def read_json(file: Path, remedy: str) -> dict[str, Any]:
    """Read the JSON object in `file`. Raises ShardError, whose message ends in `remedy`."""
    try:
        if file.stat().st_size > MAX_DATASET_FILE_BYTES:
            raise ShardError(f"{file}: larger than {MAX_DATASET_FILE_BYTES} bytes; {remedy}")
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ShardError(f"{file}: no such file; {remedy}") from None
    except (OSError, ValueError, RecursionError) as err:
        raise ShardError(f"{file}: cannot be read as JSON ({err}); {remedy}") from None
    if not isinstance(data, dict):
        raise ShardError(f"{file}: holds no JSON object; {remedy}")
    return data


def check_version(file: Path, data: dict[str, Any], newest: int) -> None:
    """Refuse a file that a newer version of this library wrote, before its other keys are looked at."""
    version = data.get("version")
    if isinstance(version, int) and version > newest:
        found = f"is of version {version}, this curate reads up to version {newest}"
        raise ShardError(f"{file}: {found}; upgrade curate (pip install -U curate-mm)")
