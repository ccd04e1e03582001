"""Find the images that came with a record, where its table held them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curate.document.interchange import Record, RecordError, parse_record
from curate.document.segments import Segment, image_urls
from curate.ops._segments import BROUGHT, count_brought
from curate.ops.spec import Columns, Failed, op
from curate.pool.blob import IMAGES, Absent, Blob


@op(
    reads=("document", "bytes"),
    writes=BROUGHT,
    version=1,
    parts={"images": "images"},
)
def stored_images(documents: Sequence[Sequence[Segment]], records: Sequence[bytes]) -> Columns:
    """The images of a document that came with its record (`source.type: images`), one entry an image segment.

    They stay where they lie in the pool: nothing is copied. One that its table did not hold, or that is no image, is
    absent by name. The columns are those of `fetch_images`, which does the same for images that are URLs. Errors:
    not_json, bad_record.
    """
    found = [_find(document, data) for document, data in zip(documents, records, strict=True)]
    columns = count_brought([[] if isinstance(row, Failed) else row for row in found])
    failed = {place: row for place, row in enumerate(found) if isinstance(row, Failed)}
    return {name: [failed.get(place, value) for place, value in enumerate(column)] for name, column in columns.items()}


def _find(document: Sequence[Segment], data: bytes) -> Failed | list[Blob | Absent]:
    try:
        stored = _stored(parse_record(data))
    except RecordError as err:
        return Failed(err.error, err.detail)
    return [_image(stored, url) for url in image_urls(document)]


def _stored(record: Record) -> Mapping[str, Any]:
    stored = record.get(IMAGES)
    if not isinstance(stored, dict):
        raise RecordError("bad_record", "no images came with it; if they are URLs, the step is fetch_images")
    return stored


def _image(stored: Mapping[str, Any], url: str) -> Blob | Absent:
    if url not in stored:
        return Absent("missing_image", f"{url[:100]!r} did not come with the record")
    place = stored[url]
    return Blob(**place) if place["error"] is None else Absent(place["error"], place["detail"] or "")
