"""Measure OCR's word recall on pages in seven scripts, drawn by `render_text`.

    python bench/scripts.py [--pages 4]

Sentences that programs say, in the translations that Debian's nautilus and gedit bring (`apt-get update` first), 900
characters a page, in Noto's fonts, fresh, at about 180 dpi. Tesseract reads them, each with its language's own model
(Debian: tesseract-ocr-ara, -fas, -heb, -hin, -ben, -tam, -tha); what is not installed is left out. Words are compared
as `text_agreement` compares them. One JSON line a language.
"""

from __future__ import annotations

import argparse
import gettext
import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from curate.image.files import decode
from curate.ops.extract.render_text import render_text
from curate.ops.spec import Failed
from curate.page import ocr
from curate.page.words import word_recall
from pipelines.materials import fonts
from pipelines.materials.packages import fetch

LANGUAGES = {
    "ar": ("ara", "NotoNaskhArabic"),
    "fa": ("fas", "NotoSansArabic"),
    "he": ("heb", "NotoSansHebrew"),
    "hi": ("hin", "NotoSansDevanagari"),
    "bn": ("ben", "NotoSansBengali"),
    "ta": ("tam", "NotoSansTamil"),
    "th": ("tha", "NotoSansThai"),
}
PACKAGES = ("nautilus-data", "gedit-common")
SHORTEST, PAGE_CHARACTERS = 60, 900


def sentences(language: str) -> Iterator[str]:
    """Sentences of the programs, but for what holds Latin letters or marks of a program."""
    for package in PACKAGES:
        for path in sorted((fetch(package) / "usr/share/locale" / language / "LC_MESSAGES").glob("*.mo")):
            with path.open("rb") as file:
                said = gettext.GNUTranslations(file)._catalog.values()  # type: ignore[attr-defined]
            yield from (s.replace("\n", " ") for s in said if isinstance(s, str) and len(s) > SHORTEST)


def texts(language: str, pages: int) -> list[str]:
    said = [s for s in dict.fromkeys(sentences(language)) if not re.search("[A-Za-z<%{_&]", s)]
    return ["\n".join(said[number::pages])[:PAGE_CHARACTERS] for number in range(pages)]


def measure(language: str, pages: int, folder: Path) -> dict[str, object]:
    model, face = LANGUAGES[language]
    files = (str(folder / f"{face}-Regular.ttf"), str(folder / "NotoSans-Regular.ttf"))
    draw = render_text(fonts=files, font_px=(26, 30), wear=0.0)
    drawn = draw([f"{language} {n}" for n in range(pages)], texts(language, pages))
    try:
        read = ocr.load_engine("tesseract", (model,), 0.0)
    except ocr.EngineMissingError as err:
        return {"language": language, "left_out": str(err)}
    found = []
    for text, stored in zip(drawn["text"], drawn["image"], strict=True):
        assert not isinstance(stored, Failed), stored
        page = decode(stored.data).image
        assert page is not None
        found.append(word_recall(text, read(page).text) or 0.0)
    return {"language": language, "pages": pages, "recall": round(float(np.mean(found)), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pages", type=int, default=4)
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        fonts.prepare(Path(scratch))
        for language in LANGUAGES:
            print(json.dumps(measure(language, options.pages, Path(scratch) / "source")))


if __name__ == "__main__":
    main()
