"""Published datasets for the tests: samples of every kind as a run writes them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from documents import picture
from PIL import Image

from curate.engine import formats
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.sample import Kind, uid_of
from curate.shards import DatasetInfo, ShardReader, ShardWriter, load_dataset, save_dataset


def published(folder: Path, kind: Kind, samples: list[dict[str, bytes]], per_shard: int = 4) -> Path:
    """A dataset of these samples' parts, as a run publishes it."""
    folder.mkdir(parents=True)
    shards = []
    for number in range(0, len(samples), per_shard):
        with ShardWriter(folder / f"{number // per_shard:05d}.tar", kind=kind) as writer:
            for sample in samples[number : number + per_shard]:
                writer.add(json.loads(sample["json"])["uid"], sample)
        shards.append(writer.info)
    count, size = sum(s.samples for s in shards), sum(s.bytes for s in shards)
    save_dataset(DatasetInfo(name="d", kind=kind, samples=count, bytes=size, recipe="r", shards=tuple(shards)), folder)
    return folder


class Store:
    """Kept rows and their bytes, as publishing has them: the sample formats are the project's own."""

    def __init__(self, folder: Path) -> None:
        self._pool = Pool(folder, "store", "once")
        self._pool.folder.mkdir(parents=True)
        self._count = 0

    def place(self, data: bytes) -> dict[str, Any]:
        self._count += 1
        name = f"{self._count:05d}.tar"
        with ShardWriter(self._pool.folder / name, indexed=False) as writer:
            (part,) = writer.add("x", {"bin": data})
        width, height = Image.open(io.BytesIO(data)).size
        ext = "png" if data[:4] == b"\x89PNG" else "jpg"
        size = {"width": width, "height": height, "error": None, "detail": None}
        digest = hashlib.sha256(data).hexdigest()
        return {"tar": name, "offset": part.offset, "nbytes": part.size, "ext": ext, "sha256": digest, **size}

    def sample(self, kind: Kind, number: int, **more: Any) -> dict[str, bytes]:
        kept = {"uid": uid_of(kind, str(number)), "origin": f"http://a.org/{number}", "meta": json.dumps({"n": number})}
        return formats.sample_parts(kind, kept | more, {}, Blobs(self._pool).read)


def interleaved(store: Store, number: int) -> dict[str, bytes]:
    """Documents of none, one, two or three images; every fourth has a dead one."""
    document, images = [], []
    for n in range(number % 4):
        url = f"http://a.org/{number}-{n}.png"
        document += [image_at(url, f"alt {n}"), paragraph(f"Paragraph {n} of document {number}.")]
        images.append(store.place(picture(20 + n, 20, seed=number, kind="PNG" if n % 2 else "JPEG")))
    if number % 4 == 3:
        document.append(image_at("http://a.org/dead.png"))
        images.append({"error": "not_found"})
    document.append(paragraph(f"The end of document {number}. It is “over”."))
    title = {"title": f"Page {number}"} if number % 2 else {"title": None}
    return store.sample("interleaved", number, document=document, images=images, text="", **title)


def image_at(url: str, alt: str | None = None) -> dict[str, Any]:
    return {"type": "image", "text": None, "block": None, "url": url, "alt": alt, "caption": None}


def paragraph(text: str, block: str = "paragraph") -> dict[str, Any]:
    return {"type": "text", "text": text, "block": block, "url": None, "alt": None, "caption": None}


def caption(store: Store, number: int) -> dict[str, bytes]:
    place = store.place(picture(24, 20, seed=number))
    return store.sample("caption", number, text=f"Caption {number}, für alle.", image_name="png", **place)


def ocr(store: Store, number: int) -> dict[str, bytes]:
    words = [{"text": "Wort", "box": [0.1, 0.1, 0.5, 0.2], "confidence": 0.9, "line": 0}]
    place = store.place(picture(40, 30, seed=number)) | {"meta": json.dumps({"page": number, "pages": 12})}
    return store.sample("ocr", number, text="Wort", image_name="png", words=words, **place)


def text(store: Store, number: int) -> dict[str, bytes]:
    return store.sample("text", number, text=f"Text number {number}.\nA second line." + " more" * (number % 3))


MAKERS = {"interleaved": interleaved, "caption": caption, "ocr": ocr, "text": text}


def made(folder: Path, kind: Any, count: int = 10) -> Path:
    store = Store(folder)
    return published(folder / "dataset", kind, [MAKERS[kind](store, n) for n in range(count)])


def parts_of(dataset: Path) -> dict[str, dict[str, bytes]]:
    found = {}
    for shard in load_dataset(dataset).shards:
        with ShardReader(dataset / shard.tar) as reader:
            found |= {uid: reader.read(n) for n, uid in enumerate(reader.uids.to_pylist())}
    return found


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return path
