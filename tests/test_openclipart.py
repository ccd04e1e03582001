"""Openclipart: what strangers wrote is read safely and kept as it is, and the recipe's header tells the truth."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine import run
from curate.engine.explain import explain
from curate.ops.quality.text import text_copies, text_digest
from curate.pool.funnel import check_funnel
from curate.recipe.resolve import load
from pipelines.materials.openclipart import (
    MAX_DEPTH,
    MAX_TEXT_CHARACTERS,
    ClipartCard,
    PreparedClipart,
    RefusedDrawingError,
    lay_down,
    prepare,
    read_drawing,
)
from pipelines.materials.packages import PackageUnavailableError

RECIPE = Path(__file__).parents[1] / "recipes" / "openclipart.yaml"
FLOATS_DECIDE = ("duplicate_images", "clip_score")
"""Steps whose counts may differ by a few rows between kinds of processor; all others are exact."""


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


def test_a_drawing_tells_its_title_keywords_and_author_typing_errors_and_all(tmp_path: Path) -> None:
    said = read(tmp_path, svg("2 deda  froggs &amp; a skewl", ("squeleton", "marsh land")))
    license = "http://web.resource.org/cc/PublicDomain"
    assert said == ClipartCard(
        "2 deda  froggs & a skewl", ("squeleton", "marsh land"), "Nothing more...", "Ann", license
    )


def test_a_drawing_without_metadata_has_no_title_and_is_no_error(tmp_path: Path) -> None:
    assert read(tmp_path, "<svg><title>drawn in a hurry</title></svg>") == ClipartCard()


def test_an_old_encoding_is_understood(tmp_path: Path) -> None:
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
def test_an_entity_that_grows_or_lies_elsewhere_is_refused_by_name(tmp_path: Path, declaration: str) -> None:
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


def test_the_same_files_make_the_same_source_whenever_they_were_unpacked(tmp_path: Path) -> None:
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


def test_a_text_counts_the_rows_that_share_it_over_all_shards(tmp_path: Path) -> None:
    texts = [["gramastar", "Cat", "Gramastar "], ["a  cat", "gramastar", "A cat"], []]
    shards = []
    for number, some in enumerate(texts):
        uids = [f"{number}-{place}" for place in range(len(some))]
        shards.append(tmp_path / f"in-{number}.parquet")
        digests = pa.array(text_digest(some)["text_digest"], pa.string())
        pq.write_table(pa.table({"uid": pa.array(uids, pa.string()), "text_digest": digests}), shards[-1])
    outputs = [tmp_path / f"out-{number}.parquet" for number in range(len(texts))]

    text_copies(shards, outputs, tmp_path / "scratch")

    made = [pq.read_table(path).to_pydict() for path in outputs]
    assert [m["text_copies"] for m in made] == [[3, 1, 3], [2, 3, 2], []]
    assert made[1]["uid"] == ["1-0", "1-1", "1-2"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedClipart:
    try:
        return prepare(tmp_path_factory.mktemp("openclipart"))
    except PackageUnavailableError as err:
        pytest.skip(f"Debian's openclipart packages cannot be had here: {err}")


@pytest.fixture(scope="module")
def summary(prepared: PreparedClipart) -> run.Summary:
    out = prepared.images.parents[1]
    places = [f"out={out}", f"source.path={prepared.images}", f"source.captions={prepared.captions}"]
    return run.run(load(RECIPE, places), workers=0)


def header() -> dict[str, tuple[int, int]]:
    """Step -> rows kept and rows in, as the recipe's header says: `#   language   1,234 of 2,345`."""
    lines = re.findall(r"^#\s+(\w+)\s+([\d,]+) of ([\d,]+)", RECIPE.read_text(encoding="utf-8"), re.MULTILINE)
    return {step: (int(kept.replace(",", "")), int(rows.replace(",", ""))) for step, kept, rows in lines}


@pytest.mark.slow
def test_openclipart_is_laid_down_whole_and_only_once(prepared: PreparedClipart) -> None:
    assert (prepared.rows, prepared.pairs, prepared.pictures_alone, prepared.drawings_alone) == (7459, 6899, 1, 559)
    assert prepared.refused == {}
    rows = [json.loads(line) for line in prepared.captions.read_text(encoding="utf-8").splitlines()]
    there = sum((prepared.images / row["image"]).is_file() for row in rows)
    assert there == prepared.pairs + prepared.pictures_alone == len(list(prepared.images.rglob("*.png")))
    assert sum(row["title"] == "gramastar" for row in rows) == 1375
    before = prepared.captions.stat().st_mtime_ns
    assert prepare(prepared.images.parents[1]) == prepared
    assert prepared.captions.stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_recipe_keeps_what_its_header_says(summary: run.Summary) -> None:
    check_funnel(summary.funnel)
    said = header()
    assert [count.step for count in summary.funnel] == list(said)
    for count in summary.funnel:
        kept, rows = said[count.step]
        slack = 0.005 if set(FLOATS_DECIDE) & set(list(said)[: list(said).index(count.step) + 1]) else 0
        assert count.rows_in == pytest.approx(rows, rel=slack, abs=0), count.step
        assert count.kept == pytest.approx(kept, rel=slack, abs=0), count.step


@pytest.mark.slow
def test_pictures_of_hundreds_of_megapixels_are_refused_by_name(summary: run.Summary) -> None:
    sizes = next(count for count in summary.funnel if count.step == "image_size")
    assert sizes.failed == {"image_too_large": 15}
    banana = found(summary, "food/fruit/banana_mateya_01.png")
    assert (banana["outcome"], banana["rule"]) == ("failed", "image_too_large")
    assert "10561 x 16000 pixels" in banana["value"]


@pytest.mark.slow
def test_a_title_that_stands_under_tens_of_pictures_drops_them_all(summary: run.Summary) -> None:
    star = found(summary, "shapes/stars/star_98pt47step.png")
    assert (star["outcome"], star["rule"], star["text"]) == ("dropped", "text_copies.max", "gramastar")
    assert star["value"] == 1375


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # theirs
def test_webdataset_opens_what_openclipart_became(summary: run.Summary) -> None:
    import webdataset

    tars = [str(summary.folder / shard.tar) for shard in summary.dataset.shards]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode())
    assert len(samples) == summary.dataset.samples == summary.funnel[-1].kept
    assert all(sample["txt"] and sample["png"].startswith(b"\x89PNG") for sample in samples)
    assert sum("keywords" in sample["json"]["meta"] for sample in samples) > len(samples) * 0.9


def found(summary: run.Summary, image: str) -> dict[str, Any]:
    """What `curate explain` tells of the sample of this file."""
    for shard in sorted((summary.pool.folder / "rows").glob("*.parquet")):
        rows = pq.read_table(shard, columns=["origin", "uid"]).to_pydict()
        if image in rows["origin"]:
            return explain(rows["uid"][rows["origin"].index(image)], Path(summary.recipe.out))[0]
    raise AssertionError(f"{image}: no such row")
