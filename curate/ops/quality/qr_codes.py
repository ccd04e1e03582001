"""Find QR codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL.Image import Image

from curate.ops.spec import Columns, op

Points = list[tuple[int, int]]


@op(reads="image", writes={"qr_codes": pa.int32(), "qr_share": pa.float32()}, version=1, needs=("zxingcpp",))
def qr_codes(images: Sequence[Image]) -> Columns:
    """Count the QR codes of a picture that can be read, and the share of its area that they take.

    By zxing-cpp, turned and slanted ones, too: what a phone would read. Codes of less than some 2 pixels a module are
    not seen.
    """
    found = [_outlines(image) for image in images]
    areas = [sum(map(_area, outlines)) for outlines in found]
    return {
        "qr_codes": [len(outlines) for outlines in found],
        "qr_share": [min(1.0, area / (i.width * i.height)) for area, i in zip(areas, images, strict=True)],
    }


def _outlines(image: Image) -> list[Points]:
    import zxingcpp

    codes = zxingcpp.read_barcodes(np.asarray(image.convert("L")), formats=zxingcpp.BarcodeFormat.QRCode)
    return [_corners(code.position) for code in codes]


def _corners(at: Any) -> Points:
    return [(p.x, p.y) for p in (at.top_left, at.top_right, at.bottom_right, at.bottom_left)]


def _area(corners: Points) -> float:
    """Of a quadrilateral, by the shoelace formula."""
    turned = corners[1:] + corners[:1]
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, turned, strict=True))) / 2
