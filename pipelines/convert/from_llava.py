"""Read LLaVA's list of conversations, with the images in files beside it, as samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.document.interchange import RecordError, from_llava, parse_record
from curate.document.segments import is_image
from curate.readers import tables
from curate.readers.files import UnreadableError, read_file
from curate.sample import Kind, uid_of
from pipelines.convert.export import OWN_KEY
from pipelines.convert.samples import FoundSample, document_sample, is_uid, json_part, own_document, picture, text_part


def kind_of_entries(files: Sequence[Path]) -> Kind:
    """`caption` for what our own export made of captions, else `interleaved`, by the first entry."""
    row = next(tables.read_objects(files[0]), None)
    if not isinstance(row, dict) or not isinstance(row.get(OWN_KEY), str):
        return "interleaved"
    try:
        return "interleaved" if "segments" in parse_record(row[OWN_KEY].encode()) else "caption"
    except RecordError:
        return "interleaved"


def from_entries(file: Path, kind: Kind, failed: Counter[str]) -> Iterator[FoundSample]:
    """Read the samples of a list; those that cannot be read are counted by their errors. Raises
    curate.readers.tables.TableError.
    """
    for number, row in enumerate(tables.read_objects(file)):
        if isinstance(row, tables.BadRow):
            failed[row.error] += 1
            continue
        try:
            own = isinstance(row.get(OWN_KEY), str)
            yield _own(file.parent, row, kind) if own else _foreign(file, row, number)
        except (RecordError, UnreadableError) as err:
            failed[err.error] += 1


def _own(folder: Path, row: Mapping[str, Any], kind: Kind) -> FoundSample:
    """An entry that our own export wrote: the sample as it was."""
    metadata = parse_record(row[OWN_KEY].encode())
    uid = row.get("id")
    if not is_uid(uid):
        raise RecordError("bad_record", f"id {uid!r}")
    paths = _paths(row)
    images = [read_file(str(folder), path) for path in paths]
    if kind == "interleaved":
        return own_document(str(uid), metadata, images)
    if len(images) != 1:
        raise RecordError("images_out_of_step", f"a caption with {len(images)} images")
    turns = row.get("conversations")
    last = turns[-1] if isinstance(turns, list) and turns else None
    text = text_part(last.get("value") if isinstance(last, dict) else None)
    name = paths[0].rsplit("/", 1)[-1].removeprefix(f"{uid}.")
    return FoundSample(str(uid), {**picture(images[0], name), "txt": text, "json": json_part(metadata)})


def _foreign(file: Path, row: Mapping[str, Any], number: int) -> FoundSample:
    document = from_llava(row)
    origin = f"{file.name}#{number}"
    uid = uid_of("interleaved", origin, json_part(row))
    named = [str(s["url"]) for s in document if is_image(s)]
    return document_sample(uid, origin, document, [_read(file.parent, name) for name in named])


def _read(folder: Path, name: str) -> bytes | str:
    try:
        return read_file(str(folder), name)
    except UnreadableError as err:
        return err.error


def _paths(row: Mapping[str, Any]) -> list[str]:
    named = row.get("image")
    paths = named if isinstance(named, list) else [] if named is None else [named]
    if not all(isinstance(path, str) for path in paths):
        raise RecordError("bad_record", "image: expected a path, or several")
    return paths
