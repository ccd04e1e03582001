"""The outcome of one URL, and the type of its bytes by magic numbers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from curate.lfs import is_lfs_pointer

Wants = Literal["image", "page"]
"""What a URL is asked for."""

Status = Literal["success", "failed_to_download", "failed_to_resize"]

_MAGIC = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"\x00\x00\x01\x00", "ico"),
    (b"8BPS", "psd"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
)
_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"msf1": "heic"}
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # https://mimesniff.spec.whatwg.org/#binary-data-byte
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title", b"<meta", b"<div", b"<h1", b"<p>")


@dataclass(frozen=True)
class Fetched:
    """One row's outcome: `key` is its uid, `status` in img2dataset's words, `error` a name for the funnel or None.

    `body` are the bytes to keep (the original's, or the resized file's), `sha256` theirs, `ext` theirs by their
    first bytes. Sizes in pixels are known only where an image was resized. `attempts` counts requests tried,
    `content_type` is the header as it came.
    """

    key: str
    url: str | None
    status: Status
    error: str | None = None
    detail: str = ""
    http_status: int | None = None
    final_url: str | None = None
    body: bytes | None = None
    attempts: int = 0
    ext: str | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    original_width: int | None = None
    original_height: int | None = None
    content_type: str | None = None


def sha256(body: bytes) -> str:
    """SHA-256 of the bytes as hex."""
    return hashlib.sha256(body).hexdigest()


def sniff_page(body: bytes) -> tuple[str | None, str | None]:
    """Tell a web page by its first bytes: ("html", None), or (None, the error): empty_body, not_html."""
    if not body:
        return None, "empty_body"
    return ("html", None) if b"<" in body and sniff(body)[0] in (None, "svg") else (None, "not_html")


def is_plain(body: bytes, wants: Wants) -> bool:
    """Whether the first bytes are plainly those of what is wanted, or of a web page, and not of something packed."""
    if wants == "image":
        return sniff(body)[1] in (None, "empty_body", "html_instead_of_image")
    return sniff_page(body)[1] in (None, "empty_body") and not _BINARY.search(body, 0, 1024)


def sniff(body: bytes) -> tuple[str | None, str | None]:
    """Tell an image file by its first bytes: (extension, None), or (None, the name of what is wrong with it).

    Errors: empty_body, html_instead_of_image, lfs_pointer, not_an_image. No server's Content-Type is asked: they lie.
    """
    if not body:
        return None, "empty_body"
    for magic, ext in _MAGIC:
        if body.startswith(magic):
            return ext, None
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "webp", None
    if body[4:8] == b"ftyp":
        brands = [body[8:12], *(body[at : at + 4] for at in range(16, min(len(body), 64), 4))]
        # avif files often carry the generic mif1 as well, so the specific brand is looked for first.
        for brand in sorted(brands, key=lambda found: _BRANDS.get(found, "~")):
            if brand in _BRANDS:
                return _BRANDS[brand], None
    return _sniff_text(body[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower())


def _sniff_text(head: bytes) -> tuple[str | None, str | None]:
    while head.startswith(b"<!--") and b"-->" in head:
        head = head.partition(b"-->")[2].lstrip()
    if head.startswith(_HTML):
        return None, "html_instead_of_image"
    if head.startswith(b"<svg") or (head.startswith((b"<?xml", b"<!doctype svg")) and b"<svg" in head):
        return "svg", None
    if head.startswith(b"<?xml") and b"<html" in head:
        return None, "html_instead_of_image"
    return None, "lfs_pointer" if is_lfs_pointer(head) else "not_an_image"
