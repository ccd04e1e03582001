"""Opt-outs: what pages say of their use, and lists of hosts of any length."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace
from documents import row

from curate.ops.safety.opt_out import host_opt_out, link_opt_out, page_opt_out
from curate.readers.opt_out import HostList, HostListError, host_of


def said(head: str, meta: dict[str, Any] | None = None, **knobs: Any) -> tuple[str | None, str | None]:
    body = f"<html><head>{head}</head><body><p>Text</p></body></html>".encode()
    found = row(page_opt_out([body], [meta or {}], **knobs))
    return found["page_opt_out"], found["images_opt_out"]


@pytest.mark.parametrize(
    ("head", "page_reason", "images_reason"),
    [
        ('<meta name="robots" content="noai">', "robots: noai", "robots: noai"),
        ("<META NAME=Robots CONTENT='Follow, NoAI, NoImageAI'>", "robots: noai", "robots: noai"),
        ('<meta content="index noimageai" name="robots"/>', None, "robots: noimageai"),
        ('<meta name="robots" content="noimageindex">', None, "robots: noimageindex"),
        ('<meta name="robots" content="none">', "robots: noindex", "robots: noindex"),
        ('<meta name="curate-mm" content="noai">', "curate-mm: noai", "curate-mm: noai"),
        ('<meta http-equiv="X-Robots-Tag" content="noai">', "x-robots-tag: noai", "x-robots-tag: noai"),
        ('<meta name="tdm-reservation" content="1">', "tdm-reservation: 1", "tdm-reservation: 1"),
        ('<meta name="tdm-reservation" content="0">', None, None),
        ('<meta name="robots" content="index, follow, max-image-preview:large">', None, None),
        ('<meta name="googlebot" content="noindex">', None, None),
        ('<meta name="description" content="robots, noai and noimageai explained">', None, None),
        ('<!-- <meta name="robots" content="noai"> -->', None, None),
        ('<script>var tag = \'<meta name="robots" content="noai">\';</script>', None, None),
        ("<meta name=robots><meta name=robots content=nofollow><meta name=robots content=noai>", *2 * ["robots: noai"]),
    ],
)
def test_what_a_page_says_of_its_use_is_read(head: str, page_reason: str | None, images_reason: str | None) -> None:
    assert said(head) == (page_reason, images_reason)


def test_headers_that_were_kept_with_a_page_count_as_its_elements_do() -> None:
    assert said("", {"x_robots_tag": "otherbot: noai"}) == (None, None)
    assert said("", {"x_robots_tag": ["otherbot: noai", "noai"]}) == (*2 * ["x-robots-tag: noai"],)
    assert said("", {"x_robots_tag": "noimageai"}) == (None, "x-robots-tag: noimageai")
    assert said("", {"tdm_reservation": "1"}) == (*2 * ["tdm-reservation: 1"],)
    assert said("", {"tdm_reservation": 1, "x_robots_tag": None}) == (*2 * ["tdm-reservation: 1"],)


def test_which_words_and_which_names_count_is_the_recipes_to_say() -> None:
    head = (
        '<meta name="robots" content="noindex"><meta name="OurBot" content="noai"><meta name=tdm-reservation content=1>'
    )
    assert said(head, respect=("noai",)) == (None, None)
    assert said(head, respect=("NoAI",), agents=("ourbot",)) == (*2 * ["ourbot: noai"],)
    assert said(head, respect=("tdm-reservation",)) == (*2 * ["tdm-reservation: 1"],)


def test_a_page_in_another_encoding_is_read_as_well() -> None:
    body = '<html><head><meta name="robots" content="noai"></head>é'.encode("utf-16")
    assert row(page_opt_out([body], [{}]))["page_opt_out"] == "robots: noai"
    assert row(page_opt_out([body[2:]], [{"content_type": "text/html; charset=utf-16le"}]))["page_opt_out"]


@pytest.mark.parametrize(
    "piece", ["<meta ", "<!-- ", "<script ", '<meta name="', "<meta name ", "<meta " + "name=" * 800]
)
def test_a_page_made_to_be_slow_is_read_all_the_same(piece: str) -> None:
    body = b"robots" + piece.encode() * (2_000_000 // len(piece))
    assert row(page_opt_out([body], [{}]))["page_opt_out"] is None


LIST = """\ufeff# who asked us
Example.org
*.photos.example   # and all of its users
http://reserved.example/
.dotted.example
bücher.example

203.0.113.7
"""


@pytest.fixture
def hosts(tmp_path: Path) -> str:
    (tmp_path / "hosts.txt").write_text(LIST, encoding="utf-8")
    return str(tmp_path / "hosts.txt")


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("http://example.org/a.html", "example.org"),
        ("https://WWW.Example.ORG.:8443/a", "example.org"),
        ("https://user@deep.down.example.org", "example.org"),
        ("https://anna.photos.example/1.jpg", "photos.example"),
        ("https://reserved.example", "reserved.example"),
        ("https://www.dotted.example", "dotted.example"),
        ("https://www.xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("https://BÜCHER.example/", "xn--bcher-kva.example"),
        ("http://203.0.113.7/x", "203.0.113.7"),
        ("https://notexample.org/", None),
        ("https://example.org.evil.example/", None),
        ("https://org/", None),
        ("ftp://example.org/", None),
        ("data:image/png;base64,example.org", None),
        ("example.org/page.html", None),
        ("http://[::1", None),
    ],
)
def test_a_listed_domain_stands_for_itself_and_all_below_it(hosts: str, url: str, entry: str | None) -> None:
    assert HostList(Path(hosts)).entry(host_of(url)) == entry


def test_pages_pairs_and_the_pages_they_were_found_on_are_looked_up(hosts: str) -> None:
    op = host_opt_out(hosts=hosts)
    origins = ["https://www.example.org/1", "file.html", "https://a.example/1.jpg", "https://a.example/2.jpg", "x#1"]
    metas: list[dict[str, Any]] = [
        {},
        {"url": "http://a.photos.example"},
        {"page": "http://example.org"},
        {"url": 5},
        {},
    ]
    assert op(origins, metas)["host_opt_out"] == ["example.org", "photos.example", "example.org", None, None]


def test_link_opt_out_tells_the_images_of_listed_hosts(hosts: str) -> None:
    urls = ["http://a.example/1.jpg", "http://cdn.example.org/2.jpg", "local.png"]
    assert link_opt_out(hosts=hosts)(urls)["link_opt_out"] == [None, "example.org", None]


def test_a_hundred_thousand_hosts_take_eight_bytes_each_and_all_are_found(tmp_path: Path) -> None:
    path = tmp_path / "hosts.txt"
    path.write_text("".join(f"host-{n}.example.net\n" for n in range(100_000)) + "HOST-7.example.net\n")
    tracemalloc.start()
    found = HostList(path)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 100_000
    assert kept < 900_000 and most < 4_000_000, (kept, most)
    assert all(found.entry(f"www.host-{n}.example.net") == f"host-{n}.example.net" for n in range(0, 100_000, 999))
    assert not any(found.entry(f"host-{n}.example.com") for n in range(1000))


@pytest.mark.parametrize("line", ["example.org/private", "two words", "https://", "*"])
def test_a_line_that_is_no_host_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "hosts.txt").write_text(f"fine.example\n{line}\n")
    with pytest.raises(HostListError, match=r"hosts\.txt:2: .* is no host"):
        HostList(tmp_path / "hosts.txt")


def test_a_list_that_is_not_there_is_named_before_anything_runs(place: Workplace) -> None:
    steps = [{"op": "html_document"}, {"op": "host_opt_out", "with": {"hosts": str(place.root / "none.txt")}}]
    run = place.run(place.recipe(kind="interleaved", source={"type": "html", "path": str(place.src)}, steps=steps))
    assert run.code != 0 and "Traceback" not in run.stderr
    assert f"op host_opt_out: list of hosts: no file {place.root / 'none.txt'}" in run.stderr


def test_pages_that_opt_out_are_dropped_by_name_in_a_run(place: Workplace, hosts: str) -> None:
    text = "<p>The dog was in the garden when we came home, and it had found the old red ball under the tree.</p>"
    for name, head in {
        "free": "",
        "noai": "<meta name=robots content=noai>",
        "tdm": "<meta name=tdm-reservation content=1>",
    }.items():
        (place.src / f"{name}.html").write_text(
            f"<html><head>{head}</head><body><article>{text}</article></body></html>"
        )
    steps = [
        {"op": "page_opt_out", "keep": {"page_opt_out": {"is": None}}},
        {"op": "html_document"},
        {"op": "host_opt_out", "with": {"hosts": hosts}, "keep": {"host_opt_out": {"is": None}}},
    ]
    run = place.run(place.recipe(kind="interleaved", source={"type": "html", "path": str(place.src)}, steps=steps))
    assert run.code == 0, run.stderr
    assert run.steps["page_opt_out"]["dropped"] == {"page_opt_out.is": 2}
    assert run.steps["host_opt_out"]["kept"] == 1
