"""What values, characters and packings of strangers' tables become."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.readers import tables
from curate.readers.tables import BadRow, TableError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def read(path: Path, data: bytes | None = None, *columns: str) -> list[Any]:
    if data is not None:
        path.write_bytes(data)
    found = tables.read(path, columns or ("text",))
    return [f"{row.error}: {row.detail}" if isinstance(row, BadRow) else row for row in found]


def values(path: Path, array: pa.Array) -> list[Any]:
    pq.write_table(pa.table({"text": array}), path)
    return [row if isinstance(row, str) else row["text"] for row in read(path)]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (pa.array([b"a cat", None, "né".encode()], pa.binary()), ["a cat", None, "né"]),
        (pa.array([b"a cat"], pa.large_binary()), ["a cat"]),
        (pa.array([b"abc"], pa.binary(3)), ["abc"]),
        (pa.array(["a", None], pa.large_string()), ["a", None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([1.5, float("nan"), float("inf")]), [1.5, None, None]),
        (pa.array([[1.0, float("nan")], None]), [[1.0, None], None]),
        (pa.array([{"a": b"x", "b": float("-inf")}]), [{"a": "x", "b": None}]),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), [[["k", 1]]]),
        (pa.array([decimal.Decimal("1.50")]), ["1.50"]),
        (pa.array([datetime.date(2024, 2, 29)]), ["2024-02-29"]),
        (pa.array([1, 2], pa.int8()), [1, 2]),
        (pa.array([True, None]), [True, None]),
        (pa.array([0, 1_000_000_001], pa.timestamp("ns")), ["1970-01-01 00:00:00", "1970-01-01 00:00:01.000000001"]),
    ],
)
def test_parquet_value_of_any_type_is_a_text_a_number_or_null(tmp_path: Path, array: pa.Array, said: list[Any]) -> None:
    assert values(tmp_path / "t.parquet", array) == said


def test_bytes_that_are_no_text_fail_by_name_and_place_and_their_neighbours_are_read(tmp_path: Path) -> None:
    found = values(tmp_path / "t.parquet", pa.array([b"a cat", b"\xff\xd8\xff\xe0", b"a dog"]))
    assert found == ["a cat", "not_text: t.parquet#2: column 'text' holds 4 bytes that are no UTF-8", "a dog"]


def test_date_that_no_calendar_of_pythons_has_is_a_text_all_the_same(tmp_path: Path) -> None:
    days = pa.array([0, 10_000_000], pa.int32()).view(pa.date32())
    assert values(tmp_path / "t.parquet", days) == ["1970-01-01", "29349-01-26"]


def test_nan_that_json_spells_is_null_in_lines_and_in_lists(tmp_path: Path) -> None:
    assert read(tmp_path / "t.jsonl", b'{"text": NaN}\n{"text": [Infinity]}\n') == [{"text": None}, {"text": [None]}]
    assert read(tmp_path / "t.json", b'[{"text": -Infinity}]') == [{"text": None}]


def test_half_a_character_that_json_spells_costs_no_row_but_bytes_that_are_no_utf8_do(tmp_path: Path) -> None:
    lines = b'{"text": "cut \\ud83d"}\n{"text": "\\ud83d\\ude00"}\n{"text": "k\xfcche"}\n{"text": "ok", "o": "\xfc"}\n'
    cut, pair, bad, good = read(tmp_path / "t.jsonl", lines)
    assert (cut, pair, good) == ({"text": "cut �"}, {"text": "😀"}, {"text": "ok"})
    assert bad == "bad_encoding: t.jsonl:3: not UTF-8"
    listed = b"[" + b",".join(lines.splitlines()) + b"]"
    assert [row if isinstance(row, dict) else row[:12] for row in read(tmp_path / "t.json", listed)] == [
        cut, pair, "bad_encoding", good
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_table_is_read_as_its_byte_order_mark_says(tmp_path: Path, name: str, encoding: str) -> None:
    line = json.dumps({"text": "né ☃"}, ensure_ascii=False)
    text = {"t.csv": "text\nné ☃\n", "t.jsonl": line, "t.json": f"[{line}]"}[name]
    assert read(tmp_path / name, text.encode(encoding)) == [{"text": "né ☃"}]
    said = tables.remarks(tmp_path / name, ("text",))
    assert said == ([] if encoding == "utf-8-sig" else [f"{name}: its characters are {encoding.upper()}"])


@pytest.mark.parametrize("order", ["LE", "BE"])
def test_utf16_without_a_mark_is_refused_with_the_command_that_mends_it(tmp_path: Path, order: str) -> None:
    with pytest.raises(TableError, match=f"UTF-16 without its mark: `iconv -f UTF-16{order} -t UTF-8`"):
        read(tmp_path / "t.csv", "url,text\n".encode(f"utf-16-{order.lower()}"))


def test_utf16_that_is_cut_in_a_character_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"t\.csv: damaged or cut short"):
        read(tmp_path / "t.csv", "text\ncat".encode("utf-16")[:-1])


def test_mark_in_the_middle_stands_where_another_file_was_joined(tmp_path: Path) -> None:
    one, two = b'\xef\xbb\xbf{"text": "one"}\n', b'\xef\xbb\xbf{"text": "two"}\n'
    assert read(tmp_path / "t.jsonl", one + two) == [{"text": "one"}, {"text": "two"}]
    assert read(tmp_path / "t.csv", b"\xef\xbb\xbftext\none\n\xef\xbb\xbftwo\n") == [{"text": "one"}, {"text": "two"}]


def zstd(data: bytes) -> bytes:
    with pa.CompressedOutputStream(sink := pa.BufferOutputStream(), "zstd") as out:
        out.write(data)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, zstd])
def test_packing_is_told_by_the_bytes_and_several_members_are_read(tmp_path: Path, pack: Any) -> None:
    data = pack(b"text\none\n") + pack(b"two\n")
    suffix = {gzip.compress: ".gz", bz2.compress: ".bz2", zstd: ".zst"}[pack]
    for name in ("t.csv", f"t.csv{suffix}", f"T.CSV{suffix.upper()}"):
        assert read(tmp_path / name, data) == [{"text": "one"}, {"text": "two"}]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.csv", POINTER, "run `git lfs pull`"),
        ("t.jsonl.gz", POINTER, "run `git lfs pull`"),
        ("t.parquet", POINTER, "run `git lfs pull`"),
        ("t.csv", b"PK\x03\x04" + b"\0" * 30, "a zip archive .or an Excel sheet."),
        ("t.csv", b"\xfd7zXZ\0\0", "xz: decompress it"),
        ("t.jsonl", b"PAR1\0\0", "name it .parquet"),
        ("t.csv.gz", b"text\none\n", r"named \.gz, but its bytes are no gzip"),
        ("t.csv.gz", zstd(b"text\none\n"), r"named \.gz, but its bytes are no gzip"),
    ],
)
def test_file_that_is_no_table_is_refused_with_what_it_is(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    with pytest.raises(TableError, match=words):
        read(tmp_path / name, data)


def test_object_nested_beyond_bounds_costs_its_row_alone(tmp_path: Path) -> None:
    deep = b'{"text": ' + b"[" * 101 + b"]" * 101 + b"}\n"
    found = read(tmp_path / "t.jsonl", deep + b'{"text": "ok"}\n')
    assert found[0][:8] == "bad_row:" and found[1] == {"text": "ok"}


def test_parquet_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="column 'text' stands twice"):
        read(tmp_path / "t.parquet")
