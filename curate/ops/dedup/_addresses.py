"""Addresses of pages and images: the URL as it is compared, and its host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit


def page_url(origin: str, meta: Mapping[str, Any]) -> str:
    """The page's URL without its fragment, scheme and host in small letters: `meta.url`, else the origin."""
    said = meta.get("url")
    url = said if isinstance(said, str) and said else origin
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path, parts.query, ""))
    except ValueError:
        return url


def page_host(url: str) -> str:
    """The host of a URL, without port and user; empty for a path."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
