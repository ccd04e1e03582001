"""Read remote datasets through fsspec (s3, gs, hf, http): tars in ranges, or whole into a cache.

A folder here holds the dataset's `dataset.json`, its indexes, and `origin.json`, which says where the tars are;
`attach` makes one, `attach_cached` one in the host's cache. Whatever the network does is tried again with growing
pauses;
what then still fails is `UnreachableError`, never a broken sample. Credentials and endpoints are those that each
fsspec library takes from its environment.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.commit import commit_file, commit_text, dump_json, file_sha256
from curate.process import hold
from curate.shards.cache import ShardCache, locked
from curate.shards.index import ShardReader, check_index
from curate.shards.info import (
    DATASET_FILE,
    MAX_DATASET_FILE_BYTES,
    DatasetInfo,
    ShardError,
    ShardInfo,
    load_dataset,
    read_json,
)
from curate.shards.ranges import Ranges, Span

ORIGIN_FILE = "origin.json"
BLOCK_BYTES = 1 << 23
BLOCKS_AT_ONCE = 4
INDEXES_AT_ONCE = 8
FINAL = (FileNotFoundError, PermissionError, NotImplementedError)
"""What another try would not mend."""
GONE = (401, 403, 404, 410)
"""HTTP statuses that another try would not mend."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "hf": "hf", "http": "http", "https": "http"}
"""Which of our extras brings the library for a kind of URL."""
HUB = re.compile(r"hf://(?:(datasets|spaces)/)?([^/@]+/[^/@]+)(?:@(refs/(?:pr|convert)/[^/]+|[^/]+))?/(.+)")
"""A file of a repository on the Hugging Face Hub: its type, name, revision, and the path in it."""


class UnreachableError(Exception):
    """Storage that did not answer, however often it was asked; the message says which file and what it said last."""


@dataclass(frozen=True)
class Patience:
    """Retry policy: attempts of a request, and the pauses between, in seconds, each twice the one before."""

    attempts: int = 7
    first_s: float = 0.2
    longest_s: float = 10.0


def is_url(path: str) -> bool:
    """Whether a dataset's path says that it lies elsewhere."""
    return "://" in path


def attach(url: str, folder: Path) -> DatasetInfo:
    """Make `folder` stand for the dataset at `url`: its dataset.json and indexes are copied, its tars stay there.

    Its dataset.json comes last: a folder that has one has all. Raises ShardError (an index of another tar than
    dataset.json says included, and a kind of URL whose library is not installed) and UnreachableError.
    """
    with hold(folder):
        return _attach_into(url.rstrip("/"), folder, _read_small(f"{url.rstrip('/')}/{DATASET_FILE}"))


def attach_cached(url: str, digest: str | None = None, fresh: bool = False) -> Path:
    """Attach the dataset at `url` to a folder of this host's cache when first asked for, and return that folder.

    With `digest`, the SHA-256 of the dataset.json that is meant, a folder that is there already needs no network;
    without it, dataset.json is asked for as it is now. `fresh` copies the indexes again: they may have got lengths.
    Raises ShardError and UnreachableError.
    """
    url = url.rstrip("/")
    if digest is not None and _is_whole(cached := _cache_folder(url, digest), digest):
        return cached
    content = fetch_dataset_json(url)
    found = hashlib.sha256(content).hexdigest()
    if digest not in (None, found):
        raise ShardError(f"{url}: is no longer the dataset that is meant; its {DATASET_FILE} has changed")
    folder = _cache_folder(url, found)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "attach.lock"):
        if fresh or not _is_whole(folder, found):
            _attach_into(url, folder, content)
    return folder


def fetch_dataset_json(url: str) -> bytes:
    """Fetch the dataset.json of the dataset at `url`, as it is there now. Raises ShardError, UnreachableError."""
    return _read_small(f"{url.rstrip('/')}/{DATASET_FILE}")


def _cache_folder(url: str, digest: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    name = "".join(c for c in url.rpartition("/")[2] if c.isalnum() or c in "-_.").lstrip(".")[:40]
    return Path(base) / "curate" / "datasets" / f"{name}-{hashlib.sha256(f'{url} {digest}'.encode()).hexdigest()[:16]}"


def _is_whole(folder: Path, digest: str) -> bool:
    file = folder / DATASET_FILE
    return file.is_file() and file_sha256(file) == digest


def _attach_into(url: str, folder: Path, content: bytes) -> DatasetInfo:
    with commit_file(folder / DATASET_FILE) as temporary:
        temporary.write_bytes(content)
        info = load_dataset(temporary)
        commit_text(folder / ORIGIN_FILE, dump_json({"url": url}))
        with ThreadPoolExecutor(INDEXES_AT_ONCE) as pool:
            list(pool.map(lambda shard: _copy_index(url, shard, folder), info.shards))
    return info


def _copy_index(url: str, shard: ShardInfo, folder: Path) -> None:
    with commit_file(folder / shard.index) as temporary:
        temporary.write_bytes(_read_small(f"{url}/{shard.index}"))
        check_index(temporary, shard, f"{url}/{shard.index}")


def _read_small(path: str) -> bytes:
    """All of a file that fits into memory."""
    size = _size(path, Patience())
    if size > MAX_DATASET_FILE_BYTES:
        raise ShardError(f"{path}: has {size} bytes, more than {MAX_DATASET_FILE_BYTES}; is this really a dataset?")
    return fetch_ranges(path, [(0, size)])[0] if size else b""


def open_shard(folder: Path, shard: ShardInfo, cache: ShardCache | None = None) -> ShardReader:
    """Open a reader of one of a dataset's shards, local or remote: from the cache if there is one, else by ranges.

    Raises ShardError (nothing there, or not what the index was made for), UnreachableError.
    """
    tar, index = folder / shard.tar, folder / shard.index
    if not (folder / ORIGIN_FILE).is_file():
        return ShardReader(tar, index)
    origin = read_json(folder / ORIGIN_FILE, "attach the dataset again")
    path = f"{origin.get('url')}/{shard.tar}"
    while cache is not None:
        try:
            kept = cache.get(shard.tar, shard.bytes, shard.sha256, lambda part: _download(path, shard.bytes, part))
        except OSError:  # of the disk here: it is full, say, before the budget is
            break
        if kept is None:
            break
        try:
            return ShardReader(kept, index)
        except ShardError:
            if kept.exists():
                raise  # else another process needed the room in between
    found = _size(path, Patience())
    if found != shard.bytes:
        raise ShardError(
            f"{path}: has {found} bytes, its index was made for {shard.bytes}; it was changed: attach again"
        )
    return ShardReader(tar, index, range_fetcher(path))


def prefetch_shard(
    folder: Path, shard: ShardInfo, cache: ShardCache, later: Collection[str], keep_on: Callable[[], bool]
) -> bool:
    """Prefetch one of a dataset's shards into the cache; False if there is no room for it.

    Those `later` (SHA-256) make room. It is given up when `going` says so. Raises ShardError, UnreachableError.
    """
    origin = read_json(folder / ORIGIN_FILE, "attach the dataset again")
    path = f"{origin.get('url')}/{shard.tar}"

    def fetch(part: Path) -> None:
        _download(path, shard.bytes, part, keep_on)

    return cache.get(shard.tar, shard.bytes, shard.sha256, fetch, later) is not None


def range_fetcher(path: str) -> Ranges:
    """Make the function that fetches ranges of the file at `path`, a URL."""
    return lambda spans: fetch_ranges(path, spans)


def fetch_ranges(path: str, spans: Sequence[Span], patience: Patience | None = None) -> list[bytes]:
    """Fetch ranges of the file at `path`, all at once; those that fail or come short are asked again."""
    patience = patience or Patience()
    out: list[bytes | None] = [None] * len(spans)
    error: Exception = OSError("no answer")
    for attempt in range(patience.attempts):
        waiting = [number for number, data in enumerate(out) if data is None]
        if not waiting:
            break
        _pause(attempt, patience)
        for number, answer in zip(waiting, _try_ranges(path, [spans[n] for n in waiting]), strict=True):
            if isinstance(answer, Exception):
                if _is_final(answer):
                    raise _refusal(path, answer)
                error = answer
            elif len(answer) == spans[number][1] - spans[number][0]:
                out[number] = bytes(answer)
            else:
                error = EOFError(f"only {len(answer)} of {spans[number][1] - spans[number][0]} bytes came")
    whole = [data for data in out if data is not None]
    if len(whole) < len(out):
        raise _unreachable(path, patience, error)
    return whole


def _try_ranges(path: str, spans: list[Span]) -> list[bytes | Exception]:
    """One try at each range: its bytes, or what was raised instead."""
    try:
        system, inner = _file_system(path)
        starts, ends = zip(*spans, strict=True)
        return list(system.cat_ranges([inner] * len(spans), list(starts), list(ends), on_error="return"))
    except ShardError:
        raise
    except Exception as err:  # noqa: BLE001 - every library below fsspec raises its own
        return [err] * len(spans)


def _file_system(path: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. Raises ShardError where its library is not installed."""
    from fsspec.core import url_to_fs

    found: tuple[Any, str]
    try:
        if path.startswith(("gs://", "gcs://")) and "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT" not in os.environ:
            # The library's other class asks by gRPC what kind of bucket it is, without credentials at every request.
            from gcsfs.core import GCSFileSystem

            return GCSFileSystem(), GCSFileSystem._strip_protocol(path)
        if of_hub := HUB.fullmatch(path):
            return _on_hub(*of_hub.groups())
        found = url_to_fs(path)
        return found
    except ImportError as err:
        extra = EXTRAS.get(path.partition("://")[0])
        remedy = f'; pip install "curate-mm[{extra}]"' if extra else ""
        raise ShardError(f"{path}: cannot be read here: {err}{remedy}") from err


def _on_hub(kind: str | None, name: str, revision: str | None, inner: str) -> tuple[Any, str]:
    """A file of the Hub as what it is, a file on a web server; the token is for the Hub alone, not where it points to.

    The Hub's own file system lists the whole folder to tell one file's size, and fetches 5 MB for every range.
    """
    from fsspec.core import url_to_fs
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    endpoint, repo_type = os.environ.get("HF_ENDPOINT"), kind.removesuffix("s") if kind else None
    url = hf_hub_url(name, inner, repo_type=repo_type, revision=revision, endpoint=endpoint)
    found: tuple[Any, str] = url_to_fs(url, client_kwargs={"headers": build_hf_headers()})
    return found


def _size(path: str, patience: Patience) -> int:
    """Bytes of the file at `path`, as its storage says now."""
    error: Exception = OSError("no answer")
    for attempt in range(patience.attempts):
        _pause(attempt, patience)
        try:
            system, inner = _file_system(path)
            system.invalidate_cache()
            found: Any = system.info(inner)["size"]
        except ShardError:
            raise
        except Exception as err:
            if _is_final(err):
                raise _refusal(path, err) from err
            error = err.__cause__ if isinstance(err.__cause__, Exception) else err
        else:
            if found is None:
                raise ShardError(f"{path}: its server does not say how large it is, so it cannot be read in ranges")
            return int(found)
    raise _unreachable(path, patience, error)


def _download(path: str, size: int, part: Path, keep_on: Callable[[], bool] = lambda: True) -> None:
    """Fetch a whole file into `part`, a few blocks at a time. Raises UnreachableError where it is given up."""
    spans = [(at, min(at + BLOCK_BYTES, size)) for at in range(0, size, BLOCK_BYTES)]
    with part.open("r+b") as file:
        for first in range(0, len(spans), BLOCKS_AT_ONCE):
            if not keep_on():
                raise UnreachableError(f"{path}: was given up")
            for data in fetch_ranges(path, spans[first : first + BLOCKS_AT_ONCE]):
                file.write(data)


def _is_final(answer: object) -> bool:
    """Whether asking again is of no use. fsspec calls every failure of a web server to tell a file's size
    FileNotFoundError, a 503 or a cut line too; the cause tells what it was."""
    if not isinstance(answer, FINAL):
        return getattr(answer, "status", None) in GONE
    from aiohttp import ClientError  # here: a dataset in S3 never needs it

    of_web = isinstance(answer.__cause__, (ClientError, TimeoutError))
    return not of_web or getattr(answer.__cause__, "status", None) in GONE


def _refusal(path: str, answer: Exception) -> ShardError:
    why = f" ({answer.__cause__})" if answer.__cause__ else ""
    return ShardError(f"{path}: {type(answer).__name__}: {answer}{why}")


def _pause(attempt: int, patience: Patience) -> None:
    if attempt:
        time.sleep(min(patience.first_s * 2 ** (attempt - 1), patience.longest_s))


def _unreachable(path: str, patience: Patience, error: Exception) -> UnreachableError:
    what = f"{type(error).__name__}: {error}"[:300]
    return UnreachableError(f"{path}: could not be read in {patience.attempts} tries ({what}); go on when it answers")
