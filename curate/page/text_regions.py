"""Find where an image shows text, reading none of it, and paint it over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw

from curate.extras import require
from curate.page.ocr import OcrError

Corners = npt.NDArray[np.float64]
"""(4, 2) x and y of a region's corners, in pixels."""
Find = Callable[[Image.Image], list[Corners]]

_LEAST_PX = 16
"""Of the short side of what the network sees: in less there is no line of text, and its own resizing goes astray."""
_GROWN_PX = 2
_RING_PX = 6
"""Around a region: what is painted over beside it, for the blur of letters, and what its colour is taken from."""


def detector_identity() -> str:
    """Identity of the detector: its package, which brings the model, and the runtime."""
    require("a text detector", "rapidocr")
    return f"rapidocr {version('rapidocr')}, onnxruntime {version('onnxruntime')}"


def load_detector(long_side_px: int, max_line_share: float) -> Find:
    """RapidOCR's detector (PP-OCR's DB network) as a function from an image to the regions of text, at most 1,000.

    The image is made smaller to `long_side_px`, never larger. Regions higher than `max_line_share` of its short side
    are left out: the network learned from pages, and takes a thing that stands alone for a letter. Raises
    MissingExtraError; the function OcrError.
    """
    engine = _engine(long_side_px)

    def find(image: Image.Image) -> list[Corners]:
        small = _fit(image, long_side_px)
        if min(small.size) < _LEAST_PX:
            return []
        try:
            found = engine(np.asarray(small)[:, :, ::-1], use_det=True, use_cls=False, use_rec=False)
        except Exception as err:  # it has no errors of its own, and raises nearly anything on odd pictures
            raise OcrError("ocr_failed", f"{type(err).__name__}: {err}") from err
        scale = np.array([image.width / small.width, image.height / small.height])
        boxes = () if found.boxes is None else found.boxes
        lines = [box for box in boxes if _height(box) <= max_line_share * min(small.size)]
        return [np.asarray(box, np.float64) * scale for box in lines]

    return find


def _height(corners: Corners) -> float:
    sides = np.linalg.norm(np.diff(corners[:3], axis=0), axis=1)
    return float(sides.min())


@cache
def _engine(long_side_px: int) -> Any:
    require("a text detector", "rapidocr")
    from rapidocr import RapidOCR

    one_thread = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    as_given = {
        "Global.use_preprocess_img": False,
        "Global.use_vertical_padding": False,
        "Det.limit_type": "max",
        "Det.limit_side_len": long_side_px,
    }
    return RapidOCR(params={**one_thread, **as_given, "Global.log_level": "critical"})


def boxes_of(regions: Sequence[Corners], size: tuple[int, int]) -> list[list[int]]:
    """Left, top, right and bottom of each region, in whole pixels inside an image of that (width, height)."""
    found = []
    for corners in regions:
        low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
        left, top, right, bottom = np.clip([*low, *high], 0, [*size, *size]).astype(int).tolist()
        if left < right and top < bottom:
            found.append([left, top, right, bottom])
    return found


def paint_over(image: Image.Image, regions: Sequence[Corners], long_side_px: int) -> tuple[Image.Image, float]:
    """The image with each region in the mean colour of its surroundings, and the share of its area that they take.

    Regions are drawn on the image made smaller to `long_side_px`, and laid on it from there: however many there are,
    and however they lie, the work is bounded. Pixels beside them are left as they are.
    """
    small = _fit(image, long_side_px)
    scale = np.array([small.width / image.width, small.height / image.height])
    drawn = [[(float(x), float(y)) for x, y in corners * scale] for corners in regions]
    text, grown = Image.new("L", small.size), Image.new("L", small.size)
    for corners in drawn:
        _fill(text, corners, 0)
        _fill(grown, corners, _GROWN_PX)
    share = text.histogram()[255] / (small.width * small.height)
    paint = small.resize((1, 1), Image.Resampling.BOX).resize(small.size)  # where text has nothing but text around it
    for corners in drawn:
        _paint(paint, small, grown, corners)
    over = paint.resize(image.size, Image.Resampling.NEAREST)
    found = image.copy()
    found.paste(over, mask=grown.resize(image.size, Image.Resampling.NEAREST))
    return found, share


def _paint(paint: Image.Image, image: Image.Image, text: Image.Image, corners: list[tuple[float, float]]) -> None:
    """Fill a region of `paint` with the mean colour of the ring around it in `image`, other text left out."""
    xs, ys = zip(*corners, strict=True)
    reach = _GROWN_PX + _RING_PX
    left, top = max(0, int(min(xs)) - reach), max(0, int(min(ys)) - reach)
    right, bottom = min(image.width, int(max(xs)) + reach + 2), min(image.height, int(max(ys)) + reach + 2)
    if right <= left or bottom <= top:
        return
    inside, around = (Image.new("L", (right - left, bottom - top)) for _ in range(2))
    moved = [(x - left, y - top) for x, y in corners]
    _fill(inside, moved, _GROWN_PX)
    _fill(around, moved, reach)
    ring = ImageChops.subtract(around, text.crop((left, top, right, bottom)))
    pixels_N3 = np.asarray(image.crop((left, top, right, bottom)))[np.asarray(ring) > 0]
    if not len(pixels_N3):
        return
    red, green, blue = (int(level) for level in pixels_N3.mean(axis=0).round())
    paint.paste((red, green, blue), (left, top), inside)


def _fill(mask: Image.Image, corners: list[tuple[float, float]], grown_px: int) -> None:
    """Draw a region, so many pixels larger on every side."""
    pen = ImageDraw.Draw(mask)
    pen.polygon(corners, fill=255)
    if grown_px:
        pen.line([*corners, corners[0], corners[1]], fill=255, width=2 * grown_px + 1, joint="curve")


def _fit(image: Image.Image, long_side_px: int) -> Image.Image:
    scale = min(1.0, long_side_px / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image if scale == 1.0 else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
