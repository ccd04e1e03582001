"""Placeholder pictures: one content under many addresses (a logo, "image not available", a tracking pixel)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from curate.ops import _groups
from curate.ops.dedup._addresses import page_host, page_url
from curate.ops.dedup._phash import perceptual_hash
from curate.ops.spec import Columns, group_op, op

ADDRESSES = {name: pa.int64() for name in ("bytes_urls", "bytes_hosts", "look_urls", "look_hosts")}


@op(
    reads=("image", "origin", "meta"),
    writes={"image_look": pa.int64(), "image_url": pa.string(), "image_host": pa.string()},
    version=1,
    needs=("scipy",),
)
def image_address(images: Sequence[Image.Image], origins: Sequence[str], metas: Sequence[Mapping[str, Any]]) -> Columns:
    """Address and look of an image: URL, host (null of a path), and perceptual hash (64 bits).

    The URL is `meta.url`, else the origin, without its fragment. The hash is that of `image_hashes`.
    """
    urls = [page_url(origin, meta) for origin, meta in zip(origins, metas, strict=True)]
    return {
        "image_look": [perceptual_hash(image) for image in images],
        "image_url": urls,
        "image_host": [page_host(url) or None for url in urls],
    }


@group_op(after=image_address, writes=ADDRESSES, version=1)
def image_addresses(inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path) -> None:
    """Count the distinct URLs and hosts that show an image: its very bytes, and an image of the same perceptual hash.

    A placeholder stands under many (`look_hosts: {max: 10}`), a picture under few. Rows without a host add none. Of
    blank images the hash says little: they count as one look. Out of core, linear in the rows.
    """
    with _groups.database(scratch) as db:
        _groups.gather_inputs(db, "shown", inputs, "uid, sha256, image_look, image_url, image_host")
        for name, key in (("by_bytes", "sha256"), ("by_look", "image_look")):
            db.execute(
                f"CREATE TABLE {name} AS SELECT {key}, count(DISTINCT image_url) AS urls,"
                f" count(DISTINCT image_host) AS hosts FROM shown GROUP BY {key}"
            )
        query = (
            "SELECT uid, b.urls AS bytes_urls, b.hosts AS bytes_hosts, l.urls AS look_urls, l.hosts AS look_hosts"
            " FROM shown LEFT JOIN by_bytes AS b USING (sha256) LEFT JOIN by_look AS l USING (image_look)"
            " ORDER BY shard, row"
        )
        _groups.write_outputs(db, query, inputs, outputs, ADDRESSES)
