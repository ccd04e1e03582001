"""Other projects' sets with the images inside become datasets: Energon's interleaved tars, Parquet files of `datasets`.

What names its images by URL alone (OBELICS, MMC4) or by path (LLaVA) comes in through a recipe instead, whose steps
fetch them: `source: {type: records}` with `obelics_document`, `mmc4_document` or `llava_document`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from curate.document import Segment, is_image
from curate.download import sniff
from curate.images import header
from curate.interchange import RecordError, from_obelics, parse, segments_of
from curate.sample import Kind, file_sha256, uid_of
from curate.shards import DatasetInfo, ShardInfo, ShardWriter, TarFault, TarSample, save_dataset, scan_tar
from pipelines.convert import KIND_KEY, ConvertError, new_folder

MAX_JSON_BYTES = 16 << 20
ROWS = 16
"""Rows of a Parquet file whose images are held at once."""

RECIPE = "converted"
"""What dataset.json names as the recipe."""

_UID = re.compile(r"[0-9a-f]{32}")
_PICTURE = re.compile(r"[0-9]{1,6}\.[a-z]{3,5}")


Origin = Literal["energon", "datasets"]


@dataclass(frozen=True)
class BroughtIn:
    """What came of a foreign set: the samples of the dataset in `out`, and how many did not come, by error."""

    out: Path
    kind: Kind
    samples: int
    failed: Mapping[str, int]


@dataclass(frozen=True)
class _Found:
    """A sample on its way in."""

    uid: str
    parts: Mapping[str, bytes]


def bring_in(source: Path, out: Path, origin: Origin) -> BroughtIn:
    """Make a dataset in the new folder `out` of the tars or Parquet files of `source` (a folder or a file).

    A sample that cannot be read is counted by its error; the others come in, with the uid that they had, if they had
    one. Raises ConvertError for a source without files, with columns that say nothing, or of which nothing came.
    """
    suffix = ".tar" if origin == "energon" else ".parquet"
    files = sorted(source.rglob(f"*{suffix}")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise ConvertError(f"{source}: holds no {suffix} files")
    kind: Kind = "interleaved" if origin == "energon" else _kind_of(files[0])
    failed = Counter[str]()
    shards: list[ShardInfo] = []
    with new_folder(out) as folder:
        for number, file in enumerate(files):
            found = _from_tar(file, failed) if origin == "energon" else _from_parquet(file, kind, failed)
            shards.append(_written(folder / f"{number:05d}.tar", kind, found, failed))
        count, size = sum(s.samples for s in shards), sum(s.bytes for s in shards)
        if not count:
            said = ", ".join(f"{name} {n}" for name, n in failed.most_common()) or "no samples"
            raise ConvertError(f"{source}: nothing came of it: {said}")
        info = DatasetInfo(name=out.name, kind=kind, samples=count, bytes=size, recipe=RECIPE, shards=tuple(shards))
        save_dataset(info, folder)
    return BroughtIn(out, kind, count, dict(sorted(failed.items())))


def _written(tar: Path, kind: Kind, found: Iterator[_Found], failed: Counter[str]) -> ShardInfo:
    seen: set[str] = set()
    with ShardWriter(tar, kind=kind) as writer:
        for sample in found:
            if sample.uid in seen:
                failed["repeated_uid"] += 1
                continue
            seen.add(sample.uid)
            writer.add(sample.uid, sample.parts)
    return writer.info


def _from_tar(tar: Path, failed: Counter[str]) -> Iterator[_Found]:
    with open(tar, "rb") as file:
        for sample in scan_tar(tar):
            if isinstance(sample, TarFault):
                failed[sample.error] += 1
                continue
            try:
                yield _interleaved(tar, sample, file)
            except RecordError as err:
                failed[err.error] += 1


def _interleaved(tar: Path, sample: TarSample, file: Any) -> _Found:
    parts = {part.name: part for part in sample.parts}
    if "json" not in parts or parts["json"].size > MAX_JSON_BYTES:
        raise RecordError("missing_json" if "json" not in parts else "json_too_large", sample.key)

    def read(name: str) -> bytes | None:
        if name.lower() not in parts:
            return None
        file.seek(parts[name.lower()].offset)
        return bytes(file.read(parts[name.lower()].size))

    body = read("json") or b""
    document = from_obelics(parse(body))
    origin = f"{tar.name}#{sample.key}"
    uid = sample.key if _UID.fullmatch(sample.key) else uid_of("interleaved", origin, body)
    named = [str(s["url"]) for s in document if is_image(s)]
    return _Found(uid, _sample(uid, origin, document, [read(name) for name in named]))


def _sample(uid: str, origin: str, document: Sequence[Segment], images: Sequence[bytes | None]) -> dict[str, bytes]:
    """The parts of an interleaved sample (see docs/formats.md)."""
    pictures: dict[str, bytes] = {}
    segments = []
    waiting = iter(images)
    for segment in document:
        said = {key: value for key, value in segment.items() if value is not None}
        if is_image(segment):
            said |= _placed(next(waiting), pictures)
        segments.append(said)
    return {"json": _json({"uid": uid, "origin": origin, "segments": segments}), **pictures}


def _placed(body: bytes | None, pictures: dict[str, bytes]) -> dict[str, Any]:
    """What an image segment says of its image, which joins `pictures`; or the error by which it is absent."""
    ext, error = sniff(body) if body is not None else (None, "missing_part")
    found = header(body) if body is not None and ext is not None else None
    if body is None or found is None or found.error is not None:
        return {"error": error or (found.error if found else None)}
    part = f"{len(pictures)}.{ext}"
    pictures[part] = body
    return {"part": part, "width": found.width, "height": found.height}


def _kind_of(path: Path) -> Kind:
    """The kind that a Parquet file's own note or its columns tell."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as err:
        raise ConvertError(f"{path}: not a readable Parquet file: {err}") from None
    noted = (schema.metadata or {}).get(KIND_KEY, b"").decode()
    for kind in get_args(Kind):
        if kind == noted:
            return cast(Kind, kind)
    told: dict[Kind, set[str]] = {"interleaved": {"images", "texts"}, "caption": {"image", "text"}, "text": {"text"}}
    for kind, columns in told.items():
        if columns <= set(schema.names):
            return kind
    raise ConvertError(f"{path}: expected columns images and texts, or image and text, or text; found {schema.names}")


def _from_parquet(path: Path, kind: Kind, failed: Counter[str]) -> Iterator[_Found]:
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


def _own_row(row: Mapping[str, Any], kind: Kind) -> _Found:
    """A row that our own export wrote: the sample as it was."""
    said = parse(str(row["json"]).encode())
    if not isinstance(row["uid"], str) or not _UID.fullmatch(row["uid"]):
        raise RecordError("bad_record", f"uid {row['uid']!r}")
    if kind == "interleaved":
        named = [str(s["part"]) for s in segments_of(said) if "part" in s]
        images = [_bytes(image) for image in row["images"] or () if image is not None]
        if len(named) != len(images) or None in images or len(set(named)) != len(named):
            raise RecordError("images_out_of_step", f"{len(named)} parts, {len(images)} images")
        if not all(map(_PICTURE.fullmatch, named)):
            raise RecordError("bad_record", f"parts {named}")
        pictures = {name: body for name, body in zip(named, images, strict=True) if body is not None}
        return _Found(row["uid"], {"json": _json(said), **pictures})
    return _Found(row["uid"], {**_picture(row, kind), "txt": _text(row["text"]), "json": _json(said)})


def _foreign_row(row: Mapping[str, Any], kind: Kind, origin: str, digest: str) -> _Found:
    uid = uid_of(kind, origin, digest)
    if kind == "interleaved":
        images = list(row["images"] or ())
        named = [None if image is None else _name(image, n) for n, image in enumerate(images)]
        document = from_obelics({"images": named, "texts": row["texts"]})
        return _Found(uid, _sample(uid, origin, document, [_bytes(i) for i in images if i is not None]))
    said = _json({"uid": uid, "origin": origin})
    return _Found(uid, {**_picture(row, kind), "txt": _text(row["text"]), "json": said})


def _picture(row: Mapping[str, Any], kind: Kind) -> dict[str, bytes]:
    if kind == "text":
        return {}
    body = _bytes(row["image"])
    ext, error = sniff(body or b"")
    if body is None or ext is None:
        raise RecordError(error or "missing_image", "the row's image")
    named = row["image"].get("path")
    return {named if _own_name(named) else ext: body}


def _own_name(name: Any) -> bool:
    """Whether a path is the name of a part, as our own export writes it: an extension alone."""
    return isinstance(name, str) and re.fullmatch(r"[a-z]{3,5}", name) is not None


def _name(image: Any, number: int) -> str:
    path = image.get("path") if isinstance(image, Mapping) else None
    return path if isinstance(path, str) and path else str(number)


def _bytes(image: Any) -> bytes | None:
    body = image.get("bytes") if isinstance(image, Mapping) else image
    return body if isinstance(body, bytes) else None


def _text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise RecordError("bad_record", f"text: expected a text, found {type(value).__name__}")
    return value.encode("utf-8", "replace")


def _json(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")
