"""Make documents of pages' HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.document.segments import DOCUMENT, text_of
from curate.html import HtmlLimits, PageError, parse
from curate.ops.spec import Columns, Count, Failed, Natural, op

_LIMITS = HtmlLimits()
_WRITES = {
    "document": DOCUMENT,
    "text": pa.string(),
    "title": pa.string(),
    "html_language": pa.string(),
    "html_encoding": pa.string(),
    "html_encoding_evidence": pa.string(),
    "html_undecodable": pa.int32(),
    "html_truncated": pa.string(),
    "text_words": pa.int32(),
    "images_in_page": pa.int32(),
    "images_left_out": pa.int32(),
    "images_not_shown": pa.int32(),
    "images_beside": pa.int32(),
    "drawings_left_out": pa.int32(),
    "formulas_in_page": pa.int32(),
    "boilerplate_share": pa.float32(),
}


@op(reads=("bytes", "origin", "meta"), writes=_WRITES, version=3, needs=("selectolax",), timeout_s=3600)
def html_document(
    pages: Sequence[bytes],
    origins: Sequence[str],
    metas: Sequence[Mapping[str, Any]],
    *,
    max_bytes: Count = _LIMITS.max_bytes,
    max_tags: Count = _LIMITS.max_tags,
    max_data_url_chars: Natural = _LIMITS.max_data_url_chars,
) -> Columns:
    """A page's main part as a document: its text and images in reading order, its title, what it says of its language.

    Links are made absolute by the page's origin: a URL, or a path in the source's folder. `boilerplate_share` is the
    share of the page's words that were left out (menus, footers, consent, lists of links). Of the page's images,
    `images_left_out` counts those whose tag names no file (a link that leads nowhere, a stand-in alone),
    `images_not_shown` hidden ones, counters and spacers, `images_beside` those in what was left out;
    `drawings_left_out` counts inline SVG, `formulas_in_page` MathML, TeX in scripts and images of formulas, which
    become text. `html_encoding` is WHATWG's name of what the page was read as, `html_encoding_evidence` what spoke for
    it: a byte order `mark`, the `header`, the page's `meta`, its `bytes` (UTF-8 as they are), or `nothing`;
    `html_undecodable` counts places whose bytes are no character of it. `html_truncated` is why the crawler cut the
    page off (WARC-Truncated), null of a whole one. A row fails as empty_page, not_html, refused_encoding,
    page_too_large, too_many_tags, too_many_attributes.
    """
    limits = HtmlLimits(max_bytes=max_bytes, max_tags=max_tags, max_data_url_chars=max_data_url_chars)
    rows = [_row(*each, limits) for each in zip(pages, origins, metas, strict=True)]
    return {name: [row if isinstance(row, Failed) else row[name] for row in rows] for name in _WRITES}


def _row(data: bytes, origin: str, meta: Mapping[str, Any], limits: HtmlLimits) -> Failed | dict[str, Any]:
    content_type = meta.get("content_type")
    try:
        page = parse(data, origin, content_type if isinstance(content_type, str) else None, limits)
    except PageError as err:
        return Failed(err.error, err.detail)
    return {
        "document": page.segments,
        "text": text_of(page.segments),
        "title": page.title,
        "html_language": page.language,
        "html_encoding": page.encoding,
        "html_encoding_evidence": page.evidence,
        "html_undecodable": page.undecodable,
        "html_truncated": str(truncated) if (truncated := meta.get("truncated")) else None,
        "text_words": page.words,
        "images_in_page": page.images,
        "images_left_out": page.images_left_out,
        "images_not_shown": page.images_not_shown,
        "images_beside": page.images_beside,
        "drawings_left_out": page.drawings,
        "formulas_in_page": page.formulas,
        "boilerplate_share": 1 - page.words / max(page.all_words, 1),
    }
