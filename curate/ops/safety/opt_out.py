"""Find opt-outs: what a page says of its use, and hosts that a list names.

Files whose server opts out by a header are not even taken in (`download.respect_opt_out`). Here are the rest: the
elements in a page, the headers that an archive or a table kept beside it, and hosts that are known from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.html.decode import decode
from curate.models.files import file_digest
from curate.ops.spec import Columns, Knobs, op
from curate.readers.opt_out import (
    OPT_OUT,
    RESERVATION,
    HostList,
    check_list_file,
    find_forbidding_word,
    host_of,
    is_reserved,
    meta_elements,
)

AGENTS = ("curate-mm",)
"""The name by which a page may address this package alone: `<meta name="curate-mm" content="noai">`."""

_OF_IMAGES = ("noimageai", "noimageindex")
_NEEDLES = (b"robots", RESERVATION.encode())

Reasons = tuple[str | None, str | None]
"""Why a page may not be used, and why its images may not."""


@op(
    reads=("bytes", "meta"),
    writes={"page_opt_out": pa.string(), "images_opt_out": pa.string()},
    version=1,
    batch_size=64,
)
def page_opt_out(
    pages: Sequence[bytes],
    metas: Sequence[Mapping[str, Any]],
    *,
    respect: tuple[str, ...] = OPT_OUT,
    agents: tuple[str, ...] = AGENTS,
) -> Columns:
    """The words by which a page, or its images alone, are not to be used (`robots: noai`, `tdm-reservation: 1`); null
    where nothing forbids it.

    Of `<meta name="robots">`, of one named like one of `agents`, of `<meta name="tdm-reservation">` (TDM Reservation
    Protocol), and of the headers `x_robots_tag` and `tdm_reservation` where `meta` has them. `respect`: words that
    count. `noimageai` and `noimageindex` forbid the images; what forbids the page forbids them too.
    """
    names = frozenset(agent.lower() for agent in agents)
    words = tuple(word.strip().lower() for word in respect)
    rows = [_reasons(page, meta, words, names) for page, meta in zip(pages, metas, strict=True)]
    return {"page_opt_out": [row[0] for row in rows], "images_opt_out": [row[0] or row[1] for row in rows]}


def _reasons(page: bytes, meta: Mapping[str, Any], words: Sequence[str], agents: frozenset[str]) -> Reasons:
    own = [word for word in words if word not in _OF_IMAGES]
    images = [word for word in words if word in _OF_IMAGES]
    found: list[Reasons] = []
    for name, value in _declarations(page, meta, agents):
        if name == RESERVATION:
            reserved = RESERVATION in words and is_reserved(value)
            found.append((f"{name}: 1" if reserved else None, None))
            continue
        asked = [find_forbidding_word(value, agents, each) for each in (own, images)]
        found.append((f"{name}: {asked[0]}" if asked[0] else None, f"{name}: {asked[1]}" if asked[1] else None))
    return next((a for a, _ in found if a), None), next((b for _, b in found if b), None)


def _declarations(page: bytes, meta: Mapping[str, Any], agents: frozenset[str]) -> list[tuple[str, str]]:
    """What the headers and the page say of its use: names and values."""
    found: list[tuple[str, str]] = []
    for name in ("x-robots-tag", RESERVATION):
        values = meta.get(name.replace("-", "_"))
        found += [
            (name, str(value)) for value in (values if isinstance(values, list) else [values]) if value is not None
        ]
    small = page.lower()
    needles = (*_NEEDLES, *(agent.encode() for agent in agents))
    if b"\0" not in page[:64] and not any(needle in small for needle in needles):
        return found  # most pages: they need not be decoded twice
    kind = meta.get("content_type")
    text = decode(page, kind if isinstance(kind, str) else None).text
    wanted = {"robots", "x-robots-tag", RESERVATION, *agents}
    return found + [(name, content) for name, content in meta_elements(text) if name in wanted]


@op(reads=("origin", "meta"), writes={"host_opt_out": pa.string()}, version=2, batch_size=1024)
class host_opt_out:  # noqa: N801 - ops are named as recipes name them
    """The entry of the list by which a sample's host has opted out, null where it has not.

    `hosts`: a file with a host or a domain a line (`curate.readers.opt_out.HostList`; a million lines take 8 MB): it
    stands for
    itself and everything below it. Looked up are the sample's URL (`origin`, or `meta.url`) and the page that it was
    found on (`meta.page`, of WAT files): pages, texts, and the images of pairs alike.
    """

    def __init__(self, *, hosts: str) -> None:
        self._list = HostList(Path(hosts))

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the list."""
        return file_digest(check_list_file(Path(knobs["hosts"])))

    def __call__(self, origins: Sequence[str], metas: Sequence[Mapping[str, Any]]) -> Columns:
        """One entry a sample."""
        rows = [
            self._entry((origin, meta.get("url"), meta.get("page")))
            for origin, meta in zip(origins, metas, strict=True)
        ]
        return {"host_opt_out": rows}

    def _entry(self, urls: Sequence[object]) -> str | None:
        hosts = dict.fromkeys(filter(None, map(host_of, urls)))
        return next((entry for host in hosts if (entry := self._list.entry(host))), None)


@op(reads="url", writes={"link_opt_out": pa.string()}, version=2, batch_size=1024)
class link_opt_out:  # noqa: N801 - ops are named as recipes name them
    """The entry of the list by which the host of a document's image has opted out, null where it has not.

    With `over: images`, before any is fetched: the images of a page often lie on another host than the page. `hosts`:
    as of `host_opt_out`.
    """

    def __init__(self, *, hosts: str) -> None:
        self._list = HostList(Path(hosts))

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the list."""
        return file_digest(check_list_file(Path(knobs["hosts"])))

    def __call__(self, urls: Sequence[str]) -> Columns:
        """One entry a link."""
        return {"link_opt_out": [self._list.entry(host_of(url)) for url in urls]}
