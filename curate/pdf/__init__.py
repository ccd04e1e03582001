"""Read PDF files from strangers: pages, text layer with boxes in reading order, pictures.

`PdfGuard` is what an op uses: pdfium works in a process of its own there, within limits of time and memory. For files
that are trusted, `file` opens and draws and `text` reads the same without that process.
"""

from curate.pdf.found import PageLook, PageObjects, PageText, PdfError, PdfLimits, is_pdf
from curate.pdf.guard import PdfGuard, count_pages, shared_guard
from curate.pdf.layout import covered_share, find_ruled_lines, find_tables

__all__ = [
    "PageLook",
    "PageObjects",
    "PageText",
    "PdfError",
    "PdfGuard",
    "PdfLimits",
    "count_pages",
    "covered_share",
    "find_ruled_lines",
    "find_tables",
    "is_pdf",
    "shared_guard",
]
