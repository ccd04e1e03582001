"""Web archives as sources: pages become texts, image links become pairs, and every record is accounted for."""

from __future__ import annotations

import gzip
import json
from typing import Any

from conftest import Workplace
from warcs import URL, answer, record


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


def test_archive_becomes_texts_and_every_page_is_accounted_for(place: Workplace) -> None:
    words = (
        "<p>The harbour was quiet in the morning, and the boats lay still beside one another until the bell rang.</p>"
    )
    full = f"<html><head><title>Harbour</title></head><body><main>{words * 3}</main></body></html>".encode()
    for name in ("a", "b"):
        records = [record(answer(full + bytes(name, "ascii")), url=f"{URL}/{name}{n}") for n in range(4)]
        records.append(record(answer(b"", "500 Oops"), url=f"{URL}/{name}-gone"))  # an answer, but no page
        records.append(
            record(answer(b"nothing", "200 OK", "text/html", "Content-Encoding: gzip"), url=f"{URL}/{name}-odd")
        )
        (place.src / f"{name}.warc.gz").write_bytes(b"".join(map(gzip.compress, records)))
    (place.src / "c.warc.gz").write_bytes(b"\x1f\x8bbroken" * 9)
    source = {"type": "warc", "path": str(place.src / "*.warc.gz")}
    found = place.run(place.recipe(kind="text", source=source, steps=[{"op": "html_document"}]))
    assert found.code == 0, found.stderr
    assert found.steps["ingest"]["failed"] == {"corrupt_warc": 1, "bad_encoding": 2}
    assert found.json["samples"] == 8
    (one,) = [row for row in place.explained() if row["origin"] == f"{URL}/a0"]
    assert one["meta"] == {"content_type": "text/html; charset=utf-8", "date": "2024-01-02T03:04:05Z"}


def test_page_of_an_archive_whose_server_opted_out_is_dropped_by_name(place: Workplace) -> None:
    page = b"<html><body><p>The harbour was quiet in the morning.</p></body></html>"
    notices = ("X-Robots-Tag: noai", "TDM-Reservation: 1", "X-Robots-Tag: otherbot: noai", "Server: x")
    records = [
        record(answer(page, "200 OK", "text/html", notice), url=f"{URL}/{n}") for n, notice in enumerate(notices)
    ]
    (place.src / "a.warc").write_bytes(b"".join(records))
    steps = [{"op": "page_opt_out", "keep": {"page_opt_out": {"is": None}}}, {"op": "html_document"}]
    source = {"type": "warc", "path": str(place.src / "a.warc")}
    found = place.run(place.recipe(kind="interleaved", source=source, steps=steps))
    assert found.code == 0, found.stderr
    assert found.steps["page_opt_out"]["dropped"] == {"page_opt_out.is": 2}


def test_links_of_a_wat_become_pairs_to_fetch(place: Workplace) -> None:
    links = [{"path": "IMG@/src", "url": "http://127.0.0.1:1/a.jpg", "alt": "a picture"}] * 2
    (place.src / "a.wat").write_bytes(record(wat(links), kind="metadata"))
    source = {"type": "wat", "path": str(place.src / "a.wat")}
    found = place.run(place.recipe(source=source, limits={"failed": 1}))
    assert found.steps["ingest"]["failed"] == {"private_address": 2}
    assert place.explained()[0]["text"] == "a picture"
