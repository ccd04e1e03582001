"""Published datasets written as other projects read them: OBELICS, MMC4, LLaVA, Energon, Hugging Face `datasets`.

A dataset is streamed shard by shard into a folder that appears whole or not at all. Each writer takes the samples of
one shard after another; the first that cannot be written in the format ends the export, named.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from curate.interchange import RecordError, to_energon, to_llava, to_mmc4, to_obelics
from curate.sample import Kind
from curate.settings import unknown
from curate.shards import DatasetInfo, ShardReader, ShardWriter, load_dataset
from curate.sources.folder import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import datasets

Format = Literal["obelics", "mmc4", "llava", "energon", "datasets"]

KINDS: Mapping[str, tuple[Kind, ...]] = {
    "obelics": ("interleaved",),
    "mmc4": ("interleaved",),
    "llava": ("caption", "interleaved"),
    "energon": ("caption", "interleaved", "text"),
    "datasets": ("caption", "interleaved", "ocr", "text"),
}
"""The kinds of sample that each format has room for."""

PROMPT = "Describe the image in one sentence."
"""What a LLaVA entry asks of a captioned image."""

KIND_KEY = b"curate.kind"
"""Where a Parquet file's schema notes the kind of its samples."""

BATCH = 64
"""Samples whose bytes are held while a Parquet file is written."""


class ConvertError(ValueError):
    """A dataset that cannot be converted; the message says which sample, why and what to do."""


@dataclass(frozen=True)
class _Sample:
    """One published sample: its parts but for the JSON, and what that holds."""

    uid: str
    parts: Mapping[str, bytes]
    said: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The part `txt`."""
        return self.parts.get("txt", b"").decode("utf-8", "replace")

    @property
    def pictures(self) -> dict[str, bytes]:
        """The parts that are images, by the ends of their names."""
        return {name: data for name, data in self.parts.items() if is_picture(name)}


def is_picture(part: str) -> bool:
    """Whether a part is an image by its name: `jpg`, `0.png`."""
    return part.rsplit(".", 1)[-1] in IMAGE_SUFFIXES


@dataclass(frozen=True)
class Converted:
    """What an export wrote: the files below `out`, in order, and how many samples they hold."""

    out: Path
    files: tuple[str, ...]
    samples: int


def export(dataset: Path, out: Path, to: Format, prompt: str = PROMPT) -> Converted:
    """Write the dataset in the folder `dataset` to the new folder `out`. Raises ConvertError, ShardError.

    obelics: a Parquet file a shard, images by URL. mmc4: a JSON Lines file a shard, images by URL. llava: `llava.json`
    and `images/`; captions are asked for by `prompt`. energon: tars, and what `energon prepare` needs beside them.
    datasets: a Parquet file a shard that `load_dataset` opens, images inside.
    """
    if to not in get_args(Format):
        raise ConvertError(unknown("format", to, get_args(Format)))
    info = load_dataset(dataset)
    if info.kind not in KINDS[to]:
        raise ConvertError(f"{dataset}: holds samples of kind {info.kind}; {to} has room for {', '.join(KINDS[to])}")
    writers: dict[str, Callable[[DatasetInfo, Path, Path], None]] = {
        "obelics": _obelics,
        "mmc4": _mmc4,
        "llava": partial(_llava, prompt=prompt),
        "energon": _energon,
        "datasets": _datasets,
    }
    with new_folder(out) as folder:
        writers[to](info, dataset, folder)
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    return Converted(out, tuple(files), info.samples)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name when all went well, and goes when not. Raises ConvertError."""
    if out.exists():
        raise ConvertError(f"{out}: is there already; name a folder that is not")
    folder = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)  # of an export that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _samples(dataset: Path, tar: str, index: str) -> Iterator[_Sample]:
    """The samples of one shard, in its order. Raises ConvertError, ShardError."""
    with ShardReader(dataset / tar, dataset / index) as reader:
        for row, uid in enumerate(reader.uids.to_pylist()):
            parts = reader.read(row)
            try:
                said = json.loads(parts.pop("json", b"{}"))
            except (ValueError, RecursionError):
                said = None
            if not isinstance(said, dict):
                raise ConvertError(f"{dataset / tar}: sample {uid}: not_json: its JSON cannot be read")
            yield _Sample(uid, parts, said)


@contextmanager
def _named(sample: _Sample) -> Iterator[None]:
    try:
        yield
    except RecordError as err:
        raise ConvertError(
            f"sample {sample.uid}: {err}; drop such samples by a rule, or choose another format"
        ) from None


def _obelics(info: DatasetInfo, dataset: Path, folder: Path) -> None:
    strings = pa.list_(pa.string())
    schema = pa.schema(
        [("images", strings), ("metadata", pa.string()), ("general_metadata", pa.string()), ("texts", strings)]
    )
    for shard in info.shards:
        rows = []
        for sample in _samples(dataset, shard.tar, shard.index):
            with _named(sample):
                rows.append(to_obelics(sample.said))
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{Path(shard.tar).stem}.parquet")


def _mmc4(info: DatasetInfo, dataset: Path, folder: Path) -> None:
    for shard in info.shards:
        with open(folder / f"{Path(shard.tar).stem}.jsonl", "w", encoding="utf-8") as file:
            for sample in _samples(dataset, shard.tar, shard.index):
                with _named(sample):
                    file.write(json.dumps(to_mmc4(sample.said), ensure_ascii=False) + "\n")


def _llava(info: DatasetInfo, dataset: Path, folder: Path, prompt: str = PROMPT) -> None:
    """One JSON list, written entry by entry, and the images in folders by the first two digits of their uid."""
    with open(folder / "llava.json", "w", encoding="utf-8") as file:
        lead = "[\n"
        for shard in info.shards:
            for sample in _samples(dataset, shard.tar, shard.index):
                paths = {part: f"images/{sample.uid[:2]}/{sample.uid}.{part}" for part in sample.pictures}
                with _named(sample):
                    entry = to_llava(_conversation(sample, prompt) if info.kind == "caption" else sample.said, paths)
                for part, path in paths.items():
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(sample.parts[part])
                file.write(lead + json.dumps(entry, ensure_ascii=False))
                lead = ",\n"
        file.write("[]\n" if lead == "[\n" else "\n]\n")


def _conversation(sample: _Sample, prompt: str) -> dict[str, Any]:
    images = [{"type": "image", "part": part} for part in sample.pictures]
    turns = [{"type": "text", "block": b, "text": t} for b, t in (("question", prompt), ("answer", sample.text))]
    return {"uid": sample.uid, "segments": images + turns}


ENERGON_LOADER = '''"""Makes an interleaved sample of the images and texts that a sample's JSON puts in order."""


def sample_loader(raw):
    order = zip(raw["json"]["images"], raw["json"]["texts"])
    return {"__key__": raw["__key__"], "sequence": [raw[image] if text is None else text for image, text in order]}


def part_filter(part):
    return True
'''


def _energon(info: DatasetInfo, dataset: Path, folder: Path) -> None:
    """Tars without our index: `energon prepare` makes Energon's own, and keeps the dataset.yaml that is there."""
    names: set[str] = set()
    for shard in info.shards:
        with ShardWriter(folder / shard.tar, kind=info.kind, indexed=False) as writer:
            for sample in _samples(dataset, shard.tar, shard.index):
                with _named(sample):
                    said = to_energon(sample.said) if info.kind == "interleaved" else dict(sample.said)
                names |= set(sample.pictures) if info.kind == "caption" else set()
                body = json.dumps(said, ensure_ascii=False).encode("utf-8", "replace")
                writer.add(sample.uid, {"json": body, **sample.parts})
    if len(names) > 1:
        raise ConvertError(f"{dataset}: images are called {', '.join(sorted(names))}; publish with `image_name: one`")
    beside = folder / ".nv-meta"
    beside.mkdir()
    (beside / "dataset.yaml").write_text(_energon_yaml(info.kind, next(iter(names), "jpg")), encoding="utf-8")
    if info.kind == "interleaved":
        (beside / "sample_loader.py").write_text(ENERGON_LOADER, encoding="utf-8")


def _energon_yaml(kind: Kind, image: str) -> str:
    sample, rest = {
        "caption": ("CaptioningSample", f"field_map:\n  image: {image}\n  caption: txt\n"),
        "text": ("TextSample", "field_map:\n  text: txt\n"),
        "interleaved": (
            "InterleavedSample",
            "sample_loader: sample_loader.py:sample_loader\npart_filter: sample_loader.py:part_filter\n",
        ),
    }[kind]
    return f"sample_type:\n  __module__: megatron.energon\n  __class__: {sample}\n{rest}"


def _datasets(info: DatasetInfo, dataset: Path, folder: Path) -> None:
    features = parquet_features(info.kind)
    schema = features.arrow_schema
    schema = schema.with_metadata({**schema.metadata, KIND_KEY: info.kind.encode()})
    for shard in info.shards:
        with pq.ParquetWriter(folder / f"{Path(shard.tar).stem}.parquet", schema, compression="zstd") as writer:
            rows: list[dict[str, Any]] = []
            for sample in _samples(dataset, shard.tar, shard.index):
                with _named(sample):
                    rows.append(_parquet_row(info.kind, sample))
                if len(rows) == BATCH:
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def parquet_features(kind: Kind) -> datasets.Features:
    """The columns of the Parquet files that `datasets` opens; `json` is the sample's own, as text."""
    from datasets import Features, Image, List, Value

    text = Value("string")
    content: dict[str, Any] = {
        "caption": {"image": Image(), "text": text},
        "ocr": {"image": Image(), "text": text},
        "text": {"text": text},
        "interleaved": {"images": List(Image()), "texts": List(text)},
    }[kind]
    return Features({"uid": text, **content, "json": text})


def _parquet_row(kind: Kind, sample: _Sample) -> dict[str, Any]:
    row: dict[str, Any] = {"uid": sample.uid, "json": json.dumps(sample.said, ensure_ascii=False, sort_keys=True)}
    if kind == "interleaved":
        order = to_energon(sample.said)
        images = [name and {"bytes": sample.parts.get(name), "path": name} for name in order["images"]]
        return row | {"images": images, "texts": order["texts"]}
    if kind != "text":
        name, data = next(iter(sample.pictures.items()), ("", b""))
        if not name:
            raise RecordError("missing_image", f"its parts are {', '.join(sample.parts)}")
        row["image"] = {"bytes": data, "path": name}
    return row | {"text": sample.text}


def webdataset_features(dataset: Path) -> datasets.Features:
    """The `features` with which `datasets.load_dataset("webdataset", ...)` opens a dataset's tars as they stand.

    By itself `datasets` takes the first five samples for a pattern, which documents with different numbers of images
    do not share. Reads the indexes alone.
    """
    from datasets import Features, Image, Json, Value

    names: set[str] = set()
    for shard in load_dataset(dataset).shards:
        with ShardReader(dataset / shard.tar, dataset / shard.index) as reader:
            column = reader.table.column("parts").combine_chunks()
            names |= set(column.flatten().field("name").unique().to_pylist())
    known: dict[str, Any] = {"json": Json(), "txt": Value("string")}
    parts = {name: known.get(name) or (Image() if is_picture(name) else Value("binary")) for name in sorted(names)}
    return Features(parts | {"__key__": Value("string"), "__url__": Value("string")})
