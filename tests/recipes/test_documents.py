"""Real pages, printed guides and chapters on the whole road: curated, mixed as MM1 does, and into training steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Workplace

from curate.shards import ShardReader, load_dataset
from pipelines.materials.documents import CHAPTERS, GUIDES, PAGES, PreparedDocuments, prepare
from pipelines.materials.packages import PackageUnavailableError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("documents")]  # one process makes what they look at

WANTED_PAGES = 60
SUBSET = {PAGES: "gimp-tool-[a-f]*.html", GUIDES: "en.pdf", CHAPTERS: "ch0[1-4]*.html"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreparedDocuments]:
    folder = tmp_path_factory.mktemp("documents")
    try:
        return folder / "source", prepare(folder)
    except PackageUnavailableError as err:
        pytest.skip(f"the materials are out of reach: {err}")


@pytest.fixture(scope="module")
def made(source: tuple[Path, PreparedDocuments], make_place: Any) -> Workplace:
    """The three recipes, run on a part of each source."""
    place: Workplace = make_place("curated")
    for name, pattern in SUBSET.items():
        (place.src / name).mkdir()
        for path in sorted((source[0] / name).glob(pattern))[:WANTED_PAGES]:
            shutil.copy2(path, place.src / name)
    shutil.copytree(source[0] / PAGES / "images", place.src / PAGES / "images")
    for recipe, folder in (("pages", PAGES), ("ocr", GUIDES), ("texts", CHAPTERS)):
        said = [f"source.path={place.src / folder}", f"out={place.root / recipe}"]
        done = place.curate(
            "run", ROOT / "recipes" / f"{recipe}.yaml", "--inline", *(w for s in said for w in ("--set", s))
        )
        assert done.code == 0, done.stderr
    return place


def samples(place: Workplace, recipe: str) -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    """Every sample of a dataset: its JSON and its other parts."""
    folder = place.root / recipe / "dataset"
    found = []
    for shard in load_dataset(folder).shards:
        with ShardReader(folder / shard.tar, folder / shard.index) as reader:
            for row in range(len(reader)):
                parts = reader.read(row)
                found.append((json.loads(parts.pop("json")), parts))
    return found


def test_packages_are_laid_down_with_all_they_hold(source: tuple[Path, PreparedDocuments]) -> None:
    """Everything that the packages hold is laid down."""
    folder, counted = source
    assert counted == PreparedDocuments(pages=685, pictures=2050, guides=18, chapters=75)
    assert len(list((folder / GUIDES).glob("*.pdf"))) == 18
    assert prepare(folder.parent) == counted  # and done once


def test_pages_keep_their_pictures_in_their_places(made: Workplace) -> None:
    found = samples(made, "pages")
    assert len(found) > 10
    for said, parts in found:
        there = [s["part"] for s in said["segments"] if s["type"] == "image"]
        assert there == list(parts) and len(there) == said["images_kept"] >= 1
        assert any(s["type"] == "text" for s in said["segments"])


def test_printed_pages_hold_their_words_where_they_stand(made: Workplace) -> None:
    found = samples(made, "ocr")
    assert len(found) > 80
    for said, parts in found:
        assert max(said["width"], said["height"]) == 980 and said["words"]
        left, top, right, bottom = (min(w["box"][n] for w in said["words"]) for n in range(4))
        assert 0 <= left < right <= said["width"] and 0 <= top < bottom <= said["height"]
        assert said["words"][0]["text"] in parts["txt"].decode()


def test_texts_are_cut_to_the_budget_and_say_what_they_were_cut_from(made: Workplace) -> None:
    from curate.tokens.counter import token_counter

    count, _ = token_counter("simple")
    found = samples(made, "texts")
    assert len(found) > 50 and all(0 < count(parts["txt"].decode()) <= 512 for _, parts in found)
    assert {said["language"] for said, _ in found} == {"de", "en", "es", "fr"}


def test_three_go_through_a_mixture_and_the_stream_into_training_steps(
    made: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.root)
    for name in ("pages", "ocr", "texts"):
        done = made.curate("index", made.root / name / "dataset", "--tokenizer", "bytes")
        assert done.code == 0, done.stderr
    spec = made.root / "mixture.yaml"
    spec.write_text(
        "batch: 4\nsources:\n  - {group: documents, weight: 0.9, sources: [{path: pages/dataset, weight: 0.8},"
        " {path: ocr/dataset, weight: 0.2}]}\n  - {path: texts/dataset, weight: 0.1}\n"
    )
    mixed = made.curate("mix", spec, "-o", made.root / "mixture.json")
    assert mixed.code == 0, mixed.stderr
    small = ["optim.steps=4", "optim.warmup=1", "run.log_every=1", "data.batch_size=4", "objective.language.layers=1"]
    small += ["objective.language.width=96", "objective.language.heads=3", "objective.pack.tokens=512"]
    config = ["--config", ROOT / "recipes" / "mm1-train.yaml", "--out", made.root / "train"]
    config += [word for one in small for word in ("--set", one)]
    trained = made.command("train", made.root / "mixture.json", *config)
    assert trained.code == 0, trained.stderr
    said = json.loads(trained.stdout.strip().splitlines()[-1])
    assert said["steps_now"] == 4 and 0 < said["loss"] < 6 and not said["alarms"]
    assert sum(source["images"] for source in said["served"].values()) > 0
