"""leaked_images: copies of an evaluation set's pictures are named, and nothing else is."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pictures import cropped, encoded, photograph, resized, signed, uid
from PIL import Image

from curate.ops.dedup.leaked_images import leaked_images


def leaks(files: dict[str, bytes], evaluation: Path, folder: Path) -> dict[str, tuple[str | None, str | None]]:
    folder.mkdir(exist_ok=True)
    source, target = folder / "in.parquet", folder / "out.parquet"
    pq.write_table(signed(files), source)
    leaked_images([source], [target], folder / "scratch", evaluation=[str(evaluation)])
    found = {row["uid"]: row for row in pq.read_table(target).to_pylist()}
    rows = {name: found[uid(name)] for name in files}
    return {
        name: (row["leaked_from"] and Path(row["leaked_from"]).name, row["leak_kind"]) for name, row in rows.items()
    }


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    (home := tmp_path / "evaluation").mkdir()
    for number in range(2):
        photograph(number).save(home / f"{number}.png")
    with tarfile.open(home / "more.tar", "w") as tar:
        photograph(2).save(tmp_path / "2.png")
        tar.add(tmp_path / "2.png", "2.png")
    return home


def test_copies_of_evaluation_pictures_are_named_and_strangers_are_not(evaluation: Path, tmp_path: Path) -> None:
    files = {
        "same": encoded(photograph(0), "BMP"),
        "small": encoded(resized(photograph(1), 0.7), "JPEG", quality=50),
        "mirrored": encoded(photograph(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT), "JPEG"),
        "crop": encoded(cropped(photograph(0), 0.8, 0.2, 0.7), "JPEG"),
        "other": encoded(photograph(3)),
        "another": encoded(photograph(3), "JPEG", quality=60),
    }
    assert leaks(files, evaluation, tmp_path / "pool") == {
        "same": ("0.png", "exact"),
        "small": ("1.png", "near"),
        "mirrored": ("2.png", "near"),
        "crop": ("0.png", "near"),
        "other": (None, None),
        "another": (None, None),
    }


def test_an_evaluation_set_that_would_be_missed_in_part_is_refused(evaluation: Path, tmp_path: Path) -> None:
    files = {"one": encoded(photograph(0))}
    with pytest.raises(ValueError, match="no such file or folder"):
        leaks(files, tmp_path / "absent", tmp_path / "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no picture in"):
        leaks(files, tmp_path / "empty", tmp_path / "2")
    (evaluation / "broken.png").write_bytes(encoded(photograph(1))[:200])
    with pytest.raises(ValueError, match=r"broken\.png"):
        leaks(files, evaluation, tmp_path / "3")
