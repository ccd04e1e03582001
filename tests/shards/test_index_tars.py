"""Tars that other tools wrote become datasets where they lie: in parallel, again and again, nothing copied."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from pathlib import Path

import pytest
from train_samples import square

from curate import mix
from curate.commit import file_sha256
from curate.shards import ShardError, load_dataset
from curate.shards.index_tars import index
from curate.stream.resize import Fit
from curate.stream.stream import Stream
from pipelines.cli.main import main


def plain_tar(path: Path, first: int, count: int) -> Path:
    """A tar as img2dataset and webdataset's writers lay them out: keys that count, jpg or png, txt and json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number in range(first, first + count):
            image, text = square(number)
            for name, data in (("png", image), ("txt", text.encode()), ("json", b"{}")):
                member = tarfile.TarInfo(f"{number:09d}.{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shard in range(3):
        plain_tar(tmp_path / "laion" / f"{shard:05d}.tar", 10 * shard, 10)
    return tmp_path / "laion"


def test_folder_of_plain_tars_becomes_a_dataset_that_streams(folder: Path) -> None:
    assert main(["index", str(folder), "--tokenizer", "words", "--workers", "1"]) == 0
    info = load_dataset(folder)
    assert (info.name, info.samples, [s.tar for s in info.shards]) == (
        "laion",
        30,
        ["00000.tar", "00001.tar", "00002.tar"],
    )
    mix.build([(folder, 1.0)], 0, folder.parent / "mixture.json")
    stream = Stream(folder.parent / "mixture.json", 10, Fit(16))
    uids = {uid for batch in itertools.islice(stream, 3) for uid in batch.uids}
    stream.close()
    assert uids == {f"{number:09d}" for number in range(30)}


def test_several_folders_are_a_dataset_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain_tar(folder.parent / "coyo" / "00000.tar", 50, 4)
    folders = [folder, folder.parent / "coyo"]
    assert main(["index", *map(str, folders), "--tokenizer", "bytes", "--workers", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(Path(t["dataset"]), t["samples"]) for t in told] == [(folders[0], 30), (folders[1], 4)]
    assert all(t["text_tokens"] for t in told)


def test_more_tars_are_appended_and_what_is_indexed_is_left_alone(folder: Path) -> None:
    _, before, new = index([folder])
    assert new == 3
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*.arrow")}
    plain_tar(folder / "00003.tar", 30, 5)
    _, after, new = index([folder])
    assert (new, after.samples, after.shards[:3]) == (1, 35, before.shards)
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_files(folder: Path, tmp_path: Path) -> None:
    index([folder], workers=2)
    parallel = {path.name: file_sha256(path) for path in folder.iterdir()}
    for path in [*folder.glob("*.arrow"), folder / "dataset.json"]:
        path.unlink()
    index(sorted(folder.glob("*.tar")), workers=1)
    assert parallel == {path.name: file_sha256(path) for path in folder.iterdir()}


def test_broken_tar_is_named_and_the_others_are_indexed(folder: Path) -> None:
    whole = (folder / "00001.tar").read_bytes()
    (folder / "00001.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ShardError, match=r"1 of 3 tars.*00001\.tar.*truncated_tar"):
        index([folder])
    assert sorted(path.name for path in folder.glob("*.arrow")) == ["00000.arrow", "00002.arrow"]
    assert not (folder / "dataset.json").exists()
    (folder / "00001.tar").write_bytes(whole)
    _, info, new = index([folder])
    assert (info.samples, new) == (30, 1)


def test_listed_tar_that_changed_is_refused(folder: Path) -> None:
    index([folder])
    plain_tar(folder / "00001.tar", 10, 9)
    with pytest.raises(ShardError, match=r"00001\.tar: is listed"):
        index([folder])


def test_tars_of_two_folders_are_no_dataset(folder: Path, tmp_path: Path) -> None:
    other = plain_tar(tmp_path / "other" / "00000.tar", 0, 2)
    with pytest.raises(ShardError, match="a dataset is one folder"):
        index([folder / "00000.tar", other])


def test_command_prints_json_and_names_a_wrong_kind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(folder / "00000.tar"), "--json", "--workers", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dataset": str(folder), "new": 1, "samples": 10, "shards": 1}
    assert main(["index", str(folder), "--kind", "video"]) == 2


def test_index_of_what_is_indexed_says_so_and_counts_no_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", str(folder), "--workers", "1"]) == 0
    assert "30 samples in 3 shards (3 indexed now)" in capsys.readouterr().out
    assert main(["index", str(folder), "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "30 samples in 3 shards (all of them were indexed already)" in said and "0 indexed" not in said
    plain_tar(folder / "00003.tar", 30, 1)
    assert main(["index", str(folder), "--workers", "1"]) == 0
    assert "31 samples in 4 shards (1 indexed now)" in capsys.readouterr().out
