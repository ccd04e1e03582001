"""Pictures are measured: blur, colours, borders, screenshots, collages, QR codes, JPEGs that end early."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from pictures import drawing, encoded, photograph
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from curate.image.files import decode
from curate.ops.quality.colours import colours
from curate.ops.quality.image import colour_levels
from curate.ops.quality.layout import layout
from curate.ops.quality.qr_codes import qr_codes
from curate.ops.quality.sharpness import sharpness

OPS = (sharpness, colours, layout, qr_codes, colour_levels)


def one(op: Any, image: Image.Image, **knobs: Any) -> dict[str, Any]:
    return {name: values[0] for name, values in op([image], **knobs).items()}


def screenshot(seed: int, width: int = 480, height: int = 360) -> Image.Image:
    """A window with a title, a list and buttons."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), (236, 233, 228))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    draw.rectangle((0, 0, width - 1, 24), fill=(48, 84, 150))
    draw.text((8, 4), f"Properties of object {seed}", fill="white", font=font)
    draw.rectangle((12, 40, width - 120, height - 50), fill="white", outline=(120, 120, 120))
    for row, y in enumerate(range(48, height - 70, 20)):
        draw.text((20, y), f"Item {row}: " + "value " * int(rng.integers(1, 5)), fill="black", font=font)
    for place in range(3):
        left = width - 290 + 90 * place
        draw.rectangle((left, height - 38, left + 80, height - 12), fill=(220, 220, 220), outline=(90, 90, 90))
        draw.text((left + 20, height - 34), "Apply", fill="black", font=font)
    return image


def collage(*images: Image.Image, gutter: int = 0) -> Image.Image:
    width, height = images[0].size
    found = Image.new("RGB", (2 * width + gutter, height), "white")
    for place, image in enumerate(images):
        found.paste(image, (place * (width + gutter), 0))
    return decode(encoded(found, "JPEG", quality=85)).image or found


@pytest.mark.parametrize("seed", range(4))
def test_a_blurred_photograph_is_told_from_a_sharp_one_and_from_a_flat_drawing(seed: int) -> None:
    sharp = photograph(seed, 640, 480)
    sharp = Image.fromarray(
        np.clip(np.asarray(sharp, int) + np.asarray(drawing(seed, 480).resize((640, 480))) // 3, 0, 255).astype(
            np.uint8
        )
    )
    blurred = sharp.filter(ImageFilter.GaussianBlur(6))
    flat = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(flat).ellipse((200, 100, 420, 320), fill=(240, 180, 40))
    acuity = {name: one(sharpness, image)["edge_acuity"] for name, image in (("b", blurred), ("s", sharp), ("f", flat))}
    assert acuity["b"] < 0.25 < min(acuity["s"], acuity["f"]), acuity
    assert one(sharpness, blurred)["sharpness"] < one(sharpness, sharp)["sharpness"] / 10


def test_sharpness_is_the_variance_of_the_laplacian_of_the_reduced_picture() -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20), np.uint8), "L").convert("RGB")
    grey = np.asarray(small.convert("L"), float)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    assert one(sharpness, small)["sharpness"] == pytest.approx(laplacian.var())
    large = small.resize((80, 48), Image.Resampling.NEAREST)
    assert one(sharpness, large, short_side_px=12)["sharpness"] == pytest.approx(laplacian.var())


def test_a_blank_picture_has_no_edges_no_entropy_and_one_colour() -> None:
    blank = Image.new("RGB", (300, 200), (10, 200, 90))
    assert one(sharpness, blank) == {"sharpness": 0.0, "edge_acuity": None}
    assert one(colours, blank) == {"grey_entropy_bits": 0.0, "commonest_colour_share": 1.0, "chroma_levels": 190.0}
    assert one(layout, blank)["border_share"] == 1.0 and one(layout, blank)["missing_share"] == 0.0


def test_colours_tell_grey_from_coloured_and_how_many_levels_there_are() -> None:
    steps = Image.fromarray(np.repeat(np.arange(0, 256, 16, dtype=np.uint8), 6)[None].repeat(96, axis=0), "L")
    found = one(colours, steps.convert("RGB"))
    assert found["grey_entropy_bits"] == pytest.approx(4.0) and found["chroma_levels"] == 0
    assert found["commonest_colour_share"] == pytest.approx(1 / 16)
    assert (
        one(colours, photograph(1))["chroma_levels"]
        > 20
        > one(colours, photograph(1).convert("L").convert("RGB"))["chroma_levels"]
    )


def test_borders_are_measured_to_the_pixel_whatever_their_colours() -> None:
    framed = ImageOps.expand(photograph(3), border=(7, 20, 31, 0), fill="white")
    found = one(layout, framed)
    assert [found[f"border_{side}"] for side in ("left", "top", "right", "bottom")] == [7, 20, 31, 0]
    assert found["border_share"] == pytest.approx(1 - 240 * 160 / (278 * 180))
    letterbox = Image.new("RGB", (240, 220), "black")
    letterbox.paste(photograph(4), (0, 30))
    found = one(layout, decode(encoded(letterbox, "JPEG", quality=80)).image or letterbox)
    assert (found["border_left"], found["border_right"]) == (0, 0)
    assert abs(found["border_top"] - 30) <= 8 and abs(found["border_bottom"] - 30) <= 8
    assert found["seam_share"] < 0.5, "a border is no seam"


def test_screenshots_score_above_photographs_and_drawings() -> None:
    screens = [screenshot(seed) for seed in range(5)]
    screens += [decode(encoded(image, "JPEG", quality=75)).image or image for image in screens]
    others = [photograph(seed, 480, 360) for seed in range(5)] + [drawing(seed, 300) for seed in range(5)]
    assert min(layout(screens)["screenshot_score"]) > 0.5 > max(layout(others)["screenshot_score"])


@pytest.mark.parametrize("gutter", [0, 2, 12])
def test_a_collage_of_photographs_has_a_seam_and_a_photograph_has_none(gutter: int) -> None:
    pairs = [collage(photograph(2 * n), photograph(2 * n + 1), gutter=gutter) for n in range(5)]
    pairs.append(pairs[0].transpose(Image.Transpose.ROTATE_90))
    single = [photograph(seed, 480, 160) for seed in range(10)]
    assert min(layout(pairs)["seam_share"]) > 0.5 > max(layout(single)["seam_share"])


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_jpeg_that_ends_early_but_has_its_end_mark_tells_how_much_is_missing(share: float) -> None:
    whole = encoded(photograph(5, 320, 320), "JPEG", quality=90)
    cut = decode(whole[: round(len(whole) * (1 - share))] + b"\xff\xd9")
    assert cut.image is not None, "the decoder lets it through"
    assert one(layout, cut.image)["missing_share"] == pytest.approx(share, abs=0.1)
    good = decode(whole).image
    assert good is not None and one(layout, good)["missing_share"] == 0


def test_qr_codes_are_counted_with_the_share_that_they_take() -> None:
    import zxingcpp

    code = zxingcpp.create_barcode("https://example.org/item/1", zxingcpp.BarcodeFormat.QRCode)
    sign = Image.fromarray(np.asarray(code.to_image(scale=4))).convert("RGB")
    scene = photograph(6, 640, 480)
    assert one(qr_codes, scene) == {"qr_codes": 0, "qr_share": 0.0}
    scene.paste(sign.rotate(10, expand=True, fillcolor="white"), (30, 40))
    scene.paste(sign, (400, 300))
    found = one(qr_codes, decode(encoded(scene, "JPEG", quality=75)).image or scene)
    assert found["qr_codes"] == 2
    inner = sign.width - 8 * 4  # four modules of quiet on each side
    assert found["qr_share"] == pytest.approx(2 * inner * inner / (640 * 480), rel=0.15)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (7, 9), (30_000, 2)])
def test_pictures_of_any_size_are_measured(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8))
    for op in OPS:
        assert all(value is None or np.isfinite(value) for value in one(op, image).values())


@pytest.mark.parametrize("op", OPS)
def test_the_measures_of_a_picture_hang_on_it_alone(op: Any) -> None:
    images = [photograph(1), screenshot(2), drawing(3), Image.new("RGB", (5, 5)), photograph(4, 600, 400)]
    before = [image.tobytes() for image in images]
    together = op(images)
    assert [{n: v[place] for n, v in together.items()} for place in range(len(images))] == [one(op, i) for i in images]
    assert [image.tobytes() for image in images] == before


def test_colour_levels_are_those_of_the_channel_that_differs_most() -> None:
    image = Image.new("RGB", (3, 1))
    image.putdata([(10, 10, 10), (10, 90, 10), (10, 10, 0)])
    assert one(colour_levels, image) == {"colour_levels": 80}


def test_a_photograph_may_be_saved_again_and_is_measured_nearly_alike() -> None:
    image = photograph(8, 800, 600)
    image.save(file := io.BytesIO(), "JPEG", quality=95)
    again = decode(file.getvalue()).image
    assert again is not None
    first, second = one(colours, image), one(colours, again)
    assert first["grey_entropy_bits"] == pytest.approx(second["grey_entropy_bits"], abs=0.05)
