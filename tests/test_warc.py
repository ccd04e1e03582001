"""Web archives: pages as they were served, links of images as they were listed, and what damage costs."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace

from curate import warc

BODY = b"<html><body><p>Hello from the archive.</p></body></html>"
URL = "http://example.org/page"


def record(http: bytes, url: str = URL, kind: str = "response", **headers: str) -> bytes:
    said = {
        "WARC-Type": kind,
        "WARC-Target-URI": url,
        "WARC-Date": "2024-01-02T03:04:05Z",
        "WARC-Record-ID": "<urn:uuid:00000000-0000-0000-0000-000000000001>",
        "Content-Type": "application/http; msgtype=response" if kind == "response" else "application/json",
        **headers,
        "Content-Length": str(len(http)),
    }
    return b"WARC/1.0\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in said.items()) + b"\r\n" + http + b"\r\n\r\n"


def http(body: bytes, status: str = "200 OK", kind: str = "text/html; charset=utf-8", *more: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {kind}", *more, "", ""]).encode() + body


def wat(links: Any, base: str = "") -> bytes:
    html = {"Links": links, "Head": {"Base": base} if base else {}}
    return json.dumps(
        {
            "Envelope": {
                "WARC-Header-Metadata": {"WARC-Target-URI": "http://example.org/dir/page.html"},
                "Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": html}},
            }
        }
    ).encode()


def pages(tmp_path: Path, *records: bytes, packed: bool = False) -> list[Any]:
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(b"".join(gzip.compress(r) if packed else r for r in records))
    return list(warc.pages(path))


@pytest.mark.parametrize("packed", [False, True])
def test_a_page_comes_with_its_url_its_date_and_its_charset(tmp_path: Path, packed: bool) -> None:
    (page,) = pages(tmp_path, record(http(BODY)), packed=packed)
    assert page == warc.Saved(URL, "2024-01-02T03:04:05Z", "text/html; charset=utf-8", BODY)


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (gzip.compress(BODY), "Content-Encoding: gzip"),
        (zlib.compress(BODY), "Content-Encoding: deflate"),
        (f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        (BODY, "Content-Encoding: gzip"),  # crawlers undo the encoding and leave the header
        (BODY, "Content-Encoding: br"),
        (BODY, "Transfer-Encoding: chunked"),
        (BODY, "Content-Encoding: identity"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_encodings_are_undone_and_headers_that_are_left_over_change_nothing(
    tmp_path: Path, body: bytes, header: str
) -> None:
    (page,) = pages(tmp_path, record(http(body, "200 OK", "text/html", header)))
    assert page.error is None and page.body == BODY


GZIP = ("200 OK", "text/html", "Content-Encoding: gzip")


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (record(http(b"gone", "404 Not Found")), "http_404"),
        (record(http(BODY), **{"WARC-Truncated": "length"}), "truncated_body"),
        (record(http(gzip.compress(BODY)[:20] + b"\0" * 9, *GZIP)), "bad_encoding"),
        (record(http(BODY, "200 OK", "text/html", "Content-Encoding: zstd")), "bad_encoding"),
        (record(http(gzip.compress(bytes(40 << 20)), *GZIP)), "page_too_large"),
    ],
    ids=["404", "truncated", "damaged", "unknown", "bomb"],
)  # fmt: skip
def test_a_page_that_cannot_be_had_is_named_and_the_next_one_comes(tmp_path: Path, broken: bytes, error: str) -> None:
    found = pages(tmp_path, broken, record(http(BODY), url=URL + "2"))
    assert [page.error for page in found] == [error, None] and found[1].body == BODY


def test_what_is_no_page_is_passed_over(tmp_path: Path) -> None:
    request = record(http(b""), kind="request")
    assert (
        pages(tmp_path, request, record(http(b"\x89PNG", "200 OK", "image/png")), record(wat([]), kind="metadata"))
        == []
    )


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_breaks_off_gives_what_came_before_and_says_where(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "cut.warc.gz"
    records = [record(http(BODY), url=f"{URL}{n}") for n in range(5)]
    data = b"".join(gzip.compress(r) if packed else r for r in records)
    path.write_bytes(data[: len(data) - 90] + b"\xff" * 40)
    found = list(warc.pages(path))
    whole = [page for page in found if isinstance(page, warc.Saved) and page.body == BODY]
    assert len(whole) >= 3 and [page.url for page in whole] == [f"{URL}{n}" for n in range(len(whole))]


def test_a_file_that_is_no_archive_is_damaged_from_its_start(tmp_path: Path) -> None:
    (tmp_path / "x.warc").write_bytes(b"\x1f\x8b\x08 this is no gzip" * 50)
    (found,) = warc.pages(tmp_path / "x.warc")
    assert isinstance(found, warc.Damage)


def test_images_with_a_text_are_listed_by_the_page_that_shows_them(tmp_path: Path) -> None:
    links = [
        {"path": "IMG@/src", "url": "../cat.jpg", "alt": " a cat "},
        {"path": "IMG@/src", "url": "http://cdn.net/dog.png", "alt": "a dog"},
        {"path": "IMG@/src", "url": "no-alt.png"},
        {"path": "IMG@/src", "url": "empty.png", "alt": "  "},
        {"path": "A@/href", "url": "x.html", "text": "a link"},
        {"path": "IMG@/src", "url": "http://[broken", "alt": "x"},
        "nonsense",
        {"path": "IMG@/src", "url": 7, "alt": 8},
    ]
    (tmp_path / "a.wat").write_bytes(
        record(wat(links), kind="metadata")
        + record(b"{not json", kind="metadata")
        + record(json.dumps({"Envelope": []}).encode(), kind="metadata")
        + record(wat([links[0]], base="http://other.org/"), kind="metadata")
    )
    page = "http://example.org/dir/page.html"
    assert list(warc.image_links(tmp_path / "a.wat")) == [
        warc.ImageLink("http://example.org/cat.jpg", "a cat", page),
        warc.ImageLink("http://cdn.net/dog.png", "a dog", page),
        warc.ImageLink("http://other.org/cat.jpg", "a cat", page),
    ]


def test_an_archive_becomes_texts_and_every_page_is_accounted_for(place: Workplace) -> None:
    words = (
        "<p>The harbour was quiet in the morning, and the boats lay still beside one another until the bell rang.</p>"
    )
    full = f"<html><head><title>Harbour</title></head><body><main>{words * 3}</main></body></html>".encode()
    for name in ("a", "b"):
        records = [record(http(full + bytes(name, "ascii")), url=f"{URL}/{name}{n}") for n in range(4)]
        records.append(record(http(b"", "500 Oops"), url=f"{URL}/{name}-gone"))
        (place.src / f"{name}.warc.gz").write_bytes(b"".join(map(gzip.compress, records)))
    (place.src / "c.warc.gz").write_bytes(b"\x1f\x8bbroken" * 9)
    source = {"type": "warc", "path": str(place.src / "*.warc.gz")}
    found = place.run(place.recipe(kind="text", source=source, steps=[{"op": "html_document"}]))
    assert found.code == 0, found.stderr
    assert found.steps["ingest"]["failed"] == {"corrupt_warc": 1, "http_500": 2}
    assert found.json["samples"] == 8
    (one,) = [row for row in place.explained() if row["origin"] == f"{URL}/a0"]
    assert one["meta"] == {"content_type": "text/html; charset=utf-8", "date": "2024-01-02T03:04:05Z"}


def test_links_of_a_wat_become_pairs_to_fetch(place: Workplace) -> None:
    links = [{"path": "IMG@/src", "url": "http://127.0.0.1:1/a.jpg", "alt": "a picture"}] * 2
    (place.src / "a.wat").write_bytes(record(wat(links), kind="metadata"))
    source = {"type": "wat", "path": str(place.src / "a.wat")}
    found = place.run(place.recipe(source=source, limits={"failed": 1}))
    assert found.steps["ingest"]["failed"] == {"private_address": 2}
    assert place.explained()[0]["text"] == "a picture"
