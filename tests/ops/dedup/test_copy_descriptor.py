"""copy_descriptor: a user's own network describes each image, and what does not fit is refused before anything runs."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from pictures import drawing, photograph

from curate.models.files import ModelError
from curate.ops.dedup.copy_descriptor import copy_descriptor
from curate.ops.spec import Failed

torch = pytest.importorskip("torch")


def saved(network: object, path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another format; published descriptors are of this one
        torch.jit.trace(network, torch.zeros(1, 3, 64, 64)).save(str(path))
    return str(path)


class Means(torch.nn.Module):  # type: ignore[misc,name-defined]
    """The mean colour of each quarter: (n, 12)."""

    def forward(self, images):  # type: ignore[no-untyped-def]
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


class Nothing(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, images):  # type: ignore[no-untyped-def]
        return images.flatten(1)[:, :8] * 0


class Maps(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, images):  # type: ignore[no-untyped-def]
        return images[:, :, ::8, ::8]


def test_a_descriptor_is_the_networks_answer_to_imagenets_pixels_at_length_one(tmp_path: Path) -> None:
    op = copy_descriptor(model=saved(Means(), tmp_path / "means.pt"), side_px=64)
    images = [drawing(1), photograph(1), photograph(2)]
    found = op(images)["copy_embedding"]
    pixels = np.asarray(images[1].resize((64, 64), 2), np.float64) / 255
    quarters = pixels.reshape(2, 32, 2, 32, 3).mean((1, 3)).transpose(2, 0, 1)
    mean, deviation = (np.array(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = ((quarters - mean) / deviation).ravel()
    assert found[1] == pytest.approx(expected / np.linalg.norm(expected), abs=2e-3)
    for image, together in zip(images, found, strict=True):
        assert (op([image])["copy_embedding"][0] == together).all(), "a descriptor is its image's own"


def test_an_answer_of_length_nought_fails_its_image_by_name(tmp_path: Path) -> None:
    op = copy_descriptor(model=saved(Nothing(), tmp_path / "nothing.pt"), side_px=64)
    (answer,) = op([drawing(1)])["copy_embedding"]
    assert isinstance(answer, Failed)
    assert answer.error == "no_descriptor"


def test_a_network_that_answers_no_vector_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a vector"):
        copy_descriptor(model=saved(Maps(), tmp_path / "maps.pt"), side_px=64)


@pytest.mark.parametrize(
    ("name", "message"), [("x.onnx", "not an ONNX network"), ("x.pt", "not a TorchScript network")]
)
def test_a_file_that_is_no_network_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"no network")
    with pytest.raises(ModelError, match=message):
        copy_descriptor(model=str(tmp_path / name))
    with pytest.raises(ModelError, match="no file"):
        copy_descriptor(model=str(tmp_path / "absent" / name))
