"""Tars and shards of a few small samples for the tests."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
from PIL import Image

from curate.shards import ShardWriter

WIDTH = pa.schema([("width", pa.int32())])


def a_jpeg(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 255 - shade)).save(out, "JPEG")
    return out.getvalue()


def uid(number: int) -> str:
    return hashlib.blake2b(number.to_bytes(8, "little"), digest_size=16).hexdigest()


def write_shard(path: Path, count: int = 7) -> list[tuple[str, dict[str, bytes]]]:
    samples = [
        (uid(n), {"jpg": a_jpeg(n), "txt": f"caption {n} é".encode(), "json": json.dumps({"n": n}).encode()})
        for n in range(count)
    ]
    with ShardWriter(path, columns=WIDTH) as shard:
        for n, (name, parts) in enumerate(samples):
            shard.add(name, parts, {"width": n})
    return samples


def rewritten(index: Path, change: str) -> None:
    """The index of a stranger who lies: one offset, size or name is changed."""
    table = pa.ipc.open_file(index).read_all()
    rows = table.to_pylist()
    part = rows[3]["parts"][1]
    rows[3]["parts"][1] = {
        "outside": {**part, "offset": 1 << 40},
        "negative": {**part, "offset": -1},
        "huge": {**part, "size": (1 << 63) - 1},
        "nameless": {**part, "name": None},
        "other": {**part, "size": part["size"] - 1},
    }[change]
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in table.schema]
    with pa.OSFile(str(index), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(pa.table(columns, schema=table.schema))
