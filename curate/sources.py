"""Sources of caption pairs: what a table of URLs, a folder or another tool's tars say, and how it enters the pool.

Planning streams over the source once and cuts it into shards. Ingesting a shard fetches or reads its images and
commits a tar of the original bytes and one row a sample; what cannot be had is a row with a named error.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate import tables
from curate.download import Downloader, Fetched, sniff
from curate.pool import PLAN, ROWS, Blobs, Pool, read_table, write_table
from curate.recipe import Folder, Recipe, Tars, UrlTable
from curate.rules import StepCount
from curate.sample import commit_text, dump_json, file_sha256, fingerprint, uid_of
from curate.settings import unknown
from curate.shards import Part, ShardWriter, TarFault, TarSample, scan_tar

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
MAX_TEXT_BYTES = 16 << 20
MAX_IMAGE_BYTES = 256 << 20
VERSION = 1

Row = dict[str, Any]


class SourceError(ValueError):
    """A source that cannot be used at all: missing, empty, or without the column that the recipe names."""


@dataclass(frozen=True)
class Plan:
    """A planned source: its shards, and its rows where they are known before reading (not so for tars)."""

    shards: int
    rows: int | None
    tars: tuple[str, ...] = ()


def pool_of(recipe: Recipe) -> Pool:
    """The pool that the recipe's source makes: named by the source's files and by what changes the bytes kept."""
    source = recipe.source
    if isinstance(source, Folder) and _lies_in(Path(recipe.out), source.path):
        raise SourceError(f"out {recipe.out} lies in source.path {source.path}: what a run makes is no source of it")
    keep_bytes = recipe.download.model_dump(mode="json", include={"resize", "respect_opt_out"})
    spec = source.model_dump(mode="json", exclude={"path", "captions"})
    said = {"version": VERSION, "source": spec, "files": _identity(recipe), "rows": recipe.shard_samples}
    return Pool(Path(recipe.out), fingerprint(said | ({"download": keep_bytes} if source.type == "urls" else {})))


def plan(recipe: Recipe, pool: Pool) -> Plan:
    """Cut the source into shards, once; a plan that is committed is only read."""
    done = pool.folder / "plan.json"
    if done.exists():
        data = json.loads(done.read_text())
        return Plan(data["shards"], data["rows"], tuple(data["tars"]))
    if isinstance(recipe.source, Tars):
        tars = tuple(os.path.abspath(p) for p in _expand(recipe.source.path))
        found = Plan(len(tars), None, tars)
    else:
        rows = _url_rows(recipe.source) if isinstance(recipe.source, UrlTable) else _folder_rows(recipe.source)
        found = _write_plan(rows, recipe.shard_samples, pool)
    if not found.shards:
        raise SourceError(f"source {recipe.source.type!r}: empty: no row was found; look at source.path")
    commit_text(done, dump_json({"shards": found.shards, "rows": found.rows, "tars": list(found.tars)}))
    return found


def ingest(
    recipe: Recipe, pool: Pool, shards: Sequence[int], planned: Plan, downloader: Downloader | None
) -> list[StepCount]:
    """Commit shards of the pool, each its tar and then its rows; a committed one is only counted.

    The URLs of all of them are fetched in one stream: while one shard waits for a hanging server, the next goes on.
    """
    missing = [shard for shard in shards if not pool.rows(shard).exists()]
    if isinstance(recipe.source, Tars):
        source = recipe.source
        kept: Iterator[list[Row]] = (list(_tar_rows(source, planned.tars[shard], pool)) for shard in missing)
    else:
        rows = [read_table(pool.plan(shard)).to_pylist() for shard in missing]
        found = _taken_in(recipe, [row for part in rows for row in part], downloader)
        parts = zip(missing, rows, strict=True)
        kept = (_store(islice(found, len(part)), pool.tar(shard)) for shard, part in parts)
    for shard, table in zip(missing, kept, strict=True):
        write_table(pa.Table.from_pylist(table, schema=ROWS), pool.rows(shard))
    return [count_rows(pool, shard, reused=shard not in missing) for shard in shards]


def retry(pool: Pool, shard: int, downloader: Downloader, attempt: int) -> tuple[int, int]:
    """Try the failed URLs of a shard again; returns how many were tried and how many came."""
    table = read_table(pool.rows(shard))
    rows = table.to_pylist()
    failed = [n for n, r in enumerate(rows) if r["status"] == "failed_to_download" and r["error"] not in FINAL]
    tar = pool.tar(shard, attempt)
    # A worker that died after its rows were committed: its tar is in use and must not be written again.
    if not failed or any(r["tar"] == tar.name for r in rows):
        return 0, 0
    fetched = _fetch([rows[n] for n in failed], downloader)
    again = _store(fetched, tar)
    for number, row in zip(failed, again, strict=True):
        rows[number] = row | {"attempts": (rows[number]["attempts"] or 0) + (row["attempts"] or 0)}
    write_table(pa.Table.from_pylist(rows, schema=ROWS), pool.rows(shard))
    return len(failed), sum(r["status"] == "success" for r in again)


FINAL = ("private_address", "forbidden_scheme", "bad_url", "opt_out")
"""Errors that trying again cannot mend."""


def count_rows(pool: Pool, shard: int, reused: bool) -> StepCount:
    """The ingest step's counts for a committed shard."""
    table = read_table(pool.rows(shard), ["status", "error"])
    repeats = _repeats(pool, shard)
    failed = Counter(e for s, e in zip(*(table[c].to_pylist() for c in ("status", "error")), strict=True) if e)
    rows = table.num_rows
    dropped = Counter({"unique_uid": repeats}) if repeats else Counter[str]()
    kept = rows - failed.total() - repeats
    return StepCount("ingest", rows, kept, dropped, failed, 0 if reused else rows, rows if reused else 0)


def _repeats(pool: Pool, shard: int) -> int:
    path = pool.repeats(shard)
    return read_table(path).num_rows if path.exists() else 0


def _identity(recipe: Recipe) -> Any:
    source = recipe.source
    if isinstance(source, UrlTable):
        if source.path is None:
            return [source.huggingface, source.split]
        return [[p.name, file_sha256(p)] for p in _expand(source.path)]
    if isinstance(source, Folder):
        table = [file_sha256(_expand(source.captions)[0])] if source.captions else []
        return table + [[name, *_stat(Path(source.path) / name)] for name in _walk(Path(source.path), all_files=True)]
    return [[p.name, *_stat(p)] for p in _expand(source.path)]


def _stat(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_size, found.st_mtime_ns


def _expand(pattern: str) -> list[Path]:
    try:
        return tables.expand(pattern)
    except tables.TableError as err:
        raise SourceError(str(err)) from None


def _write_plan(rows: Iterable[Row], shard_rows: int, pool: Pool) -> Plan:
    shards = total = 0
    rows = iter(rows)
    while chunk := list(islice(rows, shard_rows)):
        write_table(pa.Table.from_pylist(chunk, schema=PLAN), pool.plan(shards))
        shards, total = shards + 1, total + len(chunk)
    return Plan(shards, total)


def _url_rows(source: UrlTable) -> Iterator[Row]:
    columns = (source.url, source.text, *source.keep)
    for row in _table_rows(source, columns):
        if isinstance(row, tables.BadRow):
            yield _bad_row(row)
            continue
        url, text = row[source.url], _as_text(row[source.text])
        if not isinstance(url, str) or not url.strip():
            shown = tables.printable(json.dumps(row, default=str, ensure_ascii=False))
            yield _bad_row(tables.BadRow("missing_url", f"column {source.url!r} is empty", shown))
            continue
        meta = json.dumps({k: row[k] for k in source.keep}, ensure_ascii=False, sort_keys=True, default=str)
        yield {"uid": uid_of("caption", url, text), "origin": url, "text": text, "meta": meta}


def _table_rows(source: UrlTable, columns: tuple[str, ...]) -> Iterator[tables.Row | tables.BadRow]:
    if source.path is not None:
        for path in _expand(source.path):
            yield from tables.read(path, columns)
        return
    import datasets

    assert source.huggingface is not None
    rows = datasets.load_dataset(source.huggingface, split=source.split, streaming=True)
    for row in rows:
        missing = [c for c in columns if c not in row]
        if missing:
            raise SourceError(f"{source.huggingface}: {unknown('column', missing[0], row)}")
        yield {c: row[c] for c in columns}


def _bad_row(row: tables.BadRow) -> Row:
    uid = uid_of("caption", "bad row", row.detail, row.raw)
    return {"uid": uid, "origin": row.detail, "text": row.raw, "meta": "{}", "error": row.error, "detail": row.detail}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _walk(root: Path, all_files: bool = False) -> list[str]:
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder")
    found = [Path(folder, name).relative_to(root).as_posix() for folder, _, names in os.walk(root) for name in names]
    return sorted(n for n in found if all_files or n.rsplit(".", 1)[-1].lower() in IMAGE_SUFFIXES)


def _folder_rows(source: Folder) -> Iterator[Row]:
    if source.captions is None:
        for name in _walk(Path(source.path)):
            shown = tables.printable(name)
            bad = tables.BadRow("bad_encoding", f"{shown}: the file's name is not UTF-8", "")
            yield {"origin": name} if shown == name else _bad_row(bad)
        return
    for path in _expand(source.captions):
        for row in tables.read(path, (source.image, source.text, *source.keep)):
            if isinstance(row, tables.BadRow):
                yield _bad_row(row)
                continue
            meta = json.dumps({k: row[k] for k in source.keep}, ensure_ascii=False, sort_keys=True, default=str)
            yield {"origin": _as_text(row[source.image]), "text": _as_text(row[source.text]), "meta": meta}


def _taken_in(recipe: Recipe, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """The planned rows with their images' bytes, fetched or read, in order."""
    if isinstance(recipe.source, Folder):
        source = recipe.source
        return (_read_file(source, row) for row in rows)
    assert downloader is not None
    return _fetch(rows, downloader)


def _fetch(rows: list[Row], downloader: Downloader) -> Iterator[Row]:
    """Rows with their bytes (key `body`), in order; a row that the plan already failed is passed on."""
    fetched = downloader.fetch((r["uid"], r["origin"]) for r in rows if not _is_bad(r))
    for row in rows:
        yield _failed(row, row["error"], row["detail"]) if _is_bad(row) else _with_answer(row, next(fetched))


def _is_bad(row: Row) -> bool:
    return row["error"] is not None and row.get("status") is None


def _with_answer(row: Row, got: Fetched) -> Row:
    assert got.key == row["uid"], "answers come in the order of the questions"
    return row | {
        "status": got.status, "error": got.error, "detail": got.detail or None, "ext": got.ext, "body": got.body,
        "sha256": got.sha256, "http_status": got.http_status, "final_url": got.final_url, "attempts": got.attempts,
        "original_width": got.original_width, "original_height": got.original_height,
    }  # fmt: skip


def _read_file(source: Folder, row: Row) -> Row:
    if row["error"] is not None:
        return _failed(row, row["error"], row["detail"])
    try:
        return _read_image(source, row)
    except (OSError, RuntimeError) as err:  # a loop of links, a name too long, no right to read
        uid = uid_of("caption", row["origin"], row["text"] or "")
        return _failed(row | {"uid": uid}, "unreadable_file", f"{type(err).__name__}: {err}")


@functools.cache
def _real(folder: str) -> str:
    return os.path.join(os.path.realpath(folder), "")


def _lies_in(path: Path, folder: str) -> bool:
    """Whether a path stays in the folder when every link is followed."""
    return os.path.join(os.path.realpath(path), "").startswith(_real(folder))


def _read_image(source: Folder, row: Row) -> Row:
    path = Path(source.path, row["origin"])
    uid = uid_of("caption", row["origin"], row["text"] or "")
    # A link or a `..` that leads out of the folder is refused by name, whatever it points to.
    if "\0" in row["origin"] or not _lies_in(path, source.path):
        return _failed(row | {"uid": uid}, "unsafe_name", "the path leads out of the folder")
    if not path.is_file():
        return _failed(row | {"uid": uid}, "missing_file", f"{row['origin']}: not in the folder")
    if path.stat().st_size > MAX_IMAGE_BYTES:
        return _failed(row | {"uid": uid}, "file_too_large", f"{path.stat().st_size} bytes")
    body = path.read_bytes()
    text, meta = row["text"], row["meta"]
    if source.captions is None:
        said = _sidecar(path, source)
        if isinstance(said, str):
            return _failed(row | {"uid": uid}, said, "look at the .txt or .json beside the image")
        text, meta = said
    return _read_row(row["origin"], text, meta, body)


def _read_row(origin: str, text: str, meta: str, body: bytes) -> Row:
    digest = hashlib.sha256(body).hexdigest()
    uid = uid_of("caption", origin, digest, text)
    row: Row = {"uid": uid, "origin": origin, "text": text, "meta": meta, "body": body, "sha256": digest}
    ext, error = sniff(body)
    if error is not None:
        return _failed(row, error if body else "empty_file", "the bytes are of no known image format")
    return row | {"status": "success", "error": None, "ext": ext}


def _sidecar(image: Path, source: Folder) -> tuple[str, str] | str:
    """The caption and meta beside an image, or the name of an error."""
    txt, sidecar = image.with_suffix(".txt"), image.with_suffix(".json")
    path = txt if txt.is_file() else sidecar
    if not path.is_file():
        return "missing_caption"
    if not _lies_in(path, source.path):
        return "unsafe_name"
    if path.stat().st_size > MAX_TEXT_BYTES:
        return "text_too_large"
    return _caption(path.read_bytes(), path.suffix == ".json", source.text, source.keep)


def _caption(data: bytes, is_json: bool, key: str, keep: tuple[str, ...]) -> tuple[str, str] | str:
    try:
        text = data.decode("utf-8")
        if not is_json:
            return text.rstrip("\r\n"), "{}"
        said = json.loads(text)
        if not isinstance(said, dict) or key not in said:
            return "missing_caption"
        kept = json.dumps({k: said.get(k) for k in keep}, ensure_ascii=False, sort_keys=True)
        (caption := _as_text(said[key])).encode("utf-8")
        return caption, tables.printable(kept, MAX_TEXT_BYTES)
    except UnicodeError:
        return "bad_encoding"
    except (ValueError, RecursionError):
        return "bad_json"


def _store(found: Iterable[Row], tar: Path) -> list[Row]:
    """Write the bytes of the rows that have some into one tar; the rows, without bytes, say where they lie."""
    rows: list[Row] = []
    place: dict[str, Part] = {}
    # The rows say where every body lies and what its SHA-256 is: neither an index nor a hash of the tar adds to that.
    with ShardWriter(tar, indexed=False) as writer:
        for row in found:
            body = row.pop("body", None)
            if row["status"] == "success" and row["uid"] not in place:
                (place[row["uid"]],) = writer.add(row["uid"], {row["ext"]: body})
            rows.append({name: row.get(name) for name in ROWS.names})
    for row in rows:
        if row["status"] == "success":
            part = place[row["uid"]]
            row |= {"tar": tar.name, "offset": part.offset, "nbytes": part.size}
    return rows


def _failed(row: Row, error: str, detail: str | None, status: str = "failed_to_read") -> Row:
    return row | {"status": status, "error": error, "detail": detail}


def _tar_rows(source: Tars, tar: str, pool: Pool) -> Iterator[Row]:
    """A row a sample of another tool's tar, pointing into it; a fault of the tar is a failed row."""
    blobs = Blobs(pool)
    name = Path(tar).name
    for found in scan_tar(Path(tar)):
        if isinstance(found, TarFault):
            origin = f"{name}#{found.offset}"
            row: Row = {"uid": uid_of("caption", origin, found.error), "origin": origin, "text": "", "meta": "{}"}
            yield _failed(row, found.error, found.detail)
        else:
            yield _tar_row(source, tar, found, blobs)
    blobs.close()


def _tar_row(source: Tars, tar: str, sample: TarSample, blobs: Blobs) -> Row:
    origin = f"{Path(tar).name}#{sample.key}"
    parts = {p.name.lower(): p for p in sample.parts}
    row: Row = {"uid": uid_of("caption", origin), "origin": origin, "text": "", "meta": "{}"}
    image = next((parts[s] for s in IMAGE_SUFFIXES if s in parts), None)
    if image is None:
        return _failed(row, "missing_image", f"parts: {', '.join(parts)}")
    said = _tar_caption(source, tar, parts, blobs)
    if isinstance(said, str):
        return _failed(row, said, f"parts: {', '.join(parts)}")
    body = blobs.read(tar, image.offset, image.size)
    row = _read_row(origin, *said, body) | {"tar": tar, "offset": image.offset, "nbytes": image.size}
    row.pop("body")
    return row


def _tar_caption(source: Tars, tar: str, parts: dict[str, Part], blobs: Blobs) -> tuple[str, str] | str:
    part_name, _, key = source.text.partition(":")
    part = parts.get(part_name)
    if part is None:
        return "missing_caption"
    if part.size > MAX_TEXT_BYTES:
        return "text_too_large"
    data = blobs.read(tar, part.offset, part.size)
    said = _caption(data, part_name == "json", key, source.keep)
    beside = parts.get("json")
    if part_name == "json" or not source.keep or beside is None or isinstance(said, str):
        return said
    if beside.size > MAX_TEXT_BYTES:
        return "text_too_large"
    kept = _caption(blobs.read(tar, beside.offset, beside.size), True, source.keep[0], source.keep)
    return kept if isinstance(kept, str) else (said[0], kept[1])
