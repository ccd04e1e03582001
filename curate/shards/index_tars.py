"""Index plain webdataset tars of any writer as a dataset, in place (`curate index`).

One Arrow file beside each tar says where its samples' parts lie; `dataset.json` lists the shards. Tars are indexed in
parallel, each index is committed whole, and what has one is not read again: run the same command after a kill, or when
more tars have come, and only what is new is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from curate.process import hold
from curate.sample import Kind
from curate.shards import DatasetInfo, ShardError, ShardInfo, ShardReader, index_tar, load_dataset, save_dataset
from curate.shards.index import index_path
from curate.shards.info import DATASET_FILE

RECIPE = "indexed"
"""What dataset.json names as the recipe of tars that no recipe of ours made."""
SHOWN = 5


def index(paths: Sequence[Path], kind: Kind = "caption", workers: int = 1) -> tuple[Path, DatasetInfo, int]:
    """Index a folder's tars, or those named; returns (folder, its dataset, tars indexed now).

    Shards listed before keep their place, new ones follow by name. Raises ShardError: nothing there, tars of several
    folders, a listed tar that has changed, faults in a tar (the others are indexed all the same). Raises HeldError.
    """
    folder, tars = _tars(paths)
    with hold(folder):
        return folder, *_index(folder, tars, kind, workers)


def _index(folder: Path, tars: Sequence[Path], kind: Kind, workers: int) -> tuple[DatasetInfo, int]:
    listed = load_dataset(folder) if (folder / DATASET_FILE).is_file() else None
    committed = {shard.tar: shard for shard in listed.shards} if listed else {}
    for entry in committed.values():
        _check_unchanged(folder, entry)
    found = {tar: shard for tar in tars if (shard := committed.get(tar.name) or _committed(tar))}
    waiting = [tar for tar in tars if tar not in found]
    problems = []
    for tar, result in _indexed(waiting, kind, workers):
        if isinstance(result, str):
            problems.append(result)
        else:
            found[tar] = result
    if problems:
        more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
        raise ShardError(
            f"{len(problems)} of {len(tars)} tars could not be indexed: " + "; ".join(problems[:SHOWN]) + more
        )
    shards = (*committed.values(), *(found[tar] for tar in tars if tar.name not in committed))
    info = DatasetInfo(
        name=listed.name if listed else folder.resolve().name,
        kind=listed.kind if listed else kind,
        samples=sum(shard.samples for shard in shards),
        bytes=sum(shard.bytes for shard in shards),
        recipe=listed.recipe if listed else RECIPE,
        shards=shards,
    )
    if info != listed:
        save_dataset(info, folder)
    return info, len(waiting)


def _tars(paths: Sequence[Path]) -> tuple[Path, list[Path]]:
    """(folder, tars by name) that the paths mean."""
    tars = sorted({tar for path in paths for tar in (path.glob("*.tar") if path.is_dir() else (path,))})
    if not tars:
        raise ShardError(f"{paths[0]}: holds no .tar files; give webdataset tars, or the folder that holds them")
    folders = sorted({tar.parent for tar in tars})
    if len(folders) > 1:
        raise ShardError(f"tars in {folders[0]} and in {folders[1]}: a dataset is one folder; index each by itself")
    if missing := [tar for tar in tars if not tar.is_file()]:
        raise ShardError(f"{missing[0]}: no such file")
    return folders[0], tars


def _check_unchanged(folder: Path, shard: ShardInfo) -> None:
    tar = folder / shard.tar
    if not tar.is_file() or tar.stat().st_size != shard.bytes:
        raise ShardError(
            f"{tar}: is listed in {DATASET_FILE} with {shard.bytes} bytes and has changed since; put it back, or remove"
            f" {DATASET_FILE} and {shard.index} and index the folder anew"
        )


def _committed(tar: Path) -> ShardInfo | None:
    """The shard whose index was committed before, if it is of this very tar."""
    index = index_path(tar)
    if not index.is_file() or index.stat().st_mtime_ns < tar.stat().st_mtime_ns:
        return None
    try:
        with ShardReader(tar, index) as reader:
            metadata = reader.metadata
            return ShardInfo(tar.name, index.name, len(reader), int(metadata["tar_bytes"]), metadata["tar_sha256"])
    except ShardError:
        return None


def _indexed(tars: list[Path], kind: Kind, workers: int) -> Iterator[tuple[Path, ShardInfo | str]]:
    """Each tar with its shard, or with what is wrong with it."""
    if min(workers, len(tars)) <= 1:
        yield from ((tar, _index_one(tar, kind)) for tar in tars)
        return
    with ProcessPoolExecutor(min(workers, len(tars)), get_context("spawn")) as pool:
        running = {pool.submit(_index_one, tar, kind): tar for tar in tars}
        for future in as_completed(running):
            yield running[future], future.result()


def _index_one(tar: Path, kind: Kind) -> ShardInfo | str:
    try:
        return index_tar(tar, kind=kind)
    except (OSError, ShardError) as err:
        return str(err)
