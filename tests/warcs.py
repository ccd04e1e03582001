"""Records of web archives for the tests, as crawlers write them."""

from __future__ import annotations

URL = "http://example.org/page"


def record(block: bytes, url: str = URL, kind: str = "response", **headers: str) -> bytes:
    said = {
        "WARC-Type": kind,
        "WARC-Target-URI": url,
        "WARC-Date": "2024-01-02T03:04:05Z",
        "WARC-Record-ID": "<urn:uuid:00000000-0000-0000-0000-000000000001>",
        "Content-Type": "application/http; msgtype=response" if kind == "response" else "application/json",
        **headers,
        "Content-Length": str(len(block)),
    }
    return b"WARC/1.0\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in said.items()) + b"\r\n" + block + b"\r\n\r\n"


def answer(body: bytes, status: str = "200 OK", kind: str = "text/html; charset=utf-8", *more: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {kind}", *more, "", ""]).encode() + body
