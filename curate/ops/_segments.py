"""Share between ops on whole documents: a value of each image, images in step with their places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from curate.document.segments import Segment, is_image
from curate.image.files import decode
from curate.ops.spec import Columns, Failed, spec_of
from curate.pool.blob import BLOB, Absent, Blob

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

BROUGHT = {
    "images": pa.list_(BLOB),
    "images_wanted": pa.int32(),
    "images_found": pa.int32(),
    "images_missing_share": pa.float32(),
}
"""The columns of an op that brings the images of documents."""


def count_brought(images: Sequence[Sequence[object]]) -> Columns:
    """The columns `BROUGHT` of documents' images, one entry an image segment; those that are `Absent` are missing."""
    there = [sum(not isinstance(image, Absent) for image in row) for row in images]
    return {
        "images": images,
        "images_wanted": [len(row) for row in images],
        "images_found": there,
        "images_missing_share": [1 - n / len(row) if row else 0.0 for n, row in zip(there, images, strict=True)],
    }


def of_images(images: Sequence[Sequence[Blob]], value: Callable[[Image], T]) -> list[list[T | None]]:
    """A value of each image of each document; None of one that is absent or does not decode."""
    return [[_of_image(blob, value) for blob in blobs] for blobs in images]


def _of_image(blob: Blob, value: Callable[[Image], T]) -> T | None:
    image = decode(blob.read()).image if blob.error is None else None
    return None if image is None else value(image)


def out_of_step(document: Sequence[Segment], images: Sequence[object]) -> Failed | None:
    """The error of a document whose images are not one an image segment; None where they are."""
    places = sum(map(is_image, document))
    if places == len(images):
        return None
    detail = f"{places} image segments, {len(images)} images: a step changed the document without its images"
    return Failed("images_out_of_step", detail)


def columns_of(rows: Sequence[Failed | Mapping[str, Any]], function: Callable[..., Any]) -> Columns:
    """Rows, each its op's values by name or a failure, as the columns that the op declares."""
    return {name: [row if isinstance(row, Failed) else row[name] for row in rows] for name in spec_of(function).writes}
