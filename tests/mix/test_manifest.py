"""Manifests: they come back as built, move with their datasets, and notice a change."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mixtures import FAR, a_dataset

from curate.mix import Manifest, MixtureError, build, load, order, save
from curate.mix.schedule import schedule
from curate.settings import SettingsError
from curate.shards import ShardError, load_dataset, save_dataset


@pytest.fixture
def three(tmp_path: Path) -> list[tuple[Path, float]]:
    return [(a_dataset(tmp_path / name, size), w) for name, size, w in (("a", 5, 0.5), ("b", 70, 0.3), ("c", 9, 0.2))]


def test_manifest_comes_back_as_it_was_built_and_has_the_same_bytes_again(
    tmp_path: Path, three: list[tuple[Path, float]]
) -> None:
    out = tmp_path / "mixture.json"
    mixture = build(three, 42, out)
    first = out.read_bytes()
    assert load(out).manifest == mixture.manifest
    assert [(d.name, d.path, d.weight, d.samples) for d in mixture.manifest.datasets] == [
        ("a", "a", 0.5, 5),
        ("b", "b", 0.3, 70),
        ("c", "c", 0.2, 9),
    ]
    assert mixture.manifest.segments[0].slots == (5, 3, 2)
    build(three, 42, out)
    assert out.read_bytes() == first
    save(mixture.manifest, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == first


def test_manifest_moves_with_its_datasets(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    (tmp_path / "home" / "mixes").mkdir(parents=True)
    for path, _ in three:
        shutil.move(path, tmp_path / "home")
    mixture = build([(tmp_path / "home" / p.name, w) for p, w in three], 1, tmp_path / "home" / "mixes" / "m.json")
    assert [d.path for d in mixture.manifest.datasets] == ["../a", "../b", "../c"]
    (tmp_path / "home").rename(tmp_path / "away")
    out = tmp_path / "away" / "mixes" / "m.json"
    assert load(out).manifest == mixture.manifest
    assert load_dataset(load(out).folder(1)).samples == 70


def test_locate_joins_schedule_and_order(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    mixture = build(three, 42, tmp_path / "mixture.json")
    positions = np.concatenate([np.arange(2000), np.arange(FAR, FAR + 40_000)])
    source, epoch, row = mixture.locate(positions)
    expected, draw = schedule([5, 3, 2], positions)
    assert np.array_equal(source, expected)
    for index, dataset in enumerate(mixture.manifest.datasets):
        mine = source == index
        turn, place = order(draw[mine], dataset.samples, 42, dataset.name)
        assert np.array_equal(epoch[mine], turn)
        assert np.array_equal(row[mine], place)


def test_every_row_of_a_source_is_seen_once_an_epoch(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    mixture = build(three, 42, tmp_path / "mixture.json")
    source, epoch, row = mixture.locate(np.arange(700))
    for index, dataset in enumerate(mixture.manifest.datasets):
        seen = Counter(zip(epoch[source == index].tolist(), row[source == index].tolist(), strict=True))
        assert max(seen.values()) == 1
        assert sum(e == 0 for e, _ in seen) == dataset.samples


def test_source_of_weight_zero_is_listed_and_never_drawn(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    mixture = build([*three[:2], (three[2][0], 0.0)], 0, tmp_path / "mixture.json")
    assert mixture.manifest.segments[0].slots == (5, 3, 0)
    assert set(mixture.locate(np.arange(1000))[0].tolist()) == {0, 1}


def test_two_datasets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [a_dataset(tmp_path / name, 5, "demo") for name in ("a", "b", "c")]
    mixture = build([(folder, 1.0) for folder in folders], 0, tmp_path / "mixture.json")
    assert [d.name for d in mixture.manifest.datasets] == ["demo", "demo-2", "demo-3"]


def test_one_content_reached_by_two_paths_is_refused(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    copy = Path(shutil.copytree(three[1][0], tmp_path / "copy"))
    save_dataset(load_dataset(copy).model_copy(update={"name": "another name"}), copy)
    for again in (three[1][0], copy):
        with pytest.raises(MixtureError, match="same content"):
            build([*three, (again, 1.0)], 0, tmp_path / "mixture.json")
    assert not (tmp_path / "mixture.json").exists()


def test_empty_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match="no samples"):
        build([(a_dataset(tmp_path / "a", 0), 1.0)], 0, tmp_path / "mixture.json")
    with pytest.raises(MixtureError, match="no datasets"):
        build([], 0, tmp_path / "mixture.json")


def test_folder_that_holds_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="publish"):
        build([(tmp_path, 1.0)], 0, tmp_path / "mixture.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(MixtureError, match="its folder"):
        build([(tmp_path / "other.json", 1.0)], 0, tmp_path / "mixture.json")


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_of_no_meaning_never_reach_a_manifest(
    tmp_path: Path, three: list[tuple[Path, float]], weight: float
) -> None:
    with pytest.raises(MixtureError, match="weight 1"):
        build([three[0], (three[1][0], weight)], 0, tmp_path / "mixture.json")
    assert not (tmp_path / "mixture.json").exists()


def test_dataset_that_changed_or_went_is_named(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    out = tmp_path / "mixture.json"
    build(three, 0, out)
    a_dataset(tmp_path / "b", 71)
    with pytest.raises(MixtureError, match=r"'b' .* has changed .* `curate mix`"):
        load(out)
    build(three, 0, out)
    with open(tmp_path / "c" / "00000.tar", "ab") as tar:
        tar.write(b"x")
    with pytest.raises(MixtureError, match=r"shard .*00000.tar of dataset 'c' has changed"):
        load(out)
    with pytest.raises(MixtureError, match=r"00000.tar has another size than .*publish the dataset again"):
        build(three, 0, out)
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(MixtureError, match=r"'b' is not at .* `curate mix`"):
        load(out)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"version": 4}, ShardError, "upgrade curate"),
        ({"version": 1}, MixtureError, "version 1"),
        ({"seed": -1}, SettingsError, "seed"),
        ({"sede": 1}, SettingsError, "did you mean 'seed'"),
        ({"datasets": []}, SettingsError, "datasets"),
    ],
)
def test_manifest_that_cannot_be_true_is_refused(
    tmp_path: Path, three: list[tuple[Path, float]], change: dict[str, object], error: type[ValueError], message: str
) -> None:
    out = tmp_path / "mixture.json"
    build(three, 0, out)
    out.write_text(json.dumps({**json.loads(out.read_text()), **change}))
    with pytest.raises(error, match=message):
        load(out)


def test_manifest_changed_by_hand_is_refused(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    out = tmp_path / "mixture.json"
    build(three, 0, out)
    data = json.loads(out.read_text())
    for key, value, message in (("weight", 0.6, "by hand"), ("path", "c", "by hand"), ("weight", -1, "weight")):
        changed = json.loads(json.dumps(data))
        changed["datasets"][0][key] = value
        out.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            load(out)


def test_missing_or_broken_manifest_is_refused_with_what_to_do(tmp_path: Path) -> None:
    out = tmp_path / "mixture.json"
    with pytest.raises(ShardError, match="curate mix"):
        load(out)
    for data in (b"", b"[]", b"\xff"):
        out.write_bytes(data)
        with pytest.raises(ShardError, match="curate mix"):
            load(out)


def test_manifest_is_plain_data(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    mixture = build(three, 42, tmp_path / "mixture.json")
    assert Manifest.model_validate_json((tmp_path / "mixture.json").read_text()) == mixture.manifest
