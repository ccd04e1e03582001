"""Documents and their images for the tests: real bytes in a real tar, read as a pool's are."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curate.document.segments import Segment, image_segment, is_image, text_segment
from curate.ops.spec import Failed, spec_of
from curate.pool.blob import Blob
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.sample import uid_of
from curate.shards import ShardWriter


def page(*parts: str) -> list[Segment]:
    """A document: what begins with http is an image, all else a paragraph."""
    return [image_segment(p) if p.startswith("http") else text_segment(p) for p in parts]


def shown(document: Sequence[Segment]) -> list[str]:
    """The inverse of `page`."""
    return [str(s["url"] if is_image(s) else s["text"]) for s in document]


def picture(width: int = 200, height: int = 200, seed: int = 0, kind: str = "PNG") -> bytes:
    image = Image.frombytes("RGB", (8, 8), Random(seed).randbytes(192)).resize(
        (width, height), Image.Resampling.NEAREST
    )
    image.save(body := io.BytesIO(), kind)
    return body.getvalue()


def blank(width: int = 200, height: int = 200, colour: tuple[int, int, int] = (255, 255, 255)) -> bytes:
    Image.new("RGB", (width, height), colour).save(body := io.BytesIO(), "PNG")
    return body.getvalue()


class Shelf:
    """A pool's tar of images; `blob` gives what a later op reads of one."""

    def __init__(self, folder: Path) -> None:
        self._pool = Pool(folder, "test", "once")
        self._count = 0

    def blobs(self, *files: bytes | str) -> list[Blob]:
        """Bytes become images that are there, a text the error of one that is not."""
        self._count += 1
        tar = f"{self._count:05d}.tar"
        found: list[Blob] = []
        reader = Blobs(self._pool)
        with ShardWriter(self._pool.folder / tar, indexed=False) as writer:
            for number, file in enumerate(files):
                if isinstance(file, str):
                    found.append(Blob(None, None, None, None, None, None, None, file, "", reader.read))
                    continue
                ext = {b"\x89P": "png", b"\xff\xd8": "jpg", b"GI": "gif", b"RI": "webp"}[file[:2]]
                (part,) = writer.add(uid_of("test", str(number)), {ext: file})
                width, height = Image.open(io.BytesIO(file)).size
                digest = hashlib.sha256(file).hexdigest()
                place = (tar, part.offset, part.size, ext, digest, width, height)
                found.append(Blob(*place, None, None, reader.read))
        return found


def row(columns: Any) -> dict[str, Any]:
    """The only row of an op's answer."""
    found = {name: list(values) for name, values in columns.items()}
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


def failed_with(columns: Any) -> str:
    """The error by which the only row of an op's answer failed."""
    errors = {value.error for value in row(columns).values() if isinstance(value, Failed)}
    assert len(errors) == 1, columns
    return str(errors.pop())


def grouped(
    group: Callable[..., None], shards: Sequence[Sequence[tuple[str, dict[str, Any]]]], folder: Path, **knobs: Any
) -> dict[str, dict[str, Any]]:
    """A group op run on shards of (uid, the row's values of the op before it); its values by uid."""
    before = spec_of(spec_of(group).after)  # type: ignore[arg-type]
    schema = pa.schema([("uid", pa.string()), ("nbytes", pa.int64()), ("sha256", pa.string()), *before.writes.items()])
    folder.mkdir(parents=True, exist_ok=True)
    inputs = [folder / f"{n}.in.parquet" for n in range(len(shards))]
    outputs = [folder / f"{n}.out.parquet" for n in range(len(shards))]
    for path, shard in zip(inputs, shards, strict=True):
        rows = [{"uid": uid, "nbytes": 1, "sha256": uid, **values} for uid, values in shard]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    group(inputs, outputs, folder / "scratch", **knobs)
    found: dict[str, dict[str, Any]] = {}
    for path, shard in zip(outputs, shards, strict=True):
        table = pq.read_table(path)
        assert table.schema.equals(pa.schema([("uid", pa.string()), *spec_of(group).writes.items()])), table.schema
        assert table.column("uid").to_pylist() == [uid for uid, _ in shard], "the same rows in the same order"
        found |= {r.pop("uid"): r for r in table.to_pylist()}
    return found
