"""Folders of web pages and of printed pages: what is a page is a row, whatever it is called; the rest is told of."""

from __future__ import annotations

import io
from typing import Any

from conftest import Workplace
from PIL import Image

PAGE = b"<!DOCTYPE html><html><body><p>Some words of a page.</p></body></html>"


def run(place: Workplace, kind: str, source_type: str) -> tuple[dict[str, str], list[str]]:
    """What became of each file, and what was remarked."""
    source: dict[str, Any] = {"type": source_type, "path": str(place.src)}
    ops = ("html_document",) if kind == "interleaved" else ("pdf_page", "render_page")
    steps = [{"op": op} for op in ops]
    found = place.run(place.recipe(kind=kind, source=source, steps=steps, limits={"failed": 1.0}))
    assert found.code == 0, found.stderr
    return {row["origin"]: row["rule"] or row["outcome"] for row in place.explained()}, found.json["remarks"]


def test_page_that_a_mirror_saved_without_a_suffix_is_a_page(place: Workplace) -> None:
    (place.src / "away").mkdir()
    for name in ("index.html", "about", "view.php?id=3", "away/x.HTM"):
        (place.src / name).write_bytes(PAGE)
    (place.src / "style.css").write_text("p { color: red }")
    (place.src / "a.png").write_bytes(place.png())
    (place.src / "link").symlink_to(place.src / "away")
    told, remarks = run(place, "interleaved", "html")
    kept = ("index.html", "about", "view.php?id=3", "away/x.HTM")
    assert told == {**dict.fromkeys(kept, "kept"), "link": "linked_folder"}
    assert remarks == ["2 files that are no page: a.png, style.css"]


def test_scan_is_a_page_whatever_its_name_ends_in(place: Workplace) -> None:
    for number, name in enumerate(("a.jfif", "b.jpe", "c.JPG", "d", "e.gif")):
        Image.new("RGB", (30, 40), (number, 0, 0)).save(out := io.BytesIO(), "GIF" if "gif" in name else "JPEG")
        (place.src / name).write_bytes(out.getvalue())
    (place.src / "notes.txt").write_text("scanned in May")
    (place.src / "in").mkdir()
    (place.src / "again").symlink_to(place.src / "in")
    told, remarks = run(place, "ocr", "pdf")
    assert told == {**dict.fromkeys(("a.jfif", "b.jpe", "c.JPG", "d", "e.gif"), "kept"), "again": "linked_folder"}
    assert remarks == ["1 file without a PDF or an image: notes.txt"]
    planned = place.curate("run", place.root / "recipe.yaml", "--dry-run")
    assert "source: 1 file without a PDF or an image: notes.txt" in planned.stdout
