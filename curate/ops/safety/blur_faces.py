"""Blur faces in what is published; the pool keeps the files as they came."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from PIL import Image, ImageDraw

from curate.image.again import changed
from curate.image.files import ImageError
from curate.ops.spec import Amount, Columns, Failed, op
from curate.pool.blob import BLOB, Blob, Stored

Boxes = Sequence[Sequence[int]]

_CELLS = 3
"""Across a face: so few tell nobody apart, and are no face for a detector."""


@op(reads=("blob", "face_boxes"), writes={"image": BLOB, "faces_blurred": pa.int32()}, version=1, batch_size=16)
def blur_faces(images: Sequence[Blob], boxes: Sequence[Boxes], *, margin: Amount = 0.25) -> Columns:
    """The image that later steps read and that is published, its faces blurred, and how many; by `faces`' boxes.

    Each box is widened by `margin` of its sides, and what an ellipse in it shows becomes the mean colours of a few
    cells. An image without faces stays byte for byte what it was, and where it lies. Others are encoded again: JPEG
    with its own tables, WebP at quality 95, all else as PNG; without EXIF and other notes, the pixels upright.
    """
    found = [_blurred(image, own, margin) for image, own in zip(images, boxes, strict=True)]
    return {"image": found, "faces_blurred": [len(own) for own in boxes]}


@op(
    reads=("images", "face_boxes"),
    writes={"images": pa.list_(BLOB), "faces_blurred": pa.int32()},
    version=1,
    batch_size=4,
    parts={"images": "images"},
)
def blur_document_faces(
    images: Sequence[Sequence[Blob]], boxes: Sequence[Sequence[Boxes | None]], *, margin: Amount = 0.25
) -> Columns:
    """The images of a document with their faces blurred as by `blur_faces`, and how many; after `faces` over images."""
    rows = [_document(blobs, own, margin) for blobs, own in zip(images, boxes, strict=True)]
    counts = [sum(len(each or ()) for each in own) for own in boxes]
    return {"images": rows, "faces_blurred": counts}


def _document(blobs: Sequence[Blob], boxes: Sequence[Boxes | None], margin: float) -> list[Blob | Stored] | Failed:
    found: list[Blob | Stored] = []
    for blob, own in zip(blobs, boxes, strict=True):
        one = _blurred(blob, own or (), margin)
        if isinstance(one, Failed):
            return one
        found.append(one)
    return found


def _blurred(blob: Blob, boxes: Boxes, margin: float) -> Blob | Stored | Failed:
    if not boxes:
        return blob
    try:
        data, ext, size = changed(blob.read(), lambda image: blur_boxes(image, boxes, margin))
    except ImageError as refused:
        return Failed(refused.error, refused.detail)
    return Stored(data, ext, *size)


def blur_boxes(image: Image.Image, boxes: Boxes, margin: float) -> Image.Image:
    """The image with the ellipse in each box, widened by `margin`, made of the mean colours of a few cells."""
    for box in boxes:
        left, top, right, bottom = _widened(box, margin, image.size)
        part = image.crop((left, top, right, bottom))
        cells = part.resize((min(_CELLS, part.width), min(_CELLS, part.height)), Image.Resampling.BOX)
        mask = Image.new("L", part.size)
        ImageDraw.Draw(mask).ellipse((0, 0, part.width - 1, part.height - 1), fill=255)
        image.paste(cells.resize(part.size, Image.Resampling.BILINEAR), (left, top), mask)
    return image


def _widened(box: Sequence[int], margin: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    across, down = round(margin * (right - left)), round(margin * (bottom - top))
    return max(0, left - across), max(0, top - down), min(size[0], right + across), min(size[1], bottom + down)
