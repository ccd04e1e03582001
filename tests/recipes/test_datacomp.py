"""DataComp's baselines keep the uids that their published rules keep, on the same scores of a real pool."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from curate.engine import run
from curate.engine.explain import column, decisions
from curate.ops.quality.wordnet import IMAGENET_21K, read_synsets
from curate.recipe.resolve import load
from curate.text.wordnet import WordNet
from pipelines.materials import wordnet
from pipelines.materials.openclipart import read_drawing
from pipelines.materials.packages import PackageUnavailableError, fetch

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("datacomp")]

PAIRS = 300
Table = Mapping[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred drawings with what their authors say of them, some of it in odd spaces, and WordNet."""
    folder = tmp_path_factory.mktemp("datacomp")
    try:
        pictures = fetch("openclipart-png") / "usr/share/openclipart/png"
        drawings = fetch("openclipart-svg") / "usr/share/openclipart/svg"
        wordnet.prepare(folder / "wordnet")
    except PackageUnavailableError as err:
        pytest.skip(f"Debian's packages cannot be had here: {err}")
    small = [path for path in sorted(pictures.rglob("*.png")) if path.stat().st_size < 30_000]
    (folder / "images").mkdir()
    for number, path in enumerate(small[:: len(small) // PAIRS][:PAIRS]):
        shutil.copy(path, folder / "images" / f"{number:03d}.png")
        card = read_drawing((drawings / path.relative_to(pictures)).with_suffix(".svg"))
        said = card.description if number % 3 == 0 else " ".join(card.keywords[:4]) if number % 3 == 1 else card.title
        (folder / "images" / f"{number:03d}.txt").write_text(said + ["", "\u00a0x", "\tin\x0bred"][number % 7 % 3])
    return folder


def curated(place: Path, name: str, *further: str) -> set[str]:
    """The uids that a recipe of ours keeps of the pool, scored by the model that ships."""
    recipe = ROOT / "recipes" / f"{name}.yaml"
    source = f"{{type: folder, path: {place / 'images'}}}"
    scored = name not in ("datacomp-basic", "datacomp-text")
    tiny = [f"steps.clip_score.with.{knob}" for knob in ("model=tiny-clip", "pretrained=''")] if scored else []
    summary = run.run(load(recipe, [f"out={place / 'out'}", f"source={source}", *tiny, *further]), workers=0)
    assert 0 < summary.dataset.samples < summary.funnel[0].kept
    ends = decisions(place / "out")
    return set(ends.filter(pa.compute.equal(ends["outcome"], "kept"))["uid"].to_pylist())


@pytest.fixture(scope="module")
def table(place: Path) -> Table:
    """What the published code reads of its metadata: every pair's text, size, language and score."""
    steps = [{"op": name} for name in ("image_size", "language", "clip_score")]
    recipe = place / "all.yaml"
    said = {"name": "all", "out": str(place / "out"), "source": {"type": "folder", "path": str(place / "images")}}
    recipe.write_text(json.dumps(said | {"steps": steps}))
    run.run(load(recipe), workers=0)
    names = ("width", "height", "language", "clip_score", "clip_image_embedding")
    found = {name: _by_uid(place, name) for name in names}
    uids = sorted(found["clip_score"])
    (pool,) = (place / "out").glob("pool-*")
    texts = {r["uid"]: r["text"] for p in sorted(pool.glob("rows/*")) for r in pq.read_table(p).to_pylist()}
    columns = {name: np.array([values[uid] for uid in uids]) for name, values in found.items()}
    return {"uid": np.array(uids), "text": np.array([texts[uid] for uid in uids], dtype=object), **columns}


def _by_uid(place: Path, name: str) -> dict[str, Any]:
    values = column(place / "out", name)
    return dict(zip(values["uid"].to_pylist(), values[name].to_pylist(), strict=True))


def test_basic_baseline_keeps_the_published_uids(place: Path, table: Table) -> None:
    words = np.array([len(text.split()) for text in table["text"]])
    characters = np.array([len(text) for text in table["text"]])
    smaller, larger = np.minimum(table["width"], table["height"]), np.maximum(table["width"], table["height"])
    english = table["language"] == "en"
    mask = english & (words > 2) & (characters > 5) & (smaller >= 200) & (larger / smaller <= 3.0)
    assert curated(place, "datacomp-basic") == set(table["uid"][mask])


def published_threshold(scores: np.ndarray[Any, Any], fraction: float) -> Any:
    return -np.sort(-scores)[int(len(scores) * fraction)]


def test_clip_baseline_keeps_the_published_uids(place: Path, table: Table) -> None:
    scores = table["clip_score"]
    wanted = set(table["uid"][scores >= published_threshold(scores, 0.3)])
    assert len(wanted) > len(scores) * 0.3
    assert curated(place, "datacomp-clip") == wanted


def test_laion_baseline_keeps_the_published_uids(place: Path, table: Table) -> None:
    mask = (table["language"] == "en") & (table["clip_score"] >= 0.28)
    assert curated(place, "datacomp-laion") == set(table["uid"][mask])


def test_text_baseline_keeps_the_published_uids(place: Path, table: Table) -> None:
    folder = place / "wordnet" / "source"
    senses, offsets = WordNet(folder), {synset.offset for synset in read_synsets(IMAGENET_21K)}

    def contains(text: str) -> bool:
        found = (senses.first_synset(word) for word in text.split())
        return any(first is not None and first.offset in offsets for first in found)

    mask = (table["language"] == "en") & np.array([contains(text) for text in table["text"]])
    where = f"steps.wordnet_words.with.wordnet={folder}"
    assert curated(place, "datacomp-text", where) == set(table["uid"][mask])


@pytest.fixture(scope="module")
def near(place: Path, table: Table) -> np.ndarray[Any, Any]:
    """Pairs whose nearest of some centroids is a target picture's, too, and whose caption is as the filter wants it."""
    vectors = table["clip_image_embedding"].astype(np.float64)
    centroids, target = vectors[:: len(vectors) // 16], vectors[3 :: len(vectors) // 6]
    np.save(place / "centroids.npy", centroids.astype(np.float32))
    np.save(place / "target.npy", target.astype(np.float32))
    wanted = np.unique(np.argmax(target @ centroids.T, axis=1))
    tokens = np.array([len(fasttext.tokenize(text)) for text in table["text"]])
    characters = np.array([len(text) for text in table["text"]])
    caption = (table["language"] == "en") & (tokens > 1) & (characters > 5)
    found: np.ndarray[Any, Any] = caption & np.isin(np.argmax(vectors @ centroids.T, axis=1), wanted)
    return found


@pytest.fixture
def clusters(place: Path) -> list[str]:
    return [f"steps.target_clusters.with.{name}={place / name}.npy" for name in ("centroids", "target")]


def test_image_baseline_keeps_the_published_uids(
    place: Path, table: Table, near: np.ndarray[Any, Any], clusters: list[str]
) -> None:
    assert curated(place, "datacomp-image", *clusters) == set(table["uid"][near])


def test_intersection_takes_its_share_of_the_whole_pool_as_published(
    place: Path, table: Table, near: np.ndarray[Any, Any], clusters: list[str]
) -> None:
    best = table["clip_score"] >= published_threshold(table["clip_score"], 0.3)
    wanted = set(table["uid"][near & best])
    assert curated(place, "datacomp-image-clip", *clusters) == wanted != set(table["uid"][near])
