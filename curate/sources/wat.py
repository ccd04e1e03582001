"""WAT files of Common Crawl: the images that pages show, with their alt texts, to be fetched.

LAION's rule (laion.ai): every `img` with a source and a text. A pair that many pages show is one sample.
"""

from __future__ import annotations

from collections.abc import Iterator

from curate import strict_json
from curate.readers import tables, warc
from curate.readers.warc_records import WarcFault
from curate.recipe.source import Wat
from curate.sample import uid_of
from curate.sources.rows import Row, expand, hash_files, unreadable_row


def identity(source: Wat) -> object:
    """Every file's name and hash."""
    return hash_files(source.path)


def plan_rows(source: Wat) -> Iterator[Row]:
    """Plan a row for each link to an image that has a text."""
    for path in expand(source.path):
        for found in warc.read_image_links(path):
            if isinstance(found, WarcFault):
                where = f"{path.name}#{found.offset}: {found.detail}"
                yield unreadable_row("caption", tables.BadRow(found.error, where, found.url or ""))
            elif found.alt is not None:
                url, alt = strict_json.mend_text(found.url), strict_json.mend_text(found.alt)
                meta = strict_json.dumps({"page": found.page, "date": found.date})
                yield {"uid": uid_of("caption", url, alt), "origin": url, "text": alt, "meta": meta}
