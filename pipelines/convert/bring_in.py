"""Import other projects' sets that hold their images: Energon's tars, Parquet of `datasets`, LLaVA.

What names its images by URL alone (OBELICS, MMC4) comes in through a recipe instead, whose steps fetch them:
`source: {type: records}` with `obelics_document` or `mmc4_document`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, cast, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from curate.commit import commit_text, file_sha256
from curate.document.interchange import RecordError, from_obelics, parse_record
from curate.report.readme import README, plain
from curate.sample import Kind, uid_of
from curate.shards import DatasetInfo, ShardInfo, ShardWriter, save_dataset
from pipelines.convert.export import KIND_KEY, ConvertError, new_folder
from pipelines.convert.from_energon import from_tar, kind_of_tars
from pipelines.convert.from_llava import from_entries, kind_of_entries
from pipelines.convert.samples import FoundSample, document_sample, is_uid, json_part, own_document, picture, text_part

ROWS = 16
"""Rows of a Parquet file whose images are held at once."""

LIST_SAMPLES = 10_000
"""Samples of a list that go into one tar."""

RECIPE = "converted"
"""What dataset.json names as the recipe."""

Origin = Literal["energon", "datasets", "llava"]

_SUFFIXES: Mapping[str, str] = {"energon": ".tar", "datasets": ".parquet", "llava": ".json"}
_Read = Callable[[Path, Kind, Counter[str]], Iterator[FoundSample]]
_KindOf = Callable[[Sequence[Path]], Kind]


@dataclass(frozen=True)
class Imported:
    """The result of an import: the samples of the dataset in `out`, and how many did not come, by error."""

    out: Path
    kind: Kind
    samples: int
    failed: Mapping[str, int]


def import_dataset(source: Path, out: Path, origin: Origin) -> Imported:
    """Import what lies in `source` (a folder or a file) in the format `origin` as a dataset in the new folder `out`.

    A sample that cannot be read is counted by its error; the others come in, with the uid that they had, if they had
    one. Raises ConvertError for a source without files, with columns that say nothing, or of which nothing came.
    """
    suffix = _SUFFIXES[origin]
    files = sorted(source.rglob(f"*{suffix}")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise ConvertError(f"{source}: holds no {suffix} files")
    read, kind_of = _ORIGINS[origin]
    kind = kind_of(files)
    failed = Counter[str]()
    shards: list[ShardInfo] = []
    with new_folder(out) as folder:
        for file in files:
            for found in _split_tars(read(file, kind, failed), origin):
                shards.append(_write_tar(folder / f"{len(shards):05d}.tar", kind, found, failed))
        count, size = sum(s.samples for s in shards), sum(s.bytes for s in shards)
        if not count:
            errors = ", ".join(f"{name} {n}" for name, n in failed.most_common()) or "no samples"
            raise ConvertError(f"{source}: nothing came of it: {errors}")
        info = DatasetInfo(name=out.name, kind=kind, samples=count, bytes=size, recipe=RECIPE, shards=tuple(shards))
        save_dataset(info, folder)
        commit_text(folder / README, plain(folder, info))
    return Imported(out, kind, count, dict(sorted(failed.items())))


def _split_tars(found: Iterator[FoundSample], origin: Origin) -> Iterator[Iterator[FoundSample]]:
    """What goes into a tar each: a file's samples, of a list that many."""
    if origin != "llava":
        yield found
        return
    for first in found:
        yield chain((first,), islice(found, LIST_SAMPLES - 1))


def _write_tar(tar: Path, kind: Kind, found: Iterator[FoundSample], failed: Counter[str]) -> ShardInfo:
    seen: set[str] = set()
    with ShardWriter(tar, kind=kind) as writer:
        for sample in found:
            if sample.uid in seen:
                failed["repeated_uid"] += 1
                continue
            seen.add(sample.uid)
            writer.add(sample.uid, sample.parts)
    return writer.info


def _kind_of_tables(files: Sequence[Path]) -> Kind:
    """The kind that a Parquet file's own note or its columns tell."""
    path = files[0]
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as err:
        raise ConvertError(f"{path}: not a readable Parquet file: {err}") from None
    noted = (schema.metadata or {}).get(KIND_KEY, b"").decode()
    for kind in get_args(Kind):
        if kind == noted:
            return cast(Kind, kind)
    columns_of: dict[Kind, set[str]] = {
        "interleaved": {"images", "texts"},
        "caption": {"image", "text"},
        "text": {"text"},
    }
    for kind, columns in columns_of.items():
        if columns <= set(schema.names):
            return kind
    raise ConvertError(f"{path}: expected columns images and texts, or image and text, or text; found {schema.names}")


def _from_parquet(path: Path, kind: Kind, failed: Counter[str]) -> Iterator[FoundSample]:
    own = {"uid", "json"} <= set(pq.read_schema(path).names)
    digest = "" if own else file_sha256(path)
    for number, row in enumerate(_rows(path)):
        try:
            yield _own_row(row, kind) if own else _foreign_row(row, kind, f"{path.name}#{number}", digest)
        except RecordError as err:
            failed[err.error] += 1


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as err:
        raise ConvertError(f"{path}: damaged: {err}; write the file again") from None


def _own_row(row: Mapping[str, Any], kind: Kind) -> FoundSample:
    """A row that our own export wrote: the sample as it was."""
    metadata = parse_record(str(row["json"]).encode())
    if not is_uid(row["uid"]):
        raise RecordError("bad_record", f"uid {row['uid']!r}")
    if kind == "interleaved":
        images = [_bytes(image) for image in row["images"] or () if image is not None]
        return own_document(row["uid"], metadata, images)
    return FoundSample(row["uid"], {**_picture(row, kind), "txt": text_part(row["text"]), "json": json_part(metadata)})


def _foreign_row(row: Mapping[str, Any], kind: Kind, origin: str, digest: str) -> FoundSample:
    uid = uid_of(kind, origin, digest)
    if kind == "interleaved":
        images = list(row["images"] or ())
        named = [None if image is None else _name(image, n) for n, image in enumerate(images)]
        document = from_obelics({"images": named, "texts": row["texts"]})
        return document_sample(uid, origin, document, [_bytes(i) for i in images if i is not None])
    metadata = json_part({"uid": uid, "origin": origin})
    return FoundSample(uid, {**_picture(row, kind), "txt": text_part(row["text"]), "json": metadata})


def _picture(row: Mapping[str, Any], kind: Kind) -> dict[str, bytes]:
    if kind == "text":
        return {}
    image = row["image"]
    return picture(_bytes(image), image.get("path") if isinstance(image, Mapping) else None)


def _name(image: Any, number: int) -> str:
    path = image.get("path") if isinstance(image, Mapping) else None
    return path if isinstance(path, str) and path else str(number)


def _bytes(image: Any) -> bytes | None:
    body = image.get("bytes") if isinstance(image, Mapping) else image
    return body if isinstance(body, bytes) else None


_ORIGINS: Mapping[Origin, tuple[_Read, _KindOf]] = {
    "energon": (from_tar, kind_of_tars),
    "datasets": (_from_parquet, _kind_of_tables),
    "llava": (from_entries, kind_of_entries),
}
