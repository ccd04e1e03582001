from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from conftest import ROOT

from curate.document.segments import image_segment, text_segment
from curate.models.files import ModelError
from curate.ops.quality.text import fasttext_quality
from curate.ops.spec import identity
from curate.readers.tables import TableError
from curate.sample import uid_of
from curate.shards import DatasetInfo, ShardWriter, save_dataset
from pipelines.materials.quality import QualityError, Training, train

SMALL = Training(dimensions=8, buckets=1000, epochs=20)
PROSE = "the train was late because it had been raining and nobody knew what to do so they waited"
OFFERS = "buy cheap click now free pills login cart menu share subscribe offer deal cookie next page"
GOOD, BAD = PROSE.split(), OFFERS.split()


def texts(words: list[str], count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(words, k=30)) for _ in range(count)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("sources")
    good, bad = folder / "good.jsonl", folder / "bad.jsonl"
    good.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(GOOD, 200, 0)))
    bad.write_text("".join(json.dumps({"text": f"__label__hq {text}"}) + "\n" for text in texts(BAD, 200, 1)))
    return str(good), str(bad)


def test_classifier_is_trained_from_two_files_and_tells_their_kinds_apart(
    sources: tuple[str, str], tmp_path: Path
) -> None:
    known = train([sources[0]], [sources[1]], tmp_path / "quality.bin", SMALL)
    assert known["held_out"]["auc"] == 1.0
    assert json.loads((tmp_path / "quality.bin.json").read_text()) == known
    op = fasttext_quality(model=str(tmp_path / "quality.bin"))
    good, bad, empty = op([texts(GOOD, 1, 7)[0] + "\n", texts(BAD, 1, 8)[0], ""])["quality"]
    assert good > 0.9 > 0.1 > bad
    assert 0 <= empty <= 1


def test_probability_of_one_label_is_what_the_other_leaves(sources: tuple[str, str], tmp_path: Path) -> None:
    train([sources[0]], [sources[1]], tmp_path / "q.bin", SMALL)
    text = texts([*GOOD, *BAD], 1, 3)
    liked = fasttext_quality(model=str(tmp_path / "q.bin"))(text)["quality"][0]
    other = fasttext_quality(model=str(tmp_path / "q.bin"), label="cc")(text)["quality"][0]
    assert liked + other == pytest.approx(1, abs=1e-3)


def test_same_texts_give_the_same_file_and_a_compressed_one_scores_alike(
    sources: tuple[str, str], tmp_path: Path
) -> None:
    for name in ("a.bin", "b.bin", "c.ftz"):
        train([sources[0]], [sources[1]], tmp_path / name, SMALL)
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    assert (tmp_path / "a.bin.json").read_bytes() == (tmp_path / "b.bin.json").read_bytes()
    assert fasttext_quality(model=str(tmp_path / "c.ftz"))(texts(GOOD, 1, 7))["quality"][0] > 0.9


def test_score_does_not_hang_on_its_neighbours(sources: tuple[str, str], tmp_path: Path) -> None:
    train([sources[0]], [sources[1]], tmp_path / "q.bin", SMALL)
    op, some = fasttext_quality(model=str(tmp_path / "q.bin")), ["one", "", *texts(BAD, 2, 5), "\ud800"]
    assert op(some)["quality"] == [op([text])["quality"][0] for text in some]


def test_classifier_that_cannot_be_trained_or_used_is_refused_with_a_reason(
    sources: tuple[str, str], tmp_path: Path
) -> None:
    """What cannot be trained or used is refused with a reason."""
    with pytest.raises(QualityError, match=r"ends in \.bin"):
        train([sources[0]], [sources[1]], tmp_path / "quality.model", SMALL)
    (tmp_path / "few.txt").write_text("one text alone")
    with pytest.raises(QualityError, match=r"few\.txt: too few texts for the label 'cc'"):
        train([sources[0]], [str(tmp_path / "few.txt")], tmp_path / "q.bin", SMALL)
    assert not (tmp_path / "q.bin").exists()
    with pytest.raises(ModelError, match="no file"):
        fasttext_quality(model=str(tmp_path / "none.bin"))
    train([sources[0]], [sources[1]], tmp_path / "q.bin", SMALL)
    with pytest.raises(ModelError, match=r"label .*high.*hq"):
        fasttext_quality(model=str(tmp_path / "q.bin"), label="high")
    with pytest.raises(ModelError, match="is not a fastText model"):
        fasttext_quality(model=str(ROOT / "README.md"))


def test_folder_of_texts_is_taken_file_by_file_and_one_without_is_named(
    sources: tuple[str, str], tmp_path: Path
) -> None:
    good = tmp_path / "good"
    good.mkdir()
    for n, text in enumerate(texts(GOOD, 40, 0)):
        (good / f"{n}.txt").write_text(text)
    (good / "prepared.json").write_text("{}")
    known = train([str(good)], [sources[1]], tmp_path / "q.bin", SMALL)
    assert known["texts"]["hq"] + known["held_out"]["texts"]["hq"] == 40
    assert known["model_bytes"] == (tmp_path / "q.bin").stat().st_size
    (tmp_path / "empty").mkdir()
    with pytest.raises(QualityError, match=r"empty: the folder holds neither a dataset\.json nor files of text"):
        train([str(tmp_path / "empty")], [sources[1]], tmp_path / "q.bin", SMALL)
    (tmp_path / "page.html").write_text("<p>")
    with pytest.raises(TableError, match=r"unknown kind of text file '\.html'.*no suffix"):
        train([str(tmp_path / "page.html")], [sources[1]], tmp_path / "q.bin", SMALL)


def test_documents_that_were_published_are_liked_for_their_texts(sources: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    with ShardWriter(folder / "00000.tar", kind="interleaved") as writer:
        for n, text in enumerate(texts(GOOD, 40, 0)):
            document = [text_segment(text[:60]), image_segment("http://a/1.jpg"), text_segment(text[60:])]
            uid = uid_of("interleaved", str(n))
            writer.add(uid, {"json": json.dumps({"uid": uid, "segments": document}).encode()})
    shard = writer.info
    size = {"samples": shard.samples, "bytes": shard.bytes}
    save_dataset(DatasetInfo(name="x", kind="interleaved", recipe="test", shards=(shard,), **size), folder)
    known = train([str(folder)], [sources[1]], tmp_path / "q.bin", SMALL)
    assert known["texts"]["hq"] + known["held_out"]["texts"]["hq"] == 40
    assert known["held_out"]["auc"] == 1.0


def test_classifier_is_named_by_its_content(sources: tuple[str, str], tmp_path: Path) -> None:
    train([sources[0]], [sources[1]], tmp_path / "q.bin", SMALL)
    assert len(identity(fasttext_quality, {"model": str(tmp_path / "q.bin")})["files"]) == 64
