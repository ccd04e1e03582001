"""Read PDF files from strangers: pages, text layer with boxes in reading order, pictures.

`PdfGuard` is what an op uses: pdfium works in a process of its own there, within limits of time and memory. `open_pdf`
and `read_text` are the same without that process, for files that are trusted.
"""

from curate.pdf.file import PageObjects, PdfError, PdfFile, PdfLimits, PdfPage, find_objects, is_pdf, open_pdf, render
from curate.pdf.guard import PageLook, PdfGuard, count_pages, shared_guard
from curate.pdf.layout import covered_share, find_ruled_lines, find_tables
from curate.pdf.text import PageText, read_text

__all__ = [
    "PageLook",
    "PageObjects",
    "PageText",
    "PdfError",
    "PdfFile",
    "PdfGuard",
    "PdfLimits",
    "PdfPage",
    "count_pages",
    "covered_share",
    "find_objects",
    "find_ruled_lines",
    "find_tables",
    "is_pdf",
    "open_pdf",
    "read_text",
    "render",
    "shared_guard",
]
