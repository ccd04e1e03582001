"""Taking segments out of a document, with the blobs of its images in step: shared by the ops on documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from curate.document.segments import Segment, is_image
from curate.image.files import decode
from curate.ops.spec import Columns, Failed, spec_of
from curate.pool.blob import Blob

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")


def of_images(images: Sequence[Sequence[Blob]], value: Callable[[Image], T]) -> list[list[T | None]]:
    """A value of each image of each document; None of one that is absent or does not decode."""
    return [[_of_image(blob, value) for blob in blobs] for blobs in images]


def _of_image(blob: Blob, value: Callable[[Image], T]) -> T | None:
    image = decode(blob.read()).image if blob.error is None else None
    return None if image is None else value(image)


def largest(lists: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The largest value of each list; None where it holds none."""
    return [max((value for value in values if value is not None), default=None) for values in lists]


def without_images(document: Sequence[Segment], keep: Sequence[bool]) -> list[Segment]:
    """The document without the images whose entry in `keep`, one an image segment, is false."""
    kept = iter(keep)
    return [segment for segment in document if not is_image(segment) or next(kept)]


def without_texts(document: Sequence[Segment], keep: Sequence[bool]) -> list[Segment]:
    """The document without the texts whose entry in `keep`, one a text segment, is false."""
    kept = iter(keep)
    return [segment for segment in document if is_image(segment) or next(kept)]


def chosen(values: Sequence[T], keep: Sequence[bool]) -> list[T]:
    """The values whose entry in `keep` is true."""
    return [value for value, kept in zip(values, keep, strict=True) if kept]


def out_of_step(document: Sequence[Segment], images: Sequence[object]) -> Failed | None:
    """The error of a document whose images are not one an image segment; None where they are."""
    places = sum(map(is_image, document))
    if places == len(images):
        return None
    detail = f"{places} image segments, {len(images)} images: a step changed the document without its images"
    return Failed("images_out_of_step", detail)


def stale(parts: Sequence[object], values: Sequence[object]) -> Failed | None:
    """The error of a document that changed after something was counted of each of its parts; None where it did not."""
    if len(parts) == len(values):
        return None
    return Failed("counts_out_of_step", f"{len(parts)} parts, {len(values)} counts: a step in between changed them")


def without_scored(
    document: Sequence[Segment],
    images: Sequence[Blob],
    scores: Sequence[float | None],
    most: float,
    names: tuple[str, str],
) -> Failed | dict[str, Any]:
    """The document and its images without those whose score is above `most`, or which are there and have none.

    An absent image keeps its place. `names`: the columns of how many are left and there, and how many went.
    """
    if failure := out_of_step(document, images) or stale(images, scores):
        return failure
    keep = [
        blob.error is not None or (score is not None and score <= most)
        for blob, score in zip(images, scores, strict=True)
    ]
    left = chosen(images, keep)
    here = sum(blob.error is None for blob in left)
    counts = {names[0]: here, names[1]: len(images) - len(left)}
    return {"document": without_images(document, keep), "images": left, **counts}


def columns_of(rows: Sequence[Failed | Mapping[str, Any]], function: Callable[..., Any]) -> Columns:
    """Rows, each its op's values by name or a failure, as the columns that the op declares."""
    return {name: [row if isinstance(row, Failed) else row[name] for row in rows] for name in spec_of(function).writes}
