"""Each connector lets through what a model needs: on real pairs it beats its blind twin and wrong pictures."""

from __future__ import annotations

import pytest

from bench.connectors import PROOFS, STEPS, NamedPictures, prove, read_pairs
from curate.models.towers.tower import VisionTower
from pipelines.materials.packages import PackageUnavailableError

pytestmark = [pytest.mark.slow, pytest.mark.systems, pytest.mark.xdist_group("connector-proofs")]

SEEDS = 3
LEARNT, OVER_BLIND, OVER_SHUFFLED = 2.0, 0.1, 0.4
"""Nats a word by which each seed's loss must fall, and by which its own picture must beat none and another's."""


@pytest.fixture(scope="module")
def data() -> tuple[NamedPictures, NamedPictures, list[VisionTower]]:
    try:
        return read_pairs()
    except PackageUnavailableError as err:
        pytest.skip(f"Twemoji's drawings cannot be had here: {err}")


@pytest.mark.parametrize("name", PROOFS)
def test_a_model_that_sees_beats_its_blind_twin_and_itself_on_wrong_pictures(
    name: str, data: tuple[NamedPictures, NamedPictures, list[VisionTower]]
) -> None:
    for seed in range(SEEDS):
        found = prove(PROOFS[name], data, seed, STEPS)
        assert found.last < found.first - LEARNT
        assert found.seeing < found.blind - OVER_BLIND
        assert found.seeing < found.shuffled - OVER_SHUFFLED
