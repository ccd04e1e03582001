"""Which quotes in a csv or tsv are signs of the text, and which enclose a field: the file's own lines tell."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from curate.readers import tables
from curate.readers.tables import BadRow

WORDS = ["plain", 'says "hi" to all', '"twice a day', "a, b, and c", 'the very end"', "last", "", "tab-free; really"]


def read(path: Path, data: str, **said: Any) -> list[Any]:
    path.write_bytes(data.encode())
    return [row.error if isinstance(row, BadRow) else row["text"] for row in tables.read(path, ("url", "text"), **said)]


def written(texts: list[str], **style: Any) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", **style).writerows(
        [["url", "text"], *([str(n), t] for n, t in enumerate(texts))]
    )
    return out.getvalue()


@pytest.mark.parametrize(
    "texts",
    [
        ['"twice a day', "a dog", "a house", 'the very end"', "last"],
        ['"Live" he said', "a dog", '"no', "one"],
        ['"Live and let live"', "one, two", "three"],
        ['"', "one", '"', "two"],
        ["one", '"""', '" a', 'b "c" d'],
        ['5" disk', '"6" disk', '7"'],
    ],
)
def test_tsv_without_quoting_gives_each_line_as_its_row_and_every_quote_as_it_stands(
    tmp_path: Path, texts: list[str]
) -> None:
    lines = "".join(f"{number}\t{text}\n" for number, text in enumerate(texts))
    assert read(tmp_path / "a.tsv", "url\ttext\n" + lines) == texts


@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("texts", [WORDS, ["two\nlines", "one"], ["tab\there, comma", 'a "b"'], ['"', "x", '"y']])
def test_what_pythons_csv_writes_is_read_as_it_was(
    tmp_path: Path, texts: list[str], quoting: Any, delimiter: str
) -> None:
    name = "a.tsv" if delimiter == "\t" else "a.csv"
    assert read(tmp_path / name, written(texts, delimiter=delimiter, quoting=quoting)) == texts


def test_tsv_in_which_just_fields_with_commas_are_enclosed_is_read_as_excel_wrote_it(tmp_path: Path) -> None:
    data = 'url\ttext\n0\t"red, green"\n1\tblue\n2\t"a, b"\n'
    assert read(tmp_path / "a.tsv", data) == ["red, green", "blue", "a, b"]


def test_csv_without_quoting_gives_each_line_as_its_row(tmp_path: Path) -> None:
    data = 'url,text\n0,"twice a day\n1,a dog\n2,the very end"\n3,last\n'
    assert read(tmp_path / "a.csv", data) == ['"twice a day', "a dog", 'the very end"', "last"]


@pytest.mark.parametrize("key", ["http://a.example/{}.jpg", "pictures/{}.png", "{}"])
def test_caption_of_several_lines_with_commas_is_one_where_its_lines_look_like_no_rows(
    tmp_path: Path, key: str
) -> None:
    data = f'url,text\n{key.format(1)},"A dog\non the beach, in May\nby Ann, 1999"\n{key.format(2)},a cat\n'
    assert read(tmp_path / "a.csv", data) == ["A dog\non the beach, in May\nby Ann, 1999", "a cat"]


def test_quoted_csv_that_is_cut_in_a_field_does_not_publish_the_cut_caption(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", 'url,text\n0,one\n1,"a caption that is cu') == ["one", "bad_row"]


def test_quote_late_in_a_long_file_is_weighed_as_one_at_its_beginning(tmp_path: Path) -> None:
    lines = [f"{n}\ta dog" for n in range(50_000)]
    lines[40_000] = '40000\t"twice a day'
    lines[40_010] = '40010\tend"'
    found = read(tmp_path / "a.tsv", "\n".join(["url\ttext", *lines]))
    assert len(found) == 50_000 and (found[40_000], found[40_010]) == ('"twice a day', 'end"')


def test_recipe_may_say_what_the_lines_do_not(tmp_path: Path) -> None:
    data = 'url\ttext\n0\t"Live and let live"\n1\tone, two\n'
    assert read(tmp_path / "a.tsv", data) == ['"Live and let live"', "one, two"]
    assert read(tmp_path / "a.tsv", data, quoting=True) == ["Live and let live", "one, two"]
    assert read(tmp_path / "b.csv", 'url,text\n0,"x"\n', quoting=False) == ['"x"']


def test_each_file_is_told_by_itself_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('url\ttext\n0\t"open\n1\tdog\n')
    (tmp_path / "b.tsv").write_text('url\ttext\n0\t"say ""hi"""\n1\tdog\n')
    (tmp_path / "c.csv").write_text("url;text\n0;dog, cat\n")
    (tmp_path / "d.csv").write_text("url,text\n0,dog\n")
    said = {name: tables.remarks(tmp_path / name, ("url", "text")) for name in ("a.tsv", "b.tsv", "c.csv", "d.csv")}
    assert said == {
        "a.tsv": ["a.tsv: its quotes are part of the fields (1 begin with one that does not close, 0 need theirs)"],
        "b.tsv": [],
        "c.csv": ["c.csv: its fields are parted by semicolons"],
        "d.csv": [],
    }


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_csv_whose_fields_another_sign_parts_is_read_by_the_sign_that_gives_the_columns(
    tmp_path: Path, sign: str
) -> None:
    data = f'url{sign}text{sign}n\n0{sign}dog, cat{sign}1\n1{sign}"a{sign}b"{sign}2\n'
    assert read(tmp_path / "a.csv", data) == ["dog, cat", f"a{sign}b"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tmp_path: Path, end: str) -> None:
    assert read(tmp_path / "a.csv", end.join(["url,text", "0,dog", '1,"cat"', ""])) == ["dog", "cat"]


def test_column_that_stands_twice_is_refused_where_it_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("url,text,text\n0,dog,cat\n")
    with pytest.raises(tables.TableError, match="column 'text' stands twice"):
        list(tables.read(tmp_path / "a.csv", ("url", "text")))
    (tmp_path / "a.csv").write_text("url,n,n,text\n0,1,2,cat\n")
    assert list(tables.read(tmp_path / "a.csv", ("text",))) == [{"text": "cat"}]
