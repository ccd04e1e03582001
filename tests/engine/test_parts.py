"""Rules on parts of documents: pictures and paragraphs leave by name and are counted; a threshold costs no model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Outcome, Workplace, errors
from documents import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.document.segments import DOCUMENT, image_segment, text_of, text_segment
from curate.engine.parts import CountColumn, DocumentColumn, PartColumn, PartsLeft, TextColumn
from curate.ops.spec import PartKind

OPS = """
from pathlib import Path
import pyarrow as pa
from curate.document.segments import DOCUMENT, image_segment, text_of, text_segment
from curate.ops import Failed, op

LOG = Path(__file__).with_name("log")

@op(reads="bytes", writes={"document": DOCUMENT, "text": pa.string()}, version=1)
def lines(pages):
    "A line is a heading after a number sign, an image after an exclamation mark, else a paragraph."
    def segment(line):
        if line[0] == "!":
            return image_segment(line[1:])
        return text_segment(line[1:], "heading") if line[0] == "#" else text_segment(line)
    read = [[segment(line) for line in page.decode().splitlines()] for page in pages]
    return {"document": read, "text": [text_of(d) for d in read]}

@op(reads=("image", "language"), writes={"wide": pa.int32(), "of": pa.string()}, version=1, batch_size=4)
def width(images, languages):
    "Stands for a model: tells on the log how many images it was given."
    with LOG.open("a") as log:
        log.write(f"{len(images)}\\n")
    return {"wide": [None if i.width == 77 else i.width for i in images], "of": list(languages)}

@op(reads="text", writes={"letters": pa.int32()}, version=1)
def letters(texts):
    "Fails on one text alone."
    if "bad" in texts and len(texts) > 1:
        raise ValueError("some text")
    return {"letters": [Failed("bad_text", "it is bad") if t == "bad" else len(t) for t in texts]}

@op(reads="text", writes={"text_length": pa.int32()}, version=1)
def text_length(texts):
    return {"text_length": [len(t) for t in texts]}

@op(reads=("text", "text_length"), writes={"share": pa.float64()}, version=1)
def share(texts, whole):
    "Reads of a paragraph, and of its row."
    return {"share": [len(t) / n for t, n in zip(texts, whole)]}

@op(reads="text", writes={"vowels": pa.int32()}, version=1)
def vowels(texts):
    return {"vowels": [sum(c in "aeiou" for c in t) for t in texts]}

@op(reads=("document", "images", "wide"), writes={"document": DOCUMENT, "seen": pa.string()}, version=1)
def reversed_document(documents, images, wide):
    "Writes documents anew, their images in step as they were."
    seen = [f"{sum(s['type'] == 'image' for s in d)} {len(i)} {len(w)}" for d, i, w in zip(documents, images, wide)]
    return {"document": [[*(s for s in d if s["type"] == "text"), *(s for s in d if s["type"] == "image")]
                         for d in documents], "seen": seen}
"""

PAGES = {
    "a.html": "#One\nshort\na rather long paragraph\n!w20.png\n!w50.png\n!gone.png\n!cut.png\n",
    "b.html": "#Two\nbad\nanother long paragraph\n!w40.png\n!w77.png\n",
    "c.html": "a paragraph without any image\n",
}


@pytest.fixture
def site(place: Workplace) -> Workplace:
    place.write_module("own_parts", OPS)
    for name, text in PAGES.items():
        (place.src / name).write_text(text)
    for wide in (20, 40, 50, 77):
        (place.src / f"w{wide}.png").write_bytes(picture(wide, 10, seed=wide))
    whole = picture(60, 60, seed=9)
    (place.src / "cut.png").write_bytes(whole[: len(whole) // 2])
    return place


def steps(widest: int = 100, letters: int = 1, **more: Any) -> list[dict[str, Any]]:
    return [
        {"op": "own_parts:lines"},
        {"op": "language"},
        {"op": "own_parts:letters", "over": "paragraphs", "keep_paragraphs": {"letters": {"min": letters}}},
        {"op": "fetch_images"},
        {"op": "image_file", "over": "images", "keep_images": {"max_side": {"max": widest}}},
        {"op": "own_parts:width", "over": "images", **more},
    ]


def recipe(site: Workplace, ops: list[dict[str, Any]], **changes: Any) -> Path:
    source = {"type": "html", "path": str(site.src)}
    return site.recipe(kind="interleaved", source=source, steps=ops, **changes)


def looked_at(site: Workplace) -> int:
    """Images that the op which stands for a model was given since this was asked last."""
    log = site.root / "log"
    found = sum(map(int, log.read_text().split())) if log.exists() else 0
    log.unlink(missing_ok=True)
    return found


def published(site: Workplace) -> dict[str, list[str]]:
    """By page, the texts and image URLs of its document."""
    found = {}
    for tar in site.dataset.glob("*.tar"):
        import tarfile

        with tarfile.open(tar) as file:
            for member in file:
                if member.name.endswith(".json"):
                    sample = json.load(file.extractfile(member))  # type: ignore[arg-type]
                    found[sample["origin"]] = [s.get("text") or s["url"] for s in sample["segments"]]
    return found


def test_part_threshold_asks_the_model_for_newly_admitted_images_alone(site: Workplace) -> None:
    assert site.run(recipe(site, steps(widest=45))).code == 0
    assert looked_at(site) == 2, "20 and 40; 50, 60 and 77 are too wide, one is not there"
    run = site.run(recipe(site, steps(widest=30)))
    assert (run.steps["width"]["computed"], looked_at(site)) == (0, 0), "fewer images: nothing to compute"
    assert published(site)["b.html"] == ["Two", "another long paragraph"]
    run = site.run(recipe(site, steps(widest=55)))
    assert looked_at(site) == 1, "one that no rule had let through yet"
    assert run.steps["width"]["computed"] == 1
    run = site.run(recipe(site, steps(widest=55, letters=6, keep_images={"wide": {"min": 30}})))
    assert looked_at(site) == 0, "paragraphs, and the model's own threshold, are decisions"
    assert published(site) == {
        "a.html": ["a rather long paragraph", "w50.png", "gone.png"],
        "b.html": ["another long paragraph", "w40.png"],
        "c.html": ["a paragraph without any image"],
    }
    once = site.published()
    site.out = site.root / "anew"
    site.curate("run", site.root / "recipe.yaml", "--inline", "--set", f"out={site.out}")
    assert site.published() == once, "the same bytes as a run from nothing"


def test_values_after_a_loosened_rule_are_those_of_a_run_from_nothing(site: Workplace) -> None:
    """Parts that come back are computed, and so is each whose row is another now."""

    def run(letters: int, **changes: Any) -> list[dict[str, Any]]:
        ops = [*steps(letters=letters)[:3], {"op": "own_parts:text_length"}]
        ops += [{"op": f"own_parts:{name}", "over": "paragraphs"} for name in ("share", "vowels")]
        site.run(recipe(site, ops, **changes))
        rows = [row["columns"] for row in sorted(site.explained(), key=lambda row: str(row["origin"]))]
        return [value for columns in rows for key, value in columns.items() if key.startswith(("share", "vowels"))]

    tight, loose = run(6), run(1)
    shutil.rmtree(site.out)
    assert loose == run(1) != tight


def test_counts_of_parts_add_up_and_name_every_end(site: Workplace) -> None:
    run = site.run(recipe(site, steps(widest=70, letters=4, keep_images={"wide": {"min": 30}}), shard_samples=1))
    parts = {line["step"]: line["parts"] for line in run.json["funnel"] if "parts" in line}
    assert parts["letters"] == {
        "paragraphs": {"in": 7, "kept": 4, "dropped": {"letters.min": 2}, "failed": {"bad_text": 1}}
    }
    assert parts["image_file"]["images"] == {"in": 6, "kept": 5, "dropped": {"max_side.max": 1}, "failed": {}}
    assert parts["width"]["images"] == {
        "in": 5, "kept": 3, "dropped": {"wide.min": 1}, "failed": {"truncated_image": 1}
    }  # fmt: skip
    report = (site.out / "report.html").read_text()
    assert "images of these documents" in report and "truncated_image" in report and "w20.png" in report
    assert "their images" in (site.out / "data_card.md").read_text()
    assert "its paragraphs" in site.curate("status", site.out).stdout


def test_explain_names_rule_and_value_of_every_part_that_left(site: Workplace) -> None:
    site.run(recipe(site, steps(widest=70, letters=6, keep_images={"wide": {"min": 30}})))
    told = {one["origin"]: one["parts_gone"] for one in site.explained()}
    gone = {
        what["what"]: (what["of"], what["part"], what["step"], what["rule"], what["value"]) for what in told["a.html"]
    }
    assert gone == {
        "One": ("paragraphs", 0, "letters", "letters.min", 3),
        "short": ("paragraphs", 1, "letters", "letters.min", 5),
        "w20.png": ("images", 0, "width", "wide.min", 20),
        "cut.png": ("images", 3, "width", "truncated_image", gone["cut.png"][4]),
    }
    assert {part["what"]: part["outcome"] for part in told["b.html"]}["bad"] == "failed"
    assert told["c.html"] == []
    shown = site.curate("explain", site.explained()[0]["uid"], "--out", site.out).stdout
    assert "paragraph 0" in shown or "image 0" in shown


def test_explain_numbers_parts_as_the_document_was_written(site: Workplace) -> None:
    """Whatever rules before have taken out: `image 3` is the fourth of the page."""
    ops = steps(keep_images={"wide": {"min": 55}})
    ops[4]["keep_images"] = {"max_side": {"min": 30}}
    site.run(recipe(site, ops))
    told = next(one["parts_gone"] for one in site.explained() if one["origin"] == "a.html")
    assert [(part["part"], part["step"], part["what"]) for part in told] == [
        (0, "image_file", "w20.png"),
        (1, "width", "w50.png"),
        (3, "width", "cut.png"),
    ]


def test_absent_images_stay_unless_a_rule_asks_for_those_that_are_there(site: Workplace) -> None:
    site.run(recipe(site, steps()))
    assert "gone.png" in published(site)["a.html"]
    ops = steps()
    ops[4]["keep_images"]["image_found"] = {"is": True}
    run = site.run(recipe(site, ops))
    assert "gone.png" not in published(site)["a.html"]
    assert run.json["funnel"][5]["parts"]["images"]["dropped"] == {"image_found.is": 1}
    run = site.run(recipe(site, steps(keep={"images_kept": {"max": 2}, "images_absent": {"min": 1}})))
    assert run.steps["width"]["dropped"] == {"images_absent.min": 2}, "a.html keeps two, and one is absent"


def test_spared_blocks_and_or_null_are_kept_by_rules(site: Workplace) -> None:
    ops = steps(letters=6, keep_images={"wide": {"min": 30, "or_null": True}})
    ops[2]["spare"] = ["heading"]
    site.run(recipe(site, ops))
    assert published(site)["a.html"][:2] == ["One", "a rather long paragraph"]
    assert published(site)["b.html"] == ["Two", "another long paragraph", "w40.png", "w77.png"]
    ops[5]["keep_images"]["wide"].pop("or_null")
    site.run(recipe(site, ops))
    assert published(site)["b.html"] == ["Two", "another long paragraph", "w40.png"]


def test_rows_are_decided_by_what_is_left_of_their_parts(site: Workplace) -> None:
    ops = steps(letters=6, keep={"images_kept": {"min": 1}, "max_wide": {"max": 60, "or_null": True}})
    run = site.run(recipe(site, ops))
    assert run.steps["width"]["dropped"] == {"images_kept.min": 1}
    ops = steps(letters=6, keep={"max_wide": {"max": 45}})
    ops += [{"op": "own_parts:text_length", "keep": {"text_length": {"min": 1}, "paragraphs": {"max": 1}}}]
    run = site.run(
        recipe(site, ops, publish={"columns": ["paragraphs", "images_kept", "images_absent", "max_wide", "wide"]})
    )
    assert run.steps["width"]["dropped"] == {"max_wide.max": 2}, "of a page without images there is none"
    row = next(one for one in site.explained() if one["origin"] == "b.html")
    assert row["columns"][next(k for k in row["columns"] if k.startswith("text_length"))] == {"text_length": 22}


def test_documents_written_anew_keep_their_images_in_step(site: Workplace) -> None:
    ops = [*steps(widest=70, letters=6, keep_images={"wide": {"min": 30}}), {"op": "own_parts:reversed_document"}]
    ops += [{"op": "image_file", "name": "again", "over": "images", "keep_images": {"again.min_side": {"max": 5}}}]
    run = site.run(recipe(site, ops))
    assert run.code == 0, run.stderr
    seen = {one["origin"]: one["columns"] for one in site.explained()}
    assert next(v for k, v in seen["a.html"].items() if k.startswith("reversed"))["seen"] == "2 2 2"
    assert published(site)["a.html"] == ["a rather long paragraph", "gone.png"]
    assert run.json["funnel"][-1]["parts"]["images"]["dropped"] == {"again.min_side.max": 2}


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"op": "clip_score", "over": "paragraphs"}, ["reads images", "`over: images`"]),
        ({"op": "image_file", "over": "images"}, ["steps.1.over", "put fetch_images before it"]),
        ({"op": "own_parts:lines", "over": "paragraphs"}, ["only an op that measures"]),
        ({"op": "image_url_counts", "over": "images"}, ["sees all rows at once"]),
        ({"op": "url_words"}, ["over: images"]),
        ({"op": "own_parts:letters", "over": "paragraphs", "keep_images": {"letters": {"min": 1}}}, ["unknown column"]),
        ({"op": "own_parts:letters", "over": "paragraphs", "keep": {"letters": {"min": 1}}}, ["write keep_images or"]),
        (
            {"op": "own_parts:letters", "over": "paragraphs", "keep_paragraphs": {"letters": {"top": 0.5}}},
            ["min or max"],
        ),
        ({"op": "own_parts:letters", "over": "paragraphs", "spare": ["heading"]}, ["steps.1.spare"]),
        ({"op": "own_parts:letters", "over": "pages"}, ["images", "paragraphs"]),
    ],
)
def test_wrong_use_of_parts_is_refused_before_anything_runs(
    site: Workplace, step: dict[str, Any], words: list[str]
) -> None:
    errors(site.run(recipe(site, [{"op": "own_parts:lines"}, step])), words)


def test_masked_text_is_not_lost_beside_its_document(site: Workplace) -> None:
    """A document is published with its own paragraphs; a text made of what is left of them is not the masked one."""
    lines, letters, mask = *steps(letters=6)[:3:2], {"op": "mask_pii"}
    errors(site.run(recipe(site, [lines, mask])), ["steps.1.op", "'mask_pii' writes a text", "nothing would change"])

    def texts(*ops: dict[str, Any]) -> Outcome:
        source = {"type": "html", "path": str(site.src)}
        return site.run(site.recipe(kind="text", source=source, steps=list(ops)))

    errors(texts(lines, mask, letters), ["steps.2", "step 'mask_pii' writes the text anew", "before it"])
    (site.src / "c.html").write_text("short\nMail jane@example.org about this paragraph.\n")
    assert texts(lines, letters, mask).code == 0
    (tar,) = site.dataset.glob("*.tar")
    assert b"Mail <EMAIL> about this" in tar.read_bytes() and b"jane@" not in tar.read_bytes()


def test_op_over_parts_needs_a_document(site: Workplace) -> None:
    errors(
        site.run(recipe(site, [{"op": "own_parts:letters", "over": "paragraphs"}])),
        ["no earlier step makes a document"],
    )


class Held:
    """Values of a column by row."""

    def __init__(self, rows: Sequence[Any], kind: pa.DataType) -> None:
        self.rows, self.kind = rows, kind

    def take(self, numbers: Any) -> pa.ChunkedArray:
        return pa.chunked_array([pa.array([self.rows[int(n)] for n in numbers], self.kind)])


SHAPES = st.lists(st.lists(st.sampled_from(["image", "text"]), max_size=6), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(SHAPES, st.data())
def test_columns_stay_in_step_whatever_rules_drop_and_steps_write(shapes: list[list[str]], data: st.DataObject) -> None:
    """A naive model that carries each part's values along agrees with columns that are only masked."""
    documents = [
        [image_segment(f"i{r}.{n}") if kind == "image" else text_segment(f"t{r}.{n}") for n, kind in enumerate(shape)]
        for r, shape in enumerate(shapes)
    ]
    rows, everything = list(range(len(documents))), range(len(documents))
    left = PartsLeft()
    document = DocumentColumn(Held(documents, DOCUMENT), left)
    text = TextColumn(Held([text_of(d) for d in documents], pa.string()), document, {}, left)
    naive = [list(d) for d in documents]
    columns: dict[str, tuple[PartColumn, PartKind, dict[tuple[int, str], int]]] = {}
    wanted = {"images": "image", "paragraphs": "text"}
    for number in range(data.draw(st.integers(1, 5))):
        kind: PartKind = data.draw(st.sampled_from(["images", "paragraphs"]))
        names = [[s["url"] or s["text"] for s in d if s["type"] == wanted[kind]] for d in naive]
        values = {(r, name): data.draw(st.integers(0, 9)) for r in rows for name in names[r]}
        lists = Held([[values[r, name] for name in names[r]] for r in rows], pa.list_(pa.int64()))
        columns[f"c{number}"] = PartColumn(lists, kind, left.snapshot(kind, everything), left), kind, values
        for r in rows:
            keep = np.array([values[r, name] > 3 for name in names[r]], dtype=bool)
            if not keep.all():
                left.narrow(kind, r, keep)
                gone = {name for name, kept in zip(names[r], keep, strict=True) if not kept}
                naive[r] = [s for s in naive[r] if (s["url"] or s["text"]) not in gone or s["type"] != wanted[kind]]
        if data.draw(st.booleans()):  # a step writes the documents anew, texts first
            naive = [sorted(d, key=lambda s: s["type"] == "image") for d in naive]
            columns = {name: (c.frozen(everything), k, v) for name, (c, k, v) in columns.items()}
            text = text.frozen(everything)
            left.forget(everything)
            document = DocumentColumn(Held([list(d) for d in naive], DOCUMENT), left)
            text = TextColumn(text, document, {}, left)
        asked = data.draw(st.lists(st.sampled_from(rows), min_size=1, max_size=5))
        assert document.take(asked).to_pylist() == [naive[r] for r in asked]
        assert text.take(asked).to_pylist() == [text_of(naive[r]) for r in asked]
        counts = CountColumn(document, None, "images_kept").take(asked).to_pylist()
        assert counts == [sum(s["type"] == "image" for s in naive[r]) for r in asked]
        for column, of, known in columns.values():
            expected = [[known[r, s["url"] or s["text"]] for s in naive[r] if s["type"] == wanted[of]] for r in asked]
            assert column.take(asked).to_pylist() == expected
