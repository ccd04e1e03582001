"""Sheets of one form: other words make other pictures, copies of a sheet are found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from pictures import copy_of, drawing, encoded, judged, photograph, resized
from PIL import Image, ImageDraw, ImageFont

WORDS = ["bolt", "nut", "washer", "hinge", "lamp", "cable", "valve", "pump", "filter", "gasket", "bearing", "motor"]


def invoice(seed: int) -> Image.Image:
    """A bill of one firm: the same head and table, other names, goods and sums."""
    draw = random.Random(seed)
    image = Image.new("RGB", (620, 877), "white")
    pen, small, large = ImageDraw.Draw(image), ImageFont.load_default(13), ImageFont.load_default(26)
    pen.rectangle((0, 0, 620, 68), fill=(30, 60, 120))
    pen.text((30, 20), "ACME Supplies Ltd.", fill="white", font=large)
    pen.text((30, 140), f"To {draw.choice(WORDS).title()} and {draw.choice(WORDS).title()}", fill="black", font=small)
    pen.text((380, 110), f"No. {draw.randint(10_000, 99_999)}", fill="black", font=small)
    pen.rectangle((30, 230, 590, 254), fill=(220, 225, 235))
    for line in range(15):
        y = 262 + 30 * line
        pen.line((30, y + 24, 590, y + 24), fill=(200, 200, 200))
        pen.text((36, y), f"{draw.choice(WORDS)} {draw.choice(WORDS)} {draw.randint(1, 99)}", fill="black", font=small)
        pen.text((420, y), f"{draw.randint(1, 40)}", fill="black", font=small)
        pen.text((510, y), f"{draw.randint(1, 9999) / 100:.2f}", fill="black", font=small)
    return image


def question(seed: int) -> Image.Image:
    """A card that differs from the others in one sentence."""
    draw = random.Random(seed)
    image = Image.new("RGB", (800, 600), (245, 245, 240))
    pen = ImageDraw.Draw(image)
    pen.rectangle((20, 20, 780, 580), outline=(60, 60, 60), width=3)
    pen.text((50, 50), "Question", fill="black", font=ImageFont.load_default(40))
    pen.text((50, 280), " ".join(draw.sample(WORDS, 7)), fill="black", font=ImageFont.load_default(22))
    return image


@pytest.mark.slow
def test_sheets_of_one_form_with_other_words_are_all_kept(tmp_path: Path) -> None:
    files = {f"invoice {n}": encoded(invoice(n)) for n in range(20)}
    files |= {f"question {n}": encoded(question(n)) for n in range(20)}
    assert set(judged(files, tmp_path).values()) == {None}


def test_reencoded_and_resized_copies_of_a_sheet_name_that_sheet(tmp_path: Path) -> None:
    files = {f"{make.__name__} {n}": encoded(make(n)) for make in (invoice, question) for n in range(10)}
    copies = {}
    for number, name in enumerate(files):
        sheet = (invoice if name.startswith("invoice") else question)(number % 10)
        factor = random.Random(number).uniform(0.5, 0.95) if number % 2 else 1.0
        kind = ("JPEG", "WEBP")[number // 2 % 2]
        copies[f"{name}/copy"] = encoded(resized(sheet, factor), kind, quality=40 + 2 * number)
    pairs = {(name, of) for name, of in judged(files | copies, tmp_path).items() if of}
    assert {tuple(sorted(pair)) for pair in pairs} == {(name, f"{name}/copy") for name in files}


def test_copies_of_large_pictures_are_found_whatever_their_detail(tmp_path: Path) -> None:
    pictures = {f"photograph {n}": photograph(n, 720, 480) for n in range(20)}
    pictures |= {f"drawing {n}": drawing(n, 400) for n in range(20)}
    files = {name: encoded(image) for name, image in pictures.items()}
    files |= {f"{name}/copy": copy_of(image, n) for n, (name, image) in enumerate(pictures.items())}
    removed = {name: of for name, of in judged(files, tmp_path).items() if of}
    assert len(removed) >= 38
    assert all(name.split("/")[0] == of.split("/")[0] for name, of in removed.items())


def test_white_drawings_on_transparency_are_told_apart_and_their_copies_found(tmp_path: Path) -> None:
    drawings = {}
    for number in range(12):
        draw, image = random.Random(number), Image.new("RGBA", (96, 96), (0, 0, 0, 0))
        pen = ImageDraw.Draw(image)
        for _ in range(4):
            x, y, w, h = (draw.randint(10, 60) for _ in range(4))
            pen.ellipse((x, y, x + w // 2, y + h // 2), fill=(255, 255, 255, 255))
        drawings[f"{number}"] = image
    files = {name: encoded(image) for name, image in drawings.items()}
    files |= {f"{name}/same": encoded(image, "WEBP", lossless=True) for name, image in drawings.items()}
    found = judged(files, tmp_path)
    removed = {name: of for name, of in found.items() if of}
    assert len(removed) == 12
    assert all(name.split("/")[0] == of.split("/")[0] for name, of in removed.items())
