"""Ingest a source: plan it once, then commit shard by shard.

Planning streams over what lists samples (a table, a folder) and cuts it into shards; of files that hold many samples
each (tars, WARCs, PDFs) it cuts the list of files. A shard is named by what it will be made of, so that of a source
that has grown only what is new is taken in. Taking in a shard fetches or reads its bytes and commits a tar of
the originals and one row a sample; what cannot be had is a row with a named error.
"""

from __future__ import annotations

import functools
import glob
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from curate.commit import commit_text, read_json
from curate.download import Downloader
from curate.pool.funnel import StepCount
from curate.pool.layout import PLAN, ROWS, Pool
from curate.pool.tables import read_table, write_table
from curate.readers import tables
from curate.readers.files import is_inside
from curate.recipe.model import Recipe
from curate.recipe.source import FETCHED, Pages, Searched, Written, named_by
from curate.sample import fingerprint
from curate.sources import folder, html, images, pages, pdf, records, searched, tars, texts, urls, warc, wat, written
from curate.sources.rows import Row, SourceError, check_name, fail_row, file_stat_if_any, store_bodies

T = TypeVar("T")

SHARD_BYTES = 8 << 20
"""Bytes of a planned shard's rows: what tables bring with them (texts, pages, records) is held a shard at a time."""


@dataclass(frozen=True)
class TableSource:
    """A source that lists its samples before their bytes are read: `plan_rows` lists them, `load_rows` reads
    or fetches the bytes.

    A text among the planned rows is a remark: what of the source is no sample, or how it is read.
    `companion_files`, asked once a plan, names what else samples are made of that rows do not tell: files, by size and
    time. `version` is raised where the same source gives other rows.
    """

    identity: Callable[[Any], Any]
    plan_rows: Callable[[Any], Iterator[Row | str]]
    load_rows: Callable[[Any, list[Row], Downloader | None], Iterator[Row]]
    companion_files: Callable[[Any], Callable[[list[Row]], Any]] = lambda source: lambda rows: None
    version: int = 3


@dataclass(frozen=True)
class ArchiveSource:
    """A source of files that hold many samples each: a shard is consecutive files of up to `shard_bytes`, and of them
    at most as many as the recipe wants rows.

    `identity` tells of each file, in the order of `list_files`; `remarks` what of the source is none of them.
    """

    identity: Callable[[Any], Any]
    list_files: Callable[[Any], list[Path]]
    read_rows: Callable[[Any, Path, Pool], Iterator[Row]]
    shard_bytes: int = 0
    remarks: Callable[[Any], list[str]] = lambda source: []
    version: int = 3


SOURCE_TYPES: dict[str, TableSource | ArchiveSource] = {
    "urls": TableSource(urls.identity, urls.plan_rows, urls.load_rows),
    "folder": TableSource(folder.identity, folder.plan_rows, folder.load_rows, folder.companion_files),
    "webdataset": ArchiveSource(tars.identity, tars.list_files, tars.read_rows),
    "html": TableSource(html.identity, html.plan_rows, html.load_rows, html.companion_files),
    "pages": TableSource(pages.identity, pages.plan_rows, pages.load_rows, version=4),
    "warc": ArchiveSource(warc.identity, warc.list_files, warc.read_rows, version=4),
    "wat": TableSource(wat.identity, wat.plan_rows, urls.load_rows, version=4),
    "records": TableSource(records.identity, records.plan_rows, records.load_rows, records.companion_files),
    "images": TableSource(images.identity, images.plan_rows, images.load_rows, images.companion_files),
    "pdf": ArchiveSource(pdf.identity, pdf.list_files, pdf.read_rows, 8 << 20, pdf.remarks),
    "text": TableSource(texts.identity, texts.plan_rows, texts.load_rows),
    "searched": TableSource(searched.identity, searched.plan_rows, searched.load_rows),
    "written": TableSource(written.identity, written.plan_rows, written.load_rows),
}


@dataclass(frozen=True)
class SourcePlan:
    """A planned source: its shards, and its rows where they are known before reading; else the files of each shard.

    `remarks`: what of the source is no sample, and how it is read where that is not plain to see.
    """

    shards: int
    rows: int | None
    files: tuple[tuple[str, ...], ...] = ()
    remarks: tuple[str, ...] = ()


def pool_of(recipe: Recipe) -> Pool:
    """The pool of the recipe's source: named by what changes the rows and the bytes kept, not by the files there."""
    source = recipe.source
    if glob.has_magic(recipe.out):
        raise SourceError(f"out: {recipe.out} is a pattern (`*`, `?` or `[`); name the folder without")
    for name in ("path", "folder"):
        path = getattr(source, name, None)
        if path is not None and Path(path).is_dir() and is_inside(Path(recipe.out), path):
            raise SourceError(f"out {recipe.out} lies in source.{name} {path}: what a run makes is no source of it")
    keep_bytes = recipe.download.identity()
    version = SOURCE_TYPES[source.type].version
    parts = {"version": version, "kind": recipe.kind, "source": named_by(source), "rows": recipe.shard_samples}
    key = fingerprint(parts | ({"download": keep_bytes} if is_fetched(recipe) else {}))
    return Pool(Path(recipe.out), key, fingerprint(SOURCE_TYPES[source.type].identity(_given(recipe))))


def _given(recipe: Recipe) -> Any:
    """What a type of source is given of the recipe: its own settings, and to be written what is beside them."""
    source, chat = recipe.source, recipe.source_chat
    if isinstance(source, Searched) and chat is not None:
        return searched.Searching(source, chat)
    if not isinstance(source, Written) or chat is None:
        return source
    return written.Writing(source, chat, recipe.seed)


def is_fetched(recipe: Recipe) -> bool:
    """Whether taking the source in asks servers."""
    source = recipe.source
    if isinstance(source, Searched):
        return source.search is not None
    return source.type in FETCHED and not (isinstance(source, Pages) and source.html is not None)


def make_downloader(recipe: Recipe) -> Downloader | None:
    """Make the downloader of the source's URLs, if it names any."""
    if not is_fetched(recipe):
        return None
    return Downloader(recipe.download, wants="page" if isinstance(recipe.source, (Pages, Searched)) else "image")


Told = Callable[[int, int], None]
"""Told while a source is planned: how many rows it has so far, and how many of them failed."""


def preview_source(recipe: Recipe, pool: Pool) -> SourcePlan:
    """Plan the source, unless a chat model would be asked for it: then say what would be."""
    source, chat = recipe.source, recipe.source_chat
    if chat is None or pool.plan.exists():
        return plan_source(recipe, pool)
    by = f"by {chat.endpoint.name} at {chat.endpoint.url}: a request each"
    if isinstance(source, Written):
        return SourcePlan(0, None, (), (f"{source.count} texts are to be written {by}, one for each rejected",))
    assert isinstance(source, Searched)
    wants = f"topics of {len(source.fields)} fields are to be named {by}, then up to"
    searches, found = len(source.fields) * source.topics, len(source.fields) * source.topics * source.pages
    return SourcePlan(0, None, (), (f"{wants} {searches} searches for up to {found} pages",))


def plan_source(recipe: Recipe, pool: Pool, told: Told = lambda rows, failed: None) -> SourcePlan:
    """Cut the source into shards, once; a plan that is committed is only read."""
    if pool.plan.exists():
        data = read_json(pool.plan)
        files_of = tuple(tuple(files) for files in data["files"])
        return SourcePlan(len(data["shards"]), data["rows"], files_of, tuple(data.get("remarks", ())))
    kind, source = SOURCE_TYPES[recipe.source.type], _given(recipe)
    rows, files, remarks = None, list[list[str]](), list[str]()
    if isinstance(kind, ArchiveSource):
        identities = dict(zip(map(os.path.abspath, kind.list_files(source)), kind.identity(source), strict=True))
        files = list(_cut(identities, _file_bytes, kind.shard_bytes, recipe.shard_samples))
        names = [fingerprint([[path, identities[path]] for path in group]) for group in files]
        remarks = kind.remarks(source)
    else:
        try:
            names, rows = _write_plan(kind, source, recipe.shard_samples, pool, _Listener(remarks, told))
        except tables.MissingColumnError as err:
            raise SourceError(_missing_column(source, err)) from None
    if not names:
        found = "".join(f"; {remark}" for remark in remarks)
        raise SourceError(f"source {source.type!r}: empty: no row was found; look at source.path{found}")
    # In ASCII, so that names of files that are no UTF-8 are there again when it is read.
    plan = {"shards": names, "rows": rows, "files": files, "remarks": remarks}
    commit_text(pool.plan, json.dumps(plan, indent=2) + "\n")
    return plan_source(recipe, pool)


def ingest(
    recipe: Recipe, pool: Pool, shards: Sequence[int], planned: SourcePlan, downloader: Downloader | None
) -> list[StepCount]:
    """Commit shards of the pool, each its tar and then its rows; a committed one is only counted.

    The URLs of all of them are fetched in one stream: while one shard waits for a hanging server, the next goes on.
    """
    missing = [shard for shard in shards if not pool.rows(shard).exists()]
    kind = SOURCE_TYPES[recipe.source.type]
    if isinstance(kind, ArchiveSource):
        read = functools.partial(_read_archives, kind, recipe, pool)
        kept: Iterator[list[Row]] = (store_bodies(read(planned.files[shard]), pool.tar(shard)) for shard in missing)
    else:
        kept = _load_shards(kind, recipe.source, pool, missing, downloader)
    for shard, table in zip(missing, kept, strict=True):
        write_table(pa.Table.from_pylist(table, schema=ROWS), pool.rows(shard))
    return [count_ingested(pool, shard, reused=shard not in missing) for shard in shards]


def _load_shards(
    kind: TableSource, source: Any, pool: Pool, missing: Sequence[int], downloader: Downloader | None
) -> Iterator[list[Row]]:
    """The rows of each shard with their bytes stored; what needs no server is read when its turn comes."""
    parts = (read_table(pool.planned(pool.shards[shard])).to_pylist() for shard in missing)
    if downloader is None:
        for shard, part in zip(missing, parts, strict=True):
            yield store_bodies(kind.load_rows(source, part, None), pool.tar(shard))
        return
    rows = list(parts)
    found = kind.load_rows(source, [row for part in rows for row in part], downloader)
    for shard, part in zip(missing, rows, strict=True):
        yield store_bodies(islice(found, len(part)), pool.tar(shard))


@dataclass(frozen=True)
class Attempt:
    """Another attempt at failed rows, by its number: at all that servers may yet bring, or at these errors."""

    number: int
    errors: tuple[str, ...] = ()


def can_retry(recipe: Recipe) -> bool:
    """Whether failed rows of the source can be tried again alone: where it lists them before their bytes are read."""
    return isinstance(SOURCE_TYPES[recipe.source.type], TableSource)


def retry(recipe: Recipe, pool: Pool, shard: int, downloader: Downloader | None, attempt: Attempt) -> tuple[int, int]:
    """Try failed rows of a shard again; returns how many were tried and how many came."""
    kind = SOURCE_TYPES[recipe.source.type]
    assert isinstance(kind, TableSource)
    rows = read_table(pool.rows(shard)).to_pylist()
    final = final_errors(recipe)
    if attempt.errors:
        failures = [n for n, r in enumerate(rows) if r["error"] in attempt.errors]
    else:
        failures = [n for n, r in enumerate(rows) if r["status"] == "failed_to_download" and r["error"] not in final]
    tar = pool.tar(shard, attempt.number)
    # A worker that died after its rows were committed: its tar is in use and must not be written again.
    if not failures or any(r["tar"] == tar.name for r in rows):
        return 0, 0
    planned = read_table(pool.planned(pool.shards[shard])).to_pylist()
    again = store_bodies(kind.load_rows(recipe.source, [planned[n] for n in failures], downloader), tar)
    for number, row in zip(failures, again, strict=True):
        rows[number] = row | {"attempts": (rows[number]["attempts"] or 0) + (row["attempts"] or 0)}
    write_table(pa.Table.from_pylist(rows, schema=ROWS), pool.rows(shard))
    return len(failures), sum(r["status"] == "success" for r in again)


def final_errors(recipe: Recipe) -> tuple[str, ...]:
    """The errors that trying again cannot mend; a private address is one unless the recipe by now allows some."""
    private = () if recipe.download.allow_private else ("private_address",)
    return (*FINAL, *private)


FINAL = ("forbidden_scheme", "bad_url", "opt_out", "unsafe_name", "missing_file", "too_many_images", "too_many_bytes")


def count_ingested(pool: Pool, shard: int, reused: bool) -> StepCount:
    """Count the ingest step of a committed shard."""
    table = read_table(pool.rows(shard), ["status", "error"])
    repeats = _repeats(pool, shard)
    failures = Counter(e for s, e in zip(*(table[c].to_pylist() for c in ("status", "error")), strict=True) if e)
    rows = table.num_rows
    dropped = Counter({"unique_uid": repeats}) if repeats else Counter[str]()
    kept = rows - failures.total() - repeats
    return StepCount("ingest", rows, kept, dropped, failures, 0 if reused else rows, rows if reused else 0)


def _repeats(pool: Pool, shard: int) -> int:
    path = pool.repeats(shard)
    return read_table(path).num_rows if path.exists() else 0


def _read_archives(kind: ArchiveSource, recipe: Recipe, pool: Pool, files: Iterable[str]) -> Iterator[Row]:
    for name in files:
        if (bad := check_name(recipe.kind, name)) is not None:
            yield fail_row(bad, bad["error"], bad["detail"])
        else:
            yield from kind.read_rows(recipe.source, Path(name), pool)


def _write_plan(
    kind: TableSource, source: Any, shard_rows: int, pool: Pool, listener: _Listener
) -> tuple[list[str], int]:
    """Commit the planned rows of each shard; the shards' names, and how many rows there are."""
    names: list[str] = []
    same: Counter[str] = Counter()
    companions = kind.companion_files(source)
    total = 0
    planned = listener.rows_of(kind.plan_rows(source))
    for chunk in _cut(planned, _row_bytes, SHARD_BYTES, shard_rows):
        base = fingerprint([chunk, companions(chunk)])
        names.append(fingerprint([base, same[base]]) if same[base] else base)  # a table may say the same twice
        same[base] += 1
        if not pool.planned(names[-1]).exists():
            write_table(pa.Table.from_pylist(chunk, schema=PLAN), pool.planned(names[-1]))
        total += len(chunk)
    return names, total


@dataclass(frozen=True)
class _Listener:
    """Keeps the remarks among what is planned, and tells how far it is."""

    remarks: list[str]
    told: Told

    def rows_of(self, planned: Iterator[Row | str]) -> Iterator[Row]:
        """The rows alone."""
        rows = failed = 0
        for row in planned:
            if isinstance(row, str):
                self.remarks.append(row)
                continue
            rows, failed = rows + 1, failed + (row.get("error") is not None)
            self.told(rows, failed)
            yield row


def _file_bytes(path: str) -> int:
    found = file_stat_if_any(path)
    return 0 if found is None else found[0]


def _row_bytes(row: Row) -> int:
    return sum(len(value.encode("utf-8", "surrogatepass")) for value in row.values() if isinstance(value, str))


def _missing_column(source: Any, err: tables.MissingColumnError) -> str:
    """What to do about a column that is not there: other words for one that nobody asked for than for a slip."""
    keys = [name for name in type(source).model_fields if getattr(source, name) == err.column]
    by_default = [name for name in keys if name not in source.model_fields_set]
    if not by_default:
        return str(err)
    has = ", ".join(map(repr, err.found[:20])) or "none"
    return (
        f"{err.where}: has no column {err.column!r}, which is looked for where `source.{by_default[0]}` names none; say"
        f" which it is (`{by_default[0]}: COLUMN`), of its columns {has}"
    )


def _cut(items: Iterable[T], size_of: Callable[[T], int], size: int, most: int | None = None) -> Iterator[list[T]]:
    """Consecutive items, as many as `size` holds (a larger one stands alone), and at most so many."""
    part: list[T] = []
    filled = 0
    for item in items:
        more = size_of(item)
        if part and (len(part) == most or filled + more > size):
            yield part
            part, filled = [], 0
        part.append(item)
        filled += more
    if part:
        yield part
