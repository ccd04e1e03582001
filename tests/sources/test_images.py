"""Tables that hold their images become pairs, documents and conversations; the bytes stay as they came."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Outcome, Workplace, errors

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COUNT = 30


def write(place: Workplace, columns: dict[str, pa.Array], name: str = "data/part-0.parquet") -> Path:
    path = place.root / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=8)
    return path


def published_parts(place: Workplace) -> dict[str, bytes]:
    parts = {}
    for tar in sorted(place.dataset.glob("*.tar")):
        with tarfile.open(tar) as members:
            parts |= {member.name: members.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    return parts


def samples(place: Workplace) -> list[dict[str, Any]]:
    return [json.loads(data) for name, data in published_parts(place).items() if name.endswith(".json")]


def run(place: Workplace, source: dict[str, Any], **recipe: Any) -> Outcome:
    said: dict[str, Any] = {"type": "images", "path": str(place.root / "data/*.parquet")} | source
    return place.run(place.recipe(source={k: v for k, v in said.items() if v is not None}, **recipe))


@pytest.mark.parametrize("form", ["bytes", "struct", "list", "large"])
def test_pairs_come_from_a_column_of_images_in_every_form_byte_for_byte(place: Workplace, form: str) -> None:
    bodies = [place.png(seed=n) for n in range(COUNT)]
    values: dict[str, tuple[list[Any], pa.DataType]] = {
        "bytes": (bodies, pa.binary()),
        "large": (bodies, pa.large_binary()),
        "struct": ([{"bytes": b, "path": f"{n}.png"} for n, b in enumerate(bodies)], IMAGE),
        "list": ([[{"bytes": b, "path": None}] for b in bodies], pa.list_(IMAGE)),
    }
    columns = {"image": pa.array(*values[form]), "text": pa.array([f"number {n}" for n in range(COUNT)])}
    write(place, columns | {"n": pa.array(range(COUNT))})
    done = run(place, {"keep": ["n"]}, steps=[{"op": "image_size"}])
    assert done.steps["image_size"]["kept"] == COUNT
    parts = published_parts(place)
    for sample in samples(place):
        number = sample["meta"]["n"]
        assert parts[f"{sample['uid']}.txt"].decode() == f"number {number}"
        assert parts[f"{sample['uid']}.png"] == bodies[number]


def test_what_is_no_image_fails_its_row_by_name_and_the_counts_add_up(place: Workplace) -> None:
    values = [
        {"bytes": place.png(), "path": None},
        None,
        {"bytes": None, "path": "/etc/passwd"},
        {"bytes": b"no image", "path": None},
        {"bytes": b"", "path": None},
    ]
    write(place, {"image": pa.array(values, IMAGE), "text": pa.array(["a"] * 5)})
    ingest = run(place, {}, limits={"failed": 1}).steps["ingest"]
    assert ingest["kept"] == 1
    assert ingest["failed"] == {"missing_image": 2, "not_an_image": 1, "empty_file": 1}
    assert b"root:" not in b"".join(path.read_bytes() for path in place.out.rglob("*.tar"))


def test_several_images_or_a_text_in_place_of_one_are_named(place: Workplace) -> None:
    write(place, {"image": pa.array([[place.png(), place.png(seed=1)]]), "text": pa.array(["a"])})
    assert run(place, {}, limits={"failed": 1}).steps["ingest"]["failed"] == {"several_images": 1}
    place.out = place.root / "other"
    write(place, {"image": pa.array(["http://x.org/1.jpg"]), "text": pa.array(["a"])})
    assert run(place, {}, limits={"failed": 1}).steps["ingest"]["failed"] == {"not_an_image": 1}
    assert any("type `urls`" in str(row["detail"]) for row in pool_rows(place))


def pool_rows(place: Workplace) -> list[dict[str, Any]]:
    return [row for path in place.out.glob("pool-*/rows/*.parquet") for row in pq.read_table(path).to_pylist()]


def test_list_of_captions_gives_the_first_as_caption_and_keeps_all(place: Workplace) -> None:
    write(place, {"image": pa.array([place.png()]), "captions": pa.array([["a cat", "a small cat"]])})
    run(place, {"text": "captions"})
    (sample,) = samples(place)
    assert sample["meta"]["texts"] == ["a cat", "a small cat"]
    assert published_parts(place)[f"{sample['uid']}.txt"] == b"a cat"


def test_documents_keep_their_images_where_the_table_had_them(place: Workplace) -> None:
    """OBELICS's form: lists of images and texts in step, with the images' bytes."""
    one, two = place.png(seed=1), place.png(seed=2)
    images = [[{"bytes": one, "path": "a.png"}, None, {"bytes": b"broken", "path": None}, {"bytes": two, "path": None}]]
    texts = [[None, "between", None, None]]
    write(place, {"images": pa.array(images, pa.list_(IMAGE)), "texts": pa.array(texts)})
    steps = [{"op": "obelics_document"}, {"op": "stored_images"}, {"op": "image_size", "over": "images"}]
    done = run(place, {"image": "images", "columns": ["texts"]}, kind="interleaved", steps=steps)
    assert done.steps["stored_images"]["kept"] == 1
    (sample,) = samples(place)
    kinds = [(s["type"], s.get("text") or s.get("error") or s["sha256"]) for s in sample["segments"]]
    digests = [hashlib.sha256(body).hexdigest() for body in (one, two)]
    assert kinds == [("image", digests[0]), ("text", "between"), ("image", "not_an_image"), ("image", digests[1])]
    parts = published_parts(place)
    assert parts[f"{sample['uid']}.0.png"] == one and parts[f"{sample['uid']}.1.png"] == two
    stored = sum(path.stat().st_size for path in place.out.glob("pool-*/columns/stored_images-*/*.tar"))
    assert stored == 0, "the images lie in the pool once"


CHATS: dict[str, dict[str, Any]] = {
    "cauldron": {"texts": [{"user": "What?", "assistant": "A cat.", "source": "vqa"}]},
    "messages": {"messages": [
        {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
    ]},
    "conversations": {"conversations": [
        {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."},
    ]},
}  # fmt: skip


@pytest.mark.parametrize("form", CHATS)
def test_conversations_of_every_form_become_questions_and_answers_after_their_image(
    place: Workplace, form: str
) -> None:
    body = place.png()
    columns = {name: pa.array([value]) for name, value in CHATS[form].items()}
    write(place, columns | {"images": pa.array([[{"bytes": body, "path": "x.png"}]], pa.list_(IMAGE))})
    steps = [{"op": "chat_document"}, {"op": "stored_images", "keep": {"images_missing_share": {"max": 0}}}]
    done = run(place, {"image": "images", "columns": list(columns)}, kind="interleaved", steps=steps)
    assert done.code == 0, done.stderr
    (sample,) = samples(place)
    said = [(s["type"], s.get("block"), s.get("text")) for s in sample["segments"]]
    assert said == [("image", None, None), ("text", "question", "What?"), ("text", "answer", "A cat.")]


def test_hugging_face_dataset_gives_what_its_files_give(place: Workplace) -> None:
    bodies = [place.png(seed=n) for n in range(COUNT)]
    write(place, {"image": pa.array([{"bytes": b, "path": None} for b in bodies], IMAGE),
                  "text": pa.array([str(n) for n in range(COUNT)])})  # fmt: skip
    done = run(place, {"path": None, "huggingface": str(place.root / "data")})
    assert done.steps["ingest"]["kept"] == COUNT
    parts = published_parts(place)
    assert {parts[f"{s['uid']}.png"] for s in samples(place)} == set(bodies)


def test_grown_table_takes_in_the_new_file_alone_and_shards_are_cut_by_rows(place: Workplace) -> None:
    def file(number: int) -> None:
        bodies = [place.png(seed=100 * number + n) for n in range(20)]
        write(place, {"image": pa.array(bodies), "text": pa.array(["a"] * 20)}, f"data/part-{number}.parquet")

    file(0)
    assert run(place, {}, shard_samples=5).steps["ingest"]["computed"] == 20
    assert len(list(place.out.glob("pool-*/rows/*.parquet"))) == 4
    file(1)
    grown = run(place, {}, shard_samples=5)
    assert grown.steps["ingest"]["in"] == 40 and grown.steps["ingest"]["computed"] == 20


def test_wrong_column_cut_file_and_pointer_are_told(place: Workplace) -> None:
    path = write(place, {"picture": pa.array([place.png()]), "text": pa.array(["a"])})
    assert "did you mean" in run(place, {"image": "pictures"}).stderr
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert "not a readable Parquet file" in run(place, {"image": "picture"}).stderr
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "git lfs pull" in run(place, {"image": "picture"}).stderr
    errors(run(place, {"huggingface": "x"}), ["either `path`"])


def test_annotations_of_coco_are_a_table_of_captions(place: Workplace) -> None:
    """The form of captions_val2017.json: images and annotations apart, several captions an image."""
    for number in range(3):
        (place.src / f"{number:012d}.png").write_bytes(place.png(seed=number))
    coco = {
        "info": {"year": 2017, "description": "x ] } \" y"},
        "licenses": [{"id": 1, "name": "CC"}],
        "annotations": [{"id": 10 * n + k, "image_id": n, "caption": f"caption {k} of {n}"} for n in range(3)
                        for k in range(2)] + [{"id": 99, "image_id": 7, "caption": "of none"}],
        "images": [{"id": n, "file_name": f"{n:012d}.png", "coco_url": f"http://x/{n}"} for n in range(3)],
    }  # fmt: skip
    table = place.root / "captions_val2017.json"
    for indent in (None, 1):
        table.write_text(json.dumps(coco, indent=indent))
        source = {"type": "folder", "path": str(place.src), "captions": str(table), "image": "file_name",
                  "text": "caption", "keep": ["id", "coco_url"]}  # fmt: skip
        done = place.run(place.recipe(source=source, limits={"failed": 1}))
        assert done.steps["ingest"]["kept"] == 6 and done.steps["ingest"]["failed"] == {"bad_row": 1}
    told = {(s["origin"], s["meta"]["id"], s["meta"]["coco_url"]) for s in samples(place)}
    assert told == {(f"{n:012d}.png", 10 * n + k, f"http://x/{n}") for n in range(3) for k in range(2)}
