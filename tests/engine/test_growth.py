"""A source that grows, shrinks or changes in part: what stays the same is not fetched or computed again, and the result
is that of a run from nothing."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import os
import shutil
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace
from engine.test_kinds import OWN, Pictures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warcs import answer, record

STEPS: list[dict[str, Any]] = [
    {"op": "text_basic", "keep": {"word_count": {"min": 2}}},
    {"op": "near_duplicate_texts", "keep": {"duplicate_of": {"is": None}}},
]


def texts(place: Workplace, numbers: list[int], out: str = "out", **more: Any) -> Path:
    """A recipe over a table with a text for each number."""
    rows = [json.dumps({"text": f"the tide of day {n} " + f"w{n} " * (n % 9)}) + "\n" for n in numbers]
    (place.root / "texts.jsonl").write_text("".join(rows))
    source = {"type": "text", "path": str(place.root / "texts.jsonl")}
    place.out = place.root / out
    return place.recipe(**({"kind": "text", "source": source, "out": str(place.out), "steps": STEPS} | more))


def computed(place: Workplace, recipe: Path) -> tuple[int, ...]:
    """Run; how many rows each step that is no group op computed."""
    steps = place.run(recipe).steps
    return tuple(line["computed"] for name, line in steps.items() if name != "near_duplicate_texts")


def test_growing_table_computes_only_new_rows(place: Workplace) -> None:
    """Of a table that grew only what is new is computed."""
    assert computed(place, texts(place, [*range(40)])) == (40, 40, 40)
    assert computed(place, texts(place, [*range(57)])) == (17, 17, 17)
    grown = place.published()
    assert computed(place, texts(place, [*range(57)], "anew")) == (57, 57, 57)
    assert place.published() == grown


def test_source_that_is_as_it_was_once_computes_nothing(place: Workplace) -> None:
    computed(place, texts(place, [*range(20)]))
    once = place.published()
    computed(place, texts(place, [*range(35)]))
    assert place.published() != once
    assert computed(place, texts(place, [*range(20)])) == (0, 0, 0)
    assert place.published() == once and len(list(place.out.glob("pool-*"))) == 1


def test_repeated_rows_are_dropped_by_name_though_their_shards_are_the_same(place: Workplace) -> None:
    """Rows that a table says twice are dropped by name though their shards are the same."""
    place.images(10)
    rows = "".join(f"{n:05d}.png,picture {n}\n" for n in range(10))
    (place.root / "captions.csv").write_text("image,text\n" + rows * 3)
    source = {"type": "folder", "path": str(place.src), "captions": str(place.root / "captions.csv")}
    ingest = place.run(place.recipe(source=source)).steps["ingest"]
    assert (ingest["in"], ingest["kept"], ingest["dropped"]) == (30, 10, {"unique_uid": 20})


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=30), min_size=2, max_size=3))
@pytest.mark.slow
def test_source_decides_the_result_whatever_it_was_before(place: Workplace, histories: list[list[int]]) -> None:
    """Whatever a source was before, the result is that of what it is."""
    for number, rows in enumerate(histories):
        assert place.run(texts(place, rows, shard_samples=4)).code == 0
        grown = place.published()
        assert place.run(texts(place, rows, f"anew{number}", shard_samples=4)).code == 0
        assert place.published() == grown


def test_archive_that_sorts_before_the_others_leaves_them_as_they_are(place: Workplace) -> None:
    def archive(name: str) -> None:
        pages = [f"<p>Page {n} of {name} tells of the tide and the moon." for n in range(5)]
        urls = [f"https://example.org/{name}/{n}" for n in range(5)]
        served = [record(answer(page.encode()), url) for url, page in zip(urls, pages, strict=True)]
        data = b"".join(map(gzip.compress, served))
        (place.src / f"{name}.warc.gz").write_bytes(data)

    archive("b"), archive("c")
    source = {"type": "warc", "path": str(place.src / "*.warc.gz")}
    steps = [{"op": "html_document"}, {"op": "text_basic"}]
    recipe = place.recipe(kind="interleaved", source=source, steps=steps)
    assert [line["computed"] for line in place.run(recipe).steps.values()] == [10, 10, 10]
    archive("a")
    assert [line["computed"] for line in place.run(recipe).steps.values()] == [5, 5, 5]
    (place.src / "b.warc.gz").unlink()
    found = place.run(recipe)
    assert [line["computed"] for line in found.steps.values()] == [0, 0, 0] and found.json["samples"] == 10


def test_replaced_picture_is_read_anew_and_other_shards_are_not(place: Workplace) -> None:
    """A picture that was replaced is read anew and its neighbours in other shards are not."""
    place.images(30)
    assert place.run(place.recipe(steps=[{"op": "image_size"}])).steps["image_size"]["computed"] == 30
    (place.src / "00012.png").write_bytes(place.png(77, 55))
    found = place.run(place.recipe(steps=[{"op": "image_size"}], publish={"columns": ["width"]}))
    assert found.steps["image_size"]["computed"] == 10
    widths = []
    with tarfile.open(place.dataset / "00000.tar") as tar:
        widths = [json.load(file)["width"] for m in tar if m.name.endswith("json") and (file := tar.extractfile(m))]
    assert len(widths) == 30 and 77 in widths


def test_caption_beside_a_picture_that_was_written_anew_is_read_anew(place: Workplace) -> None:
    place.images(3)
    place.run(place.recipe())
    (place.src / "00001.txt").write_text("another caption")
    place.run(place.recipe())
    with tarfile.open(place.dataset / "00000.tar") as tar:
        said = [file.read() for m in tar if m.name.endswith("txt") and (file := tar.extractfile(m))]
    assert b"another caption" in said and len(said) == 3


def captions_published(place: Workplace) -> set[str]:
    """The captions of the dataset."""
    with tarfile.open(place.dataset / "00000.tar") as tar:
        return {file.read().decode() for m in tar if m.name.endswith("txt") and (file := tar.extractfile(m))}


def test_caption_tables_count_each(place: Workplace) -> None:
    """Of several tables of captions each counts."""
    place.images(2)
    for number, name in enumerate(("a", "b")):
        (place.root / f"captions-{name}.csv").write_text(f"image,text\n{number:05d}.png,by {name}\n")
    source = {"type": "folder", "path": str(place.src), "captions": str(place.root / "captions-*.csv")}
    assert place.run(place.recipe(source=source)).json["samples"] == 2
    (place.root / "captions-b.csv").write_text("image,text\n00001.png,said anew\n")
    place.run(place.recipe(source=source))
    assert captions_published(place) == {"by a", "said anew"}


def test_link_to_another_folder_of_pictures_is_another_source(place: Workplace) -> None:
    for number, name in enumerate(("old", "new")):
        (place.src / name).mkdir()
        (place.src / name / "a.png").write_bytes(place.png(20 + number, 20))
    (place.src / "current").symlink_to("old")
    (place.root / "captions.csv").write_text("image,text\ncurrent/a.png,a picture\n")
    source = {"type": "folder", "path": str(place.src), "captions": str(place.root / "captions.csv")}
    recipe = place.recipe(source=source, steps=[{"op": "image_size", "keep": {"width": {"min": 21}}}])
    assert place.run(recipe).json["samples"] == 0
    (place.src / "current").unlink()
    (place.src / "current").symlink_to("new")
    assert place.run(recipe).json["samples"] == 1


def test_dataset_in_a_folder_of_ones_own_that_changed_is_read_anew(place: Workplace) -> None:
    (folder := place.root / "hub").mkdir()
    recipe = place.recipe(kind="text", source={"type": "text", "huggingface": str(folder)})
    for texts in (["one", "two"], ["one", "two", "three"]):
        (folder / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        assert place.run(recipe).json["samples"] == len(texts)


def test_tars_that_were_moved_are_found_where_they_lie_now(place: Workplace) -> None:
    with tarfile.open(place.src / "a.tar", "w") as tar:
        for name, body in (("0.png", place.png()), ("0.txt", b"a picture")):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    assert place.run(place.recipe(source={"type": "webdataset", "path": str(place.src / "*.tar")})).code == 0
    once = place.published()
    place.src.rename(moved := place.root / "moved")
    publish = {"shard_samples": 7}  # another choice, so that the bytes are read again
    found = place.run(place.recipe(source={"type": "webdataset", "path": str(moved / "*.tar")}, publish=publish))
    assert found.code == 0, found.stderr
    assert place.published()["00000.tar"] == once["00000.tar"]


def test_planning_looks_at_a_folder_as_often_for_many_shards_as_for_few(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planning pages looks at their folder as often for many shards as for few."""
    for number in range(12):
        (place.src / f"{number}.html").write_text(f"<p>Page {number} tells of the tide.</p>")
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(str(path)), scandir(path))[1])
    looks = []
    for rows in (12, 1):
        listed.clear()
        out = str(place.root / f"out-{rows}")
        source = {"type": "html", "path": str(place.src)}
        assert place.run(place.recipe(kind="text", source=source, shard_samples=rows, out=out, steps=[])).code == 0
        looks.append(listed.count(str(place.src)))
    assert looks[0] == looks[1]


def test_growing_url_list_fetches_only_new_rows(
    place: Workplace,
) -> None:
    """Of a list of URLs that grew only the new are asked for and a retry asks again for all that failed."""
    site = type("Site", (Pictures,), {"body": place.png(9, 9), "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def recipe(names: list[str]) -> Path:
            lines = [f"http://127.0.0.1:{server.server_port}/{name}\t{name} on a wall" for name in names]
            (place.root / "list.tsv").write_text("\n".join(["url\ttext", *lines]) + "\n")
            source = {"type": "urls", "path": str(place.root / "list.tsv")}
            download = {"allow_private": ["127.0.0.1"], "retries": 0}
            return place.recipe(source=source, download=download, shard_samples=2, limits={"failed": 1.0})

        assert place.run(recipe(["a", "late", "b", "c"])).json["samples"] == 3
        site.asked.clear()
        again = place.run(recipe(["a", "late", "b", "c", "d", "late2"]))
        assert again.json["samples"] == 4 and sorted(site.asked) == ["/d", "/late2"]
        site.late = False  # type: ignore[attr-defined]
        assert place.curate("retry", recipe(["a", "late", "b", "c", "d", "late2"]), "--inline").code == 0
        assert place.run(recipe(["a", "late", "b", "c", "d", "late2"])).json["samples"] == 6
        site.asked.clear()
        # The list as it was at first: what came by the retry is there, though no run of it knew.
        assert place.run(recipe(["a", "late", "b", "c"])).json["samples"] == 4 and not site.asked
        server.shutdown()


def test_changed_rule_before_a_group_op_fetches_no_image_again(place: Workplace) -> None:
    site = type("Site", (Pictures,), {"body": place.png(9, 9), "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"

        def recipe(pages: int, min_words: int) -> Path:
            html = [
                f"<article><p>{'tide ' * (n + 2)}</p><img src='{base}/{n % 4}.png'></article>" for n in range(pages)
            ]
            rows = [json.dumps({"url": f"https://example.org/{n}", "html": one}) + "\n" for n, one in enumerate(html)]
            (place.root / "pages.jsonl").write_text("".join(rows))
            steps = [
                {"op": "html_document"},
                {"op": "text_basic", "keep": {"word_count": {"min": min_words}}},
                {"op": "image_url_counts", "keep_images": {"image_url_counts": {"max": 3}}},
                {"op": "fetch_images"},
            ]
            source = {"type": "pages", "path": str(place.root / "pages.jsonl"), "html": "html"}
            more = {"download": {"allow_private": ["127.0.0.1"]}, "source": source, "steps": steps}
            return place.recipe(kind="interleaved", shard_samples=5, **more)

        first = place.run(recipe(12, 3))
        assert first.steps["fetch_images"]["computed"] == 11
        site.asked.clear()
        assert place.run(recipe(12, 5)).steps["fetch_images"]["computed"] == 0 and not site.asked
        # Two more pages: one picture is now on four, which is too many: three pages read otherwise, and the last shard.
        assert place.run(recipe(14, 3)).steps["fetch_images"]["computed"] == 3 + 4
        grown = place.published()
        place.out = place.root / "anew"
        place.curate("run", recipe(14, 3), "--inline", "--set", f"out={place.out}")
        assert place.published() == grown
        server.shutdown()


def test_pictures_taken_over_by_other_columns_are_not_written_over(
    place: Workplace,
) -> None:
    """Pictures that other columns took over are not written over though their own columns are gone."""
    place.write_module("own_ops", OWN)
    rows = [json.dumps({"text": "word " * (n % 4 + 1) + chr(97 + n) * 5}) + "\n" for n in range(12)]
    (place.root / "texts.jsonl").write_text("".join(rows))

    def recipe(words: int, **more: Any) -> Path:
        steps = [
            {"op": "text_basic", "name": "of", "keep": {"of.word_count": {"min": words}}},
            {"op": "repeated_lines"},
            {"op": "without_repeated_lines"},
            {"op": "own_ops:drawn"},
        ]
        source = {"type": "text", "path": str(place.root / "texts.jsonl")}
        return place.recipe(kind="ocr", source=source, steps=steps, shard_samples=12, **more)

    assert place.run(recipe(2)).steps["drawn"]["computed"] == 12
    (first,) = place.out.glob("pool-*/columns/drawn-*/*.parquet")
    assert place.run(recipe(3)).steps["drawn"]["computed"] == 0  # the pictures are those of the first columns
    pictures = place.published()["00000.tar"]
    first.unlink()
    shutil.rmtree(place.out / "stages")
    assert place.run(recipe(2)).steps["drawn"]["computed"] == 3  # what the second had not let in
    assert place.run(recipe(3)).steps["drawn"]["computed"] == 0
    assert place.published()["00000.tar"] == pictures
