"""Tars as people have them: in the order of the disk, with several images a sample, with names of their own."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
Members = list[tuple[str, bytes]]


def write(path: Path, members: Members) -> None:
    with tarfile.open(path, "w") as tar:
        for name, body in members:
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))


def run(place: Workplace, members: Members, **source: Any) -> dict[str, Any]:
    """The caption of each sample, or the error's name."""
    write(place.root / "a.tar", members)
    said = {"type": "webdataset", "path": str(place.root / "a.tar")} | source
    found = place.run(place.recipe(source=said, limits={"failed": 1.0}))
    assert found.code == 0, found.stderr
    return {row["origin"].partition("#")[2]: row["rule"] or row["text"] for row in place.explained()}


def test_members_in_the_order_of_the_disk_are_read_as_the_samples_they_are(place: Workplace) -> None:
    pictures = [(f"{n}.png", place.png(seed=n)) for n in range(4)]
    captions = [(f"{n}.txt", f"caption {n}".encode()) for n in (3, 1, 2)]
    told = run(place, [pictures[0], ("0.txt", b"caption 0"), *pictures[1:], *captions])
    assert told == {str(n): f"caption {n}" for n in range(4)}


def test_samples_that_lie_apart_are_never_half_read_where_the_tar_is_cut(place: Workplace) -> None:
    members = [("1.png", place.png(seed=1)), ("2.png", place.png(seed=2)), ("1.txt", b"one"), ("2.txt", b"two")]
    write(place.root / "a.tar", members)
    data = (place.root / "a.tar").read_bytes()
    (place.root / "a.tar").write_bytes(data[: data.index(b"2.txt") + 600])
    source = {"type": "webdataset", "path": str(place.root / "a.tar")}
    line = place.run(place.recipe(source=source, limits={"failed": 1})).steps["ingest"]
    assert (line["kept"], line["failed"]) == (0, {"truncated_tar": 3})


@pytest.mark.parametrize("names", [["1.png", "2.png", "1.txt", "1.png"], ["1.png", "2.png", "1.png", "1.txt"]])
def test_key_of_which_a_part_comes_twice_is_a_duplicate_as_before(place: Workplace, names: list[str]) -> None:
    told = run(place, [(name, place.png() if "png" in name else b"words") for name in names])
    assert "duplicate_key" in told.values()


@pytest.mark.parametrize("part", ["jfif", "JPE", "heic", "img", "png.image", "0"])
def test_image_part_is_told_by_what_it_holds_whatever_its_name(place: Workplace, part: str) -> None:
    assert run(place, [(f"1.{part}", place.png()), ("1.txt", b"words"), ("1.cls", b"3")]) == {"1": "words"}


def test_one_of_several_images_is_chosen_by_the_recipe_and_never_by_chance(place: Workplace) -> None:
    left, right = place.png(seed=1), place.png(seed=2)
    members = [("1.left.png", left), ("1.right.png", right), ("1.txt", b"words")]
    assert run(place, members) == {"1": "several_images"}
    assert "left.png, right.png" in place.explained()[0]["detail"]
    place.out.rename(place.root / "before")
    assert run(place, members, image="RIGHT.png") == {"1": "words"}
    with tarfile.open(place.dataset / "00000.tar") as tar:
        (name,) = (name for name in tar.getnames() if name.endswith("png"))
        assert tar.extractfile(name).read() == right  # type: ignore[union-attr]


def test_chosen_part_may_have_several_names_and_its_absence_is_named(place: Workplace) -> None:
    members = [("1.jpg", place.png()), ("1.txt", b"one"), ("2.png", place.png(seed=2)), ("2.txt", b"two")]
    members += [("3.mask.png", place.png(seed=3)), ("3.txt", b"three")]
    assert run(place, members, image="jpg;png") == {"1": "one", "2": "two", "3": "missing_image"}


def test_sample_with_an_image_and_a_mask_is_its_image(place: Workplace) -> None:
    members = [("1.seg.png", place.png(seed=2)), ("1.png", place.png()), ("1.txt", b"one")]
    assert run(place, members) == {"1": "one"}


def test_kept_keys_are_null_where_a_json_lacks_them_whichever_comes_first(place: Workplace) -> None:
    abouts = [{"width": 1, "similarity": 0.3}, {"width": 1}, {"similarity": 0.3}]
    members = [
        (f"{n}.{ext}", body)
        for n, about in enumerate(abouts)
        for ext, body in (
            ("png", place.png(seed=n)),
            ("txt", b"\xef\xbb\xbfwords"),
            ("json", json.dumps(about).encode()),
        )
    ]
    for keep in (["similarity", "width"], ["width", "similarity"]):
        assert run(place, members, keep=keep) == dict.fromkeys("012", "words")
        metas = {row["origin"]: row["meta"] for row in place.explained()}
        assert [{k: v for k, v in metas[f"a.tar#{n}"].items() if v is not None} for n in range(3)] == abouts


def test_tar_without_a_sample_is_a_failure_by_name_and_its_neighbours_are_read(place: Workplace) -> None:
    write(place.root / "0.tar", [("__notes__", b"nothing else")])
    write(place.root / "1.tar", [])
    (place.root / "2.tar").write_bytes(POINTER)
    write(place.root / "3.tar", [("1.png", place.png()), ("1.txt", b"words")])
    source = {"type": "webdataset", "path": str(place.root / "{0..3}.tar")}
    line = place.run(place.recipe(source=source, limits={"failed": 1})).steps["ingest"]
    assert (line["kept"], line["failed"]) == (1, {"empty_tar": 2, "lfs_pointer": 1})


def test_empty_tar_is_no_dataset_to_index(place: Workplace) -> None:
    write(place.root / "a.tar", [])
    found = place.curate("index", place.root / "a.tar")
    assert found.code == 1 and "empty_tar" in found.stderr and "leave it out" in found.stderr
    (place.root / "a.tar").write_bytes(POINTER)
    found = place.curate("index", place.root / "a.tar")
    assert found.code == 1 and "git lfs pull" in found.stderr
