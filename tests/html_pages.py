"""Small pages of HTML and what is read of them, for the tests."""

from __future__ import annotations

from curate.html import HtmlPage, parse

STORY = (
    "<p>The ferry leaves the old harbour at seven every morning and comes back long after the last lights are out.</p>"
)

URL = "https://example.org/a/b.html"


def page(body: str, url: str | None = URL, head: str = "<title>T</title>") -> HtmlPage:
    return parse(f"<html><head>{head}</head><body>{body}</body></html>".encode(), url)


def shown(found: HtmlPage) -> list[str]:
    """Texts as they are, images as `[url]`."""
    return [each["text"] or f"[{each['url']}]" for each in found.segments]
