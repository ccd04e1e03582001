"""Texts, pages and documents on the road of captions: content that steps make, bytes as columns, parts of texts."""

from __future__ import annotations

import http.server
import json
import tarfile
import threading
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from conftest import Workplace, errors

OWN = '''
import json, re
import pyarrow as pa
from curate.pool.blob import BLOB, Absent, Stored
from curate.document.segments import DOCUMENT, image_segment, text_segment
from curate.ops import op

@op(reads=("bytes", "origin"), writes={"document": DOCUMENT, "text": pa.string(), "size": pa.int32()}, version=1)
def lines(pages, origins):
    """A line is a text, or an image where it begins with `!`."""
    documents, texts = [], []
    for page in pages:
        said = [line for line in page.decode("utf-8-sig").splitlines() if not line.startswith("<")]
        documents.append([image_segment(s[1:]) if s[0] == "!" else text_segment(s) for s in said])
        texts.append(" ".join(s for s in said if s[0] != "!"))
    return {"document": documents, "text": texts, "size": [len(t) for t in texts]}

@op(reads="text", writes={"text": pa.string(), "changed": pa.bool_()}, version=1)
def louder(texts):
    """Capitals."""
    return {"text": [t.upper() for t in texts], "changed": [t != t.upper() for t in texts]}

@op(reads="text", writes={"pieces": pa.list_(pa.string())}, version=1)
def pieces(texts, *, words: int = 2):
    """Cut."""
    return {"pieces": [[" ".join(t.split()[n : n + words]) for n in range(0, len(t.split()), words)] for t in texts]}

@op(reads="text", writes={"image": BLOB, "letters": pa.int32()}, version=1, batch_size=3)
def drawn(texts):
    """A picture as wide as its text is long."""
    import io
    from PIL import Image
    made = []
    for text in texts:
        Image.new("RGB", (len(text), 9), (len(text) % 256, 0, 0)).save(body := io.BytesIO(), "PNG")
        made.append(Stored(body.getvalue(), "png", len(text), 9))
    return {"image": made, "letters": [len(t) for t in texts]}

@op(reads=("image", "letters"), writes={"fits": pa.bool_()}, version=1)
def fits(images, letters):
    """Whether the picture that is read is the one that was drawn."""
    return {"fits": [i.width == n for i, n in zip(images, letters)]}

@op(reads=("document", "images"), writes={"bytes_seen": pa.list_(pa.int32()), "dead": pa.int32()}, version=1)
def weighed(documents, images):
    """Reads the bytes of each image that is there."""
    return {"bytes_seen": [[len(b.read()) for b in row if b.error is None] for row in images],
            "dead": [sum(b.error is not None for b in row) for row in images]}
'''


@pytest.fixture
def own(place: Workplace) -> Workplace:
    place.write_module("own_ops", OWN)
    return place


def texts(place: Workplace, count: int = 25) -> dict[str, Any]:
    rows = [{"text": " ".join(["word"] * (n % 7 + 1)) + f" number {n}", "n": n} for n in range(count)]
    (place.root / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return {"type": "text", "path": str(place.root / "texts.jsonl"), "keep": ["n"]}


def published(place: Workplace) -> dict[str, dict[str, bytes]]:
    """Every sample's parts, by uid."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(place.dataset.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                uid, _, part = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                found.setdefault(uid, {})[part] = file.read()
    return found


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # theirs
def test_a_text_is_published_with_its_json_and_read_by_webdataset(own: Workplace) -> None:
    found = own.run(own.recipe(kind="text", source=texts(own), steps=[{"op": "text_basic"}]))
    assert found.code == 0, found.stderr
    tars = [str(p) for p in own.dataset.glob("*.tar")]
    read = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode())
    assert len(read) == 25 == found.json["samples"]
    assert all(set(s) >= {"txt", "json"} and s["json"]["meta"]["n"] >= 0 for s in read)
    assert json.loads((own.dataset / "dataset.json").read_text())["kind"] == "text"


def test_what_a_step_makes_of_a_text_is_read_by_the_next_and_published(own: Workplace) -> None:
    steps = [{"op": "own_ops:louder"}, {"op": "own_ops:pieces"}, {"op": "text_basic"}]
    found = own.run(own.recipe(kind="text", source=texts(own), steps=steps))
    assert found.code == 0, found.stderr
    assert all(parts["txt"].decode().isupper() for parts in published(own).values())
    (one,) = own.explained(next(iter(published(own))))
    assert one["text"].islower()  # the pool holds what came


def test_a_named_step_leaves_the_sample_s_text_as_it_was(own: Workplace) -> None:
    steps = [{"op": "own_ops:louder", "name": "loud"}]
    assert own.run(own.recipe(kind="text", source=texts(own), steps=steps)).code == 0
    assert all(parts["txt"].decode().islower() for parts in published(own).values())


def test_a_changed_step_changes_the_columns_of_those_that_read_its_text(own: Workplace) -> None:
    steps = [{"op": "own_ops:louder"}, {"op": "text_basic"}]
    own.run(own.recipe(kind="text", source=texts(own), steps=steps))
    again = own.run(own.recipe(kind="text", source=texts(own), steps=steps[1:]))
    assert again.steps["text_basic"]["computed"] == 25


def test_a_split_text_becomes_samples_that_name_what_they_are_parts_of(own: Workplace) -> None:
    steps = [{"op": "own_ops:pieces", "with": {"words": 3}, "keep": {}}]
    recipe = own.recipe(kind="text", source=texts(own), steps=steps, publish={"split": "pieces"})
    found = own.run(recipe)
    assert found.code == 0, found.stderr
    parts = published(own)
    assert found.json["samples"] == len(parts) > 25 == found.steps["pieces"]["kept"]
    whole: dict[str, list[tuple[int, str]]] = {}
    for sample in parts.values():
        meta = json.loads(sample["json"])["meta"]
        whole.setdefault(meta["part_of"], []).append((meta["part"], sample["txt"].decode()))
    told = {row["uid"]: row["text"] for uid in whole for row in own.explained(uid)}
    assert {uid: " ".join(t for _, t in sorted(pieces)) for uid, pieces in whole.items()} == told
    assert "unchanged" in own.curate("run", recipe, "--inline").stdout
    assert f"{len(parts)} texts, cut from 25 kept of 25 (100 %)" in (own.out / "data_card.md").read_text()
    part, sample = next(iter(parts.items()))
    assert own.explained(part)[0]["uid"] == json.loads(sample["json"])["meta"]["part_of"]


def test_only_a_list_of_texts_can_split_and_only_texts_are_split(own: Workplace) -> None:
    recipe = own.recipe(kind="text", source=texts(own), steps=[{"op": "text_basic"}], publish={"split": "word_count"})
    errors(own.run(recipe), ["publish.split", "'word_count'"])
    own.images(1)
    errors(own.run(own.recipe(publish={"split": "x"})), ["publish.split", "only texts"])


def test_a_kind_says_which_sources_it_is_made_from(own: Workplace) -> None:
    own.images(1)
    errors(own.run(own.recipe(kind="ocr")), ["kind ocr", "pdf", "'folder'"])
    errors(own.run(own.recipe(kind="interleaved")), ["kind interleaved", "'folder'"])


def test_an_image_that_a_step_makes_is_what_later_steps_look_at(own: Workplace) -> None:
    steps = [{"op": "own_ops:drawn"}, {"op": "image_size"}, {"op": "own_ops:fits", "keep": {"fits": {"is": True}}}]
    found = own.run(own.recipe(kind="text", source=texts(own), steps=steps))
    assert found.steps["fits"]["kept"] == 25


def test_bytes_of_rows_let_in_later_lie_in_a_further_tar_and_the_result_is_the_same(own: Workplace) -> None:
    def recipe(least: int, out: str) -> Path:
        own.out = own.root / out
        steps = [
            {"op": "text_basic", "keep": {"word_count": {"min": least}}},
            {"op": "own_ops:drawn"},
            {"op": "own_ops:fits", "keep": {"fits": {"is": True}}},
        ]
        return own.recipe(kind="text", source=texts(own), steps=steps, out=str(own.out))

    own.run(recipe(6, "out"))
    tars = {p.name: p.read_bytes() for p in own.out.rglob("columns/drawn-*/*.tar")}
    again = own.run(recipe(3, "out"))
    assert 0 < again.steps["drawn"]["computed"] < again.steps["drawn"]["in"]
    later = {p.name: p.read_bytes() for p in own.out.rglob("columns/drawn-*/*.tar")}
    assert set(tars) < set(later) and all(later[name] == body for name, body in tars.items())
    assert again.steps["fits"]["kept"] == again.steps["drawn"]["kept"]
    once = own.published()
    own.run(recipe(3, "fresh"))
    assert own.published() == once


SITE = {
    "a/one.html": "first words\n!../pictures/cat.png\nthen more\n!gone.png\n!../pictures/cat.png\n",
    "a/two.html": "only words here\n",
    "three.html": "data\n!data:image/png;base64,{data}\n!http://127.0.0.1:9/x.png\n!../../etc/passwd\n!pictures/note.txt\n",
}


def site(place: Workplace) -> dict[str, Any]:
    import base64

    for name, body in SITE.items():
        path = place.src / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body.replace("{data}", base64.b64encode(place.png(8, 8)).decode()))
    (place.src / "pictures").mkdir()
    (place.src / "pictures" / "cat.png").write_bytes(place.png(31, 17))
    (place.src / "pictures" / "note.txt").write_text("no picture")
    return {"type": "html", "path": str(place.src)}


def documents(place: Workplace, **more: Any) -> Path:
    steps = [{"op": "own_ops:lines"}, {"op": "fetch_images"}, {"op": "own_ops:weighed"}]
    return place.recipe(**({"kind": "interleaved", "steps": steps} | more))


@pytest.fixture
def pages(own: Workplace) -> Workplace:
    own.source = site(own)  # type: ignore[attr-defined]
    # Links are as the pages wrote them: this op resolves none, so what lies beside a page is named from the folder.
    (own.src / "a" / "one.html").write_text(SITE["a/one.html"].replace("../pictures", "pictures"))
    found = own.run(documents(own, source=own.source))  # type: ignore[attr-defined]
    assert found.code == 0, found.stderr
    return own


def test_a_dead_image_leaves_its_document_usable_and_its_absence_recorded(pages: Workplace) -> None:
    found = {json.loads(parts["json"])["origin"]: parts for parts in published(pages).values()}
    assert set(found) == {"a/one.html", "a/two.html", "three.html"}
    one = json.loads(found["a/one.html"]["json"])["segments"]
    assert [s["type"] for s in one] == ["text", "image", "text", "image", "image"]
    assert one[1] | {"sha256": ""} == {
        **{"type": "image", "url": "pictures/cat.png", "part": "0.png", "width": 31, "height": 17, "sha256": ""}
    }
    assert one[3] == {"type": "image", "url": "gone.png", "error": "missing_file"}
    assert one[4]["part"] == "1.png" and found["a/one.html"]["1.png"] == pages.png(31, 17)
    three = [s.get("error") for s in json.loads(found["three.html"]["json"])["segments"]]
    assert three == [None, None, "private_address", "unsafe_name", "not_an_image"]


def test_an_op_reads_the_images_of_a_document_and_counts_those_that_are_missing(pages: Workplace) -> None:
    said = {row["origin"]: row["columns"] for row in pages.explained()}
    columns = {origin: {n: v for folder in found.values() for n, v in folder.items()} for origin, found in said.items()}
    assert columns["a/one.html"]["dead"] == 1 and columns["a/one.html"]["bytes_seen"] == [len(pages.png(31, 17))] * 2
    assert (columns["three.html"]["images_wanted"], columns["three.html"]["images_found"]) == (4, 1)
    assert columns["a/two.html"]["images_missing_share"] == 0


@pytest.mark.slow
def test_documents_are_the_same_with_any_number_of_workers(pages: Workplace) -> None:
    once = pages.published()
    pages.out = pages.root / "two"
    recipe = documents(pages, source=pages.source, out=str(pages.out), shard_samples=10)  # type: ignore[attr-defined]
    assert pages.command("run", recipe, "--workers", "2").code == 0
    assert pages.published() == once


class Pictures(http.server.BaseHTTPRequestHandler):
    """Serves a picture for every path; those that are named late, only once they are there."""

    body = b""
    late = True
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        gone = self.late and "late" in self.path
        body = b"busy" if gone else self.body
        self.send_response(503 if gone else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_retry_fetches_the_images_of_documents_that_lack_some_and_of_no_others(own: Workplace) -> None:
    site = type("Site", (Pictures,), {"body": own.png(9, 9), "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        names = [("a", "late"), ("b", "c"), ("late2", "d")]
        rows = [
            {"url": f"http://x.org/{n}", "html": f"words\n!{base}/{a}\n!{base}/{b}"} for n, (a, b) in enumerate(names)
        ]
        (own.root / "pages.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        source = {"type": "pages", "path": str(own.root / "pages.jsonl"), "html": "html"}
        download = {"allow_private": ["127.0.0.1"], "retries": 0}
        recipe = documents(own, source=source, download=download)
        found = own.run(recipe)
        assert found.code == 0, found.stderr
        site.asked.clear()
        site.late = False  # type: ignore[attr-defined]
        said = own.curate("retry", recipe, "--inline")
        assert said.stdout == "2 documents lack images; `curate run` fetches these again\n" and not site.asked
        again = own.run(recipe)
        assert sorted(site.asked) == ["/a", "/d", "/late", "/late2"]
        assert again.steps["fetch_images"]["computed"] == again.steps["weighed"]["computed"] == 2
        parts = published(own).values()
        assert all(len([n for n in p if n.endswith(".png")]) == 2 for p in parts)
        once = own.published()
        own.out = own.root / "fresh"
        own.run(documents(own, source=source, download=download, out=str(own.out)))
        assert own.published() == once
        server.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # theirs
def test_webdataset_reads_a_document_as_it_stands(pages: Workplace) -> None:
    tars = [str(p) for p in pages.dataset.glob("*.tar")]
    read = {
        s["json"]["origin"]: s for s in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode("pil")
    }
    assert read["a/one.html"]["0.png"].size == (31, 17)
    assert set(read["a/two.html"]) >= {"json"} and "0.png" not in read["a/two.html"]


def test_the_card_of_documents_shows_how_datasets_reads_them(pages: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (pages.out / "data_card.md").read_text()
    snippet = card.rpartition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(pages.out)
    found: dict[str, Any] = {}
    exec(snippet, found)
    assert sorted(row["json"]["origin"] for row in found["rows"]) == ["a/one.html", "a/two.html", "three.html"]


def test_pages_without_the_step_that_draws_them_are_refused(own: Workplace) -> None:
    source = {"type": "pdf", "path": str(own.src)}
    bare = own.recipe(kind="ocr", source=source, steps=[{"op": "pdf_page"}])
    errors(own.run(bare), ["kind: ocr", "'image'", "render_page"])


def test_two_counts_of_a_page_s_words_need_names(own: Workplace) -> None:
    steps = [{"op": "pdf_page"}, {"op": "render_page"}, {"op": "page_text"}, {"op": "text_basic"}]
    recipe = own.recipe(kind="ocr", source={"type": "pdf", "path": str(own.src)}, steps=steps)
    errors(own.run(recipe), ["steps.3", "'word_count' is written twice", "`name:`"])


def test_a_step_without_what_it_reads_is_told_which_op_makes_it(own: Workplace) -> None:
    steps = [{"op": "html_document"}, {"op": "sentence_similarity"}]
    recipe = own.recipe(kind="interleaved", source=site(own), steps=steps)
    errors(own.run(recipe), ["steps.1", "'images'", "put fetch_images", "before it"])


def test_of_the_ops_that_make_what_a_step_lacks_only_those_that_make_all_of_it_are_named(own: Workplace) -> None:
    source = {"type": "pdf", "path": str(own.src)}
    recipe = own.recipe(kind="ocr", source=source, steps=[{"op": "render_page"}, {"op": "page_text"}])
    errors(own.run(recipe), ["steps.1", "'words'", ": put pdf_page before it"])


def test_explain_tells_of_documents_of_any_length(own: Workplace) -> None:
    (own.src / "long.html").write_text("\n".join(f"line {n}" for n in range(500)))
    source = {"type": "html", "path": str(own.src)}
    assert own.run(documents(own, source=source)).code == 0
    (told,) = own.explained()
    (document,) = (columns["document"] for columns in told["columns"].values() if "document" in columns)
    assert document[0]["text"] == "line 0" and document[-1] == "... 500 values"


def test_texts_are_drawn_and_published_as_pages(own: Workplace) -> None:
    source = texts(own, 3)
    assert own.run(own.recipe(kind="ocr", source=source, steps=[{"op": "render_text"}])).code == 0
    for parts in published(own).values():
        told = json.loads(parts["json"])
        assert " ".join(word["text"] for word in told["words"]) == " ".join(parts["txt"].decode().split())
    bare = own.recipe(kind="ocr", source=source, steps=[{"op": "own_ops:louder"}])
    errors(own.run(bare), ["kind: ocr", "'image'", "render_text"])


def test_a_kind_without_the_step_that_makes_its_content_is_refused_before_anything_runs(own: Workplace) -> None:
    recipe = own.recipe(kind="interleaved", source=site(own), steps=[])
    errors(own.run(recipe), ["kind", "'document'", "html_document"])


def test_records_of_ready_documents_are_kept_as_they_came(own: Workplace) -> None:
    rows = [{"images": [None, "http://x/y.png"], "texts": ["a", None], "metadata": str(n)} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), own.root / "ready.parquet")
    source = {"type": "records", "path": str(own.root / "ready.parquet"), "columns": ["images", "texts"]}
    own.write_module(
        "records_op",
        "import json\nfrom curate.document.segments import DOCUMENT, text_segment\nfrom curate.ops import op\n"
        "@op(reads='bytes', writes={'document': DOCUMENT}, version=1)\ndef records(rows):\n    'As texts.'\n"
        "    return {'document': [[text_segment(t) for t in json.loads(r)['texts'] if t] for r in rows]}\n",
    )
    recipe = own.recipe(kind="interleaved", source=source, steps=[{"op": "records_op:records"}])
    found = own.run(recipe)
    # The same record three times is one sample: what the recipe does not take of a row does not tell them apart.
    assert found.code == 0 and found.steps["ingest"]["dropped"] == {"unique_uid": 2}, found.stderr
    (parts,) = published(own).values()
    assert json.loads(parts["json"])["segments"] == [{"type": "text", "text": "a", "block": "paragraph"}]


def test_a_table_of_pages_brings_its_html_along(own: Workplace) -> None:
    rows = [{"url": f"http://x.org/{n}", "html": f"<p>\nline {n}", "date": "2024"} for n in range(2)]
    rows.append({"url": "http://x.org/2", "html": "", "date": ""})
    (own.root / "pages.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    source = {"type": "pages", "path": str(own.root / "pages.jsonl"), "html": "html", "keep": ["date"]}
    found = own.run(own.recipe(kind="text", source=source, steps=[{"op": "own_ops:lines"}]))
    assert found.code == 0, found.stderr
    assert found.steps["ingest"]["failed"] == {"empty_page": 1}
    said = sorted((json.loads(p["json"])["origin"], p["txt"].decode()) for p in published(own).values())
    assert said == [("http://x.org/0", "line 0"), ("http://x.org/1", "line 1")]
