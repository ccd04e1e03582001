"""WAT files of Common Crawl: the images that pages show, with their alt texts, to be fetched.

LAION's rule (laion.ai): every `img` with a source and a text. A pair that many pages show is one sample.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from curate.extras import require
from curate.readers import tables
from curate.recipe.source import Wat
from curate.sample import uid_of
from curate.sources.rows import Row, expand, hash_files, unreadable_row


def identity(source: Wat) -> object:
    """Every file's name and hash."""
    return hash_files(source.path)


def plan_rows(source: Wat) -> Iterator[Row]:
    """Plan a row for each link to an image that has a text."""
    require("source wat", "fastwarc")
    from curate.readers import warc

    for path in expand(source.path):
        for found in warc.read_image_links(path):
            if isinstance(found, warc.WarcFault):
                where = f"{path.name}#{found.offset}: {found.detail}"
                yield unreadable_row("caption", tables.BadRow(found.error, where, found.url or ""))
            elif found.alt is not None:
                url, alt = tables.make_printable(found.url), tables.make_printable(found.alt)
                meta = {"page": tables.make_printable(found.page), "date": found.date}
                meta_json = json.dumps(meta, ensure_ascii=False, sort_keys=True)
                yield {"uid": uid_of("caption", url, alt), "origin": url, "text": alt, "meta": meta_json}
