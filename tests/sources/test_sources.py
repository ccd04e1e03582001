"""What sources promise: whatever a stranger wrote comes in as a row, or as a row with a named error."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from conftest import Workplace

from curate.readers import tables
from curate.readers.tables import BadRow, TableError

ROWS = [{"url": f"http://a.example/{n}.png", "text": f'a "cat", {n}\nand más'} for n in range(5)]


def as_csv(rows: Sequence[dict[str, Any]], delimiter: str = ",") -> bytes:
    lines = [delimiter.join(rows[0])]
    lines += [delimiter.join('"' + str(v).replace('"', '""') + '"' for v in row.values()) for row in rows]
    return "\n".join(lines).encode()


def as_jsonl(rows: Sequence[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def as_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    pq.write_table(pa.Table.from_pylist(list(rows)), out := io.BytesIO())
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


TABLES = {
    "t.csv": as_csv(ROWS),
    "t.tsv": as_csv(ROWS, "\t"),
    "t.jsonl": as_jsonl(ROWS),
    "t.parquet": as_parquet(ROWS),
    "t.csv.gz": gzip.compress(as_csv(ROWS)),
    "t.jsonl.gz": gzip.compress(as_jsonl(ROWS)),
    "t.csv.zst": zstd(as_csv(ROWS)),
    "t.jsonl.bz2": bz2.compress(as_jsonl(ROWS)),
    "with-bom.csv": b"\xef\xbb\xbf" + as_csv(ROWS),
    "windows.csv": as_csv(ROWS).replace(b'"\n"', b'"\r\n"').replace(b"text\n", b"text\r\n"),
}


def read(tmp_path: Path, name: str, data: bytes, columns: Sequence[str] = ("url", "text")) -> list[Any]:
    (tmp_path / name).write_bytes(data)
    return list(tables.read(tmp_path / name, columns))


@pytest.mark.parametrize("name", sorted(TABLES))
def test_table_reads_the_same_whatever_its_format(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, name, TABLES[name]) == ROWS


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_missing_column_is_named_with_the_nearest_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match=r"unknown column 'txt' - did you mean 'text'\? \(allowed: text, url\)"):
        read(tmp_path, name, TABLES[name], ("url", "txt"))


def test_row_with_too_few_or_too_many_fields_is_named_by_its_line(tmp_path: Path) -> None:
    found = read(tmp_path, "t.csv", b"url,text\nhttp://a,one\nhttp://b\nhttp://c,two,three\nhttp://d,four\n")
    assert [type(r).__name__ for r in found] == ["dict", "BadRow", "BadRow", "dict"]
    assert "t.csv:3: 1 fields, the header has 2" in found[1].detail and found[1].error == "bad_row"


def test_quote_that_is_never_closed_is_a_named_row_and_not_a_caption(tmp_path: Path) -> None:
    rest = b'http://c,three\nhttp://d,"four, five"\nhttp://e,"s"ix"\nhttp://f,seven\n'
    for bad in (b'http://b,"two\n', b'http://b,"t"wo\n'):
        found = read(tmp_path, "t.csv", b"url,text\nhttp://a,one\n" + bad + rest)
        shown = [r.detail.partition(": ")[0] if isinstance(r, BadRow) else r["text"] for r in found]
        assert shown == ["one", "t.csv:3", "three", "four, five", "t.csv:6", "seven"]
        assert "is a quote left open" in found[1].detail and found[1].raw == bad.decode()


def test_broken_json_lines_are_named_and_the_others_read(tmp_path: Path) -> None:
    lines = [b'{"url": "u", "text": "t"}', b'{"url": ', b"[1, 2]", b"", b"[" * 100_000, b'{"url": "v", "text": null}']
    found = read(tmp_path, "t.jsonl", b"\n".join(lines))
    assert [r.error if isinstance(r, BadRow) else r["url"] for r in found] == ["u", *["bad_row"] * 3, "v"]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_text_that_is_not_utf8_is_named_and_the_others_read(tmp_path: Path, name: str) -> None:
    data = TABLES[name].replace(b"cat", b"c\xe9t", 1)
    found = read(tmp_path, name, data)
    assert [r.error if isinstance(r, BadRow) else "" for r in found] == ["bad_encoding", "", "", "", ""]


def test_parquet_text_that_is_not_utf8_is_named_and_the_others_read(tmp_path: Path) -> None:
    text = pa.array([b"one", b"tw\xff", b"three"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"url": ["a", "b", "c"], "text": text}), tmp_path / "t.parquet")
    found = list(tables.read(tmp_path / "t.parquet", ("url", "text")))
    assert [r.error if isinstance(r, BadRow) else r["text"] for r in found] == ["one", "bad_encoding", "three"]


@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl.gz", "t.csv.zst", "t.jsonl.bz2", "t.parquet"])
def test_table_that_is_cut_short_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match=name):
        read(tmp_path, name, TABLES[name][: len(TABLES[name]) // 2])


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet", "t.jsonl.zst"])
def test_table_that_is_something_else_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match=name):
        read(tmp_path, name, b"<html>not found</html>")


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.gz"])
def test_kind_of_table_that_is_not_known_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match=r"unknown kind of table.*\.csv"):
        read(tmp_path, name, b"a,b\n")


def test_empty_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="empty; the first line must name the columns"):
        read(tmp_path, "t.csv", b"")


# Sources, through the command line. Folders need no server, so these are whole runs.


def rows_of(place: Workplace) -> list[dict[str, Any]]:
    """The rows of every pool."""
    return [r for p in sorted(place.out.glob("pool-*/rows/*.parquet")) for r in pq.read_table(p).to_pylist()]


def outcomes(place: Workplace) -> dict[str, str]:
    """What became of each sample, by where it came from."""
    return {r["origin"]: r["error"] or "ok" for r in rows_of(place)}


def run(place: Workplace, source: dict[str, Any], **more: Any) -> dict[str, str]:
    found = place.run(place.recipe(source=source, limits={"failed": 1.0}, **more))
    assert found.code == 0, found.stderr
    return outcomes(place)


def test_folder_gives_each_image_the_caption_beside_it(place: Workplace) -> None:
    (place.src / "a.png").write_bytes(place.png(seed=1))
    (place.src / "a.txt").write_text("from the text file\n")
    (place.src / "deep" / "er").mkdir(parents=True)
    (place.src / "deep" / "er" / "b.PNG").write_bytes(place.png(seed=2))
    (place.src / "deep" / "er" / "b.json").write_text('{"text": "from the json", "licence": "CC0", "x": 1}')
    (place.src / "c.png").write_bytes(place.png(seed=3))
    source = {"type": "folder", "path": str(place.src), "keep": ["licence"]}
    assert run(place, source) == {"a.png": "ok", "c.png": "missing_caption", "deep/er/b.PNG": "ok"}
    told = {t["origin"]: (t["text"], t["meta"]) for t in place.explained() if t["outcome"] == "kept"}
    assert told == {
        "a.png": ("from the text file", {}),
        "deep/er/b.PNG": ("from the json", {"licence": "CC0"}),
    }


def test_folder_with_a_table_takes_its_captions_and_refuses_what_leads_out(place: Workplace) -> None:
    place.images(2)
    secret = place.root / "secret.png"
    secret.write_bytes(place.png(seed=9))
    (place.src / "link.png").symlink_to(secret)
    (place.src / "loop.png").symlink_to("loop.png")
    (place.src / "sub.png").mkdir()
    names = ["00000.png", "./00001.png", "../secret.png", str(secret), "link.png", "loop.png", "none.png", "sub.png"]
    names += ["a" * 5000 + ".png", "nul\0.png", ""]
    (place.root / "captions.jsonl").write_text("\n".join(json.dumps({"image": n, "text": "t"}) for n in names))
    source = {"type": "folder", "path": str(place.src), "captions": str(place.root / "captions.jsonl")}
    found = run(place, source)
    assert {n: found[n] for n in names[:4]} == {
        "00000.png": "ok", "./00001.png": "ok", "../secret.png": "unsafe_name", str(secret): "unsafe_name"
    }  # fmt: skip
    assert found["link.png"] == found["nul\0.png"] == "unsafe_name"
    assert found["none.png"] == found["sub.png"] == found[""] == "missing_file"
    assert found["loop.png"] != "ok" and found["a" * 5000 + ".png"] != "ok"
    assert len(found) == len(names)


def test_link_in_a_folder_that_leads_out_of_it_is_refused(place: Workplace) -> None:
    place.images(1)
    (place.root / "secret.png").write_bytes(place.png(seed=9))
    (place.src / "link.png").symlink_to(place.root / "secret.png")
    (place.src / "link.txt").write_text("a caption")
    found = run(place, {"type": "folder", "path": str(place.src)})
    assert found == {"00000.png": "ok", "link.png": "unsafe_name"}


def test_sidecar_that_leads_out_of_the_folder_is_refused(place: Workplace) -> None:
    place.images(1)
    (place.root / "secret.txt").write_text("a secret")
    (place.src / "b.png").write_bytes(place.png(seed=9))
    (place.src / "b.txt").symlink_to(place.root / "secret.txt")
    found = run(place, {"type": "folder", "path": str(place.src)})
    assert found == {"00000.png": "ok", "b.png": "unsafe_name"}


def test_file_name_that_is_not_utf8_is_a_named_row(place: Workplace) -> None:
    place.images(2)
    with open(os.fsencode(place.src) + b"/caf\xe9.png", "wb") as file:
        file.write(place.png())
    found = run(place, {"type": "folder", "path": str(place.src)})
    assert sorted(found.values()) == ["bad_encoding", "ok", "ok"]


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.txt", b"caf\xe9", "bad_encoding"),
        ("a.json", b"{", "bad_json"),
        ("a.json", b'{"txt": "a"}', "missing_caption"),
        ("a.json", b"[1]", "missing_caption"),
        ("a.json", b"[" * 100_000, "bad_json"),
        ("a.json", b'{"text": ["a", "b"]}', "not_text"),
        ("a.json", b'{"text": {"en": "a"}}', "not_text"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "lfs_pointer"),
    ],
)
def test_broken_sidecar_is_named(place: Workplace, name: str, data: bytes, error: str) -> None:
    (place.src / "a.png").write_bytes(place.png())
    (place.src / name).write_bytes(data)
    assert run(place, {"type": "folder", "path": str(place.src)}) == {"a.png": error}


def test_tables_are_found_by_a_glob(place: Workplace) -> None:
    place.images(4)
    for part in (0, 1):
        rows = [{"image": f"{n:05d}.png", "text": "t"} for n in (2 * part, 2 * part + 1)]
        (place.root / f"part-{part}.csv").write_bytes(as_csv(rows))
    source = {"type": "folder", "path": str(place.src), "captions": str(place.root / "part-*.csv")}
    assert run(place, source) == dict.fromkeys([f"{n:05d}.png" for n in range(4)], "ok")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"type": "folder", "path": "{src}x"}, "no such folder"),
        ({"type": "folder", "path": "{src}"}, "empty"),
        ({"type": "urls", "path": "{root}/non.csv"}, "no such file - did you mean 'none.csv'"),
        ({"type": "urls", "path": "{root}/none.csv"}, "empty"),
        ({"type": "urls", "path": "{root}/none.csv", "url": "link"}, "unknown column 'link'"),
        ({"type": "urls", "huggingface": "{root}/nothing"}, "nothing"),
        ({"type": "webdataset", "path": "{root}/*.tar"}, "no such file"),
    ],
)
def test_source_that_is_empty_or_missing_is_refused(place: Workplace, source: dict[str, str], words: str) -> None:
    (place.root / "none.csv").write_text("url,text\n")
    said = {k: v.format(src=place.src, root=place.root) for k, v in source.items()}
    found = place.run(place.recipe(source=said))
    assert found.code == 1 and words in found.stderr, found.stderr


def test_hugging_face_dataset_is_read_through_datasets(place: Workplace) -> None:
    folder = place.root / "hub"
    folder.mkdir()
    rows: list[dict[str, Any]] = [{"link": "nonsense:", "caption": f"c{n}", "n": n} for n in range(3)]
    rows.append({"link": None, "caption": "", "n": 9})
    (folder / "train.jsonl").write_bytes(as_jsonl(rows))
    source = {"type": "urls", "huggingface": str(folder), "url": "link", "text": "caption", "keep": ["n"]}
    found = place.run(place.recipe(source=source, limits={"failed": 1.0}))
    assert found.steps["ingest"]["in"] == 4
    assert found.steps["ingest"]["failed"]["missing_url"] == 1
    missing = place.run(place.recipe(source=source | {"text": "captoin"}, out=str(place.root / "other")))
    assert missing.code == 1 and "captoin" in missing.stderr and "did you mean 'caption'" in missing.stderr


def write_tar(path: Path, count: int, place: Workplace, prefix: str = "") -> bytes:
    """A tar that the webdataset package wrote."""
    with webdataset.TarWriter(str(path), mtime=0) as tar:
        for n in range(count):
            said = {"caption": f"the caption {n}", "licence": "CC0"}
            tar.write({"__key__": f"{prefix}{n:04d}", "png": place.png(seed=n), "txt": f"caption {n}", "json": said})
    return path.read_bytes()


def test_tars_of_another_tool_are_taken_where_they_lie(place: Workplace) -> None:
    write_tar(place.root / "a.tar", 3, place)
    write_tar(place.root / "b.tar", 2, place, "folder/")
    source = {"type": "webdataset", "path": str(place.root / "*.tar"), "keep": ["licence"]}
    found = run(place, source)
    names = ["a.tar#0000", "a.tar#0001", "a.tar#0002", "b.tar#folder/0000", "b.tar#folder/0001"]
    assert found == dict.fromkeys(names, "ok")
    assert not list(place.out.glob("pool-*/*.tar"))
    told = {t["origin"]: (t["text"], t["meta"]) for t in place.explained()}
    assert told["a.tar#0001"] == ("caption 1", {"licence": "CC0"})
    with tarfile.open(place.dataset / "00000.tar") as tar:
        assert len(tar.getnames()) == 3 * 5


def test_caption_may_be_taken_from_a_key_of_the_json_part(place: Workplace) -> None:
    write_tar(place.root / "a.tar", 2, place)
    run(place, {"type": "webdataset", "path": str(place.root / "a.tar"), "text": "json:caption"})
    assert sorted(t["text"] for t in place.explained()) == ["the caption 0", "the caption 1"]


def test_truncated_tar_gives_what_stood_whole_and_names_the_rest(place: Workplace) -> None:
    data = write_tar(place.root / "a.tar", 6, place)
    (place.root / "a.tar").write_bytes(data[: len(data) * 6 // 10])
    found = run(place, {"type": "webdataset", "path": str(place.root / "a.tar")})
    assert sorted(found.values())[:3] == ["ok"] * 3 and sorted(found.values())[-1] == "truncated_tar"


def test_tar_with_a_damaged_header_gives_what_stood_before_and_names_rest(place: Workplace) -> None:
    data = bytearray(write_tar(place.root / "a.tar", 4, place))
    middle = data.index(b"0002.") & ~511
    data[middle : middle + 400] = bytes(range(200)) * 2
    (place.root / "a.tar").write_bytes(data)
    found = run(place, {"type": "webdataset", "path": str(place.root / "a.tar")})
    # A sample is whole once the next key is seen, so the one before the damage is not known to be.
    assert found["a.tar#0000"] == "ok" and sorted(found.values())[0] == "corrupt_tar"


def test_members_with_one_key_and_names_that_lead_out_are_named(place: Workplace) -> None:
    with tarfile.open(place.root / "a.tar", "w") as tar:
        names = ["x/a.png", "x/a.txt", "b.png", "b.txt", "x/a.png", "x/a.txt", "../../evil.png", "../../evil.txt"]
        for number, name in enumerate([*names, "/abs.png", "c.txt", "d.png"]):
            body = place.png(seed=number) if name.endswith("png") else b"words"
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    source = {"type": "webdataset", "path": str(place.root / "a.tar")}
    line = place.run(place.recipe(source=source, limits={"failed": 1})).steps["ingest"]
    assert line["in"] == 7 and line["kept"] == 2
    assert line["failed"] == {"duplicate_key": 1, "missing_caption": 1, "missing_image": 1, "unsafe_name": 2}
    assert not (place.root.parent.parent / "evil.png").exists()


def test_samples_have_the_same_uid_wherever_they_are_taken_in(place: Workplace) -> None:
    """The same samples have the same uid wherever and however often they are taken in."""
    place.images(12)
    place.run(place.recipe())
    before = {r["origin"]: r["uid"] for r in rows_of(place)}
    shutil.rmtree(place.out)
    moved = place.root / "moved"
    place.src.rename(moved)
    (moved / "00003.png").unlink()
    assert place.run(place.recipe(source={"type": "folder", "path": str(moved)}, shard_samples=5)).code == 0
    after = {r["origin"]: r["uid"] for r in rows_of(place)}
    assert len(after) == 11 and after.items() <= before.items()


def test_row_that_comes_twice_is_kept_once_and_the_other_is_named(place: Workplace) -> None:
    place.images(3)
    rows = [{"image": f"{n % 3:05d}.png", "text": "t"} for n in range(25)]
    (place.root / "captions.csv").write_bytes(as_csv(rows))
    source = {"type": "folder", "path": str(place.src), "captions": str(place.root / "captions.csv")}
    line = place.run(place.recipe(source=source)).steps["ingest"]
    assert (line["in"], line["kept"], line["dropped"]) == (25, 3, {"unique_uid": 22})
