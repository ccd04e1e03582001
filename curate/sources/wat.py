"""WAT files of Common Crawl: the images that pages show, each with the text that stands for it, to be fetched.

LAION's rule (laion.ai): every `IMG` with a source and a text. A pair that many pages show is one sample.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from curate import tables, warc
from curate.sample import uid_of
from curate.source import Wat
from curate.sources.rows import Row, bad_row, expand, hashed

__all__ = ["identity", "rows"]


def identity(source: Wat) -> object:
    """Every file's name and hash."""
    return hashed(source.path)


def rows(source: Wat) -> Iterator[Row]:
    """A planned row for each link to an image."""
    for path in expand(source.path):
        for found in warc.image_links(path):
            if isinstance(found, warc.Damage):
                yield bad_row("caption", tables.BadRow("corrupt_warc", f"{path.name}: {found.detail}", ""))
                continue
            url, alt = tables.printable(found.url), tables.printable(found.alt)
            meta = json.dumps({"page": tables.printable(found.page)}, ensure_ascii=False)
            yield {"uid": uid_of("caption", url, alt), "origin": url, "text": alt, "meta": meta}
