"""Openclipart's drawings: what strangers wrote is read safely, kept as it is, and every file is a row."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipelines.materials.openclipart import (
    MAX_DEPTH,
    MAX_TEXT_CHARACTERS,
    ClipartCard,
    RefusedDrawingError,
    lay_down,
    read_drawing,
)


def svg(title: str = "A froogy", keywords: tuple[str, ...] = ("frog",), before: str = "", extra: str = "") -> str:
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    return f"""{before}<svg width="9" height="9"><metadata>
  <rdf:RDF xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/"
           xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <cc:Work rdf:about="">
      <dc:title> {title} </dc:title><dc:description>Nothing more...</dc:description>
      <dc:subject><rdf:Bag><rdf:li/>{items}</rdf:Bag></dc:subject>
      <dc:publisher><cc:Agent><dc:title>Open Clip Art Library</dc:title></cc:Agent></dc:publisher>
      <dc:creator><cc:Agent><dc:title>Ann</dc:title></cc:Agent></dc:creator>
      <cc:license rdf:resource="http://web.resource.org/cc/PublicDomain"/>{extra}
    </cc:Work>
  </rdf:RDF></metadata><title>not this one</title><path d="M0 0"/></svg>"""


def read(tmp_path: Path, text: str | bytes) -> ClipartCard:
    path = tmp_path / "x.svg"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_drawing(path)


def refusal(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(RefusedDrawingError) as refused:
        read(tmp_path, text)
    return refused.value.error


def test_drawing_tells_its_title_keywords_and_author_typing_errors_and_all(tmp_path: Path) -> None:
    said = read(tmp_path, svg("2 deda  froggs &amp; a skewl", ("squeleton", "marsh land")))
    license = "http://web.resource.org/cc/PublicDomain"
    assert said == ClipartCard(
        "2 deda  froggs & a skewl", ("squeleton", "marsh land"), "Nothing more...", "Ann", license
    )


def test_drawing_without_metadata_has_no_title_and_is_no_error(tmp_path: Path) -> None:
    assert read(tmp_path, "<svg><title>drawn in a hurry</title></svg>") == ClipartCard()


def test_old_encoding_is_understood(tmp_path: Path) -> None:
    declared = '<?xml version="1.0" encoding="iso-8859-1"?>'
    assert read(tmp_path, svg("Städtle", before=declared).encode("iso-8859-1")).title == "Städtle"


def test_short_plain_entities_as_illustrator_writes_them_are_read(tmp_path: Path) -> None:
    said = read(tmp_path, svg("&who;", before='<!DOCTYPE svg [<!ENTITY who "Floppy">]>'))
    assert said.title == "Floppy"


@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/hostname">',
        '<!ENTITY % a SYSTEM "http://127.0.0.1/x.dtd"> %a;',
        f'<!ENTITY a "{"ha" * 1000}">',
    ],
)
def test_entity_that_grows_or_lies_elsewhere_is_refused_by_name(tmp_path: Path, declaration: str) -> None:
    assert refusal(tmp_path, svg("&a;", before=f"<!DOCTYPE svg [{declaration}]>")) == "unsafe_entity"


def test_broken_and_boundless_drawings_are_refused_by_name(tmp_path: Path) -> None:
    assert refusal(tmp_path, svg()[:400]) == "bad_xml"
    assert refusal(tmp_path, b"") == "bad_xml"
    assert refusal(tmp_path, b'<?xml version="1.0" encoding="nonsense"?><svg/>') == "bad_xml"
    assert refusal(tmp_path, "<g>" * (MAX_DEPTH + 1)) == "too_large"
    assert refusal(tmp_path, svg("ha" * MAX_TEXT_CHARACTERS)) == "too_large"
    assert refusal(tmp_path, svg(keywords=("ha",) * 5000)) == "too_large"


def test_every_file_is_a_row_and_links_are_never_followed(tmp_path: Path) -> None:
    pictures, drawings, target = tmp_path / "png", tmp_path / "svg", tmp_path / "source"
    for folder in (pictures / "animals", drawings / "animals"):
        folder.mkdir(parents=True)
    for name in ("animals/frog", "alone"):
        (pictures / f"{name}.png").write_bytes(b"png of " + name.encode())
    for name, text in (("animals/frog", svg()), ("drawn", svg("Drawn")), ("torn", svg()[:300])):
        (drawings / f"{name}.svg").write_text(text)
    (pictures / "secret.png").symlink_to("/etc/hostname")
    (drawings / "secret.svg").symlink_to("/etc/hostname")

    counts = lay_down(pictures, drawings, target)

    rows = {row["image"]: row for row in map(json.loads, (target / "captions.jsonl").read_text().splitlines())}
    assert sorted(rows) == ["alone.png", "animals/frog.png", "drawn.png", "torn.png"]
    assert rows["animals/frog.png"]["title"] == "A froogy" and rows["alone.png"]["title"] == ""
    assert rows["torn.png"]["refused"] == "bad_xml"
    laid = {p.relative_to(target / "images").as_posix() for p in (target / "images").rglob("*.png")}
    assert laid == {"alone.png", "animals/frog.png"}
    assert (target / "images" / "alone.png").read_bytes() == b"png of alone"
    alone = {"pairs": 1, "pictures_alone": 1, "drawings_alone": 2, "untitled": 0}
    assert counts == {"rows": 4, **alone, "refused": {"bad_xml": 1}}


def test_same_files_make_the_same_source_whenever_they_were_unpacked(tmp_path: Path) -> None:
    for folder, time in (("a", 1_000_000_000), ("b", 1_600_000_000)):
        for kind, name in (("png", "x.png"), ("svg", "x.svg")):
            (tmp_path / folder / kind).mkdir(parents=True)
            path = tmp_path / folder / kind / name
            path.write_text(svg())
            os.utime(path, (time, time))
        lay_down(tmp_path / folder / "png", tmp_path / folder / "svg", tmp_path / folder / "source")
    a, b = (tmp_path / folder / "source" for folder in "ab")
    assert (a / "captions.jsonl").read_bytes() == (b / "captions.jsonl").read_bytes()
    assert (a / "images/x.png").stat().st_mtime_ns == (b / "images/x.png").stat().st_mtime_ns
