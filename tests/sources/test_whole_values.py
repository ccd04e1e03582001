"""What a stranger wrote comes whole: addresses, captions, headers however long, characters as they were given."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from warcs import answer, record

from curate.download import Downloader, DownloadSettings
from curate.ops.extract.html import html_document
from curate.pool.layout import Pool
from curate.recipe.source import Pages, Warc, Wat
from curate.sources import pages, warc, wat

LONG = "https://example.org/i.jpg?sig=" + "a" * 50_000 + "&end"
STORY = "<p>The harbour was quiet in the morning, and the boats lay still beside one another until the bell rang.</p>"


def wat_rows(place: Path, page: str, links: list[Any]) -> list[dict[str, Any]]:
    html = {"HTML-Metadata": {"Links": links}}
    found = {"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": html}}}
    (place / "a.wat").write_bytes(record(json.dumps(found).encode(), url=page, kind="metadata"))
    return list(wat.plan_rows(Wat(type="wat", path=str(place / "a.wat"))))


def warc_rows(place: Path, *records: bytes) -> list[dict[str, Any]]:
    (place / "a.warc").write_bytes(b"".join(records))
    path = place / "a.warc"
    return list(warc.read_rows(Warc(type="warc", path=str(path)), path, Pool(place, "x", "y")))


def page_rows(place: Path, html: list[str], **more: list[str]) -> list[dict[str, Any]]:
    columns = {"url": ["http://example.org/"] * len(html), "html": html, **more}
    pq.write_table(pa.table(columns), place / "a.parquet")
    source = Pages(type="pages", path=str(place / "a.parquet"), html="html", keep=tuple(more))
    planned = [row | {"error": None, "detail": None} for row in pages.plan_rows(source)]
    return list(pages.load_rows(source, planned, None))


def read(row: dict[str, Any]) -> dict[str, Any]:
    found = html_document([row["body"]], [row["origin"]], [json.loads(row["meta"])])
    return {name: values[0] for name, values in found.items()}


def test_wat_url_and_caption_longer_than_any_display_are_asked_and_kept_as_they_stand(tmp_path: Path) -> None:
    caption = "word " * 20_000 + "the end"
    page = "https://example.org/page?" + "b" * 9000
    (row,) = wat_rows(tmp_path, page, [{"path": "IMG@/src", "url": LONG, "alt": caption}])
    assert (row["origin"], row["text"], json.loads(row["meta"])["page"]) == (LONG, caption, page)


def test_every_image_of_a_wat_page_is_a_row_however_many_links_it_has(tmp_path: Path) -> None:
    links = [{"path": "A@/href", "url": f"/{n}"} for n in range(12_000)]
    links += [{"path": "IMG@/src", "url": f"/{n}.jpg", "alt": f"picture {n}"} for n in range(12_000)]
    assert len(wat_rows(tmp_path, "https://example.org/", links)) == 12_000


def test_half_a_character_of_a_wat_costs_no_more_than_itself(tmp_path: Path) -> None:
    (row,) = wat_rows(tmp_path, "https://example.org/", [{"path": "IMG@/src", "url": "/a.jpg", "alt": "a \ud83d cat"}])
    assert row["text"] == "a \ufffd cat"


def test_warc_page_keeps_its_whole_address_and_headers(tmp_path: Path) -> None:
    bots = ", ".join(f"somebot-{n:03}: nosnippet" for n in range(1000))
    kind = "text/html; charset=utf-8; note=" + "c" * 9000
    (row,) = warc_rows(tmp_path, record(answer(STORY.encode(), "200 OK", kind, f"X-Robots-Tag: {bots}"), url=LONG))
    meta = json.loads(row["meta"])
    assert (row["origin"], meta["x_robots_tag"], meta["content_type"]) == (LONG, [bots], kind)
    assert read(row)["html_encoding_evidence"] == "header"


def test_warc_rows_say_which_pages_the_crawler_cut_off(tmp_path: Path) -> None:
    whole, cut = warc_rows(
        tmp_path,
        record(answer(STORY.encode()), url="http://example.org/whole"),
        record(answer(STORY.encode()), url="http://example.org/cut", **{"WARC-Truncated": "length"}),
    )
    assert (read(whole)["html_truncated"], read(cut)["html_truncated"]) == (None, "length")


def test_each_fault_of_a_warc_is_a_row_of_its_own(tmp_path: Path) -> None:
    good, bad = (
        record(answer(STORY.encode())),
        record(answer(STORY.encode())).replace(b"Content-Length", b"Content-Len"),
    )
    rows = warc_rows(tmp_path, bad, bad, good, bad)
    assert [row["error"] for row in rows] == ["corrupt_warc", "corrupt_warc", None, "corrupt_warc"]
    assert len({row["uid"] for row in rows}) == 4


def test_title_and_language_of_a_page_come_whole() -> None:
    title = "Ferries " * 1000 + "end"
    found = read({"body": f"<html lang={'x' * 90}><title>{title}</title>{STORY}".encode(), "origin": "a", "meta": "{}"})
    assert (found["title"], found["html_language"]) == (title, "x" * 90)


class Header(http.server.BaseHTTPRequestHandler):
    """A page whose characters only the header names."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=x-cp1251")
        self.end_headers()
        self.wfile.write(f"<p>Прилив и отлив.</p>{STORY}".encode("cp1251"))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize("keep", [(), ("content_type",)])
def test_page_that_is_fetched_is_read_by_its_server_s_header(tmp_path: Path, keep: tuple[str, ...]) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Header) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        pq.write_table(pa.table({"url": [url], "content_type": ["a note"]}), tmp_path / "a.parquet")
        source = Pages(type="pages", path=str(tmp_path / "a.parquet"), keep=keep)
        planned = [row | {"error": None, "detail": None} for row in pages.plan_rows(source)]
        settings = DownloadSettings(allow_private=("127.0.0.1",), retries=0)
        with Downloader(settings, wants="page") as downloader:
            (row,) = pages.load_rows(source, planned, downloader)
        server.shutdown()
    told = "a note" if keep else "text/html; charset=x-cp1251"
    assert json.loads(row["meta"]) == {"content_type": told}
    assert keep or read(row)["text"].startswith("Прилив и отлив.")


@pytest.mark.parametrize("charset", ["gbk", "iso-8859-1", "shift_jis", "utf-16", "x-user-defined", "hz-gb-2312"])
def test_characters_of_a_table_are_not_decoded_again_by_what_the_page_once_was(tmp_path: Path, charset: str) -> None:
    html = f"<html><head><meta charset={charset}></head><body><p>Crème brûlée für Ольга, 海.</p>{STORY}</body></html>"
    (row,) = page_rows(tmp_path, [html], content_type=[f"text/html; charset={charset}"])
    found = read(row)
    assert found["text"].startswith("Crème brûlée für Ольга, 海.")
    assert (found["html_encoding"], found["html_encoding_evidence"], found["html_undecodable"]) == ("utf-8", "mark", 0)


def test_table_row_without_html_is_named(tmp_path: Path) -> None:
    assert [row["error"] for row in page_rows(tmp_path, ["", STORY])] == ["empty_page", None]
