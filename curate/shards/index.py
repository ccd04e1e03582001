"""Index of a shard: an Arrow IPC file beside the tar, one row a sample, that locates each part.

Columns: `uid`, `parts` (list of name, offset and size in bytes), `xxh3_64` (a checksum of the parts' bytes, one after
another; indexes made before there was one lack it), then any columns carried along. The schema's metadata names the tar
it belongs to, its size and its SHA-256. The file is not compressed, so that it is memory mapped and a reader opens in
microseconds whatever the number of samples; the index is the shard's commit marker.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from curate.commit import commit_file, file_sha256
from curate.shards.info import ShardError, ShardInfo
from curate.shards.ranges import Ranges, Span, merge_spans
from curate.shards.scan import Part, TarFault, TarLimits, TarSample, scan_tar

INDEX_VERSION = 1
PART = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
SCHEMA = pa.schema([pa.field("uid", pa.string(), nullable=False), pa.field("parts", pa.list_(PART), nullable=False)])
CHECK = "xxh3_64"
TOGETHER_BYTES = 1 << 16


@dataclass(frozen=True)
class _Layout:
    """Where parts lie, as flat views of the mapped index: row r owns parts starts[r] to starts[r + 1]."""

    uids: Any
    starts: memoryview
    names: list[str]
    codes: memoryview
    offsets: memoryview
    sizes: memoryview
    checks: memoryview | None


class ShardReader:
    """Random access to the samples of one shard through its index; safe to use from many threads at once.

    Opening maps the index and compares the tar's size with it; no header of the tar is walked.
    With `ranges`, the tar lies elsewhere and that function brings the bytes of its ranges; each sample is then compared
    with its checksum, where the index has one. Raises ShardError where tar and index do not belong together; IndexError
    for a row that is not there.
    """

    def __init__(self, tar: Path, index: Path | None = None, ranges: Ranges | None = None) -> None:
        self.tar = Path(tar)
        self.index = Path(index) if index is not None else index_path(self.tar)
        self.table = _open_index(self.index)
        self.metadata = _metadata(self.table, self.index)
        self._layout: _Layout | None = None
        self._ranges = ranges
        self._fd = -1
        if ranges is None:
            self._open_tar()

    def _open_tar(self) -> None:
        try:
            self._fd = os.open(self.tar, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            raise ShardError(f"{self.tar}: no such file, though its index {self.index} is there") from None
        # A stream in someone's loader is dropped rather than closed: its files go with it.
        self._closed = weakref.finalize(self, os.close, self._fd)
        self._closed.atexit = False
        size = os.fstat(self._fd).st_size
        if size != int(self.metadata["tar_bytes"]):
            self.close()
            raise ShardError(
                f"{self.tar} has {size} bytes, but its index {self.index} was made for {self.metadata['tar_bytes']}; "
                "run `curate verify` on the folder, then publish or index this shard again"
            )

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the tar; the mapped index lives on while its arrays are used."""
        if self._fd >= 0:
            self._closed()
        self._fd = -1  # the number may name another file soon

    @property
    def is_remote(self) -> bool:
        """Whether the tar is read where it lies, in ranges."""
        return self._ranges is not None

    @property
    def dropped(self) -> bool:
        """Whether the tar is no longer in its folder, and takes room on the disk only because it is open here."""
        return self._fd >= 0 and os.fstat(self._fd).st_nlink == 0

    @property
    def uids(self) -> pa.StringArray:
        """The uids in row order, zero-copy."""
        return as_one_array(self.table.column("uid"))

    def parts(self, row: int) -> list[Part]:
        """The places of the parts of a row's sample in the tar."""
        at = self._layout or self._load()
        first, last = self._span(at, row)
        return [Part(at.names[at.codes[p]], at.offsets[p], at.sizes[p]) for p in range(first, last)]

    def read(self, row: int, checked: bool | None = None) -> dict[str, bytes]:
        """Read the parts of a row's sample: name to bytes. Small samples take one read, large ones one a part.

        `checked`: compare it with its checksum, without a word only of a tar that lies elsewhere. Raises ShardError.
        """
        at = self._layout or self._load()
        first, last = self._span(at, row)
        if last == first:
            return {}
        begin, end = self._bytes_of(at, row)
        if not 0 <= end - begin <= TOGETHER_BYTES:
            out = {at.names[at.codes[p]]: self._read(at.offsets[p], at.sizes[p]) for p in range(first, last)}
        else:
            out = self._cut(at, row, self._read(begin, end - begin), begin)
        checked = self._ranges is not None if checked is None else checked
        return self._sound(at, row, out) if checked else out

    def _bytes_of(self, at: _Layout, row: int) -> Span:
        """The range of the tar that holds every part of a row's sample, the headers between them too."""
        first, last = self._span(at, row)
        return (at.offsets[first], at.offsets[last - 1] + at.sizes[last - 1]) if last > first else (0, 0)

    def _cut(self, at: _Layout, row: int, data: bytes, begin: int) -> dict[str, bytes]:
        """The parts of a row's sample out of the tar's bytes from `begin` on."""
        out = {}
        for part in range(*self._span(at, row)):
            offset = at.offsets[part] - begin
            if offset < 0:
                raise ShardError(f"{self.index}: the parts of row {row} are not in tar order; run `curate verify`")
            out[at.names[at.codes[part]]] = data[offset : offset + at.sizes[part]]
        return out

    def read_many(self, rows: Sequence[int]) -> list[tuple[str, dict[str, bytes]]]:
        """Read (uid, parts) of each row, in the order asked for. Raises what `read` raises, at the first that fails.

        Of a tar that lies elsewhere, neighbours are fetched in one range.
        """
        at = self._layout or self._load()
        if self._ranges is None:
            return [(str(at.uids[row].as_py()), self.read(row)) for row in rows]
        spans = [self._bytes_of(at, row) for row in rows]
        wanted, places = merge_spans(spans)
        found = self._checked(wanted)
        return [
            (str(at.uids[row].as_py()), self._sound(at, row, self._cut(at, row, found[place], wanted[place][0])))
            for row, place in zip(rows, places, strict=True)
        ]

    def _sound(self, at: _Layout, row: int, parts: dict[str, bytes]) -> dict[str, bytes]:
        """The parts of a row's sample, if they are those that were indexed."""
        if at.checks is not None and checksum(parts.values()) != at.checks[row]:
            raise ShardError(
                f"{self.tar}: sample {at.uids[row].as_py()} (row {row}) is not the one that was published: its checksum"
                " is another's; the tar was changed where it lies, or the bytes on their way"
            )
        return parts

    def read_part(self, row: int, name: str) -> bytes:
        """Read one part of a row's sample, not compared with its checksum. Raises ShardError when there is no such
        part.
        """
        at = self._layout or self._load()
        first, last = self._span(at, row)
        for part in range(first, last):
            if at.names[at.codes[part]] == name:
                return self._read(at.offsets[part], at.sizes[part])
        raise ShardError(f"{self.tar}: row {row} has no part {name!r} (it has {[p.name for p in self.parts(row)]})")

    def _span(self, at: _Layout, row: int) -> tuple[int, int]:
        if not 0 <= row < len(at.starts) - 1:
            raise IndexError(f"{self.tar}: no row {row}, the shard has {len(self)} samples")
        return at.starts[row], at.starts[row + 1]

    def _read(self, offset: int, size: int) -> bytes:
        if self._ranges is not None:
            return self._checked([(offset, offset + size)])[0]
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise ShardError(f"{self.tar}: ended at byte {offset + len(data)}, while it was read; run `curate verify`")
        return data

    def _checked(self, wanted: list[Span]) -> list[bytes]:
        """The bytes of each range of a tar that lies elsewhere."""
        assert self._ranges is not None
        found = self._ranges(wanted)
        for (begin, end), data in zip(wanted, found, strict=True):
            if len(data) != end - begin:
                raise ShardError(f"{self.tar}: has only {len(data)} of the bytes {begin} to {end}; run `curate verify`")
        return found

    def _load(self) -> _Layout:
        """Views of the index's buffers, checked once (a stranger's index may say anything). A race here is harmless."""
        parts = as_one_array(self.table.column("parts"))
        names, offsets, sizes = (_views(parts.values.field(n), self.index) for n in range(3))
        starts = as_numpy(parts.offsets)
        total = int(self.metadata["tar_bytes"])
        sound = len(starts) == len(parts) + 1 and starts[0] >= 0 and starts[-1] <= len(offsets)
        sound = sound and bool((np.diff(starts) >= 0).all() and (offsets >= 0).all() and (sizes >= 0).all())
        if not sound or bool((offsets > total - sizes).any()):
            raise ShardError(f"{self.index}: points outside {self.tar}; run `curate verify`, then index the tar again")
        coded = names.dictionary_encode()
        self._layout = _Layout(
            self.uids,
            memoryview(starts),
            coded.dictionary.to_pylist(),
            memoryview(as_numpy(coded.indices)),
            memoryview(offsets),
            memoryview(sizes),
            self._checks(),
        )
        return self._layout

    def _checks(self) -> memoryview | None:
        if CHECK not in self.table.column_names:
            return None
        column = as_one_array(self.table.column(CHECK))
        if column.type != pa.uint64() or column.null_count:
            raise ShardError(f"{self.index}: column {CHECK!r} is not of uint64 without gaps; index the tar again")
        return memoryview(as_numpy(column))


def checksum(parts: Iterable[bytes]) -> int:
    """The checksum of a sample: xxh3_64 of its parts' bytes, one after another."""
    digest = xxhash.xxh3_64()
    for data in parts:
        digest.update(data)
    return int(digest.intdigest())


def index_path(tar: Path) -> Path:
    """The path of a tar's index: `00000.arrow` beside `00000.tar`."""
    return tar.with_suffix(".arrow")


def write_index(
    path: Path,
    metadata: Mapping[str, str],
    uids: Sequence[str],
    parts: Sequence[Sequence[Part]],
    carried: Mapping[str, pa.Array] | None = None,
) -> None:
    """Write an index file: row r is the sample uids[r] with parts[r]. The same input gives the same bytes."""
    flat = [part for sample in parts for part in sample]
    starts = np.cumsum([0, *map(len, parts)], dtype=np.int32)
    struct = pa.StructArray.from_arrays(
        [
            pa.array([p.name for p in flat], pa.string()),
            pa.array([p.offset for p in flat], pa.int64()),
            pa.array([p.size for p in flat], pa.int64()),
        ],
        fields=list(PART),
    )
    columns = {"uid": pa.array(uids, pa.string()), "parts": pa.ListArray.from_arrays(pa.array(starts), struct)}
    columns.update(carried or {})
    fields = [*SCHEMA, *(pa.field(name, array.type) for name, array in (carried or {}).items())]
    batch = pa.record_batch(
        list(columns.values()), schema=pa.schema(fields, {"version": str(INDEX_VERSION), **metadata})
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def index_metadata(kind: str, tar: str, size: int, sha256: str) -> dict[str, str]:
    """The schema metadata that ties an index to its tar (file name, bytes, hex SHA-256)."""
    return {"kind": kind, "tar": tar, "tar_bytes": str(size), "tar_sha256": sha256}


def index_tar(
    tar: Path, index: Path | None = None, kind: str = "caption", limits: TarLimits | None = None
) -> ShardInfo:
    """Index a tar that another tool wrote, its keys as uids; the tar is not changed. Raises ShardError at any fault."""
    tar = Path(tar)
    index = Path(index) if index is not None else index_path(tar)
    samples: list[TarSample] = []
    for found in scan_tar(tar, limits):
        if isinstance(found, TarFault):
            raise ShardError(f"{tar}: {describe_fault(found)}. {_remedy(found)}")
        samples.append(found)
    if not samples:
        raise ShardError(f"{tar}: empty_tar: no sample is in it; write it again, or leave it out")
    size, sha256 = tar.stat().st_size, file_sha256(tar)
    checks = pa.array(_checks_of(tar, samples), pa.uint64())
    with commit_file(index) as temporary:
        metadata = index_metadata(kind, tar.name, size, sha256)
        write_index(temporary, metadata, [s.key for s in samples], [s.parts for s in samples], {CHECK: checks})
    return ShardInfo(tar.name, index.name, len(samples), size, sha256)


def _checks_of(tar: Path, samples: Sequence[TarSample]) -> list[int]:
    with tar.open("rb", buffering=0) as file:
        fd = file.fileno()
        return [checksum(os.pread(fd, part.size, part.offset) for part in sample.parts) for sample in samples]


def check_index(index: Path, shard: ShardInfo, name: str) -> None:
    """Raise ShardError where an index, called `name`, is not that of the shard that dataset.json lists."""
    table = _open_index(index)
    found = _metadata(table, index)
    if (len(table), found["tar_bytes"], found["tar_sha256"]) != (shard.samples, str(shard.bytes), shard.sha256):
        raise ShardError(
            f"{name}: is the index of another tar than dataset.json says (of {len(table)} samples, SHA-256"
            f" {found['tar_sha256'][:16]}..., not {shard.samples}, {shard.sha256[:16]}...); publish the dataset again"
        )


def describe_fault(fault: TarFault) -> str:
    """Describe a fault in a sentence."""
    sample = f" (sample {fault.key!r})" if fault.key else ""
    return f"{fault.error} at byte {fault.offset}{sample}: {fault.detail}"


def _remedy(fault: TarFault) -> str:
    if fault.error == "compressed_tar":
        return "Decompress it (for gzip: `gunzip FILE.tar.gz`) and index the .tar"
    if fault.error == "lfs_pointer":
        return "Then index it"
    return "Ingest it as a source instead: every sample that is whole is kept and each fault is counted"


def _open_index(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate()
    except FileNotFoundError:
        raise ShardError(f"{path}: no such index; make it with `curate index`") from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as err:
        raise ShardError(f"{path}: not a readable index ({err}); make it again with `curate index`") from None
    for field in SCHEMA:
        position = table.schema.get_field_index(field.name)
        if position < 0 or table.schema.field(position).type != field.type or table.column(position).null_count:
            raise ShardError(f"{path}: has no column {field.name!r} of {field.type}; make it again with `curate index`")
    return table


def _metadata(table: pa.Table, path: Path) -> dict[str, str]:
    found = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    version, size = found.get("version", ""), found.get("tar_bytes", "")
    if version.isdigit() and int(version) > INDEX_VERSION:
        raise ShardError(
            f"{path}: an index of version {version}, this curate reads up to {INDEX_VERSION}; upgrade curate"
        )
    if version != str(INDEX_VERSION) or not size.isdigit() or "tar_sha256" not in found:
        raise ShardError(f"{path}: does not say which tar it belongs to; make it again with `curate index`")
    return found


def as_one_array(column: pa.ChunkedArray) -> Any:
    """Make a column one array: our own indexes hold one batch, so nothing is copied."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def _views(array: pa.Array, path: Path) -> Any:
    """A flat, null-free view: numpy for numbers, the Arrow array itself for strings."""
    if array.null_count:
        raise ShardError(f"{path}: a part without a name, offset or size; make it again with `curate index`")
    return array if pa.types.is_string(array.type) else as_numpy(array)


def as_numpy(array: pa.Array) -> Any:
    """View a flat array of whole numbers as numpy, zero-copy; Arrow's own way imports pandas, a third of a second."""
    width = array.type.bit_width // 8
    code = f"{'u' if pa.types.is_unsigned_integer(array.type) else 'i'}{width}"
    return (
        np.frombuffer(array.buffers()[1], code, len(array), array.offset * width) if len(array) else np.zeros(0, code)
    )
