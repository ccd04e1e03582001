"""Write a shard: a tar that any webdataset reader opens, and its index, whole or not at all.

The bytes depend on the samples alone: no time, no user, no host in any header. The tar is committed first, the
index last: a tar without an index is not yet a shard.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from curate.commit import commit_file, withdraw_file
from curate.sample import Kind
from curate.shards.index import CHECK, SCHEMA, checksum, index_metadata, index_path, write_index
from curate.shards.info import ShardError, ShardInfo
from curate.shards.scan import BLOCK, Part

BUFFER_BYTES = 32 << 10  # what is larger is written without being copied
UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
PART_NAME = re.compile(r"[a-z0-9_]{1,16}(\.[a-z0-9_]{1,16}){0,3}")
END = bytes(2 * BLOCK)


class ShardWriter:
    """Write one shard: `with ShardWriter(tar) as shard: shard.add(uid, {"jpg": ...})`, then `shard.info`.

    `columns` are carried into the index, one value a sample. Without `indexed` there is only the tar, for one who
    keeps the places that `add` returns; it is not hashed as a whole then. An exception inside the `with`, a full disk
    included, leaves neither tar nor index. Raises ShardError for names that a tar reader would not give back.
    """

    def __init__(
        self, tar: Path, kind: Kind = "caption", columns: pa.Schema | None = None, *, indexed: bool = True
    ) -> None:
        self.tar = Path(tar)
        self.index = index_path(self.tar)
        self.kind = kind
        self._digest = hashlib.sha256() if indexed else None
        self.columns = columns if columns is not None else pa.schema([])
        if taken := set(self.columns.names) & {*SCHEMA.names, CHECK}:
            raise ShardError(f"{self.index}: the index has columns {sorted(taken)} of its own; rename the carried ones")
        if self.tar.suffix != ".tar":
            raise ShardError(f"{self.tar}: the name of a shard ends in .tar")
        self.bytes = 0
        self._rows: dict[str, list[Part]] = {}
        self._checks: list[int] = []
        self._values: list[list[Any]] = [[] for _ in self.columns]
        self._info: ShardInfo | None = None

    def __enter__(self) -> ShardWriter:
        with ExitStack() as stack:
            self._temporary = stack.enter_context(commit_file(self.tar))
            self._file = self._temporary.open("wb", buffering=BUFFER_BYTES)
            self._stack = stack.pop_all()
        return self

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def info(self) -> ShardInfo:
        """The committed shard; only after the `with` block has ended well, and of an indexed shard."""
        if self._info is None:
            raise ShardError(f"{self.tar}: not committed, or without an index")
        return self._info

    def add(self, uid: str, parts: Mapping[str, bytes], values: Mapping[str, Any] | None = None) -> list[Part]:
        """Append one sample: its parts (name to bytes) in this order, and one value for each carried column.

        Returns where the parts lie in the tar.
        """
        self._check(uid, parts, values or {})
        row = []
        for name, data in parts.items():
            self._write(_header(f"{uid}.{name}", len(data)))
            row.append(Part(name, self.bytes, len(data)))
            self._write(data)
            self._write(bytes(-len(data) % BLOCK))
        self._rows[uid] = row
        if self._digest is not None:
            self._checks.append(checksum(parts.values()))
        for column, field in zip(self._values, self.columns, strict=True):
            column.append((values or {})[field.name])
        return row

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(OSError):
                self._file.close()
            self._stack.__exit__(kind, error, trace)
            return
        try:
            self._write(END)
            self._file.close()
            self._commit()
        except BaseException as failure:
            with suppress(OSError):
                self._file.close()
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise

    def _commit(self) -> None:
        """Both files complete on disk before either is named; a stale index goes before its tar is replaced."""
        if self._digest is None:
            _flush_to_disk(self._temporary)
            withdraw_file(self.index)
            self._stack.close()
            return
        sha256 = self._digest.hexdigest()
        with commit_file(self.index) as temporary:
            metadata = index_metadata(self.kind, self.tar.name, self.bytes, sha256)
            write_index(temporary, metadata, list(self._rows), list(self._rows.values()), self._carried())
            _flush_to_disk(temporary)
            _flush_to_disk(self._temporary)
            withdraw_file(self.index)
            self._stack.close()
        self._info = ShardInfo(self.tar.name, self.index.name, len(self._rows), self.bytes, sha256)

    def _carried(self) -> dict[str, pa.Array]:
        arrays = {CHECK: pa.array(self._checks, pa.uint64())}
        for field, values in zip(self.columns, self._values, strict=True):
            try:
                arrays[field.name] = pa.array(values, field.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as err:
                raise ShardError(
                    f"{self.index}: column {field.name!r} is {field.type}, a value is not: {err}"
                ) from None
        return arrays

    def _check(self, uid: str, parts: Mapping[str, bytes], values: Mapping[str, Any]) -> None:
        if not UID.fullmatch(uid):
            raise ShardError(f"{self.tar}: {uid!r} cannot be a uid in a tar; use 1 to 64 letters, digits, '-' or '_'")
        if uid in self._rows:
            raise ShardError(f"{self.tar}: the sample {uid} is already in this shard; drop exact duplicates first")
        if bad := [name for name in parts if not PART_NAME.fullmatch(name)]:
            raise ShardError(
                f"{self.tar}: {bad[0]!r} cannot name a part; use a lower-case extension such as jpg or txt"
            )
        if not parts:
            raise ShardError(f"{self.tar}: the sample {uid} has no parts")
        if set(values) != set(self.columns.names):
            raise ShardError(f"{self.tar}: sample {uid} carries {sorted(values)}, the shard {self.columns.names}")

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        if self._digest is not None:
            self._digest.update(data)
        self.bytes += len(data)


def _header(name: str, size: int) -> bytes:
    """A ustar header (preceded by a pax one from 8 GiB on) that says nothing but name and size; tarfile's bytes."""
    if size > LARGEST_USTAR or len(name) > 100 or not name.isascii():
        return _by_tarfile(name, size)
    header = bytearray(_TEMPLATE)
    header[: len(name)] = name.encode("ascii")
    header[124:136] = b"%011o\0" % size
    header[148:156] = b"        "
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


def _by_tarfile(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


LARGEST_USTAR = 8**11 - 1
_TEMPLATE = _by_tarfile("", 0)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
