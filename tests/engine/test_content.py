"""Content that steps make and fetch, when recipes change, rows are let in later and retries bring more."""

from __future__ import annotations

import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace, errors
from engine.test_kinds import OWN, Pictures, published, texts
from PIL import Image

FURTHER = (
    OWN
    + '''
from curate.ops import group_op

@op(reads="text", writes={"text": pa.string()}, version=1)
def twice(texts):
    """Said twice."""
    return {"text": [f"{t} {t}" for t in texts]}

@op(reads=("a.text", "b.text"), writes={"both": pa.string()}, version=1)
def both(ones, others):
    """One, then the other."""
    return {"both": [f"{one}|{other}" for one, other in zip(ones, others)]}

@op(reads="text", writes={"maybe": pa.list_(pa.string())}, version=1)
def maybe(texts):
    """Some parts are nothing, some texts have none."""
    return {"maybe": [None if "number 1" in t else [t, None, "", t + " again"] for t in texts]}

@op(reads="text", writes={"error": pa.string()}, version=1)
def bad_name(texts):
    """Takes a name of the engine's."""
    return {"error": texts}

@op(reads="text", writes={"nbytes": pa.int64()}, version=1)
def sized(texts):
    """Takes a name of the row's."""
    return {"nbytes": [7 for t in texts]}

@op(reads="text", writes={"words": pa.int32()}, version=1)
def counted(texts):
    """A count under the name of a page's words."""
    return {"words": [len(t.split()) for t in texts]}

@op(reads="document", writes={"urls": pa.int32()}, version=1)
def links(documents):
    """How many."""
    return {"urls": [len(d) for d in documents]}

@group_op(after=links, writes={"most": pa.int32()}, version=1)
def most_links(inputs, outputs, scratch):
    """The largest of all."""
    import pyarrow.parquet as pq
    tables = [pq.read_table(path) for path in inputs]
    most = max(max(t["urls"].to_pylist(), default=0) for t in tables)
    for table, path in zip(tables, outputs):
        pq.write_table(pa.table({"uid": table["uid"], "most": pa.array([most] * len(table), pa.int32())}), path)

@op(reads=("document", "most"), writes={"document": DOCUMENT}, version=1)
def shortened(documents, most):
    """No longer than the longest."""
    return {"document": [d[:n] for d, n in zip(documents, most)]}

@op(reads="images", writes={"found_bytes": pa.int32()}, version=1)
def measured(images, *, times: int = 1):
    """The bytes of all images that are there."""
    return {"found_bytes": [times * sum(len(b.read()) for b in row if b.error is None) for row in images]}
'''
)


@pytest.fixture
def own(place: Workplace) -> Workplace:
    place.write_module("own_ops", FURTHER)
    return place


@contextmanager
def pictures(body: bytes) -> Iterator[tuple[str, Any]]:
    """A server of one picture, and its handler."""
    site = type("Site", (Pictures,), {"body": body, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", site
        server.shutdown()


def pages(place: Workplace, bodies: list[str]) -> dict[str, Any]:
    """A table of pages as a source, and downloads that may ask this machine."""
    rows = [{"url": f"http://x.org/{n}", "html": body} for n, body in enumerate(bodies)]
    (place.root / "pages.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    source = {"type": "pages", "path": str(place.root / "pages.jsonl"), "html": "html"}
    download = {"allow_private": ["127.0.0.1"], "retries": 0}
    return {"kind": "interleaved", "source": source, "download": download}


def test_op_used_twice_is_right_whatever_a_rule_between_drops(own: Workplace) -> None:
    own.images(20)
    steps = [
        {"op": "image_size", "keep": {"width": {"min": 20}}},
        {"op": "image_size", "name": "again", "keep": {"again.height": {"min": 20}}},
    ]
    found = own.run(own.recipe(steps=steps))
    assert found.code == 0, found.stderr
    assert found.steps["again"]["in"] == found.steps["image_size"]["kept"] < 20
    assert found.steps["again"]["computed"] == 0  # the same op with the same knobs: its values are there


def test_steps_that_change_names_change_what_is_read_under_them(own: Workplace) -> None:
    def said(one: str, other: str) -> set[str]:
        steps = [
            {"op": "own_ops:louder", "name": one},
            {"op": "own_ops:twice", "name": other},
            {"op": "own_ops:both"},
        ]
        recipe = own.recipe(kind="text", source=texts(own, 3), steps=steps, publish={"columns": ["both"]})
        assert own.run(recipe).code == 0
        return {json.loads(p["json"])["both"].split("|")[0] for p in published(own).values()}

    assert all(text.isupper() for text in said("a", "b"))
    assert not any(text.isupper() for text in said("b", "a"))


def test_parts_of_a_text_that_are_nothing_are_no_samples(own: Workplace) -> None:
    recipe = own.recipe(kind="text", source=texts(own, 9), steps=[{"op": "own_ops:maybe"}], publish={"split": "maybe"})
    found = own.run(recipe)
    assert found.code == 0, found.stderr
    assert all(parts["txt"] for parts in published(own).values())
    assert found.json["samples"] == 16 and found.steps["maybe"]["kept"] == 9


def test_columns_have_no_names_of_the_engine_s_own(own: Workplace) -> None:
    recipe = own.recipe(kind="text", source=texts(own, 3), steps=[{"op": "own_ops:bad_name"}])
    errors(own.run(recipe), ["'error'", "name"])


def test_published_column_never_takes_place_of_what_a_row_says_of_its_file(own: Workplace) -> None:
    own.images(3)
    recipe = own.recipe(steps=[{"op": "own_ops:sized"}], publish={"columns": ["nbytes"]})
    errors(own.run(recipe), ["'nbytes'", "name"])


def test_content_of_another_type_is_refused_with_the_way_out(own: Workplace) -> None:
    (own.src / "page.png").write_bytes(own.png(9, 9))
    source = {"type": "pdf", "path": str(own.src)}
    steps = [{"op": "pdf_page"}, {"op": "render_page"}, {"op": "own_ops:counted"}]
    errors(own.run(own.recipe(kind="ocr", source=source, steps=steps)), ["steps.2", "'words'", "content", "`name:`"])


def test_retry_after_a_group_op_fetches_only_what_lacks(own: Workplace) -> None:
    with pictures(own.png(9, 9)) as (base, site):
        how = pages(own, [f"words\n!{base}/a\n!{base}/late", f"words\n!{base}/b"])
        steps = [{"op": "own_ops:lines"}, {"op": "own_ops:most_links"}, {"op": "own_ops:shortened"},
                 {"op": "fetch_images"}, {"op": "own_ops:measured"}]  # fmt: skip
        recipe = own.recipe(steps=steps, **how)
        assert own.run(recipe).code == 0
        site.asked.clear()
        site.late = False
        assert own.curate("retry", recipe, "--inline").stdout.startswith("1 document")
        again = own.run(recipe)
        assert sorted(site.asked) == ["/a", "/late"]
        assert again.steps["fetch_images"]["computed"] == 1


def test_bytes_that_other_rows_name_outlive_a_retry(own: Workplace) -> None:
    """A row let in later has its images in a second tar; the retry forgets all rows of the first."""
    with pictures(b"") as (base, site):
        site.do_GET = lambda self: answer(self, own)
        how = pages(own, [f"short\n!{base}/late1\n!{base}/1", f"a longer page\n!{base}/2\n!{base}/3"])

        def recipe(most: int, out: str = "out") -> Path:
            own.out = own.root / out
            steps = [{"op": "own_ops:lines", "keep": {"size": {"max": most}}}, {"op": "fetch_images"}]
            return own.recipe(steps=steps, out=str(own.out), **how)

        own.run(recipe(6))
        own.run(recipe(100))
        site.late = False
        assert own.curate("retry", recipe(100), "--inline").code == 0
        assert own.run(recipe(100)).code == 0
        once = own.published()
        own.run(recipe(100, "fresh"))
        assert own.published() == once


def answer(request: Any, own: Workplace) -> None:
    """A picture of its own for each path; late ones only once they are there."""
    gone = request.late and "late" in request.path
    body = b"busy" if gone else own.png(9, 9, sum(request.path.encode()))
    request.send_response(503 if gone else 200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def test_retry_leaves_no_earlier_columns_telling_of_what_was_absent(own: Workplace) -> None:
    """After a retry no earlier recipe's columns tell of what was absent."""
    with pictures(own.png(9, 9)) as (base, site):
        how = pages(own, [f"words\n!{base}/a\n!{base}/late"])

        def recipe(times: int) -> Path:
            steps = [
                {"op": "own_ops:lines"},
                {"op": "fetch_images"},
                {"op": "own_ops:measured", "with": {"times": times}},
            ]
            return own.recipe(steps=steps, publish={"columns": ["found_bytes"]}, **how)

        own.run(recipe(1))
        own.run(recipe(2))
        site.late = False
        own.curate("retry", recipe(2), "--inline")
        own.run(recipe(2))
        assert own.run(recipe(1)).code == 0
        (parts,) = published(own).values()
        assert json.loads(parts["json"])["found_bytes"] == 2 * len(own.png(9, 9))


def test_file_whose_name_is_not_utf_8_is_a_failed_row(own: Workplace) -> None:
    own.src.mkdir(exist_ok=True)
    (own.src / "page.png").write_bytes(own.png(9, 9))
    Path(os.fsdecode(os.fsencode(own.src) + b"/caf\xe9.png")).write_bytes(own.png(8, 8))
    steps = [{"op": "own_ops:louder"}, {"op": "render_page"}]
    found = own.run(own.recipe(kind="ocr", source={"type": "pdf", "path": str(own.src)}, steps=steps))
    assert found.steps["ingest"]["failed"] == {"bad_encoding": 1}


def test_changed_file_behind_a_link_makes_another_pool(own: Workplace) -> None:
    def pool(width: int) -> str:
        (own.root / "real").mkdir(exist_ok=True)
        (own.root / "real" / "page.png").write_bytes(own.png(width, 9))
        (own.root / "real" / "page.txt").write_text("a page")
        with tarfile.open(own.root / "real.tar", "w") as tar:
            tar.add(own.root / "real" / "page.png", "page.png")
            tar.add(own.root / "real" / "page.txt", "page.txt")
        found = own.run(own.recipe(source={"type": "webdataset", "path": str(own.src / "*.tar")}))
        assert found.code == 0, found.stderr
        return str(found.json["pool"])

    (own.src / "all.tar").symlink_to(own.root / "real.tar")
    assert pool(9) != pool(30)


def test_run_output_is_no_part_of_the_folder_that_records_name(own: Workplace) -> None:
    """What a run makes is no part of the folder that records name."""
    (own.root / "ready.jsonl").write_text(json.dumps({"texts": ["a"], "images": [None]}) + "\n")
    source = {"type": "records", "path": str(own.root / "ready.jsonl"), "columns": ["images", "texts"]}
    steps = [{"op": "obelics_document"}]
    found = own.run(own.recipe(kind="interleaved", source=source | {"folder": str(own.root)}, steps=steps))
    assert found.code == 1 and "source.folder" in found.stderr


LONG = (
    OWN
    + '''
@op(reads="text", writes={"odd": pa.string()}, version=1)
def odd(texts):
    """Half a character in one of them."""
    return {"odd": ["\\ud800" if "number 1" in t else t for t in texts]}

@op(reads="text", writes={"sworn": pa.string()}, version=1)
def sworn(texts):
    """Fails with what it saw, all of it."""
    raise ValueError("\\udce9" + texts[0] * 10_000)

@op(reads="text", writes={"many": pa.list_(pa.string()), "long": pa.string()}, version=1)
def many(texts):
    """Lists and texts that fill no screen."""
    return {"many": [[t] * 40 for t in texts], "long": [t * 100_000 for t in texts]}

@op(reads="bytes", writes={"held": pa.int64()}, version=1)
def held(files):
    """How many bytes it was given at once."""
    return {"held": [sum(len(f) for f in files)] * len(files)}
'''
)


@pytest.fixture
def odd(place: Workplace) -> Workplace:
    place.write_module("own_ops", LONG)
    return place


def test_value_that_is_no_utf_8_fails_its_row_and_no_other(odd: Workplace) -> None:
    found = odd.run(odd.recipe(kind="text", source=texts(odd, 9), steps=[{"op": "own_ops:odd"}]))
    assert found.steps["odd"]["failed"] == {"bad_encoding": 1} and found.steps["odd"]["kept"] == 8


def test_failure_text_of_an_op_is_kept_as_far_as_it_can_be_read(odd: Workplace) -> None:
    """What an op says of a failure is kept as far as it can be read."""
    steps = [{"op": "own_ops:sworn"}]
    found = odd.run(odd.recipe(kind="text", source=texts(odd, 9), steps=steps, limits={"failed": 1}))
    assert found.steps["sworn"]["failed"] == {"value_error": 9}
    assert all(0 < len(row["value"]) <= 2100 for row in odd.explained()[:3])


def test_explain_fits_a_screen_whatever_the_columns_hold(odd: Workplace) -> None:
    """What is told of a sample fits a screen whatever its columns hold."""
    steps = [{"op": "own_ops:many", "keep": {"long": {"in": ["x"]}}}]
    assert odd.run(odd.recipe(kind="text", source=texts(odd, 9), steps=steps)).code == 0
    said = odd.curate("explain", odd.explained()[0]["uid"], "--out", odd.out, "--json").stdout
    assert len(said) < 20_000


def test_long_document_is_told_of(own: Workplace) -> None:
    steps = [{"op": "own_ops:lines"}]
    recipe = own.recipe(steps=steps, **pages(own, ["\n".join(f"line {n}" for n in range(40))]))
    assert own.run(recipe).code == 0
    (row,) = own.explained()
    (columns,) = row["columns"].values()
    assert columns["document"][-1] == "... 40 values"


def test_page_is_published_as_an_image_or_not_at_all(own: Workplace) -> None:
    body = own.png(9, 9)
    with Image.open(io.BytesIO(body)) as image:
        image.save(own.src / "many.tif", save_all=True, append_images=[image, image])
    source = {"type": "pdf", "path": str(own.src)}
    found = own.run(own.recipe(kind="ocr", source=source, steps=[{"op": "own_ops:louder"}]))
    assert found.code == 2 and "render_page" in found.stderr


def test_op_is_given_no_more_bytes_at_once_than_fit(odd: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.engine.chunk.BATCH_BYTES", 1000)
    rows = [{"text": "x" * 400} for _ in range(9)]
    rows = [{"text": f"{n} {r['text']}"} for n, r in enumerate(rows)]
    (odd.root / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    source = {"type": "text", "path": str(odd.root / "texts.jsonl")}
    recipe = odd.recipe(kind="text", source=source, steps=[{"op": "own_ops:held", "keep": {"held": {"max": 1500}}}])
    assert odd.run(recipe).steps["held"]["kept"] == 9


def test_group_op_is_given_what_step_before_it_wrote_whatever_came_between(own: Workplace) -> None:
    """The nearest of two, and its own values where a later step wrote the same content."""
    (own.root / "group_ops.py").write_text(
        OWN
        + """
from curate.ops import group_op

@group_op(after=louder, writes={"seen": pa.string()}, version=1)
def seen(inputs, outputs, scratch):
    "What it was given."
    import pyarrow.parquet as pq
    for given, path in zip(inputs, outputs):
        table = pq.read_table(given)
        pq.write_table(pa.table({"uid": table["uid"], "seen": table["text"]}), path)

@op(reads="text", writes={"text": pa.string()}, version=1)
def softer(texts):
    "Small letters."
    return {"text": [t.lower() for t in texts]}

@op(reads="text", writes={"text": pa.string()}, version=1)
def longer(texts):
    "A word more."
    return {"text": [t + " indeed" for t in texts]}
"""
    )

    def said(*steps: dict[str, Any]) -> list[str]:
        own.out = own.root / str(len(steps))
        recipe = own.recipe(
            kind="text", source=texts(own, 3), steps=steps, publish={"columns": ["seen"]}, out=str(own.out)
        )
        found = own.run(recipe)
        assert found.code == 0, found.stderr
        return [json.loads(parts["json"])["seen"] for parts in published(own).values()]

    loud, soft, group = ({"op": f"group_ops:{name}"} for name in ("louder", "softer", "seen"))
    assert all(text.isupper() for text in said(loud, soft, group))
    again = said(loud, soft, {"op": "group_ops:longer"}, {"op": "group_ops:louder", "name": "b"}, group)
    assert all(text.endswith("INDEED") for text in again)


def test_group_op_lacking_what_its_row_op_reads_is_refused_before_any_work(own: Workplace) -> None:
    """A group op without what its row op reads is refused before anything runs."""
    steps = [{"op": "own_ops:lines"}, {"op": "image_counts"}]
    errors(own.run(own.recipe(steps=steps, **pages(own, ["words"]))), ["steps.1", "'images'"])


def test_content_that_no_attempt_can_bring_is_not_tried_again(own: Workplace) -> None:
    """What no attempt can bring is not tried again."""
    how = pages(own, ["words\n" + "\n".join(f"!nowhere/{n}" for n in range(1030))])
    recipe = own.recipe(steps=[{"op": "own_ops:lines"}, {"op": "fetch_images"}], **how)
    assert own.run(recipe).code == 0
    assert "documents" not in own.curate("retry", recipe, "--inline").stdout
