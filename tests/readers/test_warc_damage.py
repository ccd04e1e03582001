"""Damaged and odd web archives: every whole page comes, never half of one, and whatever is lost is told by name."""

from __future__ import annotations

import gzip
import io
import random
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from fastwarc.stream_io import ZstdWriter, zstd_train_dictionary_from_samples
from warcs import answer, record

from curate.readers.warc import WarcFault, WarcPage, read_pages

BODIES = [b"<p>Page %d. " % n + random.Random(n).randbytes(300 + 90 * n).hex().encode() for n in range(4)]
DICTIONARY = zstd_train_dictionary_from_samples(
    [b"WARC/1.0\r\nWARC-Type: response\r\n%d" % n for n in range(2000)], 4096
)


def address(number: int) -> str:
    return f"http://e.example/{number}"


def records() -> list[bytes]:
    """What a crawler writes: about the file, then of each page its request, its answer, and what else it knows."""
    found = [record(b"software: x\r\n", url="", kind="warcinfo")]
    for number, body in enumerate(BODIES):
        found.append(record(b"GET / HTTP/1.1\r\nHost: e.example\r\n\r\n", url=address(number), kind="request"))
        found.append(record(answer(body), url=address(number)))
        found.append(record(b"fetchTimeMs: 12\r\n", url=address(number), kind="metadata"))
    return found


def zstd(data: bytes, dictionary: bytes | None = None, **options: bool) -> bytes:
    out = io.BytesIO()
    writer = ZstdWriter(out, dictionary=dictionary, **options)
    writer.write(data)
    writer.finish()
    writer.flush()
    return out.getvalue()


def with_dictionary(parts: Sequence[bytes], **options: bool) -> bytes:
    out = io.BytesIO()
    writer = ZstdWriter(out, dictionary=DICTIONARY, **options)
    for part in parts:
        writer.write(part)
        writer.finish()
    writer.flush()
    return out.getvalue()


def in_blocks(data: bytes, size: int) -> bytes:
    """As bgzip writes: members of one size, which begin and end anywhere in a record."""
    return b"".join(gzip.compress(data[at : at + size]) for at in range(0, len(data), size))


PACKINGS: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "plain": b"".join,
    "gzip": lambda parts: b"".join(map(gzip.compress, parts)),
    "zstd": lambda parts: b"".join(map(zstd, parts)),
    "zstd and a dictionary": with_dictionary,
    "zstd and a packed dictionary": lambda parts: with_dictionary(parts, compress_dictionary_frame=True),
    "one member": lambda parts: gzip.compress(b"".join(parts)),
    "blocks": lambda parts: in_blocks(b"".join(parts), 700),
}
A_RECORD_A_MEMBER = ("gzip", "zstd")


def read(data: bytes, most: int = 1 << 20) -> list[WarcPage | WarcFault]:
    return list(read_pages(io.BytesIO(data), most))


def pages(found: Sequence[WarcPage | WarcFault]) -> list[bytes]:
    return [each.data for each in found if isinstance(each, WarcPage)]


def faults(found: Sequence[WarcPage | WarcFault]) -> list[str]:
    return [each.error for each in found if isinstance(each, WarcFault)]


@pytest.mark.parametrize("packing", PACKINGS)
def test_whole_archive_gives_every_page_however_it_is_packed(packing: str) -> None:
    found = read(PACKINGS[packing](records()))
    assert (pages(found), faults(found)) == (BODIES, [])
    assert [each.url for each in found] == [address(n) for n in range(4)]


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd", "blocks"])
def test_file_cut_anywhere_gives_all_that_is_whole_and_tells_what_is_not(packing: str) -> None:
    """In a page, in a header, in a record that is passed over, in a checksum: every place but between two records."""
    parts = records()
    packed = [PACKINGS[packing]([part]) for part in parts] if packing != "blocks" else []
    data = b"".join(packed) or PACKINGS[packing](parts)
    ends = {sum(map(len, packed[:n])) for n in range(len(packed) + 1)}
    lines = (
        {end - n for end in ends for n in range(1, 5)} if packing == "plain" else set()
    )  # blank lines alone are gone
    for cut in [*range(1, len(data), 7), len(data) - 1]:
        found = read(data[:cut])
        assert pages(found) == BODIES[: len(pages(found))], cut
        if packing == "blocks":
            continue
        whole = sum(sum(map(len, packed[: 3 * n + 3])) <= cut for n in range(4))
        assert whole <= len(pages(found)) <= whole + (packing == "plain"), cut
        told = [] if cut in ends | lines else ["truncated_record"]
        assert faults(found) == told or cut < 5, cut


def test_an_empty_member_ends_nothing() -> None:
    for empty, pack in ((gzip.compress(b""), gzip.compress), (zstd(b""), zstd)):
        packed = [pack(part) for part in records()]
        for at in range(len(packed) + 1):
            found = read(b"".join([*packed[:at], empty, *packed[at:]]))
            assert (pages(found), faults(found)) == (BODIES, []), at
        assert read(empty * 3) == []


@pytest.mark.parametrize("packing", A_RECORD_A_MEMBER)
def test_one_damaged_record_costs_itself_alone(packing: str) -> None:
    """Wherever a byte is wrong, in a header, in the data or in a checksum, of whichever record."""
    packed = [PACKINGS[packing]([part]) for part in records()]
    for number, part in enumerate(packed):
        for at in range(0, len(part), 11):
            bad = bytearray(part)
            bad[at] ^= 0xFF
            found = read(b"".join([*packed[:number], bytes(bad), *packed[number + 1 :]]))
            lost = [(number - 2) // 3] if number % 3 == 2 else []
            assert set(pages(found)) >= {body for n, body in enumerate(BODIES) if n not in lost}, (number, at)
            assert set(pages(found)) <= set(BODIES)
            if len(pages(found)) < len(BODIES):
                assert faults(found), (number, at)


@pytest.mark.parametrize("junk", [b"\0" * 50, b"junk" * 20, gzip.compress(b"no record"), gzip.compress(b"x" * 99)[:-9]])
def test_what_stands_between_two_records_is_told_and_passed_over(junk: bytes) -> None:
    parts = records()
    packed = [gzip.compress(part) for part in parts]
    for data in (
        b"".join([*packed[:3], junk, *packed[3:]]),
        b"".join([*parts[:3], b"\r\n", junk, b"\r\n", *parts[3:]]),
    ):
        found = read(data)
        assert pages(found) == BODIES
        assert len(faults(found)) == 1


def test_zeros_that_fill_the_last_block_of_a_tape_are_no_damage() -> None:
    found = read(PACKINGS["gzip"](records()) + b"\0" * 5000)
    assert (pages(found), faults(found)) == (BODIES, [])


def test_damaged_block_of_bgzip_costs_the_records_in_it() -> None:
    data = bytearray(PACKINGS["blocks"](records()))
    data[len(data) // 2] ^= 0xFF
    found = read(bytes(data))
    assert {BODIES[0], BODIES[3]} <= set(pages(found)) < set(BODIES)
    assert faults(found)


def test_damage_in_one_large_member_is_told_and_the_records_before_it_come() -> None:
    data = PACKINGS["one member"](records())
    found = read(data[: len(data) * 3 // 4])
    assert pages(found) == BODIES[:3]
    assert faults(found) == ["truncated_record"]


def claim(length: object, body: bytes = BODIES[0]) -> bytes:
    """A page's record whose Content-Length says what it likes."""
    whole = record(answer(body), url=address(9))
    before, _, after = whole.partition(b"Content-Length: ")
    return before + b"Content-Length: " + str(length).encode() + after[after.index(b"\r\n") :]


@pytest.mark.parametrize("length", [0, 10, 200, 100_000, 90_000_000, 10**17, 10**30, -1, "x", "", "12, 13"])
@pytest.mark.parametrize("packing", PACKINGS)
def test_wrong_length_costs_its_record_and_no_other(packing: str, length: object) -> None:
    parts = records()
    found = read(PACKINGS[packing]([*parts[:4], claim(length), *parts[4:]]))
    assert pages(found) == BODIES
    assert len(faults(found)) == 1


def test_header_that_is_broken_costs_its_record_and_no_other() -> None:
    good, parts = record(answer(BODIES[0]), url=address(9)), records()
    broken = [
        good.replace(b"WARC-Type: response\r\n", b""),
        good.replace(b"WARC-Type: response", b"WARC-Type\0: response"),
        good.replace(b"WARC/1.0", b"WORC/1.0"),
        # a piece is gone, and a request's header runs into an answer's
        parts[1][: parts[1].index(b"Content-Type")] + good[good.index(b"WARC-Target") :],
        good.replace(b"Content-Length", b"Content-Lenght"),
    ]
    for bad in broken:
        for packing in ("plain", "gzip"):
            found = read(PACKINGS[packing]([*parts[:4], bad, *parts[4:]]))
            assert [body for body in BODIES if body not in pages(found)] in ([], [BODIES[1]]), (bad[:80], packing)
            assert len(faults(found)) == 1


def variants(part: bytes) -> Iterator[bytes]:
    head, _, block = part.partition(b"\r\n\r\n")
    for version in (b"0.17", b"0.18", b"1.0", b"1.1"):
        yield part.replace(b"WARC/1.0", b"WARC/" + version)
    yield head.replace(b"\r\n", b"\n") + b"\n\n" + block
    yield part.removesuffix(b"\r\n\r\n")
    yield part.removesuffix(b"\r\n")
    yield part + b"\r\n" * 9
    yield b"\r\n" + part
    yield (
        head.replace(b"WARC-Type:", b"warc-type :").replace(b"Content-Length: ", b"content-length:\r\n  ")
        + b"\r\n\r\n"
        + block
    )


def test_archives_come_as_writers_write_them() -> None:
    parts = records()
    for number, changed in enumerate(zip(*map(variants, parts), strict=True)):
        for packing in ("plain", "gzip", "one member"):
            found = read(PACKINGS[packing](changed))
            assert (pages(found), faults(found)) == (BODIES, []), (number, packing)


@pytest.mark.parametrize(
    "data",
    [b"BZh91AY&SY" * 30, b"\x04\x22\x4d\x18" * 60, b"filedesc://x.arc 0.0.0.0 20240101 text/plain 20\n" * 9,
     b"\xfd7zXZ\0" * 40,
     gzip.compress(gzip.compress(record(answer(BODIES[0]))))],
)  # fmt: skip
def test_file_of_another_kind_is_one_named_fault(data: bytes) -> None:
    assert faults(read(data)) == ["corrupt_warc"]


def test_archive_of_zstd_whose_dictionary_is_gone_is_a_named_fault() -> None:
    data = PACKINGS["zstd and a dictionary"](records())
    found = read(data[8 + int.from_bytes(data[4:8], "little") :])
    assert pages(found) == []
    assert set(faults(found)) == {"corrupt_warc"}


def test_page_in_several_records_is_no_half_page() -> None:
    first = record(answer(BODIES[0]), url=address(0), **{"WARC-Segment-Number": "1"})
    rest = record(b"more", url=address(0), kind="continuation", **{"WARC-Segment-Number": "2"})
    assert faults(read(first + rest)) == ["segmented_record"]


def test_answer_that_is_no_http_is_told() -> None:
    assert faults(read(record(b"\0" * 40))) == ["bad_record"]
    assert read(record(b"20240101\n1.2.3.4", kind="response", **{"Content-Type": "text/dns"})) == []


@pytest.mark.parametrize("length", [7, 99_999_999])
@pytest.mark.parametrize("packing", ["plain", "one member"])
def test_file_made_of_wrong_lengths_costs_time_in_step_with_its_size(packing: str, length: int) -> None:
    def seconds(count: int) -> float:
        data = PACKINGS[packing]([claim(length, b"<p>x")] * count)
        started = time.process_time()
        assert len(faults(read(data, 8 << 20))) >= count // 2
        return time.process_time() - started

    assert seconds(8000) < 8 * max(seconds(2000), 0.1)


def test_file_full_of_members_that_begin_and_break_off_costs_time_in_step_with_its_size() -> None:
    def seconds(count: int) -> float:
        data = gzip.compress(b"WARC/1.0\r\n" + random.Random(0).randbytes(200))[:150] * count
        started = time.process_time()
        assert pages(read(data)) == []
        return time.process_time() - started

    assert seconds(8000) < 8 * max(seconds(2000), 0.1)
