"""Plant faults in real pictures and texts, so that what finds them can be measured.

Every function takes its randomness as an argument: the same draw makes the same fault.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

Draw = np.random.Generator
Picture = Image.Image

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def _cropped(share: float) -> Callable[[Picture, Draw], Picture]:
    def crop(image: Picture, draw: Draw) -> Picture:
        width, height = round(image.width * share), round(image.height * share)
        left, top = int(draw.integers(image.width - width + 1)), int(draw.integers(image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return crop


def _resized(image: Picture, draw: Draw) -> Picture:
    factor = 2 ** float(draw.uniform(-1, 1))
    size = max(8, round(image.width * factor)), max(8, round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)


def _grey(image: Picture, draw: Draw) -> Picture:
    return image.convert("L").convert("RGB")


def bordered(image: Picture, draw: Draw) -> Picture:
    """A border of one colour, 4 to 12 % of the short side: all around, above and below, or left and right."""
    width = max(2, round(float(draw.uniform(0.04, 0.12)) * min(image.size)))
    across, along = [(width, width), (0, width), (width, 0)][int(draw.integers(3))]
    colour = [(255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 30, 40)][int(draw.integers(4))]
    return ImageOps.expand(image, (across, along), colour)


def marked(image: Picture, draw: Draw) -> Picture:
    """A logo in a corner, a sixth of the short side, and a line of text along the bottom, as agencies and sites do."""
    out = image.copy()
    pen = ImageDraw.Draw(out)
    side, edge = max(8, min(image.size) // 6), max(2, min(image.size) // 40)
    left = edge if draw.random() < 0.5 else image.width - side - edge
    pen.rounded_rectangle((left, edge, left + side, edge + side), side // 5, fill=(220, 30, 40))
    pen.ellipse((left + side // 4, edge + side // 4, left + 3 * side // 4, edge + 3 * side // 4), fill=(255, 255, 255))
    size = max(8, image.height // 16)
    line = ["www.pictures.example", "© photo agency 2024", "sample - not for sale"][int(draw.integers(3))]
    pen.text((edge, image.height - size - 2 * edge), line, fill=(255, 255, 255), font=ImageFont.load_default(size),
             stroke_width=max(1, size // 12), stroke_fill=(0, 0, 0))  # fmt: skip
    return out


COPIES: Mapping[str, Callable[[Picture, Draw], Picture]] = {
    "re-encoded": lambda image, draw: image,
    "resized": _resized,
    "cropped to 95 %": _cropped(0.95),
    "cropped to 90 %": _cropped(0.90),
    "cropped to 80 %": _cropped(0.80),
    "mirrored": lambda image, draw: ImageOps.mirror(image),
    "grey": _grey,
    "bordered": bordered,
    "marked": marked,
}
"""What the web does to a picture. Crops keep that share of each side."""


def copy_of(image: Picture, kind: str, draw: Draw) -> bytes:
    """The file of a copy of a kind of COPIES, as a site would store it: JPEG or WebP of quality 40 to 90."""
    changed = COPIES[kind](image, draw)
    return _file(changed, "JPEG" if draw.random() < 0.5 else "WEBP", int(draw.integers(40, 91)))


def stored(image: Picture) -> bytes:
    """The picture as a JPEG of quality 90, without a fault."""
    return _file(image, "JPEG", 90)


def _file(image: Picture, format: str, quality: int) -> bytes:
    image.save(out := io.BytesIO(), format, quality=quality)
    return out.getvalue()


def blurred(image: Picture, draw: Draw) -> bytes:
    """Out of focus: a Gaussian of 1.5 to 3 % of the short side."""
    radius = max(1.5, float(draw.uniform(0.015, 0.03)) * min(image.size))
    return stored(image.filter(ImageFilter.GaussianBlur(radius)))


def blank(image: Picture, draw: Draw) -> bytes:
    """One colour, with what JPEG and a sensor leave on it: up to two levels of noise."""
    flat = np.full((image.height, image.width, 3), draw.integers(0, 256, 3), np.int16)
    flat += draw.integers(-1, 2, flat.shape, np.int16) if draw.random() < 0.5 else 0
    return stored(Image.fromarray(flat.clip(0, 255).astype(np.uint8)))


def truncated(image: Picture, draw: Draw) -> bytes:
    """A download that stopped after a third to nine tenths of the file."""
    data = _file(image, "JPEG", 85)
    return data[: int(len(data) * float(draw.uniform(0.33, 0.9)))]


def written_over(image: Picture, text: str) -> Picture:
    """The picture with `text` written large across it, wrapped, on a band of white."""
    out = image.resize((max(160, image.width), round(image.height * max(160, image.width) / image.width)))
    size = max(12, out.width // 14)
    font, line = ImageFont.load_default(size), ""
    lines: list[str] = []
    for word in text.split():
        if line and font.getlength(f"{line} {word}") > out.width * 0.9:
            lines, line = [*lines, line], word
        else:
            line = f"{line} {word}".strip()
    lines = [*lines, line][:4]
    height = round(size * 1.3 * len(lines))
    top = (out.height - height) // 2
    pen = ImageDraw.Draw(out)
    pen.rectangle((0, top - 4, out.width, top + height + 4), fill=(255, 255, 255))
    for number, each in enumerate(lines):
        pen.text((out.width * 0.05, top + number * size * 1.3), each, fill=(0, 0, 0), font=font)
    return out


PICTURE_FAULTS: Mapping[str, Callable[[Picture, Draw], bytes]] = {
    "blurred": blurred,
    "blank": blank,
    "bordered": lambda image, draw: stored(bordered(image, draw)),
    "grey": lambda image, draw: stored(_grey(image, draw)),
    "truncated": truncated,
}
"""What makes a picture of no use, by itself."""


def edited(text: str, share: float, others: Sequence[str], draw: Draw) -> str:
    """The text with `share` of its words, one at least, replaced by words of other texts, left out or doubled."""
    words = text.split(" ")
    strange = str(others[int(draw.integers(len(others)))]).split() or ["word"]
    for place in draw.choice(len(words), max(1, round(share * len(words))), replace=False):
        way = draw.random()
        words[place] = (
            strange[int(draw.integers(len(strange)))]
            if way < 0.7
            else ""
            if way < 0.85
            else f"{words[place]} {words[place]}"
        )
    return " ".join(word for word in words if word)


def rearranged(text: str, draw: Draw) -> str:
    """The text's sentences in another order."""
    sentences = _SENTENCE.split(text)
    return " ".join(sentences[place] for place in draw.permutation(len(sentences)))


def with_refrain(text: str, draw: Draw, times: int = 6) -> str:
    """The text with its longest sentence said `times` more, between the others."""
    sentences = _SENTENCE.split(text)
    refrain = max(sentences, key=len)
    for place in sorted(draw.integers(0, len(sentences) + 1, times), reverse=True):
        sentences.insert(int(place), refrain)
    return " ".join(sentences)


def swapped(captions: Sequence[str], draw: Draw) -> list[str]:
    """For each caption that of another picture, with different words."""
    order = draw.permutation(len(captions))
    turned = {int(a): captions[b] for a, b in zip(order, np.roll(order, 1), strict=True)}
    for place, caption in list(turned.items()):
        if caption == captions[place]:
            turned[place] = next(c for c in captions if c != captions[place])
    return [turned[place] for place in range(len(captions))]
