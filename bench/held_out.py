"""Write held-out sets of drawings with their names, and leave out what a pool already shows.

- stamps: Debian's tuxpaint-stamps-default, photographs cut out and drawings, one careful sentence each.
- emoji: Twemoji's drawings with their English names, skin tones left aside.

One picture a caption. What looks like a picture of the pool, as it stands or mirrored, is a leak and is left out.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from curate.image.files import decode
from curate.ops.dedup.images import SIGNATURE, duplicate_images, image_signature
from curate.sample import uid_of
from curate.shards import DatasetInfo, ShardWriter, save_dataset
from pipelines.materials.drawings import has_tone, twemoji
from pipelines.materials.packages import fetch
from pipelines.materials.stamps import stamps

SIDE_PX = 96


@dataclass(frozen=True)
class Pair:
    """A picture and what it shows."""

    uid: str
    image: Image.Image
    caption: str


def drawn_stamps() -> Iterator[Pair]:
    """Tux Paint's stamps."""
    for stamp in stamps(fetch("tuxpaint-stamps"), SIDE_PX):
        yield Pair(uid_of("caption", "stamps", stamp.name, stamp.caption), stamp.image, stamp.caption)


def emoji() -> Iterator[Pair]:
    """Twemoji's drawing of each thing, with its bare English name."""
    seen = set()
    for drawing in twemoji(fetch("twemoji"), fetch("emoji-names")):
        caption = re.sub(r"[:,]", "", drawing.names["en"])
        if not has_tone(drawing.code) and caption not in seen:
            seen.add(caption)
            image = decode(drawing.file.read_bytes()).image
            assert image is not None, drawing.file
            yield Pair(uid_of("caption", "twemoji", drawing.code, caption), image, caption)


SETS = {"stamps": drawn_stamps, "emoji": emoji}


def write_pairs(folder: Path, pairs: Iterable[Pair]) -> DatasetInfo:
    """Write a dataset of one shard: the pictures as PNG, at most SIDE_PX a side, and their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(folder / "00000.tar") as writer:
        for pair in pairs:
            image = pair.image.copy()
            image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
            image.save(body := io.BytesIO(), "PNG")
            writer.add(pair.uid, {"png": body.getvalue(), "txt": pair.caption.encode()})
    shard = writer.info
    info = DatasetInfo(
        name=folder.name, kind="caption", samples=shard.samples, bytes=shard.bytes, recipe="held out", shards=(shard,)
    )
    save_dataset(info, folder)
    return info


def leaks(pool: Sequence[Path], pairs: Sequence[Pair]) -> set[str]:
    """The uids of pairs whose picture, or its mirror image, the pool shows, as `duplicate_images` judges.

    `pool` are files of signatures as `signatures` wrote them.
    """
    with tempfile.TemporaryDirectory() as home:
        asked = Path(home) / "asked.parquet"
        signatures(asked, ((pair.uid, pair.image) for pair in pairs))
        mirrored = Path(home) / "mirrored.parquet"
        signatures(mirrored, ((f"{pair.uid}-m", ImageOps.mirror(pair.image)) for pair in pairs))
        inputs = [*pool, asked, mirrored]
        outputs = [Path(home) / f"{n}.out.parquet" for n in range(len(inputs))]
        duplicate_images(inputs, outputs, Path(home) / "scratch")
        found = [pq.read_table(path).to_pylist() for path in outputs]
    group = {row["uid"]: row["duplicate_of"] or row["uid"] for table in found for row in table}
    shown = {group[row["uid"]] for table in found[: len(pool)] for row in table}
    return {pair.uid for pair in pairs if group[pair.uid] in shown or group[f"{pair.uid}-m"] in shown}


def signatures(path: Path, pictures: Iterable[tuple[str, Image.Image]]) -> None:
    """Write the table that `duplicate_images` reads: uid, nbytes and the signature's columns."""
    columns: Mapping[str, list[object]] = {name: [] for name in ("uid", "nbytes", *SIGNATURE)}
    for uid, image in pictures:
        columns["uid"].append(uid)
        columns["nbytes"].append(image.width * image.height)
        for name, values in image_signature([image]).items():
            columns[name].append(values[0])
    schema = pa.schema([("uid", pa.string()), ("nbytes", pa.int64()), *SIGNATURE.items()])
    pq.write_table(pa.table(dict(columns), schema), path)
