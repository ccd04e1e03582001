"""Mixtures: weights that mean what they say, positions that need no history, manifests that notice a change."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import peers
from curate.mix import Manifest, MixtureError, build, folder_of, load, locate, order, quantisation_error, save, shares
from curate.mix.schedule import MAX_SLOTS, counts, schedule
from curate.settings import SettingsError
from curate.shards import DatasetInfo, ShardError, ShardWriter, load_dataset, save_dataset

FAR = 10**12
WEIGHTS = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=60)
SHAPES = {**peers.SHAPES, "a hundred uneven": list(np.random.default_rng(1).dirichlet([0.2] * 100))}


# --- weights to slots ---


@pytest.mark.parametrize(
    ("weights", "slots"),
    [
        ([0.45 * 0.93, 0.45 * 0.07, 0.45, 0.10], (837, 63, 900, 200)),
        ([1 / 3, 1 / 3, 1 / 3], (1, 1, 1)),
        ([0.1] * 10, (1,) * 10),
        ([5, 1], (5, 1)),
        ([0.30, 0.70], (3, 7)),
        ([3e9, 1e9], (3, 1)),
        ([0.0, 2.0], (0, 1)),
        ([7.5], (1,)),
    ],
)
def test_weights_with_a_short_ratio_are_kept_exactly(weights: list[float], slots: tuple[int, ...]) -> None:
    assert shares(weights) == slots
    assert quantisation_error(weights, slots) < 1e-16


@pytest.mark.parametrize("shape", list(SHAPES))
def test_other_weights_are_rounded_and_the_difference_is_reported(shape: str) -> None:
    slots = shares(SHAPES[shape])
    assert min(slots) >= 1
    assert sum(slots) <= MAX_SLOTS
    assert quantisation_error(SHAPES[shape], slots) <= 1 / MAX_SLOTS


def test_a_tiny_weight_still_gets_a_slot_and_the_large_ones_give_it() -> None:
    slots = shares([1e-9] * 3000 + [0.3, math.pi])
    assert slots[:3000] == (1,) * 3000
    assert sum(slots) == MAX_SLOTS
    assert slots[-1] / slots[-2] == pytest.approx(math.pi / 0.3, rel=1e-3)


@settings(deadline=None)
@given(WEIGHTS)
def test_every_positive_weight_has_a_slot_and_a_period_is_bounded(weights: list[float]) -> None:
    slots = shares(weights)
    assert min(slots) >= 1
    assert sum(slots) <= MAX_SLOTS
    assert math.gcd(*slots) == 1
    assert quantisation_error(weights, slots) <= len(weights) / MAX_SLOTS


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, -0.1], "weight 1 is -0.1"),
        ([math.nan], "weight 0 is nan"),
        ([1, math.inf], "weight 1 is inf"),
        ([0, 0], "every weight is 0"),
        ([], "every weight is 0"),
        ([1] * 20_000, "at most"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(MixtureError, match=message):
        shares(weights)


# --- positions to sources ---


@pytest.mark.parametrize("shape", list(SHAPES))
def test_no_source_is_ever_more_than_a_sample_and_a_bit_off_what_was_wanted(shape: str) -> None:
    weights = SHAPES[shape]
    source, _ = schedule(shares(weights), np.arange(200_000))
    assert peers.worst_error(weights, source) < 1.15


@pytest.mark.slow
@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_million_draws_keep_every_share_to_less_than_one_and_a_half_samples(shape: str) -> None:
    source, _ = schedule(shares(SHAPES[shape]), np.arange(1_000_000))
    assert peers.worst_error(SHAPES[shape], source) < 1.5


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=40).filter(any))
def test_no_source_is_ever_two_samples_off_for_any_slots(slots: list[int]) -> None:
    source, draw = schedule(slots, np.arange(2 * sum(slots)))
    assert peers.worst_error(slots, source) < 2
    for index, slot in enumerate(slots):
        assert draw[source == index].tolist() == list(range(2 * slot))


@settings(deadline=None, max_examples=60)
@given(WEIGHTS, st.integers(0, 3000))
def test_what_was_drawn_before_a_position_is_known_without_drawing_it(weights: list[float], position: int) -> None:
    slots = shares(weights)
    source, _ = schedule(slots, np.arange(position))
    assert counts(slots, position).tolist() == np.bincount(source, minlength=len(slots)).tolist()
    far = counts(slots, FAR + position) - counts(slots, FAR)
    assert far.sum() == position
    assert (
        far.tolist() == np.bincount(schedule(slots, np.arange(FAR, FAR + position))[0], minlength=len(slots)).tolist()
    )


@settings(deadline=None, max_examples=60)
@given(WEIGHTS, st.integers(0, FAR), st.integers(1, 300))
def test_a_seek_gives_what_a_replay_gives(weights: list[float], start: int, count: int) -> None:
    slots = shares(weights)
    together = schedule(slots, np.arange(start, start + count))
    for offset in {0, count // 2, count - 1}:
        alone = schedule(slots, [start + offset])
        assert (alone[0][0], alone[1][0]) == (together[0][offset], together[1][offset])


def test_draws_far_out_go_on_counting_without_a_gap() -> None:
    slots = shares(SHAPES["a hundred uneven"])
    source, draw = schedule(slots, np.arange(FAR, FAR + 200_000))
    for index, slot in enumerate(slots):
        mine = draw[source == index]
        assert (np.diff(mine) == 1).all()
        assert not mine.size or abs(mine[0] - FAR * slot / sum(slots)) < 1.5 + slot / sum(slots) * np.argmax(
            source == index
        )


def test_positions_keep_their_shape_and_order() -> None:
    at = np.array([[9, 3], [FAR, 0]])
    source, draw = schedule((2, 1), at)
    flat = schedule((2, 1), at.ravel())
    assert source.shape == draw.shape == (2, 2)
    assert (source.itemsize, draw.itemsize) == (4, 8)
    assert np.array_equal(source.ravel(), flat[0])
    assert [x.size for x in schedule((2, 1), [])] == [0, 0]


def test_positions_and_draws_before_the_start_are_refused() -> None:
    with pytest.raises(MixtureError, match="positions are counted from 0"):
        schedule((1, 1), [-1])
    with pytest.raises(MixtureError, match="draws are counted from 0"):
        order([-1], 5, 0, "x")
    with pytest.raises(MixtureError, match="slots"):
        schedule((0, 0), [1])


def test_a_position_among_a_hundred_sources_is_found_without_laying_out_what_is_before_it() -> None:
    slots = shares(list(np.random.default_rng(7).dirichlet([0.3] * 100)))
    start = time.process_time()
    schedule(slots, [10**12])
    assert time.process_time() - start < 10  # laid out, it would be days


# --- draws to rows ---


@pytest.mark.parametrize("rows", [*range(1, 71), 1000, 65_537, 1_000_000])
def test_every_epoch_gives_every_row_once(rows: int) -> None:
    epochs = 3 if rows <= 1000 else 1
    epoch, row = order(np.arange(epochs * rows), rows, 5, "birds")
    for number in range(epochs):
        assert np.array_equal(np.sort(row[epoch == number]), np.arange(rows))


@pytest.mark.parametrize("rows", [1, 2, 3, 70, 1000, 2**31 + 1, 2**40])
def test_a_draw_far_out_is_found_without_its_forerunners(rows: int) -> None:
    draws = np.arange(FAR, FAR + 500)
    epoch, row = order(draws, rows, 5, "birds")
    assert np.array_equal(epoch, draws // rows)
    assert row.min() >= 0
    assert row.max() < rows
    assert len(set(zip(epoch.tolist(), row.tolist(), strict=True))) == 500
    for offset in (0, 250, 499):
        alone = order([FAR + offset], rows, 5, "birds")
        assert (alone[0][0], alone[1][0]) == (epoch[offset], row[offset])


def test_epochs_seeds_and_names_have_orders_of_their_own() -> None:
    rows = 1000
    first = order(np.arange(rows), rows, 5, "birds")[1]
    others = [
        order(np.arange(rows, 2 * rows), rows, 5, "birds")[1],
        order(np.arange(rows), rows, 6, "birds")[1],
        order(np.arange(rows), rows, 5, "bird")[1],
        np.arange(rows),
    ]
    for other in others:
        # Two unrelated permutations agree at one place on average.
        assert (first == other).sum() < 10


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 6])
def test_all_orders_of_a_few_rows_come_equally_often(rows: int) -> None:
    epochs, kinds = 40_000, math.factorial(rows)
    row = order(np.arange(epochs * rows), rows, 7, "birds")[1].reshape(epochs, rows)
    seen = Counter((row * rows ** np.arange(rows)).sum(axis=1).tolist())
    assert len(seen) == kinds
    expected = epochs / kinds
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values())
    assert abs(chi_square - (kinds - 1)) < 5 * math.sqrt(2 * kinds)


@pytest.mark.parametrize("rows", [7, 9, 16, 17, 64, 70, 1000])
def test_a_row_comes_at_every_place_equally_often_and_neighbours_part(rows: int) -> None:
    epochs = max(300_000 // rows, 300)
    row = order(np.arange(epochs * rows), rows, 7, "birds")[1].reshape(epochs, rows)
    places = np.zeros((rows, rows))
    np.add.at(places, (np.broadcast_to(np.arange(rows), row.shape), row), 1)
    steps = np.bincount(((row[:, 1:] - row[:, :-1]) % rows).ravel(), minlength=rows)[1:]
    for found, free in ((places, (rows - 1) ** 2), (steps, rows - 2)):
        chi_square = float(((found - found.mean()) ** 2 / found.mean()).sum())
        assert abs(chi_square - free) < 5 * math.sqrt(2 * free)


def test_the_order_of_a_million_rows_shows_no_pattern() -> None:
    rows = 1_000_000
    row = order(np.arange(rows), rows, 7, "birds")[1]
    cells = np.histogram2d(np.arange(rows), row, 50)[0]
    chi_square = float(((cells - cells.mean()) ** 2 / cells.mean()).sum())
    assert abs(chi_square - 49 * 49) < 5 * math.sqrt(2 * 49 * 49)
    assert abs(np.corrcoef(row, np.arange(rows))[0, 1]) < 0.005
    assert abs(np.corrcoef(row[1:], row[:-1])[0, 1]) < 0.005


# --- draws to rows, of many shards ---


SIZES = [50, 1, 70, 0, *range(3, 40), 200, 10]


@pytest.mark.parametrize("open_shards", [1, 2, 5, 16, 100])
def test_every_epoch_over_many_shards_gives_every_row_once(open_shards: int) -> None:
    rows = sum(SIZES)
    epoch, row = order(np.arange(3 * rows), SIZES, 5, "birds", open_shards=open_shards)
    for number in range(3):
        assert np.array_equal(np.sort(row[epoch == number]), np.arange(rows))
    assert not np.array_equal(row[epoch == 0], row[epoch == 1])
    for at in (0, rows - 1, rows + 7):
        alone = order([at], SIZES, 5, "birds", open_shards=open_shards)
        assert (alone[0][0], alone[1][0]) == (epoch[at], row[at])


@pytest.mark.parametrize("open_shards", [1, 4, 16])
def test_only_a_few_shards_are_open_at_a_time(open_shards: int) -> None:
    _, row = order(np.arange(6400), [100] * 64, 5, "birds", open_shards=open_shards)
    shard = row // 100
    ranges = shard.reshape(-1, 100 * open_shards)
    assert all(len(set(found.tolist())) == open_shards for found in ranges)
    assert len({tuple(sorted(set(found.tolist()))) for found in ranges}) == 64 // open_shards


def test_shards_come_in_any_order_and_rows_at_any_place() -> None:
    epochs, sizes = 1000, [5] * 8
    row = order(np.arange(epochs * 40), sizes, 7, "birds", open_shards=2)[1].reshape(epochs, 40)
    places = np.zeros((40, 40))
    np.add.at(places, (np.broadcast_to(np.arange(40), row.shape), row), 1)
    chi_square = float(((places - places.mean()) ** 2 / places.mean()).sum())
    # Rows of a range move together, so counts may vary more than free ones would.
    assert chi_square < 39 * 39 * 2


@pytest.mark.parametrize("rows", [0, -1, 2**40 + 1])
def test_a_number_of_rows_that_cannot_be_ordered_is_refused(rows: int) -> None:
    with pytest.raises(MixtureError, match="rows"):
        order([0], rows, 0, "x")


def test_the_stream_never_changes_between_versions() -> None:
    """A change of these digests breaks the exact resume of every run: it needs a new manifest version."""
    source, draw = schedule(shares(SHAPES["200 Zipf"]), np.arange(FAR, FAR + 5000))
    one = order(np.arange(FAR, FAR + 5000), 12_345, 42, "birds")
    many = order(np.arange(FAR, FAR + 5000), [700, 1, 0, *[50] * 90], 42, "birds")
    digest = hashlib.sha256()
    for array in (source, draw, *one, *many):
        digest.update(array.astype("<i8").tobytes())
    assert digest.hexdigest() == "34db13ab372ef2c7150c86a7f7a4d8ce99d39e21f27bb597ead86b894ac740ce"


# --- the manifest ---


def a_dataset(folder: Path, count: int, name: str | None = None) -> Path:
    with ShardWriter(folder / "00000.tar") as shard:
        for n in range(count):
            shard.add(f"{folder.name}{n}", {"txt": b"x"})
    info = shard.info
    save_dataset(
        DatasetInfo(
            name=name or folder.name, kind="caption", samples=count, bytes=info.bytes, recipe="0" * 16, shards=(info,)
        ),
        folder,
    )
    return folder


@pytest.fixture
def three(tmp_path: Path) -> list[tuple[Path, float]]:
    return [(a_dataset(tmp_path / name, size), w) for name, size, w in (("a", 5, 0.5), ("b", 70, 0.3), ("c", 9, 0.2))]


def test_a_manifest_comes_back_as_it_was_built_and_has_the_same_bytes_again(
    tmp_path: Path, three: list[tuple[Path, float]]
) -> None:
    out = tmp_path / "mixture.json"
    manifest = build(three, 42, out)
    first = out.read_bytes()
    assert load(out) == manifest
    assert [(d.name, d.path, d.weight, d.samples) for d in manifest.datasets] == [
        ("a", "a", 0.5, 5),
        ("b", "b", 0.3, 70),
        ("c", "c", 0.2, 9),
    ]
    assert manifest.segments[0].slots == (5, 3, 2)
    build(three, 42, out)
    assert out.read_bytes() == first
    save(manifest, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == first


def test_a_manifest_moves_with_its_datasets(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    (tmp_path / "home" / "mixes").mkdir(parents=True)
    for path, _ in three:
        shutil.move(path, tmp_path / "home")
    manifest = build([(tmp_path / "home" / p.name, w) for p, w in three], 1, tmp_path / "home" / "mixes" / "m.json")
    assert [d.path for d in manifest.datasets] == ["../a", "../b", "../c"]
    (tmp_path / "home").rename(tmp_path / "away")
    out = tmp_path / "away" / "mixes" / "m.json"
    assert load(out) == manifest
    assert load_dataset(folder_of(manifest, out, 1)).samples == 70


def test_locate_joins_schedule_and_order(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    manifest = build(three, 42, tmp_path / "mixture.json")
    positions = np.concatenate([np.arange(2000), np.arange(FAR, FAR + 40_000)])
    source, epoch, row = locate(manifest, positions)
    expected, draw = schedule([5, 3, 2], positions)
    assert np.array_equal(source, expected)
    for index, dataset in enumerate(manifest.datasets):
        mine = source == index
        turn, place = order(draw[mine], dataset.samples, 42, dataset.name)
        assert np.array_equal(epoch[mine], turn)
        assert np.array_equal(row[mine], place)


def test_every_row_of_a_source_is_seen_once_an_epoch(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    manifest = build(three, 42, tmp_path / "mixture.json")
    source, epoch, row = locate(manifest, np.arange(700))
    for index, dataset in enumerate(manifest.datasets):
        seen = Counter(zip(epoch[source == index].tolist(), row[source == index].tolist(), strict=True))
        assert max(seen.values()) == 1
        assert sum(e == 0 for e, _ in seen) == dataset.samples


def test_a_source_of_weight_zero_is_listed_and_never_drawn(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    manifest = build([*three[:2], (three[2][0], 0.0)], 0, tmp_path / "mixture.json")
    assert manifest.segments[0].slots == (5, 3, 0)
    assert set(locate(manifest, np.arange(1000))[0].tolist()) == {0, 1}


def test_two_datasets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [a_dataset(tmp_path / name, 5, "demo") for name in ("a", "b", "c")]
    manifest = build([(folder, 1.0) for folder in folders], 0, tmp_path / "mixture.json")
    assert [d.name for d in manifest.datasets] == ["demo", "demo-2", "demo-3"]


def test_one_content_reached_by_two_paths_is_refused(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    copy = Path(shutil.copytree(three[1][0], tmp_path / "copy"))
    save_dataset(load_dataset(copy).model_copy(update={"name": "another name"}), copy)
    for again in (three[1][0], copy):
        with pytest.raises(MixtureError, match="same content"):
            build([*three, (again, 1.0)], 0, tmp_path / "mixture.json")
    assert not (tmp_path / "mixture.json").exists()


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match="no samples"):
        build([(a_dataset(tmp_path / "a", 0), 1.0)], 0, tmp_path / "mixture.json")
    with pytest.raises(MixtureError, match="no datasets"):
        build([], 0, tmp_path / "mixture.json")


def test_a_folder_that_holds_no_dataset_is_refused(tmp_path: Path) -> None:
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


def test_a_dataset_that_changed_or_went_is_named(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
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
def test_a_manifest_that_cannot_be_true_is_refused(
    tmp_path: Path, three: list[tuple[Path, float]], change: dict[str, object], error: type[ValueError], message: str
) -> None:
    out = tmp_path / "mixture.json"
    build(three, 0, out)
    out.write_text(json.dumps({**json.loads(out.read_text()), **change}))
    with pytest.raises(error, match=message):
        load(out)


def test_a_manifest_changed_by_hand_is_refused(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    out = tmp_path / "mixture.json"
    build(three, 0, out)
    data = json.loads(out.read_text())
    for key, value, message in (("weight", 0.6, "by hand"), ("path", "c", "by hand"), ("weight", -1, "weight")):
        changed = json.loads(json.dumps(data))
        changed["datasets"][0][key] = value
        out.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            load(out)


def test_a_missing_or_broken_manifest_is_refused_with_what_to_do(tmp_path: Path) -> None:
    out = tmp_path / "mixture.json"
    with pytest.raises(ShardError, match="curate mix"):
        load(out)
    for data in (b"", b"[]", b"\xff"):
        out.write_bytes(data)
        with pytest.raises(ShardError, match="curate mix"):
            load(out)


def test_a_manifest_is_plain_data(tmp_path: Path, three: list[tuple[Path, float]]) -> None:
    manifest = build(three, 42, tmp_path / "mixture.json")
    assert Manifest.model_validate_json((tmp_path / "mixture.json").read_text()) == manifest
