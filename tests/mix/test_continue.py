"""A mixture that goes on mid-run: sources come, go and change weight, and nothing is seen before its time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mixtures import composed, listed

from curate import mix
from pipelines.cli.main import main
from pipelines.cli.show_mixture import simulate

SIZES = {"a": 40, "b": 13, "c": 75, "d": 7, "e": 29}
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.dictionaries(st.sampled_from(sorted(SIZES)), st.integers(1, 9), min_size=1, max_size=5),
    ),
    min_size=2,
    max_size=5,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("continue")
    listed(folder, SIZES, per_shard=10)
    return folder


def weighed(weights: dict[str, int], mode: str) -> str:
    entries = ", ".join(
        f"{{path: {name}, weight: {weight}{f', batch: {weight}' if mode == 'accumulate' else ''}}}"
        for name, weight in weights.items()
    )
    batch = "batch: 6\n" if mode != "accumulate" else ""
    return f"mode: {mode}\nseed: 5\nopen_shards: 2\n{batch}sources: [{entries}]"


def history(home: Path, changes: list[tuple[int, dict[str, int]]], mode: str) -> list[mix.Mixture]:
    """A mixture a change, each going on from the one before after so many steps."""
    out: list[mix.Mixture] = []
    position = 0
    for number, (steps, weights) in enumerate(changes):
        name = f"{number}.json"
        onto = mix.Onto(out[-1], position) if out else None
        out.append(composed(home, weighed(weights, mode), onto, name).mixture)
        position += steps * (out[-1].manifest.batch or 1)
    return out


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHANGES, st.sampled_from(["interleave", "homogeneous"]))
def test_over_whole_history_every_source_goes_through_its_epochs_in_order(
    home: Path, changes: list[tuple[int, dict[str, int]]], mode: str
) -> None:
    mixtures = history(home, changes, mode)
    last, position = mixtures[-1], 0
    names = [d.name for d in last.manifest.datasets]
    for mixture, (steps, weights) in zip(mixtures, changes, strict=True):
        stop = position + steps * 6
        served = mixture.locate(np.arange(position, stop))
        # The last mixture knows all that was served under those before it.
        for now, then in zip(last.locate(np.arange(position, stop)), served, strict=True):
            assert np.array_equal(now, then)
        assert {names[s] for s in set(served[0].tolist())} <= set(weights)
        position = stop
    source, epoch, row = last.locate(np.arange(position + 600))
    for number, name in enumerate(names):
        mine = source == number
        # Epochs never go back, and each holds every row once before the next begins.
        assert (np.diff(epoch[mine]) >= 0).all()
        full = int(mine.sum()) // SIZES[name]
        for turn in range(full):
            assert np.array_equal(np.sort(row[mine & (epoch == turn)]), np.arange(SIZES[name]))
        assert len(set(row[mine & (epoch == full)].tolist())) == (mine & (epoch == full)).sum()


def test_new_weights_hold_from_their_position_on(home: Path) -> None:
    """New weights hold from their position on and a source that left comes back where it stood."""
    one, two, three = history(home, [(10, {"a": 1, "b": 1}), (10, {"a": 1, "c": 3}), (0, {"b": 1})], "interleave")
    assert (two.counts(120) - two.counts(60)).tolist() == [15, 0, 45]
    assert two.manifest.datasets[1].share == 0
    assert two.manifest.continued is not None
    assert two.manifest.continued.position == 60
    digest = hashlib.sha256((home / "0.json").read_bytes()).hexdigest()
    assert [two.knows(digest, position) for position in (0, 60, 61)] == [True, True, False]
    assert not three.knows(digest, 60)
    source, epoch, row = three.locate(np.arange(120, 140))
    seen = set(one.locate(np.arange(60))[2][one.locate(np.arange(60))[0] == 1].tolist())
    first_epoch = row[(epoch == epoch[0]) & (source == 1)].tolist()
    assert set(source.tolist()) == {1}
    assert one.counts(60)[1] == 30
    assert epoch[0] == 30 // SIZES["b"]
    assert len(seen) == SIZES["b"]
    assert len(set(first_epoch)) == len(first_epoch)


def test_every_source_in_every_step_goes_on_too(home: Path) -> None:
    _, two = history(home, [(4, {"a": 2, "b": 4}), (0, {"a": 5, "c": 1})], "accumulate")
    assert two.counts(24 + 6 * 3).tolist() == [8 + 15, 16, 3]


def test_manifest_that_cannot_be_gone_on_from_is_refused(home: Path) -> None:
    old = composed(home, weighed({"a": 1, "b": 1}, "homogeneous"), None, "old.json").mixture
    for text, position, message in (
        (weighed({"a": 1}, "interleave"), 6, "own mode and batch"),
        (weighed({"a": 1}, "homogeneous").replace("batch: 6", "batch: 4"), 6, "own mode and batch"),
        (weighed({"a": 1}, "homogeneous"), 7, "within a step"),
        ("mode: homogeneous\nbatch: 6\nsources: [{path: a, rotate: 5}]", 6, "rotate"),
        ("mode: homogeneous\nbatch: 6\nsources: [{path: c, name: a}]", 6, "has changed since"),
    ):
        with pytest.raises(mix.MixtureError, match=message):
            composed(home, text, mix.Onto(old, position), "new.json")


def test_skipped_steps_are_left_out_and_all_others_stay_as_they_were(home: Path) -> None:
    mixture = composed(home, weighed({"a": 3, "b": 2, "c": 1}, "interleave"), None, "whole.json").mixture
    path = str(home / "whole.json")
    every = mixture.locate(np.arange(600))
    out = home / "less.json"
    assert main(["mix", "--continue", f"{path}@10", "--skip-steps", "20-24", "-o", str(out)]) == 0
    less = mix.load(out)
    kept = np.r_[0:120, 150:600]
    for now, then in zip(less.locate(np.arange(570)), every, strict=True):
        assert np.array_equal(now, then[kept])
    source = every[0][kept]
    for position in (0, 100, 120, 130, 570):
        assert less.served(position).tolist() == np.bincount(source[:position], minlength=3).tolist()
    again = home / "again.json"
    assert main(["mix", "--continue", f"{out}@15", "--skip-steps", "18-21", "-o", str(again)]) == 0
    kept = np.r_[0:108, 162:600]  # steps 18, 19, the skipped five, and the two that stood behind them
    for now, then in zip(mix.load(again).locate(np.arange(len(kept))), every, strict=True):
        assert np.array_equal(now, then[kept])
    assert main(["mix", "--continue", f"{path}@10", "--skip-steps", "9-12", "-o", str(out)]) == 1
    foretold = simulate(again, 50, None)
    assert sum(s["samples"] for s in foretold["sources"]) == 300


def test_stage_after_a_skipped_range_begins_where_its_data_does(home: Path) -> None:
    text = "batch: 5\nsources: [{path: a}, {path: b}]\nstages: [{name: x, steps: 10}, {name: y, weights: {a: 0}}]"
    composed(home, text, None, "staged.json")
    out = home / "staged-less.json"
    assert main(["mix", "--continue", f"{home / 'staged.json'}@0", "--skip-steps", "4-5", "-o", str(out)]) == 0
    less = mix.load(out)
    assert [less.stage_at(step).name for step in (7, 8)] == ["x", "y"]
    assert set(less.locate(np.arange(40, 60))[0].tolist()) == {1}


def test_mixture_with_an_end_is_shorter_by_the_steps_left_out(home: Path) -> None:
    """A mixture with an end has so much less of the stream when steps are left out."""
    text = "batch: 5\nat_limit: stop\nmax_epochs: 2\nsources: [{path: a}, {path: b}]"
    whole = composed(home, text, None, "ends.json").mixture
    out = home / "ends-less.json"
    assert main(["mix", "--continue", f"{home / 'ends.json'}@1", "--skip-steps", "3-4", "-o", str(out)]) == 0
    less = mix.load(out)
    assert whole.manifest.end is not None
    assert less.manifest.end == whole.manifest.end - 10
    every = whole.locate(np.arange(whole.manifest.end))
    kept = np.r_[0:15, 25 : whole.manifest.end]
    for now, then in zip(less.locate(np.arange(less.manifest.end)), every, strict=True):
        assert np.array_equal(now, then[kept])
    with pytest.raises(mix.MixtureError, match="ends"):
        less.locate([less.manifest.end])
    assert simulate(out, 100, None)["positions"] == less.manifest.end
    assert simulate(out, 100, None)["ended"]
