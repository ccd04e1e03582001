from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.readers import tables, texts
from curate.readers.tables import BadRow, TableError

FORTUNES = "One for all.\n\t-- Dumas\n%\nZwei.\n%\n\n%\n三。\n%\n"


def read(path: Path, **said: Any) -> list[Any]:
    return list(texts.read(path, **said))


def wrote(path: Path, data: bytes) -> Path:
    if path.suffix in (".gz", ".zst", ".bz2"):
        with pa.output_stream(str(path), compression="detect") as out:
            out.write(data)
    else:
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst", "a.md", "a.TXT", "README"])
def test_text_file_is_one_document(tmp_path: Path, name: str) -> None:
    found = read(wrote(tmp_path / name, b"One\ntwo.\n"))
    assert found == [{"text": "One\ntwo.", "origin": name, "meta": {}}]


@pytest.mark.parametrize("name", ["fortunes", "fortunes.gz", "fortunes.txt.zst", "nietzsche.fortunes"])
def test_separator_parts_a_file_into_documents(tmp_path: Path, name: str) -> None:
    found = read(wrote(tmp_path / name, FORTUNES.encode()), split="\n%\n", name="de/fortunes")
    assert [row["text"] for row in found] == ["One for all.\n\t-- Dumas", "Zwei.", "三。"]
    assert [row["origin"] for row in found] == ["de/fortunes#1", "de/fortunes#2", "de/fortunes#3"]


def test_paragraphs_are_documents_where_the_separator_is_an_empty_line(tmp_path: Path) -> None:
    path = wrote(tmp_path / "a.txt", b"One\r\nline.\r\n\r\n\r\nTwo.\r\n")
    assert [row["text"] for row in read(path, split="\n\n")] == ["One\nline.", "Two."]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson.gz", "a.jsonl.zst"])
def test_json_line_is_a_document_with_what_is_kept_of_it(tmp_path: Path, name: str) -> None:
    rows: list[Mapping[str, Any]] = [{"body": "Hello\r\nthere", "id": 7}, {"body": None, "id": 8}, {"body": 3, "id": 9}]
    path = wrote(tmp_path / name, "".join(json.dumps(row) + "\n" for row in rows).encode() + b"{broken\n")
    good, *bad = read(path, text="body", keep=("id",))
    assert good == {"text": "Hello\nthere", "origin": f"{name}#1", "meta": {"id": 7}}
    assert [row.error for row in bad] == ["missing_text", "missing_text", "bad_row"]


def test_parquet_row_is_a_document(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["One", ""], "lang": ["en", "en"]}), tmp_path / "a.parquet")
    good, empty = read(tmp_path / "a.parquet", keep=("lang",))
    assert good == {"text": "One", "origin": "a.parquet#1", "meta": {"lang": "en"}}
    assert empty.error == "empty_text"


def test_text_that_is_not_utf8_is_named_and_its_neighbours_are_read(tmp_path: Path) -> None:
    path = wrote(tmp_path / "a.txt", b"good\n%\nk\xfcche\n%\ngood too")
    first, bad, last = read(path, split="\n%\n")
    assert (first["text"], last["text"]) == ("good", "good too")
    assert (bad.error, "a.txt#2" in bad.detail, "byte 1" in bad.detail) == ("bad_encoding", True, True)


def test_byte_order_mark_is_no_text_and_utf16_is_named(tmp_path: Path) -> None:
    assert read(wrote(tmp_path / "a.txt", "Küche".encode("utf-8-sig")))[0]["text"] == "Küche"
    assert read(wrote(tmp_path / "a.txt", "Küche".encode("utf-16")))[0].error == "bad_encoding"


def test_document_too_large_is_named_and_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MAX_DOCUMENT_BYTES", 3 << 20)
    long = b"x" * (8 << 20)
    whole = read(wrote(tmp_path / "a.txt.gz", long))
    parted = read(wrote(tmp_path / "b.txt", b"one\n%\n" + long + b"\n%\ntwo"), split="\n%\n")
    assert [row.error for row in whole] == ["text_too_large"]
    assert parted[1].error == "text_too_large"
    assert [row["text"] for row in (parted[0], parted[2])] == ["one", "two"]


def test_separator_across_two_blocks_parts_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_BLOCK", 3)
    path = wrote(tmp_path / "a.txt", b"\xef\xbb\xbfab\r\n%\r\ncd\r\n%\r\ne\rf")
    assert [row["text"] for row in read(path, split="\n%\n")] == ["ab", "cd", "e\rf"]


def test_damaged_archive_gives_what_came_before_and_a_name(tmp_path: Path) -> None:
    body = gzip.compress(b"".join(b"%d " % n for n in range(900_000)).replace(b"0 ", b"\n%\n"))
    path = tmp_path / "a.txt.gz"
    path.write_bytes(body[: len(body) // 2])
    *good, bad = read(path, split="\n%\n")
    assert len(good) > 100
    assert isinstance(bad, BadRow) and bad.error == "damaged_file"


def test_archive_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert read(path)[0]["text"] == "one two"


def test_empty_files_are_named(tmp_path: Path) -> None:
    assert [row.error for row in read(wrote(tmp_path / "a.txt", b" \n"))] == ["empty_text"]
    assert read(wrote(tmp_path / "b.txt", b"\n%\n"), split="\n%\n") == []


def test_another_kind_of_file_is_refused_with_the_kinds_there_are(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"kind of text file.*\.jsonl"):
        read(wrote(tmp_path / "a.pdf", b"%PDF"))


def test_folder_where_files_are_wanted_is_told_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"a folder; name its files by a glob, .*\*\.jsonl"):
        tables.expand(str(tmp_path))
    for name in ("0.tar", "1.tar", "0.arrow", "dataset.json"):
        (tmp_path / name).touch()
    with pytest.raises(TableError, match=r"\*\.tar for example"):
        tables.expand(str(tmp_path))
