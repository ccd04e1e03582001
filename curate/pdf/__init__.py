"""PDF files from strangers: pages, their text layer with boxes in the order of reading, and their pictures.

`PdfGuard` is what an op uses: pdfium works in a process of its own there, within limits of time and memory. `open_pdf`
and `read_text` are the same without that process, for files that are trusted.
"""

from curate.pdf.file import Objects, PdfError, PdfFile, PdfLimits, PdfPage, is_pdf, objects, open_pdf, render
from curate.pdf.guard import Look, PdfGuard, count_pages, shared_guard
from curate.pdf.layout import covered, ruled_lines, tables
from curate.pdf.text import PageText, read_text

__all__ = [
    "Look",
    "Objects",
    "PageText",
    "PdfError",
    "PdfFile",
    "PdfGuard",
    "PdfLimits",
    "PdfPage",
    "count_pages",
    "covered",
    "is_pdf",
    "objects",
    "open_pdf",
    "read_text",
    "render",
    "ruled_lines",
    "shared_guard",
    "tables",
]
