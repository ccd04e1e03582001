"""PDF files from strangers: pages, their text layer with boxes in the order of reading, and their pictures.

`PdfGuard` is what an op uses: pdfium works in a process of its own there, within limits of time and memory. For files
that are trusted, `file` opens and draws and `text` reads the same without that process.
"""

from curate.pdf.found import Look, Objects, PageText, PdfError, PdfLimits, is_pdf
from curate.pdf.guard import PdfGuard, count_pages, shared_guard
from curate.pdf.layout import covered, ruled_lines, tables

__all__ = [
    "Look",
    "Objects",
    "PageText",
    "PdfError",
    "PdfGuard",
    "PdfLimits",
    "count_pages",
    "covered",
    "is_pdf",
    "ruled_lines",
    "shared_guard",
    "tables",
]
