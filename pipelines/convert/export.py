"""Export published datasets to OBELICS, MMC4, LLaVA, Energon, and Hugging Face `datasets`.

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

from curate import strict_json
from curate.document.interchange import RecordError, to_energon, to_llava, to_mmc4, to_obelics
from curate.engine.formats import is_picture, part_names
from curate.process import hold
from curate.sample import Kind
from curate.settings import unknown_message
from curate.shards import DatasetInfo, ShardReader, load_dataset

if TYPE_CHECKING:
    import datasets

Format = Literal["obelics", "mmc4", "llava", "energon", "datasets"]

KINDS: Mapping[str, tuple[Kind, ...]] = {
    "obelics": ("interleaved",),
    "mmc4": ("interleaved",),
    "llava": ("caption", "interleaved"),
    "energon": ("caption", "interleaved", "ocr", "text"),
    "datasets": ("caption", "interleaved", "ocr", "text"),
}
"""The kinds of sample that each format has room for."""

PROMPT = "Describe the image in one sentence."
"""What a LLaVA entry asks of a captioned image."""

OWN_KEY = "json"
"""Where a Parquet row and a LLaVA entry hold the sample's own JSON, as text, from which it comes back as it was."""

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
    metadata: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The part `txt`."""
        return self.parts.get("txt", b"").decode("utf-8", "replace")

    @property
    def pictures(self) -> dict[str, bytes]:
        """The parts that are images, by the ends of their names."""
        return {name: data for name, data in self.parts.items() if is_picture(name)}


@dataclass(frozen=True)
class Converted:
    """The result of an export: the files below `out`, in order, and how many samples they hold."""

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
        raise ConvertError(unknown_message("format", to, get_args(Format)))
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
    """A folder that takes the name `out` when all went well, and goes when not. Raises ConvertError, HeldError."""
    with hold(out, whole=True):
        if out.exists():
            raise ConvertError(f"{out}: is there already; name a folder that is not")
        folder = out.with_name(f".{out.name}.tmp")
        shutil.rmtree(folder, ignore_errors=True)  # of an export that was killed
        folder.mkdir(parents=True)
        yield from _whole(folder, out)


def _whole(folder: Path, out: Path) -> Iterator[Path]:
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
                metadata = strict_json.plain(json.loads(parts.pop("json", b"{}")))
            except (ValueError, RecursionError):
                metadata = None
            if not isinstance(metadata, dict):
                raise ConvertError(f"{dataset / tar}: sample {uid}: not_json: its JSON cannot be read")
            yield _Sample(uid, parts, metadata)


@contextmanager
def _naming_sample(sample: _Sample) -> Iterator[None]:
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
            with _naming_sample(sample):
                rows.append(to_obelics(sample.metadata))
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{Path(shard.tar).stem}.parquet")


def _mmc4(info: DatasetInfo, dataset: Path, folder: Path) -> None:
    for shard in info.shards:
        with open(folder / f"{Path(shard.tar).stem}.jsonl", "w", encoding="utf-8") as file:
            for sample in _samples(dataset, shard.tar, shard.index):
                with _naming_sample(sample):
                    file.write(json.dumps(to_mmc4(sample.metadata), ensure_ascii=False) + "\n")


def _llava(info: DatasetInfo, dataset: Path, folder: Path, prompt: str = PROMPT) -> None:
    """One JSON list, written entry by entry, and the images in folders by the first two digits of their uid."""
    with open(folder / "llava.json", "w", encoding="utf-8") as file:
        lead = "[\n"
        for shard in info.shards:
            for sample in _samples(dataset, shard.tar, shard.index):
                paths = {part: f"images/{sample.uid[:2]}/{sample.uid}.{part}" for part in sample.pictures}
                with _naming_sample(sample):
                    entry = to_llava(
                        _conversation(sample, prompt) if info.kind == "caption" else sample.metadata, paths
                    )
                entry[OWN_KEY] = _own(sample.metadata)
                for part, path in paths.items():
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(sample.parts[part])
                file.write(lead + json.dumps(entry, ensure_ascii=False))
                lead = ",\n"
        file.write("[]\n" if lead == "[\n" else "\n]\n")


def _own(metadata: Mapping[str, Any]) -> str:
    return strict_json.dumps(metadata)


def _conversation(sample: _Sample, prompt: str) -> dict[str, Any]:
    images = [{"type": "image", "part": part} for part in sample.pictures]
    turns = [{"type": "text", "block": b, "text": t} for b, t in (("question", prompt), ("answer", sample.text))]
    return {"uid": sample.uid, "segments": images + turns}


ENERGON_LOADERS: Mapping[str, str] = {
    "interleaved": '''"""Makes an interleaved sample of the segments that a sample's JSON puts in order."""


def sample_loader(raw):
    sequence = []
    for segment in raw["json"]["segments"]:
        if segment["type"] != "text":
            sequence += [raw[segment["part"]]] if "part" in segment else []
        elif sequence and isinstance(sequence[-1], str):
            sequence[-1] += "\\n\\n" + segment["text"]
        else:
            sequence.append(segment["text"])
    return {"__key__": raw["__key__"], "sequence": sequence}


def part_filter(part):
    return True
''',
    "ocr": '''"""Makes an OCR sample of a page; boxes are x, y, width and height in pixels, as Energon has them."""

import torch


def sample_loader(raw):
    words = raw["json"].get("words", [])
    boxes = [[left, top, right - left, bottom - top] for left, top, right, bottom in (word["box"] for word in words)]
    return {
        "__key__": raw["__key__"],
        "image": next(raw[name] for name in raw if name not in ("txt", "json") and not name.startswith("__")),
        "text": raw["txt"],
        "words_boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "words_text": [word["text"] for word in words],
    }


def part_filter(part):
    return True
''',
}


def _energon(info: DatasetInfo, dataset: Path, folder: Path) -> None:
    """The tars as they are, without our index: `energon prepare` makes Energon's own, and keeps the dataset.yaml."""
    names = {name for name in part_names(dataset, info) if is_picture(name)} if info.kind == "caption" else set()
    if len(names) > 1:
        raise ConvertError(f"{dataset}: images are called {', '.join(sorted(names))}; publish with `image_name: one`")
    for shard in info.shards:
        shutil.copyfile(dataset / shard.tar, folder / shard.tar)
    notes = folder / ".nv-meta"
    notes.mkdir()
    (notes / "dataset.yaml").write_text(_energon_yaml(info.kind, next(iter(names), "jpg")), encoding="utf-8")
    if info.kind in ENERGON_LOADERS:
        (notes / "sample_loader.py").write_text(ENERGON_LOADERS[info.kind], encoding="utf-8")


def _energon_yaml(kind: Kind, image: str) -> str:
    loader = "sample_loader: sample_loader.py:sample_loader\npart_filter: sample_loader.py:part_filter\n"
    sample, rest = {
        "caption": ("CaptioningSample", f"field_map:\n  image: {image}\n  caption: txt\n"),
        "text": ("TextSample", "field_map:\n  text: txt\n"),
        "ocr": ("OCRSample", loader),
        "interleaved": ("InterleavedSample", loader),
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
                with _naming_sample(sample):
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
    row: dict[str, Any] = {"uid": sample.uid, OWN_KEY: _own(sample.metadata)}
    if kind == "interleaved":
        order = to_energon(sample.metadata)
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

    For tars without the README.md that a run writes beside them. Reads the indexes alone.
    """
    from datasets import Features, Image, Json, Value

    features: dict[str, Any] = {"json": Json(), "txt": Value("string")}
    names = part_names(dataset, load_dataset(dataset))
    parts = {name: features.get(name) or (Image() if is_picture(name) else Value("binary")) for name in names}
    return Features(parts | {"__key__": Value("string"), "__url__": Value("string")})
