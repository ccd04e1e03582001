"""Measure OCR's word recall against text layers, and against texts that pages were printed from.

    python bench/ocr.py [--pages 12] [--dpi 150] [--engines rapidocr tesseract]

Clean pages: of Debian's installation guide (`apt-get update` first) in six languages with Latin letters, those with a
text layer of 200 words or more, evenly from each file; drawn at --dpi. Printed pages: the same pages' texts, drawn
by `render_text` (DejaVu Sans where it is installed) without a text layer, fresh and worn. Words are compared as
`text_agreement` compares them. Tesseract reads each language with its own model where that is installed, else with the
English one. One JSON line an engine and kind: mean, tenth percentile and smallest recall, pages, seconds a page.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from curate.ops.extract.render_text import render_text
from curate.ops.spec import Failed
from curate.page import ocr
from curate.page.words import word_recall
from curate.pdf.file import open_pdf, render
from curate.pdf.text import read_text
from pipelines.materials.packages import fetch

LANGUAGES = {"en": "eng", "de": "deu", "fr": "fra", "es": "spa", "it": "ita", "nl": "nld"}
FEWEST_WORDS = 200
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"


class Page(NamedTuple):
    kind: str
    language: str
    text: str
    image: Image.Image


def clean(count: int, dpi: int) -> Iterator[Page]:
    folder = fetch("installation-guide-amd64") / "usr/share/doc/installation-guide-amd64"
    for language in LANGUAGES:
        found = 0
        with open_pdf(gzip.decompress((folder / language / f"install.{language}.pdf.gz").read_bytes())) as pdf:
            for number in range(7, pdf.pages, 13):
                with pdf.page(number) as page:
                    layer = read_text(page)
                    if len(layer.words) >= FEWEST_WORDS and found < count:
                        found += 1
                        yield Page("clean", language, layer.text, render(page, round(page.height_pt / 72 * dpi)))


def printed(pages: list[Page], dpi: int) -> Iterator[Page]:
    fonts = (FONT,) if Path(FONT).exists() else ()
    size = (round(8.27 * dpi), round(11.69 * dpi))
    for kind, wear in (("printed", 0.0), ("printed and worn", 0.7)):
        draw = render_text(fonts=fonts, page_px=size, font_px=(round(dpi / 7), round(dpi / 6)), wear=wear)
        drawn = draw([f"{n:032d}" for n in range(len(pages))], [page.text for page in pages])
        for page, image, text in zip(pages, drawn["image"], drawn["text"], strict=True):
            if not isinstance(image, Failed):
                yield Page(kind, page.language, text, Image.open(io.BytesIO(image.data)).convert("RGB"))


def reader(engine: ocr.Engine, language: str) -> ocr.Read:
    try:
        return ocr.load_engine(engine, (LANGUAGES[language],), 0.5)
    except ocr.EngineMissingError:
        return ocr.load_engine(engine, ("eng",), 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=12, help="of each language")
    parser.add_argument("--dpi", type=int, default=150)
    parser.add_argument("--engines", nargs="+", default=["rapidocr", "tesseract"])
    asked = parser.parse_args()
    pages = list(clean(asked.pages, asked.dpi))
    pages += list(printed(pages, asked.dpi))
    for engine in asked.engines:
        for kind in dict.fromkeys(page.kind for page in pages):
            mine = [page for page in pages if page.kind == kind]
            read = {language: reader(engine, language) for language in LANGUAGES}
            started = time.monotonic()
            recalls = [word_recall(page.text, read[page.language](page.image).text) or 0.0 for page in mine]
            figures = {
                "engine": engine,
                "kind": kind,
                "recall_mean": round(float(np.mean(recalls)), 4),
                "recall_tenth": round(float(np.quantile(recalls, 0.1)), 4),
                "recall_least": round(min(recalls), 4),
                "pages": len(mine),
                "seconds_a_page": round((time.monotonic() - started) / len(mine), 2),
            }
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
