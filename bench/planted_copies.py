"""Plant the nine kinds of copies that the web makes of pictures: what `bench/near_images.py` measures on.

Every kind is drawn with a seed from wide ranges: quality 20 to 95, scale .3 to 1.5, crops at random places and in
corners, mirrored alone and scaled too, grey by four formulas, borders of any colour on all or some sides, logos of many
sizes with a line of text above, below or across. Each copy is encoded as JPEG, WebP or PNG and decoded again.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXTS = (
    "www.example.org",
    "(c) 2019 A. Photographer, all rights reserved",
    "Stock picture 4711",
    "Preview only",
    "Sale! 50 % off this weekend",
)


def _reencode(image: Image.Image, draw: random.Random) -> Image.Image:
    return image


def _resize(image: Image.Image, draw: random.Random) -> Image.Image:
    factor = draw.choice([draw.uniform(0.3, 0.95), draw.uniform(1.05, 1.5)])
    way = draw.choice([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))), way)


def _crop(share: float) -> Callable[[Image.Image, random.Random], Image.Image]:
    def crop(image: Image.Image, draw: random.Random) -> Image.Image:
        width, height = round(image.width * share), round(image.height * share)
        in_corner = draw.random() < 0.4
        x, y = (
            draw.choice([0, room]) if in_corner else draw.randint(0, room)
            for room in (image.width - width, image.height - height)
        )
        return image.crop((x, y, x + width, y + height))

    return crop


def _mirror(image: Image.Image, draw: random.Random) -> Image.Image:
    turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _resize(turned, draw) if draw.random() < 0.5 else turned


GREYS = ((0.299, 0.587, 0.114), (0.2126, 0.7152, 0.0722), (1 / 3, 1 / 3, 1 / 3), (0.0, 1.0, 0.0))
"""Weights of red, green and blue: BT.601, BT.709, the mean, green alone."""


def _grey(image: Image.Image, draw: random.Random) -> Image.Image:
    weights = GREYS[draw.choices(range(4), (5, 2, 2, 1))[0]]
    grey = np.rint(np.asarray(image, np.float64) @ np.array(weights)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _border(image: Image.Image, draw: random.Random) -> Image.Image:
    sides = draw.choice(["all", "all", "all", "ltrb", "lr", "tb", "l", "t", "r", "b"])
    widths = {
        side: round(draw.uniform(0.02, 0.15) * (image.width if side in "lr" else image.height)) for side in "ltrb"
    }
    if sides == "all":
        even = round(draw.uniform(0.02, 0.15) * min(image.size))
        sides, widths = "ltrb", dict.fromkeys("ltrb", even)
    left, top, right, bottom = (widths[side] if side in sides else 0 for side in "ltrb")
    any_colour = tuple(draw.randint(0, 255) for _ in range(3))
    colour = draw.choice([(0, 0, 0), (255, 255, 255), any_colour])
    framed = Image.new("RGB", (image.width + left + right, image.height + top + bottom), colour)
    framed.paste(image, (left, top))
    return framed


def _mark(image: Image.Image, draw: random.Random) -> Image.Image:
    marked = image.convert("RGBA")
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    side = draw.uniform(0.06, 0.16) * max(image.size)
    edge = 0.02 * min(image.size)
    x = edge if draw.random() < 0.5 else image.width - side - edge
    y = edge if draw.random() < 0.5 else image.height - side - edge
    opacity = draw.choice([255, 255, 160])
    shape = draw.choice([pen.ellipse, pen.rectangle])
    shape((x, y, x + side, y + side), fill=(*(draw.randint(0, 255) for _ in range(3)), opacity))
    inner = side / 4
    pen.ellipse((x + inner, y + inner, x + side - inner, y + side - inner), fill=(255, 255, 255, opacity))
    size = max(8, round(draw.uniform(0.035, 0.07) * image.height))
    font, words = ImageFont.load_default(size), draw.choice(TEXTS)
    wide = pen.textlength(words, font=font)
    line = draw.choice([0.02, 0.9, 0.9, draw.uniform(0.1, 0.8)]) * image.height
    place = (draw.uniform(0, max(0.0, image.width - wide)), line)
    colour = draw.choice([(255, 255, 255), (0, 0, 0), (255, 220, 0)])
    outline = draw.choice([0, 1])
    pen.text(place, words, fill=(*colour, opacity), font=font, stroke_width=outline, stroke_fill=(90, 90, 90, opacity))
    return Image.alpha_composite(marked, layer).convert("RGB")


KINDS: Mapping[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "re-encoded": _reencode,
    "resized": _resize,
    "cropped to 95 %": _crop(0.95),
    "cropped to 90 %": _crop(0.9),
    "cropped to 80 %": _crop(0.8),
    "mirrored": _mirror,
    "grey": _grey,
    "bordered": _border,
    "marked": _mark,
}


def plant(image: Image.Image, kind: str, draw: random.Random) -> tuple[Image.Image, int]:
    """A copy of an RGB image, decoded from its file, and the file's bytes."""
    copy = KINDS[kind](image, draw)
    form = draw.choice(["JPEG", "JPEG", "JPEG", "WEBP", "PNG" if kind != "re-encoded" else "JPEG"])
    options = {} if form == "PNG" else {"quality": draw.randint(20, 95)}
    copy.save(body := io.BytesIO(), form, **options)
    with Image.open(body) as opened:
        return opened.convert("RGB"), len(body.getvalue())
