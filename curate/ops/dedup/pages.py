"""Count images, paragraphs and pages over the whole corpus, and find pages that are the same.

Row ops write keys; group ops count equal keys, or name the page that is kept of those with one key; rules say what
occurs too often. Counting is DuckDB's, out of core: one pass over the keys, one join, one sort.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.document.segments import Segment, image_urls, is_image
from curate.ops import _groups
from curate.ops._segments import columns_of, out_of_step
from curate.ops.dedup._addresses import page_host, page_url
from curate.ops.spec import Columns, group_op, op
from curate.pool.blob import Blob

KEY_BYTES = 16

_KEYS = pa.list_(pa.binary())
_COUNTS = pa.list_(pa.int32())
_MOST = (1 << 31) - 1


def _key(*parts: str) -> bytes:
    """16 bytes that stand for these texts."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def page_date_s(meta: Mapping[str, Any]) -> int | None:
    """`meta.date` (ISO 8601, as WARC has it, or as HTTP writes it) in seconds since 1970; None if unreadable."""
    said = meta.get("date")
    if not isinstance(said, str):
        return None
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(said)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    return None


# How often: images by URL and by bytes, paragraphs within a host, pages of a host.


@op(
    reads="document",
    writes={"image_url_keys": _KEYS},
    version=1,
    batch_size=1024,
    parts={"image_url_keys": "images"},
)
def image_url_keys(documents: Sequence[list[Segment]]) -> Columns:
    """A key of the URL of each image of a document, for `image_url_counts`."""
    return {"image_url_keys": [[_key(url) for url in image_urls(document)] for document in documents]}


@group_op(
    after=image_url_keys,
    writes={"image_url_counts": _COUNTS, "most_common_image_url": pa.int32()},
    version=1,
    parts={"image_url_counts": "images"},
)
def image_url_counts(inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path) -> None:
    """Count the URL of each image of a document in all of them, and the largest of these counts.

    OBELICS and MM1 keep images with up to 10 occurrences, whatever the size of the corpus.
    """
    _count_lists(inputs, outputs, scratch, "image_url_keys", ("image_url_counts", "most_common_image_url"))


@op(reads="images", writes={"image_keys": _KEYS}, version=1, batch_size=1024, parts={"image_keys": "images"})
def image_keys(images: Sequence[list[Blob]]) -> Columns:
    """A key of the bytes of each image of a document, null where it is absent, for `image_counts`."""
    return {"image_keys": [[_key(b.sha256) if b.sha256 else None for b in blobs] for blobs in images]}


@group_op(
    after=image_keys,
    writes={"image_counts": _COUNTS, "most_common_image": pa.int32()},
    version=1,
    parts={"image_counts": "images"},
)
def image_counts(inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path) -> None:
    """Count the bytes of each image of a document in all of them (null: absent), and the largest count.

    MM1 keeps images with up to 10 occurrences.
    """
    _count_lists(inputs, outputs, scratch, "image_keys", ("image_counts", "most_common_image"))


@op(
    reads=("document", "origin", "meta"),
    writes={"paragraph_keys": _KEYS},
    version=1,
    batch_size=1024,
    parts={"paragraph_keys": "paragraphs"},
)
def paragraph_keys(
    documents: Sequence[list[Segment]], origins: Sequence[str], metas: Sequence[Mapping[str, Any]]
) -> Columns:
    """A key of each paragraph of a document within the page's host, for `repeated_paragraphs`.

    Pages without a host (files of a folder) are one host's. Space around a paragraph counts for nothing.
    """
    hosts = [page_host(page_url(origin, meta)) for origin, meta in zip(origins, metas, strict=True)]
    keys = [
        [_key(host, " ".join(text.split())) for text in _texts(document)]
        for host, document in zip(hosts, documents, strict=True)
    ]
    return {"paragraph_keys": keys}


def _texts(document: Sequence[Segment]) -> list[str]:
    return [segment["text"] for segment in document if not is_image(segment)]


@group_op(
    after=paragraph_keys,
    writes={"paragraph_counts": _COUNTS, "most_common_paragraph": pa.int32()},
    version=1,
    parts={"paragraph_counts": "paragraphs"},
)
def repeated_paragraphs(inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path) -> None:
    """Count each paragraph of a document in the pages of its host, and the largest of these counts.

    OBELICS's paper drops those that occur three times or more, its code those that occur twice.
    """
    _count_lists(inputs, outputs, scratch, "paragraph_keys", ("paragraph_counts", "most_common_paragraph"))


# The same page twice: by its URL, by the set of its images.


@op(
    reads=("origin", "meta"),
    writes={"page_key": pa.binary(), "page_host": pa.string(), "page_date_s": pa.int64()},
    version=1,
    batch_size=1024,
)
def page_key(origins: Sequence[str], metas: Sequence[Mapping[str, Any]]) -> Columns:
    """A key of the page's URL, its host, and the date of the page in seconds since 1970 (null where none is said).

    The URL is `meta.url`, else the origin; its fragment, and the case of its host, count for nothing.
    """
    urls = [page_url(origin, meta) for origin, meta in zip(origins, metas, strict=True)]
    return {
        "page_key": [_key(url) for url in urls],
        "page_host": [page_host(url) or None for url in urls],
        "page_date_s": [page_date_s(meta) for meta in metas],
    }


@group_op(after=page_key, writes={"url_duplicate_of": pa.string()}, version=1)
def duplicate_urls(inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path) -> None:
    """Of pages with one URL, the uid of the latest, in the rows of the others; null for the pages to be kept.

    Laurençon et al., OBELICS, 2023. A page without a date is older than any; of the same date the smallest uid stays.
    """
    _name_latest(inputs, outputs, scratch, ("page_key", "page_date_s"), "url_duplicate_of")


@group_op(after=page_key, writes={"host_pages": pa.int64()}, version=1)
def host_pages(inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path) -> None:
    """Count the pages of a page's host; null for a page without one."""
    with _groups.database(scratch) as db:
        _groups.gather_inputs(db, "listed", inputs, "uid, page_host")
        query = (
            "SELECT uid, pages AS host_pages FROM listed LEFT JOIN"
            " (SELECT page_host, count(*) AS pages FROM listed WHERE page_host IS NOT NULL GROUP BY ALL)"
            " USING (page_host) ORDER BY shard, row"
        )
        _groups.write_outputs(db, query, inputs, outputs, {"host_pages": pa.int64()})


@op(
    reads=("document", "images", "meta"),
    writes={"image_set_key": pa.binary(), "image_set_date_s": pa.int64()},
    version=1,
    batch_size=1024,
)
def image_set(
    documents: Sequence[list[Segment]], images: Sequence[list[Blob]], metas: Sequence[Mapping[str, Any]]
) -> Columns:
    """A key of the set of URLs of a document's images and its date, for `duplicate_image_sets`.

    Of the images that are there: two dead logos make no two pages the same. Null where none is. Error:
    images_out_of_step.
    """
    rows = [
        out_of_step(document, blobs)
        or {"image_set_key": _set_key(document, blobs), "image_set_date_s": page_date_s(meta)}
        for document, blobs, meta in zip(documents, images, metas, strict=True)
    ]
    return columns_of(rows, image_set)


def _set_key(document: list[Segment], blobs: Sequence[Blob]) -> bytes | None:
    urls = {url for url, blob in zip(image_urls(document), blobs, strict=True) if blob.error is None}
    return _key(*sorted(urls)) if urls else None


@group_op(after=image_set, writes={"image_set_duplicate_of": pa.string()}, version=1)
def duplicate_image_sets(inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path) -> None:
    """Of documents with the same set of images, the uid of the latest, in the rows of the others; else null.

    Laurençon et al., OBELICS, 2023. Ties as in `duplicate_urls`; documents without images are nobody's duplicates.
    """
    _name_latest(inputs, outputs, scratch, ("image_set_key", "image_set_date_s"), "image_set_duplicate_of")


# Out of core.


def _name_latest(
    inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path, by: tuple[str, str], name: str
) -> None:
    """Writes, for every row whose key another row has with a later date, the uid of the latest row of the key."""
    key, date = by
    with _groups.database(scratch) as db:
        _groups.gather_inputs(db, "listed", inputs, f"uid, {key} AS key, {date} AS date")
        db.execute(
            "CREATE TABLE latest AS SELECT key, uid AS kept FROM listed WHERE key IN"
            " (SELECT key FROM listed WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1)"
            " QUALIFY row_number() OVER (PARTITION BY key ORDER BY date DESC NULLS LAST, uid) = 1"
        )
        query = f"SELECT uid, nullif(kept, uid) AS {name} FROM listed LEFT JOIN latest USING (key) ORDER BY shard, row"
        _groups.write_outputs(db, query, inputs, outputs, {name: pa.string()})


def _count_lists(
    inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path, keys: str, names: tuple[str, str]
) -> None:
    """Writes for each row the list of how often each of its keys occurs in all rows, and the largest of them."""
    with _groups.database(scratch) as db:
        _groups.gather_inputs(db, "places", inputs, f"unnest({keys}) AS key, generate_subscripts({keys}, 1) AS place")
        db.execute(
            "CREATE TABLE repeated AS SELECT key, count(*) AS n FROM places WHERE key IS NOT NULL"
            " GROUP BY key HAVING n > 1"
        )
        query = (
            f"SELECT CASE WHEN key IS NULL THEN NULL ELSE least(coalesce(n, 1), {_MOST}) END::INTEGER AS n"
            " FROM places LEFT JOIN repeated USING (key) ORDER BY shard, row, place"
        )
        _groups.write_lists(db, query, inputs, outputs, keys, names)
