"""Faces: a drawn one is found, and what has none is left alone; documents without the images that show one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from documents import picture
from PIL import Image, ImageDraw, ImageFilter

from curate.image.files import decode
from curate.models.files import ModelError
from curate.ops.safety.faces import faces


def face(side: int = 512) -> Image.Image:
    """A face from the front, drawn with a dozen shapes."""
    image = Image.new("RGB", (side, side), (90, 110, 130))
    draw = ImageDraw.Draw(image)

    def oval(x: float, y: float, width: float, height: float, colour: tuple[int, int, int]) -> None:
        draw.ellipse([(x - width) * side, (y - height) * side, (x + width) * side, (y + height) * side], fill=colour)

    oval(0.5, 0.47, 0.27, 0.36, (50, 35, 28))
    draw.rectangle([0.42 * side, 0.75 * side, 0.58 * side, 0.95 * side], fill=(200, 152, 126))
    oval(0.5, 0.52, 0.22, 0.30, (214, 168, 140))
    oval(0.5, 0.56, 0.17, 0.24, (224, 180, 152))
    for x in (0.41, 0.59):
        oval(x, 0.455, 0.07, 0.045, (180, 130, 105))
        oval(x, 0.46, 0.045, 0.022, (245, 240, 235))
        oval(x, 0.46, 0.018, 0.02, (40, 30, 25))
        brow = [(x - 0.06) * side, 0.41 * side, (x + 0.06) * side, 0.405 * side]
        draw.line(brow, fill=(60, 40, 30), width=side // 40)
    draw.polygon(
        [(0.5 * side, 0.47 * side), (0.47 * side, 0.6 * side), (0.53 * side, 0.6 * side)], fill=(190, 140, 115)
    )
    oval(0.5, 0.60, 0.035, 0.018, (170, 118, 95))
    oval(0.5, 0.685, 0.075, 0.022, (165, 75, 75))
    draw.line([0.43 * side, 0.685 * side, 0.57 * side, 0.685 * side], fill=(90, 30, 35), width=side // 120)
    return image.filter(ImageFilter.GaussianBlur(side / 150))


def saved(image: Image.Image) -> bytes:
    image.save(body := io.BytesIO(), "PNG")
    return body.getvalue()


def test_a_face_is_told_from_pictures_without_one_whatever_shares_the_batch() -> None:
    op = faces()
    others = [image for seed in range(3) if (image := decode(picture(300, 200, seed)).image)]
    upside_down = face().transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    found = op([face(), upside_down, *others, Image.new("RGB", (1, 1))])["face_score"]
    assert found[0] > 0.6 and max(found[1:]) < 0.2, found
    assert op([face()])["face_score"] == found[:1]


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
