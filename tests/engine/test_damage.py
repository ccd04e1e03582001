"""What lies on disk is compared with what was committed before it is published: damage is named, and mended."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome, Workplace
from engine.test_kinds import OWN, texts

from curate.shards import ShardReader

FORTY = 40
OTHER_SHARDS: dict[str, Any] = {"publish": {"shard_samples": 7}}
"""A choice by which what is decided is published anew."""


def images(place: Workplace) -> dict[str, Any]:
    place.images(12)
    return {"steps": [{"op": "image_size"}]}


def drawn(place: Workplace) -> dict[str, Any]:
    place.write_module("own_ops", OWN)
    return {"kind": "ocr", "source": texts(place), "steps": [{"op": "own_ops:drawn"}, {"op": "text_basic"}]}


def pages(place: Workplace) -> dict[str, Any]:
    for number in range(6):
        (place.src / f"{number}.png").write_bytes(place.png(60, 60, number))
        html = f"<article><p>The {number}th tide comes in at noon.</p><img src='{number}.png'></article>"
        (place.src / f"{number}.html").write_text(html)
    source = {"type": "html", "path": str(place.src)}
    return {"kind": "interleaved", "source": source, "steps": [{"op": "html_document"}, {"op": "fetch_images"}]}


def plain(place: Workplace) -> dict[str, Any]:
    return {"kind": "text", "source": texts(place), "steps": [{"op": "text_basic"}]}


def overwrite(path: Path, at: int | None = None) -> None:
    """Forty bytes of a file, in its middle if no place is given; its time stays what it was."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    at = at if at is not None else (len(data) - FORTY) // 2
    data[at : at + FORTY] = bytes(byte ^ 0x5A for byte in data[at : at + FORTY])
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def body_of(tar: Path) -> int:
    """Where a body of a tar lies, after whose begin forty bytes may be lost."""
    with tarfile.open(tar) as file:
        return next(member.offset_data + 20 for member in file if member.size > 20 + FORTY)


CASES = [
    pytest.param(images, "pool-*/*.tar", id="image"),
    pytest.param(images, "pool-*/rows/*.parquet", id="rows"),
    pytest.param(images, "decisions/*/kept-*.parquet", id="kept"),
    pytest.param(plain, "pool-*/rows/*.parquet", id="text"),
    pytest.param(plain, "decisions/*/content-*.zst", id="content"),
    pytest.param(drawn, "pool-*/columns/drawn-*/*.0.tar", id="drawn-image"),
    pytest.param(pages, "pool-*/columns/fetch_images-*/*.0.tar", id="part-of-document"),
    pytest.param(pages, "pool-*/columns/html_document-*/*.parquet", id="columns"),
    pytest.param(pages, "pool-*/*.tar", id="page"),
]


@pytest.mark.parametrize(("make", "pattern"), CASES)
def test_damage_is_never_published_and_is_named_and_mended(
    place: Workplace, make: Callable[[Workplace], dict[str, Any]], pattern: str
) -> None:
    """Forty bytes are overwritten: published anew, the run stops, `verify` names the file, and `--mend` mends it."""
    said = make(place)
    assert place.run(place.recipe(**said)).code == 0
    assert place.curate("verify", place.out).code == 0
    expected = publish(place, said, "anew")
    before = place.published()
    path = sorted(place.out.glob(pattern))[0]
    overwrite(path, body_of(path) if path.suffix == ".tar" else None)
    if make is pages and pattern == "pool-*/*.tar":  # what was made of a page stands in its columns
        shutil.rmtree(next(place.out.glob("pool-*/columns/html_document-*")))
    for made in ("stages", "decisions") if pattern.startswith("pool") else ():
        shutil.rmtree(place.out / made)
    stopped = place.run(place.recipe(**said, **OTHER_SHARDS))
    assert stopped.code == 1 and str(path) in stopped.stderr, stopped
    assert f"curate verify {place.out} --mend" in stopped.stderr
    assert place.published() == before
    named = place.curate("verify", place.out)
    assert named.code == 1 and str(path) in named.stderr and "--mend" in named.stderr
    mended = place.curate("verify", place.out, "--mend")
    assert mended.code == 0 and str(path) in mended.stdout, mended
    again = place.run(place.recipe(**said, **OTHER_SHARDS))
    assert again.code == 0, again.stderr
    assert place.published() == expected
    assert place.curate("verify", place.out).code == 0 and place.leftovers() == []


def publish(place: Workplace, said: dict[str, Any], out: str) -> dict[str, str]:
    """What a run from nothing publishes."""
    folder, place.out = place.out, place.root / out
    found = place.run(place.recipe(**said, **OTHER_SHARDS))
    assert found.code == 0, found.stderr
    published = place.published()
    place.out = folder
    return published


def damaged_images(place: Workplace, said: dict[str, Any]) -> tuple[Path, str]:
    """A run's folder in which forty bytes of a stored image are overwritten; the tar, and the sample's uid."""
    assert place.run(place.recipe(**said)).code == 0
    tar = sorted(place.out.glob("pool-*/*.tar"))[0]
    overwrite(tar, body_of(tar))
    with tarfile.open(tar) as file:
        return tar, next(member.name for member in file if member.size > 20 + FORTY).partition(".")[0]


def test_damaged_sample_is_named_by_its_uid(place: Workplace) -> None:
    said = images(place)
    tar, uid = damaged_images(place, said)
    for found in (place.run(place.recipe(**said, **OTHER_SHARDS)), place.curate("verify", place.out)):
        assert found.code == 1 and str(tar) in found.stderr and uid in found.stderr


def test_damaged_image_is_no_failure_of_its_row(place: Workplace) -> None:
    """An op that would call it broken, and drop it, is never shown it."""
    tar, _ = damaged_images(place, images(place))
    found = place.run(place.recipe(steps=[{"op": "image_ok"}]))
    assert found.code == 1 and str(tar) in found.stderr, found


def test_op_that_reads_stored_bytes_by_itself_stops_at_damage(place: Workplace) -> None:
    said = pages(place)
    place.write_module("own_ops", OWN)
    assert place.run(place.recipe(**said)).code == 0
    tar = sorted(place.out.glob("pool-*/columns/fetch_images-*/*.0.tar"))[0]
    overwrite(tar, body_of(tar))
    found = place.run(place.recipe(**said | {"steps": [*said["steps"], {"op": "own_ops:weighed"}]}))
    assert found.code == 1 and str(tar) in found.stderr, found


def test_pool_whose_tar_is_gone_is_named_and_mended(place: Workplace) -> None:
    said = images(place)
    expected = publish(place, said, "anew")
    assert place.run(place.recipe(**said)).code == 0
    tar = sorted(place.out.glob("pool-*/*.tar"))[0]
    tar.unlink()
    stopped = place.run(place.recipe(**said, **OTHER_SHARDS))
    assert stopped.code == 1 and str(tar) in stopped.stderr
    assert str(tar) in place.curate("verify", place.out).stderr
    assert place.curate("verify", place.out, "--mend").code == 0
    assert place.run(place.recipe(**said, **OTHER_SHARDS)).code == 0
    assert place.published() == expected


@pytest.mark.parametrize("name", ["plans/*/plan.json", "plans/*/ingest.json", "planned/*.parquet"])
def test_damaged_plan_is_named_and_mended(place: Workplace, name: str) -> None:
    said = images(place)
    assert place.run(place.recipe(**said)).code == 0
    before = place.published()
    path = sorted(place.out.glob(f"pool-*/{name}"))[0]
    path.write_bytes(path.read_bytes()[:-30])
    named = place.curate("verify", place.out)
    assert named.code == 1 and str(path) in named.stderr
    assert place.curate("verify", place.out, "--mend").code == 0
    again = place.run(place.recipe(**said))
    assert again.code == 0, again.stderr
    assert again.json["funnel"][1]["computed"] == 0, "nothing that is whole is computed again"
    assert place.published() == before and place.curate("verify", place.out).code == 0


def test_tar_of_another_tool_that_was_changed_is_told_and_left(place: Workplace) -> None:
    """Its rows point into it where it lies: it is theirs to put back."""
    assert place.run(place.recipe(**images(place))).code == 0
    theirs = place.root / "theirs"
    shutil.move(place.dataset, theirs)
    tar = theirs / "00000.tar"
    place.out = place.root / "ours"
    source = {"type": "webdataset", "path": str(theirs / "*.tar")}
    assert place.run(place.recipe(source=source)).code == 0
    with ShardReader(tar) as reader:
        (at,) = (part.offset for part in reader.parts(0) if part.name == "png")
    overwrite(tar, at + 20)
    stopped = place.run(place.recipe(source=source, **OTHER_SHARDS))
    assert stopped.code == 1 and str(tar) in stopped.stderr and "put the file back" in stopped.stderr
    overwrite(tar, at + 20)
    assert place.run(place.recipe(source=source, **OTHER_SHARDS)).code == 0


@pytest.mark.parametrize("name", ["pairs", "pages"])
def test_pool_of_an_earlier_version_is_verified(place: Workplace, name: str) -> None:
    """It has no checksums of its columns, yet its bytes have theirs."""
    with tarfile.open(Path(__file__).parents[1] / "pools" / f"{name}-0.1.0.tar.xz") as tar:
        tar.extractall(place.root, filter="data")
    assert place.curate("verify", place.out).code == 0
    pattern = "pool-*/*.tar" if name == "pairs" else "pool-*/columns/fetch_images-*/*.0.tar"
    tar_path = sorted(place.out.glob(pattern))[0]
    overwrite(tar_path, body_of(tar_path))
    assert str(tar_path) in place.curate("verify", place.out).stderr


def test_folder_of_no_run_and_damaged_dataset_are_told(place: Workplace) -> None:
    assert "no run was here" in place.curate("verify", place.src).stderr
    said = images(place)
    assert place.run(place.recipe(**said)).code == 0
    before = place.published()
    overwrite(place.dataset / "00000.tar")
    named: Outcome = place.curate("verify", place.out)
    assert named.code == 1 and "00000.tar" in named.stderr
    assert place.curate("verify", place.out, "--mend").code == 0
    again = place.run(place.recipe(**said))
    assert place.published() == before and json.loads(again.stdout)["funnel"][1]["computed"] == 0
