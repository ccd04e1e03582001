"""Copy descriptors by a network that the user names, as SSCD: copies of one picture lie near each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from curate.models.files import ModelError, file_digest
from curate.models.network import load_network
from curate.ops.spec import Columns, Count, Failed, Knobs, op

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_WHAT = "copy_descriptor"
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


@op(reads="image", writes={"copy_embedding": pa.list_(pa.float16())}, version=1, batch_size=16)
class copy_descriptor:  # noqa: N801 - ops are named as recipes name them
    """The descriptor of an image for copy detection, of length 1, in half precision, by the network in `model`.

    SSCD (Pizzi et al. 2022, section 5): squeezed to `side_px` x `side_px`, ImageNet's mean and deviation; two pictures
    of a cosine above .75 are copies with precision .9 on DISC. `model`: a file, ONNX (`.onnx`) or TorchScript, that
    takes (n, 3, side, side) and answers (n, D). Each image is computed alone, so that a descriptor is its image's own.
    """

    def __init__(self, *, model: str, side_px: Count = 320) -> None:
        self._network = load_network(_WHAT, Path(model))
        self._side = side_px
        blank = self._answer(Image.new("RGB", (side_px, side_px)))
        if blank.ndim != 1:
            raise ModelError(f"{_WHAT}: {model} answers {blank.ndim} dimensions an image, expected a vector")

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the network's file."""
        return file_digest(Path(knobs["model"]))

    def __call__(self, images: Sequence[Picture]) -> Columns:
        """One descriptor an image."""
        return {"copy_embedding": [_normalise(self._answer(image)) for image in images]}

    def _answer(self, image: Picture) -> npt.NDArray[Any]:
        square = image.resize((self._side, self._side), Image.Resampling.BILINEAR)
        pixels_HWC = (np.asarray(square, np.float32) / 255 - _MEAN) / _DEVIATION
        try:
            answer = self._network(np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)[None], np.float32))
        except RuntimeError as error:  # both back ends' error for an input that does not fit
            raise ModelError(f"{_WHAT}: the network does not take 3 x {self._side} x {self._side}: {error}") from error
        if len(answer) != 1:
            raise ModelError(f"{_WHAT}: the network answers {answer.shape} for one image")
        return np.asarray(answer[0])


def _normalise(vector: npt.NDArray[Any]) -> npt.NDArray[np.float16] | Failed:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length) or length == 0:
        return Failed("no_descriptor", f"the network's answer has length {length}")
    return np.asarray(vector / length, np.float16)
