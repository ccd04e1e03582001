"""Find pages by words: in a folder of pages, or by a search endpoint."""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from curate.html import PageError, parse
from curate.readers.files import UnreadableError, read_file
from curate.sources.html import MAX_PAGE_BYTES, SUFFIXES
from curate.sources.rows import SourceError, walk_files
from curate.text.words import plain_words

_K1, _B = 1.2, 0.75
"""BM25's usual constants (Robertson and Zaragoza 2009, 3.2)."""

_TIMEOUT_S, _TRIES, _MAX_BYTES = 30.0, 4, 4 << 20


class Search(Protocol):
    """A search for pages."""

    def find(self, query: str, most: int) -> list[str]:
        """The places of at most so many pages, the best first: URLs, or paths in a folder. Raises SourceError."""


class FolderSearch:
    """The HTML pages of a folder, by BM25 over the plain words of what each is about, title included."""

    def __init__(self, folder: str) -> None:
        self._names: list[str] = []
        self._lengths: list[int] = []
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for name, text in _pages(folder):
            words = plain_words(text).tokens
            for word, times in Counter(words).items():
                self._postings[word].append((len(self._names), times))
            self._names.append(name)
            self._lengths.append(len(words))
        if not self._names:
            raise SourceError(f"source.folder: {folder}: no page in it could be read")
        self._mean = sum(self._lengths) / len(self._names)

    def find(self, query: str, most: int) -> list[str]:
        """See `Search`; pages with none of the words are none, ties stand in the order of their names."""
        scores: dict[int, float] = defaultdict(float)
        for word in dict.fromkeys(plain_words(query).tokens):
            found = self._postings.get(word, [])
            rarity = math.log(1 + (len(self._names) - len(found) + 0.5) / (len(found) + 0.5))
            for page, times in found:
                long = 1 - _B + _B * self._lengths[page] / self._mean
                scores[page] += rarity * times * (_K1 + 1) / (times + _K1 * long)
        best = sorted(scores, key=lambda page: (-scores[page], page))
        return [self._names[page] for page in best[:most]]


def _pages(folder: str) -> Iterator[tuple[str, str]]:
    for name in walk_files(Path(folder)):
        if name.rsplit(".", 1)[-1].lower() not in SUFFIXES:
            continue
        try:
            page = parse(read_file(folder, name, MAX_PAGE_BYTES), name)
        except (PageError, UnreadableError):
            continue
        texts = (str(segment["text"]) for segment in page.segments if segment["text"])
        yield name, " ".join((page.title or "", *texts))


class HttpSearch:
    """A search endpoint that answers `GET URL?q=WORDS&format=json` as SearXNG does: {"results": [{"url": ...}]}."""

    def __init__(self, url: str) -> None:
        self._url = url

    def find(self, query: str, most: int) -> list[str]:
        """See `Search`."""
        asked = f"{self._url}{'&' if '?' in self._url else '?'}{urllib.parse.urlencode({'q': query, 'format': 'json'})}"
        said = self._get(asked)
        results = said.get("results") if isinstance(said, dict) else None
        if not isinstance(results, list):
            raise SourceError(f"source.search: {self._url} answers without `results`: is it a search endpoint?")
        urls = (one.get("url") for one in results if isinstance(one, dict))
        return list(dict.fromkeys(url for url in urls if isinstance(url, str) and url))[:most]

    def _get(self, url: str) -> Any:
        """The JSON at a URL; where the endpoint is busy or fails, after a pause again."""
        for number in range(1, _TRIES + 1):
            try:
                with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as reply:
                    return json.loads(reply.read(_MAX_BYTES))
            except urllib.error.HTTPError as err:
                wait_s, why = _pause(err, number), f"HTTP {err.code}"
                err.close()
                if err.code != 429 and err.code < 500:
                    break
            except (OSError, ValueError) as err:
                wait_s, why = 2.0**number, str(err)
            if number < _TRIES:
                time.sleep(wait_s)
        raise SourceError(
            f"source.search: {self._url} gives no results ({why}). All answers of the chat model are kept: mend that,"
            " then run the same command to go on"
        )


def _pause(err: urllib.error.HTTPError, number: int) -> float:
    said = err.headers.get("Retry-After", "")
    return min(float(said), 60.0) if said.isdigit() else 2.0**number
