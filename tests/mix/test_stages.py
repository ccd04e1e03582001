"""Limits on epochs and stages: no source is seen too often, and weights, resolution and length ramp as said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixtures import ALL, RAMPED, composed, listed

from curate import mix
from curate.mix.schedule import counts
from curate.mix.segments import RAMP_PIECES
from pipelines.cli import show_mixture


def test_mixture_stops_before_a_source_is_seen_too_often(home: Path) -> None:
    built = composed(home, f"at_limit: stop\nmax_epochs: 2\nsources: [{ALL}]")
    end = built.mixture.manifest.end
    assert end is not None
    source, epoch, _ = built.mixture.locate(np.arange(end))
    assert np.bincount(source)[2] == 180
    assert epoch.max() == 1
    assert built.mixture.counts(end + 1).max() > 180
    with pytest.raises(mix.MixtureError, match=f"ends at position {end}"):
        built.mixture.locate([end])


def test_share_of_a_source_that_has_had_its_epochs_goes_to_the_others(home: Path) -> None:
    entries = "{path: a, weight: 3}, {path: b, weight: 1, max_epochs: 1}, {path: c, weight: 1, max_epochs: 1.5}"
    built = composed(home, f"at_limit: redistribute\nsources: [{entries}]")
    assert len(built.mixture.manifest.segments) == 3
    source, epoch, row = built.mixture.locate(np.arange(20_000))
    assert np.bincount(source).tolist() == [20_000 - 400 - 135, 400, 135]
    assert set(source[5000:].tolist()) == {0}
    assert np.unique(np.stack([source, epoch, row]), axis=1).shape[1] == 20_000
    middle = np.bincount(source[built.mixture.manifest.segments[1].start : built.mixture.manifest.segments[2].start])
    assert abs(middle[0] - 3 * middle[1]) < 4


def test_all_sources_with_limits_end_the_mixture_when_the_last_is_done(home: Path) -> None:
    built = composed(home, f"at_limit: redistribute\nmax_epochs: 1\nsources: [{ALL}]")
    assert built.mixture.manifest.end == 1490
    source, epoch, row = built.mixture.locate(np.arange(1490))
    assert len(set(zip(source.tolist(), row.tolist(), strict=True))) == 1490
    assert epoch.max() == 0


def test_source_too_small_for_the_run_is_refused_by_name(home: Path) -> None:
    text = f"max_epochs: 1\nbatch: 10\nsteps: STEPS\nsources: [{ALL}]"
    with pytest.raises(mix.MixtureError, match=r"'c' is too small: .* at position 27. of 300"):
        composed(home, text.replace("STEPS", "30"))
    assert composed(home, text.replace("STEPS", "27")).mixture.manifest.end in (270, 271, 272)
    with pytest.raises(mix.MixtureError, match="say in `steps`"):
        composed(home, f"max_epochs: 1\nsources: [{ALL}]")


def test_stages_keep_every_share_without_letting_errors_add_up(home: Path) -> None:
    stages = "\n".join(
        f"  - {{name: s{n}, steps: 7, weights: {{a: {1 + n % 3}, b: {math.pi}, c: 0.3}}}}" for n in range(40)
    )
    built = composed(home, f"batch: 3\nsources: [{ALL}]\nstages:\n{stages}\n  - {{name: last}}")
    wanted = np.zeros(3)
    for n, stage in enumerate(built.mixture.manifest.stages[:-1]):
        weights = np.array(stage.weights)
        wanted += 21 * weights / weights.sum()
        assert np.abs(built.mixture.counts(21 * (n + 1)) - wanted).max() < 1.5


def test_weights_ramp_from_one_stage_to_the_next(home: Path) -> None:
    stages = "[{name: first, steps: 100}, {name: decay, ramp: 50, weights: {a: 0, b: 1, c: 3}}]"
    built = composed(home, f"batch: 20\nsources: [{ALL}]\nstages: {stages}")
    mixture = built.mixture
    assert len(mixture.manifest.segments) == 1 + min(RAMP_PIECES, 1000) + 1
    assert mixture.stage_at(99).weights == pytest.approx([1 / 3] * 3)
    halfway = mixture.stage_at(125)
    assert halfway.ramping
    assert halfway.weights == pytest.approx([1 / 6, (1 / 3 + 1 / 4) / 2, (1 / 3 + 3 / 4) / 2])
    assert not mixture.stage_at(150).ramping
    ramp = mixture.counts(3000) - mixture.counts(2000)
    assert np.abs(ramp - 1000 * np.array(halfway.weights)).max() < 3
    assert (mixture.counts(4000) - mixture.counts(3000))[0] == 0
    source, epoch, row = mixture.locate(np.arange(4000))
    assert np.unique(np.stack([source, epoch, row]), axis=1).shape[1] == 4000
    assert np.array_equal(np.bincount(source[:2345], minlength=3), mixture.counts(2345))


def test_resolution_and_sequence_ramp_with_the_weights_in_whole_multiples(home: Path) -> None:
    mixture = composed(home, RAMPED).mixture
    found = [mixture.stage_at(step) for step in (0, 99, 100, 101, 125, 149, 150, 10_000)]
    assert [stage.resolution for stage in found] == [224, 224, 224, 224, 336, 448, 448, 448]
    assert [stage.ramping for stage in found] == [False, False, True, True, True, True, False, False]
    # A source of which the stage before said nothing has its length at once.
    assert [stage.sequence for stage in found[3:6]] == [{"a": n, "c": 768} for n in (1024, 1536, 2048)]
    every = [mixture.stage_at(step).resolution or 0 for step in range(90, 160)]
    assert every == sorted(every)
    assert {px % 14 for px in every} == {0}
    assert len(set(every)) == 1 + (448 - 224) // 14
    assert len(mixture.manifest.segments) == 2  # weights that stay make no staircase
    assert mixture.stage_of(1255) == mix.StageAt(
        "high", True, pytest.approx((1 / 3,) * 3), 336, {"a": 1536, "c": 768}, ("connector",)
    )


def test_stage_without_ramp_changes_at_once_and_a_whole_length_ramps_too(home: Path) -> None:
    """A stage that does not ramp changes at once and a whole length ramps too."""
    stages = "[{name: x, steps: 100, resolution: 224}, {name: y, resolution: 448}]"
    mixture = composed(home, f"batch: 3\nsources: [{ALL}]\nstages: {stages}").mixture
    assert [mixture.stage_at(step).resolution for step in (99, 100)] == [224, 448]
    stages = "[{name: x, steps: 10, resolution: 200}, {name: y, ramp: 10, resolution: {a: 400, b: 300}}]"
    mixture = composed(home, f"batch: 3\nsources: [{ALL}]\nstages: {stages}").mixture
    assert mixture.stage_at(15).resolution == {"a": 300, "b": 250}
    stages = "[{name: x, steps: 10, sequence: 100}, {name: y, ramp: 10, steps: 20, sequence: 200}, {name: z}]"
    mixture = composed(home, f"batch: 3\nsources: [{ALL}]\nstages: {stages}").mixture
    assert [mixture.stage_at(step).sequence for step in (9, 10, 15, 20, 29, 30)] == [
        100,
        100,
        150,
        200,
        200,
        None,
    ]


def test_step_shows_what_it_trains_at_beside_its_samples(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a step trains at is shown beside its samples."""
    composed(home, RAMPED)
    found = show_mixture.stage_at(home / "mixture.json", 125)
    assert found == {
        **{"step": 125, "name": "high", "ramping": True, "resolution": 336, "train": ("connector",)},
        **{"sequence": {"a": 1536, "c": 768}, "weights": pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})},
    }
    show_mixture.show_stage(found)
    said = (
        "step 125: stage high, ramping; 336 pixels; sequences of 1,536 tokens (a), 768 tokens (c); trains connector\n"
    )
    assert capsys.readouterr() == ("", said)
    foretold = show_mixture.simulate(home / "mixture.json", 200, None)
    assert foretold["stages"][1] == {
        **{"name": "high", "from_step": 100, "ramp_steps": 50, "resolution": [224, 448], "train": ("connector",)},
        "sequence": [{"a": 1024, "c": 768}, {"a": 2048, "c": 768}],
    }
    show_mixture.show_simulated(foretold)
    told = " ".join(capsys.readouterr().out.split())
    assert "stage low from step 0; 224 pixels; sequences of 1,024 tokens (a), 512 tokens (b)" in told
    assert (
        "stage high from step 100; ramping over 50 steps; 224 pixels to 448 pixels; sequences of 1,024 tokens (a),"
        in told
    )


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any), st.integers(0, 500))
def test_homogeneous_batches_keep_counts_and_seeks(slots: list[int], position: int) -> None:
    manifest = mix.Manifest.model_validate(
        {
            "seed": 1,
            "mode": "homogeneous",
            "batch": 7,
            "datasets": [
                {"name": n, "path": n, "weight": 1, "share": 0.3, "samples": 9, "units": 9, "shards": [[1, 9]]}
                | {"digest": f"{at}" * 64}
                for at, n in enumerate("abc")
            ],
            "stages": [{"name": "all", "start": 0, "weights": slots}],
            "segments": [{"start": 0, "slots": slots}],
        }
    )
    plan = mix.Mixture(manifest, Path("mixture.json")).plan
    source, draw = plan.drawn(np.arange(position + 1))
    assert plan.counts(position).tolist() == np.bincount(source[:-1], minlength=3).tolist()
    assert draw[-1] == (source[:-1] == source[-1]).sum()
    assert counts(slots, position // 7).sum() == position // 7


LIMITED = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["interleave", "homogeneous"]),
        "at_limit": st.sampled_from(["stop", "redistribute"]),
        "weights": st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any), min_size=1, max_size=4),
        "steps": st.integers(1, 40),
        "ramp": st.integers(0, 40),
        "epochs": st.lists(st.sampled_from([0.5, 1, 1.7, 3, 99]), min_size=3, max_size=3),
    }
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    listed(folder, {"a": 100, "b": 40, "c": 9}, per_shard=7)
    return folder


@settings(deadline=None, max_examples=80)
@given(LIMITED)
def test_limits_hold_and_counts_agree_for_any_stages(small: Path, said: dict[str, Any]) -> None:
    """Whatever the stages and limits, no source is drawn too often and counts agree."""
    entries = ", ".join(f"{{path: {n}, max_epochs: {e}}}" for n, e in zip("abc", said["epochs"], strict=True))
    steps, ramp = said["steps"], min(said["ramp"], said["steps"])
    stages = [
        f"{{name: s{n}, steps: {steps}, ramp: {ramp}, weights: {{a: {w[0]}, b: {w[1]}, c: {w[2]}}}}}"
        for n, w in enumerate(said["weights"])
    ]
    head = f"mode: {said['mode']}\nbatch: 4\nat_limit: {said['at_limit']}\nopen_shards: 3\n"
    try:
        built = composed(small, f"{head}sources: [{entries}]\nstages: [{', '.join(stages)}]")
    except mix.MixtureError as err:
        assert "before the first draw" in str(err)  # noqa: PT017
        return
    mixture = built.mixture
    end = mixture.manifest.end if mixture.manifest.end is not None else 1500
    assert end < 20_000
    source, epoch, row = mixture.locate(np.arange(end))
    drawn = np.bincount(source, minlength=3)
    assert all(n <= int(e * size) for n, e, size in zip(drawn, said["epochs"], (100, 40, 9), strict=True))
    assert np.unique(np.stack([source, epoch, row]), axis=1).shape[1] == end
    for position in {0, end // 3, end // 2, end}:
        assert np.array_equal(mixture.counts(position), np.bincount(source[:position], minlength=3))
    if said["mode"] == "homogeneous":
        assert all(len(set(batch.tolist())) == 1 for batch in source[: end // 4 * 4].reshape(-1, 4))
