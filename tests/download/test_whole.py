"""With img2dataset as the engine, codings, URLs and heads end as they do with ours."""

from __future__ import annotations

import gzip

import pytest
from fetching import fetch
from hostile import JPEG, Site


@pytest.mark.slow
@pytest.mark.systems
def test_img2dataset_sees_through_codings_and_asks_for_urls_as_they_stand(site: Site) -> None:
    site.pages |= {
        "/binary": ("200 OK", ("Content-Encoding: binary",), JPEG),
        "/gzip": ("200 OK", ("Content-Encoding: gzip",), gzip.compress(JPEG[:99]) + gzip.compress(JPEG[99:])),
        "/cut": ("200 OK", ("Content-Encoding: gzip",), gzip.compress(JPEG)[:-9]),
        "/bomb": ("200 OK", ("Content-Encoding: gzip",), gzip.compress(bytes(1 << 24))),
        "/heads": ("200 OK", tuple(f"X-{n}: {'a' * 1000}" for n in range(400)), JPEG),
    }
    urls = [site.url(path) for path in ("/a%2Cb%7e%c3", "/café ü.jpg", *site.pages)]
    ours, theirs = (fetch(*urls, engine=engine, max_bytes=1 << 20) for engine in ("curate", "img2dataset"))
    asked = [path for _, path, _ in site.requests]
    assert sorted(asked[: len(urls)]) == sorted(asked[len(urls) :])
    assert {"/a%2Cb%7e%c3", "/caf%C3%A9%20%C3%BC.jpg"} <= set(asked)
    assert [(row.url, row.error, row.body) for row in theirs] == [(row.url, row.error, row.body) for row in ours]
    assert [row.error for row in ours] == [None] * 4 + ["bad_encoding", "body_too_large", "headers_too_large"]
