"""OCR: what is read is in order, in its place and the same every time; a good text layer is never read again."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from curate.ops.extract.ocr import ocr, page_text, text_agreement
from curate.ops.spec import identity, spec_of
from curate.page import ocr as engines
from curate.page.ocr import EngineMissingError, _from_table, _order_reading
from curate.page.words import comparable_words, join_lines, text_noise, word_recall, words_column
from curate.pdf.file import open_pdf, render
from curate.pdf.text import read_text
from curate.typeset.fonts import Fonts
from curate.typeset.pages import Sheet, Style, typeset
from pipelines.materials.packages import PackageUnavailableError, fetch

LANGUAGES = "ca cs da de en es fr id it ja ko nl pt ro ru sv vi zh_CN"
ENGINES = ["rapidocr", "tesseract"]
TEXT = """The harbour was quiet when the first boats returned before sunrise.
Seventeen crates of herring stood on the quay, and a cat named Admiral
counted them twice while nobody else was looking at the price list."""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that is installed here."""
    try:
        engines.engine_identity(request.param, ("eng",))
    except EngineMissingError as missing:
        pytest.skip(str(missing))
    return str(request.param)


def sheet(text: str = TEXT, size: tuple[int, int] = (900, 300)) -> Sheet:
    """A clean page on which a text is printed."""
    style = Style(24, 36, (0, 0, 0), (255, 255, 255), "plain", 0.0, 0.0, 0.0, 0)
    return typeset(text, Fonts().typeface(text, 24)[1], style, size)


def overlap(one: list[float], other: list[float]) -> float:
    """Intersection over union of two boxes."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, wide) * max(0.0, high)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


def test_printed_words_are_read_each_in_its_place(engine: str) -> None:
    """What was printed is read word by word in its place."""
    page = sheet()
    found = ocr(engine=engine)([page.image])
    assert found["ocr_text"] == [TEXT]
    words = found["ocr_words"][0]
    assert [word["text"] for word in words] == page.words
    assert [word["line"] for word in words] == page.lines
    overlaps = [overlap(word["box"], box) for word, box in zip(words, page.boxes.tolist(), strict=True)]
    assert sum(overlaps) / len(overlaps) > 0.5 and min(overlaps) > 0.2
    assert found["ocr_confidence"][0] > 0.8 and all(0 <= word["confidence"] <= 1 for word in words)
    for name, kind in spec_of(ocr).writes.items():
        assert pa.array(found[name], kind).type == kind


def test_same_page_is_read_the_same_whatever_stands_beside_it(engine: str) -> None:
    op, page, other = ocr(engine=engine), sheet().image, sheet("Other words on another page").image
    assert op([page]) == {name: values[1:] for name, values in op([other, page]).items()}


def test_blank_page_has_no_words_and_no_confidence(engine: str) -> None:
    found = ocr(engine=engine)([Image.new("RGB", (300, 200), "white")])
    assert found == {"ocr_text": [""], "ocr_words": [[]], "ocr_word_count": [0], "ocr_confidence": [None]}


def test_two_columns_are_read_one_after_the_other(engine: str) -> None:
    left, right = (
        sheet("\n".join(TEXT.split("\n") * 3), (900, 460)),
        sheet("\n".join(TEXT.upper().split("\n") * 3), (1100, 460)),
    )
    page = Image.new("RGB", (2000, 460), "white")
    page.paste(left.image, (0, 0))
    page.paste(right.image, (900, 0))
    (text,) = ocr(engine=engine)([page])["ocr_text"]
    assert text.rindex("price list.") < text.index("THE HARBOUR")


def test_page_text_takes_a_good_text_layer_and_reads_elsewhere(engine: str) -> None:
    """Page text takes a good text layer and reads where there is none or noise."""
    page = sheet()
    layer = words_column(["a", "good", "layer"], page.boxes[:3], [0, 0, 0])
    op = page_text(engine=engine, min_words=2)
    found = op([page.image] * 3, ["a good layer", "", "\uf001\uf002"], [layer, [], layer], [0.0, 0.0, 0.9])
    assert found["text"] == ["a good layer", TEXT, TEXT]
    assert found["text_source"] == ["layer", "ocr", "ocr"]
    assert found["words"][0] == layer and found["word_count"] == [3, len(page.words), len(page.words)]
    assert found["text_confidence"][0] is None and found["text_confidence"][1] > 0.8
    for name, kind in spec_of(page_text).writes.items():
        assert pa.array(found[name], kind).type == kind


def test_engine_and_its_models_are_part_of_the_identity(engine: str) -> None:
    said = identity(ocr, {"engine": engine, "languages": ("eng",), "min_confidence": 0.5})["files"]
    assert (
        engine in said
        and said == identity(page_text, {"engine": engine, "languages": ("eng",), "min_words": 1})["files"]
    )


def test_engine_that_is_not_there_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissingError, match="apt install tesseract-ocr"):
        ocr(engine="tesseract")


def test_language_that_is_not_there_is_said_with_its_remedy(engine: str) -> None:
    if engine == "tesseract":
        with pytest.raises(EngineMissingError, match="apt install tesseract-ocr-tlh-x"):
            ocr(engine=engine, languages=("tlh_x",))


def program(folder: Path, does: str) -> str:
    """A program called tesseract that knows one language and then does as it is told."""
    (folder / "eng.traineddata").write_bytes(b"model")
    path = folder / "tesseract"
    listed = f"printf 'List of available languages in \"{folder}\" (1):\\neng\\n'"
    path.write_text(f'#!/bin/sh\nif [ "$1" = --list-langs ]; then {listed}; exit; fi\n{does}\n')
    path.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(("does", "error"), [("cat >&2; exit 7", "ocr_failed"), ("exec sleep 60", "ocr_timeout")])
def test_page_on_which_tesseract_fails_or_hangs_fails_alone(
    does: str, error: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", program(tmp_path, does))
    monkeypatch.setattr(engines, "SECONDS", 0.5)
    (found,) = ocr(engine="tesseract")([Image.new("RGB", (9, 9))])["ocr_text"]
    assert found.error == error


def test_han_words_of_tesseract_come_apart_and_their_text_does_not() -> None:
    """Han words of tesseract come apart into characters and stay together in the text."""
    head = "level\tpage\tblock\tpar\tline\tword\tleft\ttop\twidth\theight\tconf\ttext"
    rows = ["1\t10\t20\t40\t20\t90\t必要", "2\t50\t20\t20\t20\t80\tな", "3\t90\t20\t50\t20\t80\tRAM"]
    table = "\n".join([head, *(f"5\t1\t1\t1\t1\t{row}" for row in rows)])
    found = _order_reading(list(_from_table(table)), (100, 100), 0.5)
    assert (found.text, found.words) == ("必要なRAM", ["必", "要", "な", "RAM"])
    assert found.boxes[:2].flatten().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.3, 0.2, 0.5, 0.4])


def test_thai_letters_of_tesseract_stand_together_unless_there_is_a_gap() -> None:
    head = "level\tpage\tblock\tpar\tline\tword\tleft\ttop\twidth\theight\tconf\ttext"
    rows = ["1\t10\t20\t10\t20\t90\tน้ำ", "2\t24\t20\t10\t20\t90\tดี",
            "3\t50\t20\t10\t20\t80\tมา", "4\t64\t20\t20\t20\t80\tRAM"]  # fmt: skip
    table = "\n".join([head, *(f"5\t1\t1\t1\t1\t{row}" for row in rows)])
    assert _order_reading(list(_from_table(table)), (100, 100), 0.5).text == "น้ำดี มา RAM"


# How two readings are compared, and what mends a line


def test_agreement_is_the_share_of_the_layer_that_was_read_too() -> None:
    found = text_agreement(["One two, TWO three!", "", "exam-\nple"], ["one two three four", "x", "example"])
    assert found["text_agreement"] == [0.75, None, 1.0]
    assert comparable_words("Ｆｕｌｌ width, 漢字 and ﬁne_print") == comparable_words("full WIDTH 漢 字 and fine print")


def test_word_that_ends_a_line_with_a_hyphen_is_made_whole() -> None:
    assert join_lines(["an exam-", "ple of X-", "Rays, 10-", "20 dogs -", "and", "cats-"]) == (
        "an example\nof X-Rays,\n10-\n20 dogs -\nand\ncats-"
    )


# On real pages


def guide(language: str) -> bytes:
    """The installation guide in a language; skips where it cannot be had."""
    try:
        folder = fetch("installation-guide-amd64")
    except PackageUnavailableError as why:
        pytest.skip(str(why))
    path = folder / "usr/share/doc/installation-guide-amd64" / language / f"install.{language}.pdf.gz"
    return gzip.decompress(path.read_bytes())


def at_150_dpi(data: bytes, numbers: list[int]) -> Iterator[tuple[str, Image.Image]]:
    with open_pdf(data) as pdf:
        for number in numbers:
            with pdf.page(number) as page:
                yield read_text(page).text, render(page, round(page.height_pt / 72 * 150))


@pytest.mark.slow
@pytest.mark.systems
def test_clean_pages_at_150_dpi_give_the_words_of_the_text_layer(engine: str) -> None:
    """On clean pages at 150 dpi the words of the text layer are read again."""
    op = ocr(engine=engine)
    pages = list(at_150_dpi(guide("en"), [20, 45, 70]))
    found = [word_recall(text, op([image])["ocr_text"][0]) for text, image in pages]
    assert min(found) >= 0.95, found


@pytest.mark.slow
def test_page_without_text_layer_that_was_printed_from_known_text_is_read(engine: str) -> None:
    text = next(at_150_dpi(guide("en"), [45]))[0].encode("ascii", "ignore").decode()
    style = Style(20, 27, (20, 20, 20), (250, 248, 240), "plain", 0.0, 0.3, 8.0, 1)
    printed = typeset(text, Fonts().typeface(text, 20)[1], style, (1240, 1754))
    found = page_text(engine=engine)([printed.image], [""], [[]], [0.0])
    assert found["text_source"] == ["ocr"]
    assert word_recall(printed.text, found["text"][0]) >= 0.95


@pytest.mark.slow
def test_text_layers_of_eighteen_languages_are_not_noise() -> None:
    for language in LANGUAGES.split():
        with open_pdf(guide(language)) as pdf, pdf.page(25) as page:
            assert text_noise(read_text(page).words) < 0.1
