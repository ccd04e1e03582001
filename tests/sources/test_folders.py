"""What lies in a folder is a row, a failure by name, or said to be no image: nothing is left out unsaid."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Workplace
from PIL import Image

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64


def picture(kind: str = "PNG", seed: int = 0) -> bytes:
    Image.new("RGB", (12, 8), (seed, 90, 200)).save(out := io.BytesIO(), kind)
    return out.getvalue()


def put(path: Path, body: bytes, caption: str | None = "a caption") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    if caption is not None:
        Path(os.path.splitext(path)[0] + ".txt").write_text(caption)


def outcomes(place: Workplace) -> dict[str, str]:
    """The error of each row by where it came from; `kept` of one without."""
    paths = place.out.glob("pool-*/rows/*.parquet")
    return {row["origin"]: row["error"] or "kept" for path in paths for row in pq.read_table(path).to_pylist()}


def run(place: Workplace, **source: Any) -> tuple[dict[str, str], list[str]]:
    """What became of each row, by where it came from, and what was remarked."""
    said = {"type": "folder", "path": str(place.src)} | source
    found = place.run(place.recipe(source=said, limits={"failed": 1.0}))
    assert found.code == 0, found.stderr
    told = outcomes(place)
    line = found.steps["ingest"]
    assert (line["in"], line["kept"]) == (len(told), list(told.values()).count("kept"))
    return told, found.json["remarks"]


def test_images_are_told_by_what_they_hold_and_by_what_their_names_claim(place: Workplace) -> None:
    for name in ("a.jfif", "b.jpe", "c.JPG", "d.heic", "e", "f.v2", "g.jpeg_large", "h.apng"):
        put(place.src / name, picture("JPEG", len(name)))
    put(place.src / "phone.heic", HEIC)
    put(place.src / "phone2", HEIC)
    put(place.src / "empty.jfif", b"")
    put(place.src / "login.jpe", b"<!DOCTYPE html><html><body>log in</body></html>")
    told, remarks = run(place)
    assert {name for name, end in told.items() if end == "kept"} == {
        "a.jfif", "b.jpe", "c.JPG", "d.heic", "e", "f.v2", "g.jpeg_large", "h.apng"
    }  # fmt: skip
    assert {name: end for name, end in told.items() if end != "kept"} == {
        "phone.heic": "unsupported_format", "phone2": "unsupported_format", "empty.jfif": "empty_file",
        "login.jpe": "html_instead_of_image",
    }  # fmt: skip
    assert remarks == []


def test_files_that_hold_no_image_and_are_beside_none_are_counted_by_name(place: Workplace) -> None:
    put(place.src / "a.png", picture())
    put(place.src / "b.png", picture(seed=2), caption=None)
    (place.src / "b.json").write_text('{"text": "b"}')
    for name, text in {
        "README.md": "BMW is no bitmap",
        "lone.txt": "no image",
        "c/lone.json": "{}",
        ".hid": "x",
    }.items():
        put(place.src / name, text.encode(), caption=None)
    told, remarks = run(place)
    assert told == {"a.png": "kept", "b.png": "kept"}
    assert remarks == ["4 files without an image and beside none: .hid, README.md, c/lone.json, ..."]
    shown = place.curate("run", place.root / "recipe.yaml", "--inline")
    assert "source: 4 files without an image and beside none" in shown.stdout


def test_folder_without_one_image_says_what_is_there_instead(place: Workplace) -> None:
    put(place.src / "a.md", b"words", caption=None)
    found = place.run(place.recipe())
    assert found.code == 1 and "empty: no row was found" in found.stderr and "1 file without an image" in found.stderr


def test_links_to_folders_and_loops_are_named_and_what_they_lead_to_comes_once(place: Workplace) -> None:
    put(place.src / "in" / "a.png", picture())
    put(place.root / "away" / "b.png", picture(seed=2))
    (place.src / "cats").symlink_to(place.root / "away")
    (place.src / "again").symlink_to(place.src / "in")
    (place.src / "up").symlink_to(place.src)
    (place.src / "self").symlink_to("self")
    (place.src / "gone.png").symlink_to("nowhere.png")
    told, _ = run(place)
    assert told == {
        "in/a.png": "kept", "cats": "linked_folder", "again": "linked_folder", "up": "linked_folder",
        "self": "unreadable_file", "gone.png": "missing_file",
    }  # fmt: skip


def test_pipes_and_sockets_are_named_and_never_waited_for(place: Workplace) -> None:
    put(place.src / "a.png", picture())
    os.mkfifo(place.src / "pipe.png")
    os.mkfifo(place.src / "pipe")
    put(place.src / "b.png", picture(seed=2), caption=None)
    os.mkfifo(place.src / "b.txt")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(place.src, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/door.jpg")
        os.close(here)
        told, _ = run(place)
    assert told == {
        "a.png": "kept", "b.png": "special_file", "pipe": "special_file", "pipe.png": "special_file",
        "door.jpg": "special_file",
    }  # fmt: skip


def test_folder_that_may_not_be_read_is_a_named_row_until_it_may(place: Workplace) -> None:
    put(place.src / "a.png", picture())
    put(place.src / "shut" / "b.png", picture(seed=2))
    put(place.src / "c.png", picture(seed=3))
    (place.src / "shut").chmod(0)
    (place.src / "c.png").chmod(0)
    recipe = place.recipe(limits={"failed": 1.0})
    rights = "-dac_override,-dac_read_search"  # a root without root's right to read everything
    drop = ["setpriv", "--bounding-set", rights, "--inh-caps", rights] if os.getuid() == 0 else []
    words = [*drop, sys.executable, "-m", "pipelines", "run", str(recipe), "--inline"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    (place.src / "shut").chmod(0o755)
    (place.src / "c.png").chmod(0o644)
    assert done.returncode == 0, done.stderr
    told = outcomes(place)
    assert told == {"a.png": "kept", "shut": "unreadable_folder", "c.png": "unreadable_file"}
    assert place.run(recipe).steps["ingest"]["kept"] == 3
    assert {row["origin"] for row in place.explained()} == {"a.png", "shut/b.png", "c.png"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_caption_that_notepad_wrote_has_no_mark_in_it(place: Workplace, encoding: str) -> None:
    for number, text in enumerate(("a cät", '{"text": "a cät"}')):
        (place.src / f"{number}.png").write_bytes(picture(seed=number))
        (place.src / f"{number}{('.txt', '.json')[number]}").write_bytes(text.encode(encoding))
    run(place)
    assert [row["text"] for row in place.explained()] == ["a cät", "a cät"]


def test_caption_file_in_capitals_is_found_and_two_of_them_are_refused(place: Workplace) -> None:
    for number, names in enumerate((("IMG.JPG", "IMG.TXT"), ("b.png", "b.JSON"), ("c.png", "c.txt", "c.TXT"))):
        (place.src / names[0]).write_bytes(picture("JPEG", number))
        for name in names[1:]:
            (place.src / name).write_text('{"text": "said"}' if "JSON" in name else "said")
    told, remarks = run(place)
    assert told == {"IMG.JPG": "kept", "b.png": "kept", "c.png": "two_captions"} and remarks == []
    assert [row["text"] for row in place.explained() if row["outcome"] == "kept"] == ["said", "said"]


def test_keys_of_the_json_are_kept_also_where_the_caption_is_in_a_text_file(place: Workplace) -> None:
    for number, about in enumerate(({"similarity": 0.3, "width": 1}, {"width": 1}, {"similarity": float("nan")}, [1])):
        put(place.src / f"{number}.png", picture(seed=number), f"caption {number}")
        (place.src / f"{number}.json").write_text(json.dumps(about))
    put(place.src / "4.png", picture(seed=4), "caption 4")
    told, _ = run(place, keep=["similarity", "width"])
    assert told == {"0.png": "kept", "1.png": "kept", "2.png": "kept", "3.png": "bad_json", "4.png": "kept"}
    metas = {row["origin"]: row["meta"] for row in place.explained() if row["outcome"] == "kept"}
    assert metas["0.png"] == {"similarity": 0.3, "width": 1}
    assert [{k: v for k, v in metas[name].items() if v is not None} for name in ("1.png", "2.png", "4.png")] == [
        {"width": 1}, {}, {}
    ]  # fmt: skip


def test_name_composed_in_a_table_finds_the_file_that_a_mac_decomposed(place: Workplace) -> None:
    names = ["café.png", "Ångström/ü.png"]
    for number, name in enumerate(names):
        put(place.src / unicodedata.normalize("NFD", name), picture(seed=number), caption=None)
    put(place.src / unicodedata.normalize("NFC", "née.png"), picture(seed=7), caption=None)
    wanted = [*names, unicodedata.normalize("NFD", "née.png")]
    (place.root / "captions.jsonl").write_text("".join(json.dumps({"image": n, "text": "t"}) + "\n" for n in wanted))
    told, _ = run(place, captions=str(place.root / "captions.jsonl"))
    assert told == dict.fromkeys(wanted, "kept")


def test_git_lfs_pointer_in_place_of_an_image_or_a_caption_says_what_to_pull(place: Workplace) -> None:
    put(place.src / "a.png", POINTER.encode())
    put(place.src / "b.png", picture(), POINTER)
    told, _ = run(place)
    assert told == {"a.png": "lfs_pointer", "b.png": "lfs_pointer"}
    assert all("git lfs pull" in row["remedy"] for row in place.explained())
