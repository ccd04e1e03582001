"""Parts of a chunk's documents while an op is run over them: one image, or one paragraph, at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from curate.document.segments import Segment
from curate.engine.chunk import Chunk, Digest, digest_of
from curate.image.files import Decoded
from curate.ops.spec import READABLE_OF
from curate.pool.blob import Blob
from curate.recipe.steps import READS_BYTES, Resolved

_FIELDS = ("url", "alt", "caption", "text", "block")
"""What an op reads of a part's segment."""


class PartAt(NamedTuple):
    """A part of a row's document, by its place among the parts of its kind that are left."""

    row: int
    place: int


class ChunkParts:
    """The parts of the documents of some rows, as a step with `over` sees them."""

    def __init__(self, chunk: Chunk, step: Resolved, rows: Sequence[int]) -> None:
        assert step.over is not None
        self._chunk, self._reads = chunk, step.reads
        self._own = READABLE_OF[step.over]
        wanted = "image" if step.over == "images" else "text"
        self._segments: dict[int, list[Segment]] = {
            row: [segment for segment in document if segment["type"] == wanted]
            for row, document in zip(rows, chunk.read("document", rows), strict=True)
        }
        self._blobs: dict[int, list[Blob]] = {}
        if READS_BYTES & set(self._reads):
            self._blobs = dict(zip(rows, chunk.read("images", rows), strict=True))
            odd = [row for row in rows if len(self._blobs[row]) != len(self._segments[row])]
            assert not odd, f"row {odd[0]}: its images are out of step with its document"

    def of(self, row: int) -> list[PartAt]:
        """The parts of a row's document."""
        return [PartAt(row, place) for place in range(len(self._segments[row]))]

    def seen(self, row: int) -> list[PartAt]:
        """Those that the op looks at: not an absent image, unless it reads `blob`."""
        parts = self.of(row)
        if not self._blobs or "blob" in self._reads:
            return parts
        return [part for part in parts if self._blob(part).error is None]

    def read(self, name: str, batch: Sequence[PartAt]) -> list[Any]:
        """One argument of an op: what `name` is for each of these parts; what is a row's own is each of its parts'."""
        if name not in self._own:
            return self._chunk.read(name, [part.row for part in batch])
        if name == "blob":
            return [self._blob(part) for part in batch]
        if name == "image_bytes":
            return [self._blob(part).read() for part in batch]
        if name in ("image", "decoded"):
            found = [self.decoded(part) for part in batch]
            return found if name == "decoded" else [one.image for one in found]
        return [self._segment(part)[name] for part in batch]

    def decoded(self, item: PartAt) -> Decoded:
        """The decoded image of a part."""
        blob = self._blob(item)
        return self._chunk.decode_once((blob.tar, blob.offset), blob.read)

    def nbytes(self, item: PartAt, before: PartAt | None) -> int:
        """The bytes of the part's image."""
        return self._blob(item).nbytes or 0 if self._blobs else 0

    def digests(self, row: int) -> list[Digest]:
        """For each part of a row, a digest of what the op reads of it: of an image, its content."""
        parts = self.of(row)
        rows_own = [name for name in self._reads if name not in self._own and name in self._chunk.state.columns]
        shared = [self._chunk.read(name, [row])[0] for name in rows_own]
        return [digest_of([*self._inputs(part), *shared]) for part in parts]

    def _inputs(self, part: PartAt) -> Iterator[Any]:
        if self._blobs:
            blob = self._blob(part)
            yield blob.sha256 or blob.error
        segment = self._segment(part)
        yield from (segment[name] for name in _FIELDS if name in self._reads and name in self._own)

    def _blob(self, part: PartAt) -> Blob:
        return self._blobs[part.row][part.place]

    def _segment(self, part: PartAt) -> Segment:
        return self._segments[part.row][part.place]
