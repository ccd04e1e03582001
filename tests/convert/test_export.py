"""Datasets go to other projects' formats and come back; what cannot go is named, and nothing half-written is left."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from documents import picture, row, shown
from PIL import Image
from published import MAKERS, Store, interleaved, made, ocr, parts_of, published, tarred

from curate.ops.extract.records import llava_document, mmc4_document, obelics_document
from curate.shards import load_dataset, verify
from pipelines.convert.bring_in import import_dataset
from pipelines.convert.export import ConvertError, export, webdataset_features


@pytest.fixture(params=sorted(MAKERS))
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_datasets_parquet_round_trip_of_each_kind_is_byte_for_byte(tmp_path: Path, kind: Any) -> None:
    """A dataset of each kind goes to datasets parquet and comes back byte for byte."""
    before = made(tmp_path, kind)
    told = export(before, tmp_path / "parquet", "datasets")
    assert (told.samples, told.files) == (10, ("00000.parquet", "00001.parquet", "00002.parquet"))
    back = import_dataset(tmp_path / "parquet", tmp_path / "back", "datasets")
    assert (back.kind, back.samples, back.failed) == (kind, 10, {})
    assert parts_of(tmp_path / "back") == parts_of(before)
    assert [s.sha256 for s in load_dataset(tmp_path / "back").shards] == [s.sha256 for s in load_dataset(before).shards]
    assert not any(verify(tmp_path / "back" / s.tar) for s in load_dataset(tmp_path / "back").shards)


def test_parquet_files_open_in_datasets_with_their_pictures(tmp_path: Path, kind: Any) -> None:
    export(made(tmp_path, kind), tmp_path / "parquet", "datasets")
    files = str(tmp_path / "parquet" / "*.parquet")
    rows = list(datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")))
    assert len(rows) == 10
    if kind == "interleaved":
        three = rows[3]
        assert [image and image.size for image in three["images"]] == [(20, 20), None, (21, 20), None, (22, 20), None]
        assert three["texts"][1] == "Paragraph 0 of document 3."
    elif kind != "text":
        assert rows[0]["image"].size == ((24, 20) if kind == "caption" else (40, 30))
    assert json.loads(rows[0]["json"])["uid"] == rows[0]["uid"]


@pytest.mark.parametrize("streaming", [False, True])
def test_tars_open_in_datasets_as_they_stand(tmp_path: Path, kind: Any, streaming: bool) -> None:
    dataset = made(tmp_path, kind)
    tars = {"train": str(dataset / "*.tar")}
    rows = datasets.load_dataset(
        "webdataset", data_files=tars, split="train", streaming=streaming, cache_dir=str(tmp_path / "cache"),
        features=webdataset_features(dataset),
    )  # fmt: skip
    found = {r["__key__"]: r for r in rows}
    for uid, parts in parts_of(dataset).items():
        assert found[uid]["json"] == json.loads(parts["json"])
        images = {name for name, value in found[uid].items() if isinstance(value, Image.Image)}
        assert images == set(parts) - {"json", "txt"}
    if kind in ("caption", "text", "ocr"):
        plain = datasets.load_dataset("webdataset", data_files=tars, split="train", streaming=True)
        assert len(list(plain)) == 10, "a kind whose samples all have the same parts needs no features"


def test_documents_go_to_obelics_and_come_back_the_same(tmp_path: Path) -> None:
    dataset = made(tmp_path, "interleaved")
    export(dataset, tmp_path / "out", "obelics")
    rows = [r for p in sorted((tmp_path / "out").glob("*.parquet")) for r in pq.read_table(p).to_pylist()]
    assert set(rows[0]) == {"images", "metadata", "general_metadata", "texts"}
    for found, parts in zip(rows, parts_of(dataset).values(), strict=True):
        document = row(obelics_document([json.dumps(found).encode()]))["document"]
        segments = json.loads(parts["json"])["segments"]
        assert shown(document) == [s.get("text") or s["url"] for s in segments]
        assert [s["alt"] for s in document] == [s.get("alt") for s in segments]


def test_documents_go_to_mmc4_and_come_back_the_same(tmp_path: Path) -> None:
    dataset = made(tmp_path, "interleaved", 3)
    export(dataset, tmp_path / "out", "mmc4")
    (file,) = (tmp_path / "out").iterdir()
    lines = file.read_bytes().splitlines()
    for line, parts in zip(lines, parts_of(dataset).values(), strict=True):
        segments = json.loads(parts["json"])["segments"]
        document = row(mmc4_document([line]))["document"]
        said = " ".join(s["text"] for s in segments if s["type"] == "text")
        assert " ".join(s["text"] for s in document if s["type"] == "text") == said
        assert [s["url"] for s in document if s["type"] == "image"] == [s["url"] for s in segments if "url" in s]


def test_captions_go_to_llava_with_their_images(tmp_path: Path) -> None:
    dataset = made(tmp_path, "caption", 5)
    told = export(dataset, tmp_path / "out", "llava", prompt="What is this?")
    entries = json.loads((tmp_path / "out" / "llava.json").read_text())
    assert len(entries) == told.samples == 5 and len(told.files) == 6
    samples = parts_of(dataset)
    for entry in entries:
        assert (tmp_path / "out" / entry["image"]).read_bytes() == samples[entry["id"]]["png"]
        asked, answer = entry["conversations"]
        assert (asked["from"], asked["value"]) == ("human", "<image>\nWhat is this?")
        assert (answer["from"], answer["value"].encode()) == ("gpt", samples[entry["id"]]["txt"])


def test_llava_conversation_comes_in_goes_through_a_dataset_and_out_again(tmp_path: Path) -> None:
    turns = [("human", "<image>\nWhat is it?"), ("gpt", "A cat."), ("human", "And this?\n<image>"), ("gpt", "A dog.")]
    record = {"id": "7", "image": ["a.png", "b.png"], "conversations": [{"from": f, "value": v} for f, v in turns]}
    document = row(llava_document([json.dumps(record).encode()]))["document"]
    store = Store(tmp_path)
    images = [store.place(picture(20, 20, seed=n)) for n in range(2)]
    sample = store.sample("interleaved", 7, document=document, images=images, text="")
    segments = json.loads(sample["json"])["segments"]
    assert [s.get("block") for s in segments] == [None, "question", "answer", "question", None, "answer"]
    dataset = published(tmp_path / "dataset", "interleaved", [sample])
    export(dataset, tmp_path / "out", "llava")
    (entry,) = json.loads((tmp_path / "out" / "llava.json").read_text())
    assert [t["from"] for t in entry["conversations"]] == ["human", "gpt", "human", "gpt"]
    assert len(entry["image"]) == 2
    again = row(llava_document([json.dumps(entry).encode()]))["document"]
    assert [s["text"] or "image" for s in again] == [s["text"] or "image" for s in document]


def test_documents_go_to_energons_format_and_come_back(tmp_path: Path) -> None:
    dataset = made(tmp_path, "interleaved")
    told = export(dataset, tmp_path / "out", "energon")
    assert {".nv-meta/dataset.yaml", ".nv-meta/sample_loader.py", "00000.tar"} <= set(told.files)
    loader: dict[str, Any] = {}
    exec((tmp_path / "out" / ".nv-meta" / "sample_loader.py").read_text(), loader)
    before = parts_of(dataset)
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        raw: dict[str, dict[str, Any]] = {}
        for member in tar:
            key, _, name = member.name.partition(".")
            body = tar.extractfile(member).read()  # type: ignore[union-attr]
            raw.setdefault(key, {"__key__": key})[name] = json.loads(body) if name == "json" else body
    for uid, sample in raw.items():
        segments = json.loads(before[uid]["json"])["segments"]
        sequence = loader["sample_loader"](sample)["sequence"]
        assert [s for s in sequence if isinstance(s, bytes)] == [
            before[uid][s["part"]] for s in segments if "part" in s
        ]
        texts = [s["text"] for s in segments if s["type"] == "text"]
        assert "\n\n".join(s for s in sequence if isinstance(s, str)) == "\n\n".join(texts)
    back = import_dataset(tmp_path / "out", tmp_path / "back", "energon")
    assert (back.samples, back.failed) == (10, {})
    for uid, parts in parts_of(tmp_path / "back").items():
        assert {n: b for n, b in parts.items() if n != "json"} == {n: b for n, b in before[uid].items() if n != "json"}


def test_foreign_parquet_with_images_inside_becomes_documents(tmp_path: Path) -> None:
    rows = [
        {"images": [{"bytes": picture(20, 30), "path": "x.png"}, None], "texts": [None, "One.\n\nTwo."]},
        {"images": [{"bytes": b"no image", "path": None}], "texts": [None]},
        {"images": [None, None], "texts": ["a"]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "foreign.parquet")
    back = import_dataset(tmp_path / "foreign.parquet", tmp_path / "back", "datasets")
    assert (back.kind, back.samples, back.failed) == ("interleaved", 2, {"bad_record": 1})
    first, second = (json.loads(p["json"])["segments"] for p in parts_of(tmp_path / "back").values())
    assert [s.get("text", s.get("part")) for s in first] == ["0.png", "One.", "Two."]
    assert (first[0]["width"], first[0]["height"]) == (20, 30)
    assert second[0]["error"] == "not_an_image"


def test_rows_pretending_to_be_ours_are_counted_and_write_nothing_strange(tmp_path: Path) -> None:
    """Rows that only pretend to be ours are counted and write nothing strange."""
    uid, image = "0" * 32, {"bytes": picture(20, 20), "path": "x"}
    said = [
        {"segments": [{"type": "image", "part": "../../x.png"}]},
        {"segments": [{"type": "image", "part": "json"}]},
        {"segments": [{"type": "image", "part": "0.png"}, {"type": "image", "part": "0.png"}]},
        {"segments": 5},
    ]
    rows = [{"uid": uid, "json": json.dumps(s), "images": [image], "texts": [""]} for s in said]
    rows += [{"uid": "x", "json": "{}", "images": None, "texts": None}, {**rows[0], "json": "["}]
    rows += [{"uid": uid, "json": '{"segments": []}', "images": None, "texts": None}] * 2
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    back = import_dataset(tmp_path / "in.parquet", tmp_path / "back", "datasets")
    told = {"bad_record": 3, "images_out_of_step": 1, "not_interleaved": 1, "not_json": 1, "repeated_uid": 1}
    assert (back.samples, back.failed) == (1, told)


def test_hostile_tar_loses_only_its_broken_samples(tmp_path: Path) -> None:
    tar = tarred(tmp_path / "in.tar", {
        "good.0.png": picture(20, 20), "good.json": b'{"images": ["0.png", "gone.png"], "texts": [null, null]}',
        "bad.json": b"{", "bare.0.png": picture(20, 20), "odd.json": b'{"images": [1], "texts": [2]}',
    })  # fmt: skip
    back = import_dataset(tar, tmp_path / "back", "energon")
    assert (back.samples, back.failed) == (1, {"bad_record": 1, "missing_json": 1, "not_json": 1})
    (parts,) = parts_of(tmp_path / "back").values()
    assert [s.get("part", s.get("error")) for s in json.loads(parts["json"])["segments"]] == ["0.png", "missing_part"]


def test_content_without_room_in_a_format_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    """What a format has no room for is refused and nothing is left."""
    dataset = made(tmp_path, "interleaved", 6)
    with pytest.raises(ConvertError, match="not_a_conversation"):
        export(dataset, tmp_path / "out", "llava")
    with pytest.raises(ConvertError, match="interleaved"):
        export(made(tmp_path / "t", "text", 2), tmp_path / "out", "obelics")
    with pytest.raises(ConvertError, match="obelics"):
        export(dataset, tmp_path / "out", "obelix")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    (tmp_path / "out").mkdir()
    with pytest.raises(ConvertError, match="there already"):
        export(dataset, tmp_path / "out", "obelics")


def test_source_of_which_nothing_comes_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"no \.tar files"):
        import_dataset(tmp_path, tmp_path / "out", "energon")
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(ConvertError, match="images and texts"):
        import_dataset(tmp_path, tmp_path / "out", "datasets")
    (tmp_path / "y.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConvertError, match="not a readable Parquet"):
        import_dataset(tmp_path / "y.parquet", tmp_path / "out", "datasets")
    pq.write_table(pa.table({"text": [5]}), tmp_path / "z.parquet")
    with pytest.raises(ConvertError, match="bad_record 1"):
        import_dataset(tmp_path / "z.parquet", tmp_path / "out", "datasets")
    assert not (tmp_path / "out").exists()


def test_export_that_was_killed_is_begun_anew(tmp_path: Path) -> None:
    dataset = made(tmp_path, "text", 3)
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp" / "half.parquet").write_bytes(b"half")
    assert export(dataset, tmp_path / "out", "datasets").files == ("00000.parquet",)
    assert not (tmp_path / ".out.tmp").exists()


def test_examples_in_the_docs_are_what_is_written(tmp_path: Path) -> None:
    said = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    examples = {name: json.loads(body) for name, body in re.findall(r"```json (\w+)\n(.*?)```", said, re.DOTALL)}
    assert set(examples) == set(MAKERS)
    for kind, make in MAKERS.items():
        store = Store(tmp_path / kind)
        written = json.loads(make(store, 3)["json"])
        assert set(written) <= set(examples[kind]), kind
        assert set(examples[kind]) - set(written) <= {"clip_score"}
    document = examples["interleaved"]["segments"]
    segments = json.loads(interleaved(Store(tmp_path / "i"), 3)["json"])["segments"]
    keys = {tuple(sorted(set(s) - {"alt", "caption"})) for s in segments}
    assert {tuple(sorted(set(s) - {"alt", "caption"})) for s in document} == keys
    assert set(examples["ocr"]["words"][0]) == set(json.loads(ocr(Store(tmp_path / "o"), 0)["json"])["words"][0])
