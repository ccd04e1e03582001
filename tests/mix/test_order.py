"""From draws to rows: every epoch gives every row once, in an order of its own."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
from mixtures import FAR, SHAPES

from curate.mix import MixtureError, order, shares
from curate.mix.schedule import schedule


@pytest.mark.parametrize("rows", [*range(1, 71), 1000, 65_537, 1_000_000])
def test_every_epoch_gives_every_row_once(rows: int) -> None:
    epochs = 3 if rows <= 1000 else 1
    epoch, row = order(np.arange(epochs * rows), rows, 5, "birds")
    for number in range(epochs):
        assert np.array_equal(np.sort(row[epoch == number]), np.arange(rows))


@pytest.mark.parametrize("rows", [1, 2, 3, 70, 1000, 2**31 + 1, 2**40])
def test_draw_far_out_is_found_without_its_forerunners(rows: int) -> None:
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
def test_row_comes_at_every_place_equally_often_and_neighbours_part(rows: int) -> None:
    epochs = max(300_000 // rows, 300)
    row = order(np.arange(epochs * rows), rows, 7, "birds")[1].reshape(epochs, rows)
    places = np.zeros((rows, rows))
    np.add.at(places, (np.broadcast_to(np.arange(rows), row.shape), row), 1)
    steps = np.bincount(((row[:, 1:] - row[:, :-1]) % rows).ravel(), minlength=rows)[1:]
    for found, free in ((places, (rows - 1) ** 2), (steps, rows - 2)):
        chi_square = float(((found - found.mean()) ** 2 / found.mean()).sum())
        assert abs(chi_square - free) < 5 * math.sqrt(2 * free)


def test_order_of_a_million_rows_shows_no_pattern() -> None:
    rows = 1_000_000
    row = order(np.arange(rows), rows, 7, "birds")[1]
    cells = np.histogram2d(np.arange(rows), row, 50)[0]
    chi_square = float(((cells - cells.mean()) ** 2 / cells.mean()).sum())
    assert abs(chi_square - 49 * 49) < 5 * math.sqrt(2 * 49 * 49)
    assert abs(np.corrcoef(row, np.arange(rows))[0, 1]) < 0.005
    assert abs(np.corrcoef(row[1:], row[:-1])[0, 1]) < 0.005


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
def test_shards_are_open_only_a_few_at_a_time(open_shards: int) -> None:
    """Only a few shards are open at a time."""
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
def test_number_of_rows_that_cannot_be_ordered_is_refused(rows: int) -> None:
    with pytest.raises(MixtureError, match="rows"):
        order([0], rows, 0, "x")


def test_stream_never_changes_between_versions() -> None:
    """A change of these digests breaks the exact resume of every run: it needs a new manifest version."""
    source, draw = schedule(shares(SHAPES["200 Zipf"]), np.arange(FAR, FAR + 5000))
    one = order(np.arange(FAR, FAR + 5000), 12_345, 42, "birds")
    many = order(np.arange(FAR, FAR + 5000), [700, 1, 0, *[50] * 90], 42, "birds")
    digest = hashlib.sha256()
    for array in (source, draw, *one, *many):
        digest.update(array.astype("<i8").tobytes())
    assert digest.hexdigest() == "34db13ab372ef2c7150c86a7f7a4d8ce99d39e21f27bb597ead86b894ac740ce"
