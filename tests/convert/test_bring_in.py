"""What went to another project's format comes back as it was; what another project wrote comes in, or is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset as load_rows
from documents import picture, row
from PIL import Image
from published import MAKERS, Store, made, parts_of, published, tarred

from curate.ops.extract.records import llava_document
from curate.readers import tables
from curate.readers.tables import TableError
from curate.shards import load_dataset
from pipelines.convert.bring_in import import_dataset
from pipelines.convert.export import ConvertError, export


@pytest.fixture(params=sorted(MAKERS))
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def conversation(store: Store) -> dict[str, bytes]:
    """Two questions about two images, as a run makes it of LLaVA's record."""
    turns = [("human", "<image>\nWhat is it?"), ("gpt", "A cat."), ("human", "And this?\n<image>"), ("gpt", "A dog.")]
    record = {"id": "7", "image": ["a.png", "b.png"], "conversations": [{"from": f, "value": v} for f, v in turns]}
    document = row(llava_document([json.dumps(record).encode()]))["document"]
    images = [store.place(picture(20, 20, seed=n)) for n in range(2)]
    return store.sample("interleaved", 7, document=document, images=images, text="")


SAMPLES = {"caption": "CaptioningSample", "text": "TextSample", "ocr": "OCRSample", "interleaved": "InterleavedSample"}


def test_every_kind_goes_to_energon_and_comes_back_byte_for_byte(tmp_path: Path, kind: Any) -> None:
    dataset = made(tmp_path, kind)
    export(dataset, tmp_path / "out", "energon")
    said = (tmp_path / "out" / ".nv-meta" / "dataset.yaml").read_text()
    assert SAMPLES[kind] in said and ("image: png" in said) == (kind == "caption")
    back = import_dataset(tmp_path / "out", tmp_path / "back", "energon")
    assert (back.kind, back.samples, back.failed) == (kind, 10, {})
    assert [s.sha256 for s in load_dataset(tmp_path / "back").shards] == [
        s.sha256 for s in load_dataset(dataset).shards
    ]


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_opens_what_came_in_by_its_folder_alone(tmp_path: Path, kind: Any, streaming: bool) -> None:
    export(made(tmp_path, kind), tmp_path / "out", "energon")
    import_dataset(tmp_path / "out", tmp_path / "back", "energon")
    rows = load_rows(str(tmp_path / "back"), split="train", streaming=streaming, cache_dir=str(tmp_path / "cache"))
    found = {row["__key__"]: row for row in rows}
    for uid, parts in parts_of(tmp_path / "back").items():
        assert found[uid]["json"] == json.loads(parts["json"])
        pictures = {name for name, value in found[uid].items() if isinstance(value, Image.Image)}
        assert pictures == set(parts) - {"json", "txt"}


def test_energons_loader_of_pages_gives_boxes_as_energon_has_them(tmp_path: Path) -> None:
    dataset = made(tmp_path, "ocr", 1)
    export(dataset, tmp_path / "out", "energon")
    loader: dict[str, Any] = {}
    exec((tmp_path / "out" / ".nv-meta" / "sample_loader.py").read_text(), loader)
    ((uid, parts),) = parts_of(dataset).items()
    raw = {"__key__": uid, **parts, "txt": parts["txt"].decode(), "json": json.loads(parts["json"])}
    found = loader["sample_loader"](raw)
    assert found["words_boxes"].tolist() == [[4, 3, 16, 3]] and found["words_text"] == ["Wort"]
    assert found["image"] == parts["png"] and found["text"] == "Wort"


def test_captions_and_conversations_come_back_from_llava_byte_for_byte(tmp_path: Path) -> None:
    dataset = made(tmp_path, "caption")
    export(dataset, tmp_path / "out", "llava")
    back = import_dataset(tmp_path / "out", tmp_path / "back", "llava")
    assert (back.kind, back.samples, back.failed) == ("caption", 10, {})
    assert parts_of(tmp_path / "back") == parts_of(dataset)
    talk = published(tmp_path / "talk", "interleaved", [conversation(Store(tmp_path / "t"))])
    export(talk, tmp_path / "talk-out", "llava")
    back = import_dataset(tmp_path / "talk-out" / "llava.json", tmp_path / "talk-back", "llava")
    assert (back.kind, parts_of(tmp_path / "talk-back")) == ("interleaved", parts_of(talk))


def test_another_projects_llava_list_comes_in_with_its_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(picture(20, 30))
    asked = {"from": "human", "value": "<image>\nWhat is it?"}
    said = {"from": "gpt", "value": "A square."}
    entries: list[Any] = [
        {"id": "1", "image": "images/a.png", "conversations": [asked, said], "model": "x"},
        {"id": 2, "image": "images/gone.png", "conversations": [asked, said]},
        {"id": "3", "conversations": [{**asked, "value": "Hello"}, said]},
        {"id": "4", "image": "../../etc/passwd", "conversations": [asked, said]},
        {"id": "5", "image": "images/a.png", "conversations": [{**asked, "value": "<image><image>"}]},
        {"id": "6", "conversations": "none"},
        7,
    ]
    (tmp_path / "list.json").write_text(json.dumps(entries, indent=1))
    back = import_dataset(tmp_path / "list.json", tmp_path / "back", "llava")
    assert (back.kind, back.samples) == ("interleaved", 4)
    assert back.failed == {"bad_record": 1, "bad_row": 1, "image_marks_differ": 1}
    shown_of = [json.loads(parts["json"])["segments"] for parts in parts_of(tmp_path / "back").values()]
    heads = [segments[0].get("part") or segments[0].get("error") or segments[0]["text"] for segments in shown_of]
    assert heads == ["0.png", "missing_file", "Hello", "unsafe_name"]
    (tmp_path / "cut.json").write_text('[{"id": 1, "conversations": [')
    with pytest.raises(TableError, match="cut short after entry 0"):
        import_dataset(tmp_path / "cut.json", tmp_path / "none", "llava")


def test_another_projects_pairs_and_texts_in_tars_come_in(tmp_path: Path) -> None:
    pairs = {"a/1.jpg": picture(20, 20, kind="JPEG"), "a/1.txt": b"one", "a/1.json": b'{"width": "x"}',
             "a/2.jpg": b"no image", "a/2.txt": b"two", "a/3.jpg": picture(20, 20, kind="JPEG")}  # fmt: skip
    back = import_dataset(tarred(tmp_path / "pairs.tar", pairs), tmp_path / "back", "energon")
    assert (back.kind, back.samples, back.failed) == ("caption", 1, {"missing_text": 1, "not_an_image": 1})
    (parts,) = parts_of(tmp_path / "back").values()
    assert parts["txt"] == b"one" and json.loads(parts["json"])["meta"] == {"width": "x"}
    assert json.loads(parts["json"])["origin"] == "pairs.tar#a/1"
    texts = tarred(tmp_path / "texts.tar", {"1.txt": b"first", "2.txt": b"second \xff"})
    assert import_dataset(texts, tmp_path / "texts", "energon").kind == "text"
    assert [p["txt"].decode() for p in parts_of(tmp_path / "texts").values()] == ["first", "second \ufffd"]
    with pytest.raises(ConvertError, match="nothing tells its kind"):
        import_dataset(tarred(tmp_path / "odd.tar", {"1.bin": b"x"}), tmp_path / "odd", "energon")


@pytest.mark.parametrize("to", ["obelics", "mmc4", "datasets", "energon"])
def test_halves_of_characters_that_json_may_spell_stop_no_export(tmp_path: Path, to: Any) -> None:
    said = b'{"uid": "%s", "segments": [{"type": "text", "text": "a \\ud83d b.", "block": "paragraph"}]}' % (b"0" * 32)
    export(published(tmp_path / "dataset", "interleaved", [{"json": said}]), tmp_path / "out", to)
    found = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("0*"))
    assert "a \ufffd b.".encode() in found or to == "energon"


def test_list_is_read_entry_by_entry_however_it_is_laid_out(tmp_path: Path) -> None:
    entries = [{"id": n, "text": f"{n} [,] {{}} \u2028" * 50_000 * (n == 2)} for n in range(5)]
    for indent in (None, 2):
        (tmp_path / "list.json").write_text(json.dumps(entries, indent=indent))
        assert list(tables.read(tmp_path / "list.json", ("id", "text"))) == entries
    (tmp_path / "list.json").write_text("[]")
    assert list(tables.read_objects(tmp_path / "list.json")) == []
    (tmp_path / "list.json").write_text('[{"id": 1}, {"id": 2')
    found = tables.read_objects(tmp_path / "list.json")
    assert next(found) == {"id": 1}
    with pytest.raises(TableError, match="after entry 1"):
        next(found)
