"""Faces: a drawn one is found, and what has none is left alone; documents without the images that show one."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import picture
from pictures import face
from PIL import Image

from curate.image.files import decode
from curate.models.files import ModelError
from curate.ops.safety.faces import faces


def test_a_face_is_told_from_pictures_without_one_whatever_shares_the_batch() -> None:
    op = faces()
    others = [image for seed in range(3) if (image := decode(picture(300, 200, seed)).image)]
    upside_down = face().transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    found = op([face(), upside_down, *others, Image.new("RGB", (1, 1))])["face_score"]
    assert found[0] > 0.6 and max(found[1:]) < 0.2, found
    assert op([face()])["face_score"] == found[:1]


def test_the_box_of_a_face_is_in_pixels_of_the_image_as_it_is_however_large() -> None:
    scene = Image.new("RGB", (1600, 1200), (90, 110, 130))
    scene.paste(face(1000), (500, 100))
    found = faces()([scene, Image.new("RGB", (300, 200))])
    ((left, top, right, bottom),), nothing = found["face_boxes"]
    assert nothing == []
    # The drawing's oval is .34 to .44 of its side wide and .48 to .60 high, about (.5, .54).
    assert abs((left + right) / 2 - 1000) < 60 and abs((top + bottom) / 2 - 640) < 90
    assert 340 < right - left < 560 and 450 < bottom - top < 750


def test_two_faces_have_two_boxes_and_a_knob_says_how_sure_they_must_be() -> None:
    scene = Image.new("RGB", (1280, 480), (90, 110, 130))
    for left in (200, 840):
        scene.paste(face(400), (left, 40))
    (boxes,) = faces(long_side_px=1280)([scene])["face_boxes"]
    assert sorted((box[0] + box[2]) // 2 // 640 for box in boxes) == [0, 1]
    assert faces(long_side_px=1280, min_box_score=0.99)([scene])["face_boxes"] == [[]]


def test_a_face_is_found_in_a_large_picture_whose_sides_are_no_multiples_of_anything() -> None:
    scene = Image.new("RGB", (1271, 1027), (90, 110, 130))
    scene.paste(face(1024), (240, 3))
    assert faces()([scene])["face_score"][0] > 0.5


def test_weights_that_are_not_there_and_a_side_that_is_too_small_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="face model: no file"):
        faces(model=str(tmp_path / "x.onnx"))
    with pytest.raises(ValueError, match="long_side_px 16 must be at least 32"):
        faces(long_side_px=16)


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match="not an ONNX network"):
        faces(model=str(tmp_path / "x.onnx"))
