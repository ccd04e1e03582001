"""What a path in a recipe may stand for: a glob, webdataset's braces, several joined by `::`."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.readers.patterns import expand
from curate.readers.rows import TableError


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for name in ("s-008.tar", "s-009.tar", "s-010.tar", "a.csv", "b.tsv", "odd{1}.csv", "x-{0..1}.csv", "x-0.csv"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("s-{008..010}.tar", ["s-008.tar", "s-009.tar", "s-010.tar"]),
        ("s-{010..008..2}.tar", ["s-008.tar", "s-010.tar"]),
        ("s-0{08,10}.tar", ["s-008.tar", "s-010.tar"]),
        ("{a.csv,b.tsv}", ["a.csv", "b.tsv"]),
        ("s-0{0{8..9},10}.tar", ["s-008.tar", "s-009.tar", "s-010.tar"]),
        ("*.{tsv,parquet}", ["b.tsv"]),
        ("odd{1}.csv", ["odd{1}.csv"]),
        ("x-{0..1}.csv", ["x-{0..1}.csv"]),
        ("s-{008..009}.tar::@s-009.tar::@a.csv", ["a.csv", "s-008.tar", "s-009.tar"]),
    ],
)
def test_pattern_names_the_files_that_a_shell_and_webdataset_mean_each_once(
    shards: Path, pattern: str, names: list[str]
) -> None:
    assert [path.name for path in expand(f"{shards}/{pattern.replace('@', f'{shards}/')}")] == names


def test_file_missing_of_a_range_is_told_by_name_and_not_left_out(shards: Path) -> None:
    with pytest.raises(TableError, match=r"s-011\.tar: no such file"):
        expand(f"{shards}/s-{{008..011}}.tar")
    with pytest.raises(TableError, match=r"c\.csv: no such file - did you mean 'a.csv'"):
        expand(f"{shards}/a.csv::{shards}/c.csv")


def test_range_of_absurdly_many_files_is_refused_at_once(shards: Path) -> None:
    with pytest.raises(TableError, match="more than 1000000 files"):
        expand(f"{shards}/{{0..999999999999}}.tar")
