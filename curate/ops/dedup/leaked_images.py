"""Decontamination of images: copies of an evaluation set's pictures, found in the pool whatever the web did to them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curate.image.files import decode
from curate.models.files import file_digest
from curate.ops import _groups
from curate.ops.dedup import _lookalike as look
from curate.ops.dedup._frames import spool_frames
from curate.ops.dedup._near_images import find_between
from curate.ops.dedup.images import MAX_DIFFERENCE_LEVELS, SIGNATURE, image_signature, rank_pictures
from curate.ops.spec import Knobs, Share, group_op

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
BLOCK = 256
MAX_BYTES = 256 << 20
LEAK = {"leaked_from": pa.string(), "leak_kind": pa.string(), "leak_similarity": pa.float32()}


@group_op(after=image_signature, writes=LEAK, version=1)
def leaked_images(
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Path,
    *,
    evaluation: list[str],
    min_similarity: Share = 0.95,
    mirrored: bool = True,
) -> None:
    """The picture of an evaluation set that a row's image is a copy of, `leaked_from`; null where it is of none.

    `evaluation`: folders of images, or tars of them (a published dataset's too), looked into to their end. A name is
    the file's, or the tar's and its member's. Kind and similarity as `duplicate_images` has them: `exact` of equal
    pixels, `near` of a copy. Pool and evaluation set are compared with each other, neither with itself. Raises
    ValueError for an evaluation set without pictures, and for one that does not decode: it would be missed.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    named = scratch / "evaluation.parquet"
    _sign(evaluation, named)
    with _groups.database(scratch) as db:
        every = [named, *inputs]
        sizes = rank_pictures(db, every)
        frames = spool_frames(db, every, sizes, scratch)
        db.execute("CREATE TABLE named AS SELECT head, min(uid) AS name FROM ranked WHERE shard = 0 GROUP BY head")
        heads = _groups.map_zeros(scratch / "named", np.bool_, (frames.pictures,))
        for batch in _groups.query_blocks(db, "SELECT head FROM named", _groups.BLOCK_ROWS):
            heads[batch.column("head").to_numpy()] = True
        find_between(db, frames, look.MatchLimits(min_similarity, MAX_DIFFERENCE_LEVELS), mirrored, heads)
        _write(db, inputs, outputs)


def _identity(knobs: Knobs) -> str:
    return " ".join(f"{path.name} {file_digest(path)}" for path in _files(knobs["evaluation"]))


leaked_images.identity = _identity  # type: ignore[attr-defined]  # digests of the evaluation set's files


def _write(db: DuckDBPyConnection, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    db.execute(
        "CREATE TABLE leaks AS WITH pairs AS"
        " (SELECT a AS copy, b AS item, similarity FROM alike UNION ALL SELECT b, a, similarity FROM alike)"
        " SELECT copy, name, similarity FROM pairs JOIN named ON named.head = item"
        " QUALIFY row_number() OVER (PARTITION BY copy ORDER BY similarity DESC, name) = 1"
    )
    query = (
        "SELECT r.uid, coalesce(same.name, leaks.name) AS leaked_from,"
        " CASE WHEN same.name IS NOT NULL THEN 'exact' WHEN leaks.name IS NOT NULL THEN 'near' END AS leak_kind,"
        " CASE WHEN same.name IS NOT NULL THEN 1 ELSE leaks.similarity END AS leak_similarity"
        " FROM ranked AS r LEFT JOIN named AS same ON same.head = r.head LEFT JOIN leaks ON leaks.copy = r.head"
        " WHERE shard > 0 ORDER BY shard, row"
    )
    _groups.write_outputs(db, query, inputs, outputs, LEAK)


def _sign(evaluation: Sequence[str], target: Path) -> None:
    schema = pa.schema([("uid", pa.string()), ("nbytes", pa.int64()), *SIGNATURE.items()])
    count = 0
    with pq.ParquetWriter(target, schema) as writer:
        for block in _blocks(_pictures(evaluation)):
            images = [_decoded(name, data) for name, data in block]
            columns = {"uid": [name for name, _ in block], "nbytes": [len(data) for _, data in block]}
            writer.write_table(pa.table({**columns, **image_signature(images)}, schema))
            count += len(block)
    if not count:
        raise ValueError(
            f"leaked_images: no picture in {', '.join(evaluation)}: name folders of images or tars of them"
        )


def _decoded(name: str, data: bytes) -> Image.Image:
    found = decode(data)
    if found.image is None:
        raise ValueError(f"leaked_images: evaluation picture {name}: {found.error}: {found.detail}; it would be missed")
    return found.image


def _blocks(pictures: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    block: list[tuple[str, bytes]] = []
    for picture in pictures:
        block.append(picture)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _pictures(evaluation: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each picture."""
    for path in _files(evaluation):
        if path.suffix.lower() != ".tar":
            yield str(path), path.read_bytes()
            continue
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                        if member.size > MAX_BYTES:
                            raise ValueError(f"leaked_images: {path}: {member.name} has {member.size:,} bytes")
                        file = tar.extractfile(member)
                        assert file is not None
                        yield f"{path}/{member.name}", file.read()
        except tarfile.TarError as err:
            raise ValueError(f"leaked_images: evaluation set {path} is not a whole tar: {err}") from err


def _files(evaluation: Sequence[str]) -> list[Path]:
    """The images and tars that are named, or lie in folders that are; sorted."""
    found = []
    for name in evaluation:
        path = Path(name)
        if not path.exists():
            raise ValueError(f"leaked_images: evaluation set {name}: no such file or folder")
        inside = path.rglob("*") if path.is_dir() else [path]
        found += [each for each in inside if each.suffix.lower() in SUFFIXES | {".tar"} and each.is_file()]
    return sorted(found)
