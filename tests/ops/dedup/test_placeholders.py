"""Placeholder pictures: how many addresses show one content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pictures import encoded, photograph, uid
from PIL import Image

from curate.image.files import decode
from curate.ops.dedup.placeholders import image_address, image_addresses


def counted(rows: list[tuple[str, bytes]], folder: Path, shard_rows: int) -> list[tuple[int, int, int, int]]:
    """What is said of each image (URL, file): URLs and hosts of its bytes, then of its look."""
    folder.mkdir()
    images = [decode(data).image for _, data in rows]
    columns = image_address([image for image in images if image], [url for url, _ in rows], [{} for _ in rows])
    table = pa.table(
        {"uid": [uid(url) for url, _ in rows], "sha256": [hashlib.sha256(data).hexdigest() for _, data in rows]}
        | {name: pa.array(values, image_address.spec.writes[name]) for name, values in columns.items()}
    )
    inputs, outputs = [], []
    for start in range(0, len(rows), shard_rows):
        inputs.append(folder / f"{start}.in.parquet")
        outputs.append(folder / f"{start}.out.parquet")
        pq.write_table(table.slice(start, shard_rows), inputs[-1])
    image_addresses(inputs, outputs, folder / "scratch")
    found = pa.concat_tables([pq.read_table(path) for path in outputs])
    assert found["uid"].to_pylist() == table["uid"].to_pylist()
    return [tuple(row.values())[1:] for row in found.to_pylist()]


def test_a_placeholder_stands_under_many_hosts_and_a_picture_under_its_own(tmp_path: Path) -> None:
    missing = photograph(1)
    rows = [(f"https://host{n}.example/missing.png", encoded(missing)) for n in range(6)]
    rows += [(f"https://host0.example/other{n}.png", encoded(missing)) for n in range(2)]
    rows += [("https://host9.example/missing.jpg", encoded(missing, "JPEG", quality=95))]
    rows += [("https://host1.example/mine.png", encoded(photograph(2))), ("folder/mine.png", encoded(photograph(3)))]
    found = counted(rows, tmp_path / "whole", 100)
    assert found[:8] == [(8, 6, 9, 7)] * 8
    assert found[8] == (1, 1, 9, 7), "other bytes, the same look"
    assert found[9:] == [(1, 1, 1, 1), (1, 0, 1, 0)]
    assert counted(rows, tmp_path / "shards", 3) == found


def test_one_address_met_twice_counts_once(tmp_path: Path) -> None:
    image = encoded(Image.new("RGB", (9, 9), "red"))
    rows = [("https://a.example/x.png", image), ("https://A.example/x.png#top", image)]
    assert counted(rows, tmp_path / "one", 2) == [(1, 1, 1, 1)] * 2
