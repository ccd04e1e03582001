"""Scan strangers' tars: headers are parsed one after another, payloads never read, nothing extracted.

Every group of members with one key ends as exactly one `TarSample` or one `TarFault`, so counts are conserved.
Members are grouped as webdataset does: the key is the path up to the first dot of its last component, the rest,
in lower case, is the part's name. Members of one key that lie apart, as `tar cf` leaves them in the order of the disk,
are one sample where no part comes twice; such are given at the end. Damage ends the scan with a fault; what stood whole
before it is given. A sample counts as whole once the next key, or the end-of-archive block, has been seen.
Format: POSIX.1-2017 pax (ustar, x and g headers) and the GNU extensions L, K and S.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

from curate import lfs

BLOCK = 512
TAIL_BYTES = 1 << 20
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
REFUSED = {
    b"1": ("link_member", "a hard link"),
    b"2": ("link_member", "a symbolic link"),
    b"3": ("device_member", "a character device"),
    b"4": ("device_member", "a block device"),
    b"6": ("device_member", "a named pipe"),
    b"S": ("sparse_member", "a GNU sparse file"),
}
WITHOUT_DATA = b"123456"
REGULAR = (b"0", b"\0", b"7")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class TarLimits:
    """Limits of one tar. Sizes in bytes; `parts` a sample, `samples` a tar."""

    member_bytes: int = 1 << 30
    name_bytes: int = 1024
    header_bytes: int = 1 << 16
    parts: int = 256
    samples: int = 1 << 20


@dataclass(frozen=True)
class Part:
    """One member of a sample: its name ("jpg", "txt", ...) and where its payload lies in the tar, in bytes."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarSample:
    """A whole sample: its key (folders kept) and its parts in tar order."""

    key: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class TarFault:
    """A sample, a member or the rest of a tar that cannot be used; `offset` in bytes, `key` empty where unknown."""

    error: str
    detail: str
    offset: int
    key: str = ""


@dataclass(frozen=True)
class _Member:
    name: str
    kind: bytes
    header: int
    offset: int
    size: int


class _DamageError(Exception):
    """The rest of the tar cannot be read. `key` is that of the member it begins in, None where that is not known."""

    def __init__(self, error: str, detail: str, offset: int, key: str | None = None) -> None:
        super().__init__(error, detail, offset, key)
        self.error, self.detail, self.offset, self.key = error, detail, offset, key


class _Group:
    """The members of one key, as they come: at the end one sample, or the first fault found in it."""

    def __init__(self, key: str, offset: int) -> None:
        self.key, self.offset = key, offset
        self.parts: dict[str, Part] = {}
        self.fault: TarFault | None = None

    def fail(self, error: str, detail: str, offset: int) -> None:
        self.fault = self.fault or TarFault(error, detail, offset, self.key)

    def result(self) -> TarSample | TarFault:
        return self.fault or TarSample(self.key, tuple(self.parts.values()))


def scan_tar(path: Path, limits: TarLimits | None = None) -> Iterator[TarSample | TarFault]:
    """Scan a tar for samples and faults, in tar order and bounded memory. Raises only OSError; damage is a TarFault.

    The headers are read twice: first for the keys whose members lie apart.

    Faults that end the scan: corrupt_tar, truncated_tar, lfs_pointer, compressed_tar, header_too_large,
    too_many_samples.
    Faults of one sample: duplicate_key, unsafe_name, member_too_large, too_many_parts, no_extension, link_member,
    device_member, sparse_member, unsupported_member.
    """
    limits = limits or TarLimits()
    with Path(path).open("rb", buffering=0) as file:
        yield from _groups(file.fileno(), limits)


def _groups(fd: int, limits: TarLimits) -> Iterator[TarSample | TarFault]:
    apart = {key: _Group(key, 0) for key in _keys_apart(fd, limits)}
    damage = yield from _together(fd, limits, apart)
    for group in apart.values():
        if damage is None:
            yield group.result()
        elif group.key != damage.key:
            detail = "its members lie apart, and the tar cannot be read to its end"
            yield TarFault(damage.error, detail, damage.offset, group.key)


def _together(
    fd: int, limits: TarLimits, apart: Mapping[str, _Group]
) -> Generator[TarSample | TarFault, None, TarFault | None]:
    """The samples whose members follow one another; members of the others join their groups. Returns what ended it."""
    group: _Group | None = None
    seen: set[bytes] = set()
    try:
        for member in _members(fd, limits):
            key, name = _split(member.name)
            if not key:
                if fault := _keyless(member, limits):
                    yield fault
                continue
            if key in apart:
                apart[key].offset = apart[key].offset or member.header
                _add(apart[key], name, member, limits)
                continue
            if group is None or group.key != key or name in group.parts:
                if group is not None:
                    finished, group = group, None
                    yield finished.result()
                group = _open_group(key, member.header, seen, limits)
            _add(group, name, member, limits)
    except _DamageError as damage:
        key = damage.key if damage.key is not None else group.key if group else ""
        if group is not None and group.key != key:
            yield group.result()
        last = TarFault(damage.error, damage.detail, damage.offset, key)
        yield last
        return last
    if group is not None:
        yield group.result()
    return None


def _keys_apart(fd: int, limits: TarLimits) -> list[str]:
    """The keys whose members do not lie together, in the order in which they return; but none of which a part does.

    Of each key a digest is held and its parts' names, which most share.
    """
    seen: dict[bytes, tuple[str, ...]] = {}
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    apart: dict[str, bool] = {}
    for key, run in groupby(_names(fd, limits), itemgetter(0)):
        digest = _digest(key)
        before = seen.get(digest, ())
        together = (*before, *(name for _, name in islice(run, limits.parts)))[: limits.parts]
        if before:
            apart[key] = len(set(together)) == len(together)
        seen[digest] = shared.setdefault(together, together)
        if len(seen) > limits.samples:
            break
    return [key for key, is_one in apart.items() if is_one]


def _names(fd: int, limits: TarLimits) -> Iterator[tuple[str, str]]:
    """The key and the part's name of each member of a sample, as far as the tar can be read."""
    with suppress(_DamageError):
        for member in _members(fd, limits):
            if (named := _split(member.name))[0]:
                yield named


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def _open_group(key: str, offset: int, seen: set[bytes], limits: TarLimits) -> _Group:
    group = _Group(key, offset)
    digest = _digest(key)
    if digest in seen:
        group.fail("duplicate_key", f"an earlier sample of this tar has the key {key!r}", offset)
    elif len(seen) >= limits.samples:
        raise _DamageError("too_many_samples", f"more than {limits.samples} samples in one tar", offset, key)
    seen.add(digest)
    return group


def _add(group: _Group, name: str, member: _Member, limits: TarLimits) -> None:
    if problem := _problem(member, limits):
        group.fail(*problem, member.header)
    if len(group.parts) >= limits.parts:
        group.fail("too_many_parts", f"more than {limits.parts} members share one key", member.header)
    else:
        group.parts[name] = Part(name, member.offset, member.size)


def _problem(member: _Member, limits: TarLimits) -> tuple[str, str] | None:
    """Why a member cannot be part of a sample, as (error, detail)."""
    shown = member.name if len(member.name) <= 80 else member.name[:77] + "..."
    if len(member.name.encode()) > limits.name_bytes:
        return "unsafe_name", f"{shown!r}: the name is longer than {limits.name_bytes} bytes"
    if unsafe := _unsafe(member.name):
        return "unsafe_name", f"{shown!r}: {unsafe}"
    if member.kind in REFUSED:
        error, what = REFUSED[member.kind]
        return error, f"{shown!r} is {what}; only plain files can be samples"
    if member.kind not in REGULAR:
        return "unsupported_member", f"{shown!r} has the member type {member.kind!r}; only plain files can be samples"
    if member.size > limits.member_bytes:
        return "member_too_large", f"{shown!r} has {member.size} bytes, the limit is {limits.member_bytes}"
    return None


def _unsafe(name: str) -> str:
    if CONTROL.search(name):
        return "a control character in a name"
    components = re.split(r"[/\\]", name)
    if components[0] == "" or re.fullmatch(r"[A-Za-z]:", components[0]):
        return "an absolute path"
    return "a path that leaves its folder" if ".." in components else ""


def _split(name: str) -> tuple[str, str]:
    """(key, part name) by webdataset's rule; two empty strings for a name that belongs to no sample."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem, extension.lower()) if stem and extension else ("", "")


def _keyless(member: _Member, limits: TarLimits) -> TarFault | None:
    """Hidden files and `__notes__` are no samples, as for webdataset; other files without an extension are faults."""
    base = member.name.rpartition("/")[2]
    hidden = base.startswith(".") or (base.startswith("__") and base.endswith("__"))
    if hidden and not _unsafe(member.name):
        return None
    error, detail = _problem(member, limits) or ("no_extension", f"{member.name!r} has no extension to name its part")
    return TarFault(error, detail, member.header, member.name)


def _members(fd: int, limits: TarLimits) -> Iterator[_Member]:
    """Every member but folders, with long names resolved; ends at the end-of-archive block or raises _DamageError."""
    end, at = os.fstat(fd).st_size, 0
    shared: dict[str, str] = {}
    own: dict[str, str] = {}
    while (block := _header_block(fd, at)) is not None:
        name, size, kind = _parse(block, at)
        if kind in (b"x", b"X", b"g", b"L", b"K"):
            payload = _payload(fd, at + BLOCK, size, end, limits)
            (shared if kind == b"g" else own).update(_extension(kind, payload, at))
            at += BLOCK + _padded(size)
            continue
        header, at = at, at + BLOCK
        if kind == b"S":
            at = _after_sparse_map(fd, block, at)
        found = {**shared, **own}
        name, size = found.get("path", name), _size(found, size, header)
        if any(word.startswith("GNU.sparse") for word in found):
            kind = b"S"
        own = {}
        stored = 0 if kind in WITHOUT_DATA else size
        if at + stored > end:
            detail = f"{name[:80]!r} ends {at + stored - end} bytes after the file does"
            raise _DamageError("truncated_tar", detail, header, _split(name)[0] or name)
        if kind != b"5" and not (kind == b"\0" and name.endswith("/")):
            yield _Member(name, kind, header, at, stored)
        at += _padded(stored)
    _check_tail(fd, at)


def _header_block(fd: int, at: int) -> bytes | None:
    """The header block at `at`, None at the end-of-archive block. Raises _DamageError where the file ends first."""
    block = os.pread(fd, BLOCK, at)
    if at == 0:
        if lfs.is_lfs_pointer(block):
            raise _DamageError("lfs_pointer", lfs.REMEDY, 0)
        for magic, name in COMPRESSED.items():
            if block.startswith(magic):
                raise _DamageError(
                    "compressed_tar", f"{name}: parts of a compressed tar have no offsets; decompress it", 0
                )
    if len(block) < BLOCK:
        what = "the file is empty" if not at and not block else "the file ends before the end-of-archive block"
        raise _DamageError("truncated_tar", what, at)
    return None if block.count(0) == BLOCK else block


def _parse(block: bytes, at: int) -> tuple[str, int, bytes]:
    """(name, size in bytes, type) of a header block whose checksum holds."""
    stated = _number(block[148:156])
    unsigned = sum(block) - sum(block[148:156]) + 8 * 32
    signed = unsigned - 256 * (sum(b > 127 for b in block) - sum(b > 127 for b in block[148:156]))
    if stated is None or stated not in (unsigned, signed):
        what = "the file is not a tar" if at == 0 else "a header's checksum does not hold"
        raise _DamageError("corrupt_tar", what, at)
    size = _number(block[124:136])
    if size is None:
        raise _DamageError("corrupt_tar", "a header states no valid size", at)
    name, kind = block[:100].split(b"\0", 1)[0], block[156:157]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name), size, kind


def _number(field: bytes) -> int | None:
    """A header's number: octal digits, or big-endian base 256 where the first byte is 0x80 (GNU)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    return int(digits or b"0", 8) if not digits.strip(b"01234567") else None


def _payload(fd: int, at: int, size: int, end: int, limits: TarLimits) -> bytes:
    """The payload of an extended header, bounded."""
    if at + size > end:
        raise _DamageError("truncated_tar", "an extended header ends after the file does", at - BLOCK)
    if size > limits.header_bytes:
        detail = f"an extended header has {size} bytes, the limit is {limits.header_bytes}"
        raise _DamageError("header_too_large", detail, at - BLOCK)
    return os.pread(fd, size, at)


def _extension(kind: bytes, payload: bytes, at: int) -> dict[str, str]:
    """What an extended header says of the next member: only `path`, `size` and sparseness matter here."""
    if kind == b"K":
        return {}
    if kind == b"L":
        return {"path": _text(payload.split(b"\0", 1)[0])}
    found: dict[str, str] = {}
    while payload.strip(b"\0"):
        match = re.match(rb"([0-9]{1,7}) ", payload)
        length = int(match[1]) if match else 0
        word, equals, value = payload[match.end() if match else 0 : max(length - 1, 0)].partition(b"=")
        if not match or not equals or length > len(payload) or payload[length - 1 : length] != b"\n":
            raise _DamageError("corrupt_tar", "a pax header holds a malformed record", at)
        if word in (b"path", b"size") or word.startswith(b"GNU.sparse"):
            found[_text(word)] = _text(value)
        payload = payload[length:]
    return found


def _size(found: dict[str, str], size: int, at: int) -> int:
    text = found.get("size")
    if text is None:
        return size
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise _DamageError("corrupt_tar", "a pax header states no valid size", at)
    return int(text)


def _after_sparse_map(fd: int, block: bytes, at: int) -> int:
    """Where a GNU sparse member's data begins: behind the blocks that continue its map of holes."""
    more = block[482]
    while more:
        block, at = os.pread(fd, BLOCK, at), at + BLOCK
        if len(block) < BLOCK:
            raise _DamageError("truncated_tar", "the file ends within a sparse member's map", at)
        more = block[504]
    return at


def _check_tail(fd: int, at: int) -> None:
    """Readers stop at the first zero block: samples behind it would be lost without a word."""
    while tail := os.pread(fd, TAIL_BYTES, at):
        if tail.count(0) != len(tail):
            raise _DamageError("corrupt_tar", "data follows the end-of-archive block (tars joined end to end?)", at, "")
        at += len(tail)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
