"""Interleaved documents through a whole run: paragraphs and images filtered, counts over the corpus, images in step."""

from __future__ import annotations

import json
import tarfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Workplace
from documents import picture

from pipelines.convert.export import export

READER = """
import pyarrow as pa
from curate.document.segments import DOCUMENT, image_segment, text_of, text_segment
from curate.ops import op

@op(reads="bytes", writes={"document": DOCUMENT, "text": pa.string()}, version=1)
def lines(pages):
    "A line is a text, or an image where it begins with an exclamation mark."
    read = [[image_segment(s[1:]) if s[0] == "!" else text_segment(s) for s in p.decode().splitlines()] for p in pages]
    return {"document": read, "text": [text_of(d) for d in read]}
"""

GOOD = "The dog was in the garden when we came home, and it had found the old red ball under the tree."
OTHER = "It was the first day of the week, and all of them had gone to the market to see the new horses."


@pytest.fixture
def site(place: Workplace) -> Workplace:
    place.write_module("own_reader", READER)
    sides = {"cat.png": (200, 160), "small.png": (40, 40), "logo.png": (200, 200), "mine.png": (170, 170)}
    files = {name: picture(*side, seed=n) for n, (name, side) in enumerate(sides.items())}
    files |= {name: picture(180, 180, seed=9) for name in ("same.png", "also.png")}
    files["dog.jpg"] = picture(160, 200, seed=8, kind="JPEG")
    for name, body in files.items():
        (place.src / name).write_bytes(body)
    for n in range(3):
        (place.src / f"p{n}.html").write_text(
            f"Menu\nWe are all of the same house.\n!logo.png\n!same.png\n{n} {GOOD}\n"
        )
    (place.src / "z.html").write_text(f"!cat.png\n{GOOD}\n!small.png\n!gone.png\n!also.png\n{OTHER}\n!dog.jpg\n")
    (place.src / "own.html").write_text(f"Menu\n!mine.png\nHere {GOOD}\n")
    return place


STEPS: list[dict[str, Any]] = [
    {"op": "own_reader:lines"},
    {"op": "language"},
    {
        "op": "obelics_paragraph",
        "over": "paragraphs",
        "keep_paragraphs": {"paragraph_words": {"min": 3}, "paragraph_punctuation": {"min": 0.001, "or_null": True}},
    },
    {"op": "repeated_paragraphs", "keep_paragraphs": {"paragraph_counts": {"max": 2}}},
    {"op": "url_words", "over": "images", "keep_images": {"url_word": {"is": None}}},
    {"op": "image_url_counts", "keep_images": {"image_url_counts": {"max": 3}}},
    {"op": "fetch_images"},
    {
        "op": "image_file",
        "over": "images",
        "keep_images": {"min_side": {"min": 150}, "aspect": {"max": 2}},
        "keep": {"images_kept": {"min": 1, "max": 30}},
    },
    {"op": "image_counts", "keep_images": {"image_counts": {"max": 3}}, "keep": {"images_kept": {"min": 1}}},
    {"op": "duplicate_image_sets", "keep": {"image_set_duplicate_of": {"is": None}}},
    {"op": "duplicate_urls", "keep": {"url_duplicate_of": {"is": None}}},
    {"op": "host_pages"},
]


def documents(place: Workplace) -> dict[str, list[str]]:
    """By origin, what is left of each published document: texts, and images by part or error."""
    found: dict[str, list[str]] = {}
    parts: dict[str, bytes] = {}
    for path in place.dataset.glob("*.tar"):
        with tarfile.open(path) as tar:
            parts |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    for name, body in parts.items():
        if not name.endswith(".json"):
            continue
        said = json.loads(body)
        found[said["origin"]] = [
            s.get("text") or s["url"] + ":" + s.get("part", s.get("error")) for s in said["segments"]
        ]
        for segment in said["segments"]:
            if "part" in segment:
                body = parts[f"{said['uid']}.{segment['part']}"]
                assert body == (place.src / segment["url"]).read_bytes(), "each place has its own image"
    return found


def test_documents_come_out_of_all_filters_with_their_images_in_step(site: Workplace) -> None:
    source = {"type": "html", "path": str(site.src)}
    run = site.run(site.recipe(kind="interleaved", source=source, steps=STEPS, shard_samples=2))
    assert run.code == 0, run.stderr
    assert documents(site) == {
        "z.html": ["cat.png:0.png", GOOD, "gone.png:missing_file", OTHER, "dog.jpg:1.jpg"],
        "own.html": ["mine.png:0.png", f"Here {GOOD}"],
    }
    assert run.steps["image_counts"]["dropped"] == {"images_kept.min": 3}
    once = site.published()
    assert site.run(site.recipe(kind="interleaved", source=source, steps=STEPS, shard_samples=2)).code == 0
    site.out = site.root / "other"
    whole = site.recipe(kind="interleaved", source=source, steps=STEPS, out=str(site.out))
    assert site.run(whole).code == 0
    assert site.published()["00000.tar"] == once["00000.tar"], "however the pages are cut into shards"


def test_another_threshold_counts_nothing_again(site: Workplace) -> None:
    source = {"type": "html", "path": str(site.src)}
    site.run(site.recipe(kind="interleaved", source=source, steps=STEPS))
    more = {"keep_images": {"image_counts": {"max": 9}}}
    loose = [step | more if step["op"] == "image_counts" else step for step in STEPS]
    run = site.run(site.recipe(kind="interleaved", source=source, steps=loose))
    assert run.code == 0, run.stderr
    assert run.steps["image_counts"]["computed"] == run.steps["fetch_images"]["computed"] == 0
    assert run.steps["image_counts"]["dropped"] == {}
    assert "also.png:1.png" in documents(site)["z.html"]


def test_an_obelics_table_goes_through_a_run_and_comes_out_the_same(place: Workplace) -> None:
    rows = [
        {
            "images": ["http://a.org/1.jpg", None, f"http://a.org/{n}.jpg", None],
            "metadata": json.dumps([{"alt_text": "first"}, None, {}, None]),
            "texts": [None, f"{GOOD}\n\n{OTHER}", None, f"End {n}."],
        }
        for n in range(5)
    ]
    pq.write_table(pa.Table.from_pylist(rows), place.root / "obelics.parquet")
    columns = ["images", "texts", "metadata"]
    source = {"type": "records", "path": str(place.root / "obelics.parquet"), "columns": columns}
    run = place.run(place.recipe(kind="interleaved", source=source, steps=[{"op": "obelics_document"}]))
    assert run.code == 0, run.stderr
    export(place.dataset, place.root / "back", "obelics")
    back = [row for path in (place.root / "back").iterdir() for row in pq.read_table(path).to_pylist()]
    shuffled = sorted(back, key=lambda row: str(row["texts"]))
    assert [{k: row[k] for k in ("images", "texts")} for row in shuffled] == [
        {k: row[k] for k in ("images", "texts")} for row in rows
    ]
    assert json.loads(back[0]["metadata"])[0]["alt_text"] == "first"
