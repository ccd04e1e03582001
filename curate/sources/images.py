"""Tables that hold their images, as Hugging Face's image datasets do: captions, documents and conversations.

Of a pair the pool keeps the image as it came. Of a document it keeps each image, and the record as JSON: an image
stands there as `column/number`, and the op `stored_images` finds it by that name among the record's `IMAGES`.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from curate import strict_json
from curate.download import Downloader, sniff
from curate.image.files import header
from curate.pool.blob import BLOB, IMAGES
from curate.readers.image_tables import ImageDataset, ImageField, ImageTable, images_of
from curate.recipe.source import ImageRows
from curate.sample import uid_of
from curate.sources.captions import image_row
from curate.sources.rows import SUCCESS, Row, expand, fail_row, field_text, file_stat_if_any, table_identity


def identity(source: ImageRows) -> Any:
    """Each file's place, size and time; of a dataset its name, and what lies in it where it is a folder."""
    if source.path is None:
        return table_identity(source)
    return [[name, path and file_stat_if_any(path)] for name, path in _files(source).items()]


def plan_rows(source: ImageRows) -> Iterator[Row]:
    """Plan a row for each row of the table, by its number alone: images are read when their shard is."""
    for name, path in _files(source).items():
        table = _open(source, path)
        table.check(_columns(source))
        for number in range(len(table)):
            yield {"origin": f"{name}#{number}", "text": "", "meta": "{}"}


def companion_files(source: ImageRows) -> Callable[[list[Row]], Any]:
    """Size and time of the files that rows lie in."""
    files = _files(source)

    def stats(rows: list[Row]) -> Any:
        names = sorted({_place(row)[0] for row in rows})
        return [[name, file_stat_if_any(path) if (path := files[name]) else None] for name in names]

    return stats


def load_rows(source: ImageRows, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """Read rows and their images, neighbours together."""
    make = _pair if source.columns is None else _document
    files = _files(source)
    for name, same in itertools.groupby(rows, lambda row: _place(row)[0]):
        table = _open(source, files[name])
        for run in _runs(list(same)):
            start = _place(run[0])[1]
            found = table.read(_columns(source), start, start + len(run))
            for row, values in zip(run, found, strict=True):
                yield make(source, row, values)


def _files(source: ImageRows) -> dict[str, Path | None]:
    """The files by their names: paths below the folder where the pattern begins. A dataset is one of its own."""
    if source.path is None:
        return {f"{source.huggingface}": None}
    paths = expand(source.path)
    fixed = list(
        itertools.takewhile(lambda part: not glob.has_magic(part) and "{" not in part, Path(source.path).parts)
    )
    base = Path(*fixed) if len(fixed) < len(Path(source.path).parts) else Path(source.path).parent
    return {os.path.relpath(path, base): path for path in paths}


def _open(source: ImageRows, path: Path | None) -> ImageTable | ImageDataset:
    return ImageTable(path) if path is not None else ImageDataset(f"{source.huggingface}", source.split)


def _columns(source: ImageRows) -> tuple[str, ...]:
    further = (source.text,) if source.columns is None else source.columns
    return tuple(dict.fromkeys((source.image, *further, *source.keep)))


def _place(row: Row) -> tuple[str, int]:
    name, _, number = row["origin"].rpartition("#")
    return name, int(number)


def _runs(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows of one file, cut where a number is left out."""
    numbered = enumerate(rows)
    for _, run in itertools.groupby(numbered, lambda pair: _place(pair[1])[1] - pair[0]):
        yield [row for _, row in run]


def _pair(source: ImageRows, row: Row, values: Mapping[str, Any]) -> Row:
    """The row of an image and its caption."""
    failed = row | {"uid": uid_of("caption", row["origin"])}
    try:
        images = images_of(values[source.image])
        text, texts = _texts(values[source.text])
        kept = {name: values[name] for name in source.keep} | ({"texts": texts} if len(texts) > 1 else {})
        meta = strict_json.dumps(kept)
    except strict_json.NotTextError as err:
        return fail_row(failed, "not_text", f"{source.text!r} or a column to keep holds {err}")
    except ValueError as err:
        return fail_row(failed, "not_an_image", f"column {source.image!r} holds {err}")
    if len(images) > 1:
        return fail_row(failed, "several_images", f"{len(images)} images in {source.image!r}")
    image = images[0] if images else None
    if image is None or image.data is None:
        return fail_row(failed, "missing_image", _why_none(source, image))
    return image_row(row["origin"], text, meta, image.data)


def _texts(value: Any) -> tuple[str, list[str]]:
    """The caption, and all of them where the column holds several: the first is the caption."""
    found = [field_text(entry) for entry in value] if isinstance(value, list) else [field_text(value)]
    return (found or [""])[0], found


def _why_none(source: ImageRows, image: ImageField | None) -> str:
    if image is not None and image.path:
        return f"{source.image!r} names {image.path!r} and holds no bytes; of paths make a source of type `folder`"
    return f"{source.image!r} is empty"


def _document(source: ImageRows, row: Row, values: Mapping[str, Any]) -> Row:
    """The row of a record with its images."""
    failed = row | {"uid": uid_of("interleaved", row["origin"])}
    try:
        images = images_of(values[source.image])
        record = strict_json.plain({name: values[name] for name in source.columns or () if name != source.image})
        meta = strict_json.dumps({name: values[name] for name in source.keep})
    except strict_json.NotTextError as err:
        return fail_row(failed, "not_text", f"a column holds {err}")
    except ValueError as err:
        return fail_row(failed, "not_an_image", f"column {source.image!r} holds {err}")
    names = [None if image is None else f"{source.image}/{n}" for n, image in enumerate(images)]
    record |= {source.image: names}
    told = {name: _told(image) for name, image in zip(names, images, strict=True) if name and image}
    data = {name: image.data for name, image in zip(names, images, strict=True) if name and image and image.data}
    digests = {name: hashlib.sha256(data[name]).hexdigest() if name in data else "" for name in told}
    uid = uid_of("interleaved", "record", strict_json.dumps(record), *digests.values())
    files = {name: (told[name]["ext"], data[name], digests[name]) for name in told if told[name]["error"] is None}

    def body(places: Mapping[str, Row]) -> bytes:
        of_images = {name: about | places.get(name, {}) for name, about in told.items()}
        return strict_json.dumps(record | {IMAGES: of_images}).encode()

    return row | {"uid": uid, "text": "", "meta": meta, "ext": "json", "files": files, "body": body} | SUCCESS


def _told(image: ImageField) -> dict[str, Any]:
    """A `BLOB` of an image that lies nowhere yet, or that is absent by an error."""
    nothing = dict.fromkeys(BLOB.names)
    if not image.data:
        detail = f"no bytes of {image.path!r}" if image.path else "no bytes"
        return nothing | {"error": "missing_image", "detail": detail}
    ext, error = sniff(image.data)
    found = header(image.data)
    if ext is None or found.error is not None:
        return nothing | {"error": error or found.error, "detail": found.detail}
    return nothing | {"ext": ext, "width": found.width, "height": found.height}
