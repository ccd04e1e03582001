"""PDF files that mean harm: given up in time, and a page that ends its reader's process fails alone."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pdfs
import pytest
from pdfs import PROSE, layer, line, lines, pdf, stream
from PIL import Image

from curate.pdf import PdfError, PdfGuard, PdfLimits, count_pages
from curate.pdf.file import find_objects, open_pdf, render
from curate.pdf.text import read_text


@pytest.fixture(scope="module")
def guard() -> Iterator[PdfGuard]:
    """A guard that gives a page a second and half a gigabyte."""
    found = PdfGuard(PdfLimits(), seconds=1, memory_bytes=1 << 30)
    yield found
    found.close()


def nested_forms(depth: int, times: int) -> bytes:
    """A drawing that draws another one many times, which draws another..."""
    head = "/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << /XObject << /F {} 0 R >> >>"
    more = {50 + n: stream(b"/F Do " * times, head.format(51 + n)) for n in range(depth)}
    more[50 + depth] = stream(b"0 0 9 9 re f ", head.format(50 + depth + 1))
    return pdf("/F Do", resources="/XObject << /F 50 0 R >>", more=more)


def unpacks_to(size: int) -> bytes:
    """A page whose instructions, a box drawn over and over, unpack from a thousandth of their size."""
    packer = zlib.compressobj(9)
    one = b"0 0 9 9 re f " * 80_000
    packed = b"".join(packer.compress(one) for _ in range(size // len(one))) + packer.flush()
    more = {51: b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed)}
    return pdf("", more=more).replace(b"/Contents 11 0 R", b"/Contents 51 0 R")


def test_drawings_within_drawings_without_end_are_given_up_in_time(guard: PdfGuard) -> None:
    with pytest.raises(PdfError) as error:
        guard.look(nested_forms(12, 20), 0)
    assert error.value.error in ("pdf_timeout", "pdf_crashed")
    assert guard.pages(pdf("", "")) == 2


def test_page_that_unpacks_to_gigabytes_is_given_up(guard: PdfGuard) -> None:
    with pytest.raises(PdfError) as error:
        guard.look(unpacks_to(600 << 20), 0)
    assert error.value.error in ("pdf_timeout", "pdf_crashed")
    assert guard.look(pdf(line("well again", 72, 700)), 0).text.text == "well again"


def test_file_that_claims_a_million_pages_costs_nothing(guard: PdfGuard) -> None:
    claims = pdf("").replace(b"/Count 1 ", b"/Count 1000000 ")
    with pytest.raises(PdfError, match="too_many_pages"):
        guard.pages(claims)


def test_page_tree_as_deep_as_file_is_refused_or_read_and_crashes_nothing(guard: PdfGuard) -> None:
    depth = 30_000
    more = {100 + n: b"<< /Type /Pages /Count 1 /Kids [%d 0 R] >>" % (101 + n) for n in range(depth)}
    more[100 + depth] = b"<< /Type /Page /MediaBox [0 0 9 9] >>"
    data = pdf("", more=more).replace(b"/Kids [10 0 R]", b"/Kids [100 0 R]")
    with pytest.raises(PdfError) as error:
        guard.look(data, 0)
    assert error.value.error == "damaged_page"


def test_page_tree_that_is_a_loop_ends(guard: PdfGuard) -> None:
    data = pdf("").replace(b"/Kids [10 0 R]", b"/Kids [ 2 0 R]")
    with pytest.raises(PdfError):
        guard.look(data, 0)


def test_guard_reads_what_is_read_without_it(guard: PdfGuard) -> None:
    """What the guard reads is what is read without it."""
    data = pdf(line("one", 72, 700), lines(["an exam-", "ple of words"], 72, 700) + "72 500 400 0.5 re f\n")
    for number in (1, 0, 1):
        look, bare = guard.look(data, number), layer(data, number)
        assert (look.text.text, look.text.words, look.text.columns) == (bare.text, bare.words, bare.columns)
        assert (look.text.boxes == bare.boxes).all() and (look.text.lines == bare.lines).all()
    assert len(guard.look(data, 1).objects.paths) == 1
    drawn, width, height = guard.draw(data, 0, 400, "png", 90)
    with open_pdf(data) as opened, opened.page(0) as page:
        assert Image.open(io.BytesIO(drawn)).tobytes() == render(page, 400).tobytes()
    assert (width, height) == (309, 400)


def test_page_fails_alone_even_when_reading_it_ends_the_process_that_reads(guard: PdfGuard) -> None:
    good = pdf(line("good", 72, 700))
    bomb = nested_forms(12, 20)
    outcomes = []
    for data in (good, bomb, good):
        try:
            outcomes.append(guard.look(data, 0).text.text)
        except PdfError as error:
            outcomes.append(error.error.partition("_")[0])
    assert outcomes == ["good", "pdf", "good"]


def test_pages_are_counted_by_the_guard() -> None:
    assert count_pages(pdf("", "", ""), PdfLimits()) == 3
    with pytest.raises(PdfError, match="encrypted_pdf"):
        count_pages(pdfs.encrypted(b"secret"), PdfLimits())


@pytest.mark.slow
@pytest.mark.systems
def test_five_thousand_pages_leave_no_memory_behind() -> None:
    data = pdf(*[lines([" ".join(PROSE[:12])] * 40, 72, 700)] * 20)

    def read(times: int) -> int:
        for _ in range(times):
            with open_pdf(data) as opened:
                for number in range(opened.pages):
                    with opened.page(number) as page:
                        read_text(page), find_objects(page)
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = read(50)
    assert read(200) - before < 4 << 20
