"""Specifications of mixtures: what is written by hand is resolved, shown and kept to; what cannot be is refused."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixtures import a_dataset, composed, drawn_shares, listed

from curate import mix
from curate.mix.count_tokens import add_text_tokens
from curate.mix.schedule import apportion, counts
from curate.mix.segments import RAMP_PIECES
from curate.settings import SettingsError
from curate.shards import DatasetInfo, ShardError, ShardInfo, load_dataset, save_dataset
from pipelines.cli import show_mixture
from pipelines.cli.main import main

THREE = {"a": 1000, "b": 400, "c": 90}
ALL = "{path: a}, {path: b}, {path: c}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    listed(tmp_path, THREE, per_shard=50)
    return tmp_path


# --- rounding ---


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any), st.integers(0, 10_000))
def test_whole_items_add_up_and_none_is_a_whole_item_off(weights: list[int], total: int) -> None:
    parts = apportion([Fraction(w) for w in weights], total)
    assert sum(parts) == total
    assert all(abs(n - w * total / sum(weights)) < 1 for n, w in zip(parts, weights, strict=True))


# --- units ---


def test_shares_of_tokens_and_images_are_drawn_by_how_long_samples_are(tmp_path: Path) -> None:
    a_dataset(tmp_path / "long", 100, text_tokens=[900 + 2 * n for n in range(100)])
    a_dataset(tmp_path / "short", 50, text_tokens=[10] * 50, images=[3] * 50)
    entries = "sources: [{path: long, weight: 1}, {path: short, weight: 1}]"
    means = {
        "text_tokens": (999.0, 10.0),
        "images": (1.0, 3.0),
        "total_tokens": (999.0 + 144, 10 + 3 * 144.0),
        "samples": (1.0, 1.0),
    }
    for unit, (first, second) in means.items():
        visual = "visual_tokens: 144\n" if unit == "total_tokens" else ""
        shares = drawn_shares(composed(tmp_path, f"unit: {unit}\n{visual}{entries}"))
        assert shares["long"] * first == pytest.approx(shares["short"] * second, rel=1e-4)


def test_tokens_are_exactly_in_their_shares_whenever_the_sources_end_an_epoch_together(tmp_path: Path) -> None:
    length = {"x": [1, 5, 9, 25], "y": [2, 2, 4, 8]}
    for name, values in length.items():
        a_dataset(tmp_path / name, 4, text_tokens=values)
    built = composed(tmp_path, "unit: text_tokens\nsources: [{path: x, weight: 5}, {path: y, weight: 2}]")
    source, _, row = mix.locate(built.manifest, np.arange(8 * 20))
    tokens = np.array([length["xy"[s]][r] for s, r in zip(source, row, strict=True)])
    for epochs in range(1, 21):
        part = slice(0, 8 * epochs)
        assert tokens[part][source[part] == 0].sum() * 2 == tokens[part][source[part] == 1].sum() * 5


def test_a_unit_without_lengths_is_refused_with_the_command_that_adds_them(tmp_path: Path) -> None:
    a_dataset(tmp_path / "a", 5)
    with pytest.raises(mix.MixtureError, match=r"no column 'text_tokens'.*curate index .* --tokenizer"):
        composed(tmp_path, "unit: text_tokens\nsources: [{path: a}]")
    before = (tmp_path / "a" / "dataset.json").read_bytes(), (tmp_path / "a" / "00000.tar").read_bytes()
    assert add_text_tokens(tmp_path / "a", "bytes") == {"samples": 5, "text_tokens": 5}
    index = (tmp_path / "a" / "00000.arrow").read_bytes()
    assert add_text_tokens(tmp_path / "a", "bytes") == {"samples": 5, "text_tokens": 5}
    assert ((tmp_path / "a" / "dataset.json").read_bytes(), (tmp_path / "a" / "00000.tar").read_bytes()) == before
    assert (tmp_path / "a" / "00000.arrow").read_bytes() == index
    assert composed(tmp_path, "unit: text_tokens\nsources: [{path: a}]").manifest.datasets[0].units == 5
    with pytest.raises(mix.MixtureError, match="holds none"):
        composed(tmp_path, "unit: images\nsources: [{path: a}, {path: b}]") if _empty(tmp_path / "b") else None
    with pytest.raises(ValueError, match="unknown tokenizer"):
        add_text_tokens(tmp_path / "a", "gpt")


def _empty(folder: Path) -> Path:
    return a_dataset(folder, 3, images=[0, 0, 0])


@pytest.mark.parametrize("values", [[1, -1, 1], None])
def test_lengths_that_mean_nothing_are_refused(tmp_path: Path, values: list[int] | None) -> None:
    folder = a_dataset(tmp_path / "a", 3, **({} if values is None else {"answer_tokens": values}))
    with pytest.raises(mix.MixtureError, match="answer_tokens"):
        composed(tmp_path, "unit: answer_tokens\nsources: [{path: a}]")
    (folder / "00000.arrow").unlink()
    with pytest.raises(ShardError, match="curate index"):
        composed(tmp_path, "unit: answer_tokens\nsources: [{path: a}]")


def test_a_group_of_losses_multiplies_those_of_its_sources(home: Path) -> None:
    entries = "{path: a, batch: 2}, {group: g, weight: 0.5, sources: [{path: b, weight: 0.4, batch: 1}]}"
    stages = "[{name: x, steps: 3}, {name: y, weights: {g: 2}}]"
    built = composed(home, f"mode: accumulate\nsources: [{entries}]\nstages: {stages}")
    assert mix.stage_at(built.manifest, 2).weights == (1.0, 0.2)
    assert mix.stage_at(built.manifest, 3).weights == (1.0, 0.8)


def test_a_pass_takes_parts_of_epochs_and_the_next_pass_goes_on_with_the_rest(home: Path) -> None:
    built = composed(
        home, "mode: concat\nsources: [{path: a, epochs: 0.25}, {path: b, epochs: 0.5}, {path: c, epochs: 2}]"
    )
    assert built.manifest.epoch == 250 + 200 + 180
    source, epoch, row = mix.locate(built.manifest, np.arange(4 * 630))
    for number, (part, size) in enumerate(((250, 1000), (200, 400), (180, 90))):
        mine = row[source == number]
        assert [int((source[n * 630 : (n + 1) * 630] == number).sum()) for n in range(4)] == [part] * 4
        assert all(np.array_equal(np.sort(mine[at : at + size]), np.arange(size)) for at in range(0, len(mine), size))
    assert epoch.max() == 7


# --- limits on epochs ---


def test_a_mixture_stops_before_a_source_is_seen_too_often(home: Path) -> None:
    built = composed(home, f"at_limit: stop\nmax_epochs: 2\nsources: [{ALL}]")
    end = built.manifest.end
    assert end is not None
    source, epoch, _ = mix.locate(built.manifest, np.arange(end))
    assert np.bincount(source)[2] == 180
    assert epoch.max() == 1
    assert built.manifest.plan.counts(end + 1).max() > 180
    with pytest.raises(mix.MixtureError, match=f"ends at position {end}"):
        mix.locate(built.manifest, [end])


def test_the_share_of_a_source_that_has_had_its_epochs_goes_to_the_others(home: Path) -> None:
    entries = "{path: a, weight: 3}, {path: b, weight: 1, max_epochs: 1}, {path: c, weight: 1, max_epochs: 1.5}"
    built = composed(home, f"at_limit: redistribute\nsources: [{entries}]")
    assert len(built.manifest.segments) == 3
    source, epoch, row = mix.locate(built.manifest, np.arange(20_000))
    assert np.bincount(source).tolist() == [20_000 - 400 - 135, 400, 135]
    assert set(source[5000:].tolist()) == {0}
    assert np.unique(np.stack([source, epoch, row]), axis=1).shape[1] == 20_000
    middle = np.bincount(source[built.manifest.segments[1].start : built.manifest.segments[2].start])
    assert abs(middle[0] - 3 * middle[1]) < 4


def test_all_sources_with_limits_end_the_mixture_when_the_last_is_done(home: Path) -> None:
    built = composed(home, f"at_limit: redistribute\nmax_epochs: 1\nsources: [{ALL}]")
    assert built.manifest.end == 1490
    source, epoch, row = mix.locate(built.manifest, np.arange(1490))
    assert len(set(zip(source.tolist(), row.tolist(), strict=True))) == 1490
    assert epoch.max() == 0


def test_a_source_too_small_for_the_run_is_refused_by_name(home: Path) -> None:
    text = f"max_epochs: 1\nbatch: 10\nsteps: STEPS\nsources: [{ALL}]"
    with pytest.raises(mix.MixtureError, match=r"'c' is too small: .* at position 27. of 300"):
        composed(home, text.replace("STEPS", "30"))
    assert composed(home, text.replace("STEPS", "27")).manifest.end in (270, 271, 272)
    with pytest.raises(mix.MixtureError, match="say in `steps`"):
        composed(home, f"max_epochs: 1\nsources: [{ALL}]")


# --- stages ---


def test_stages_keep_every_share_without_letting_errors_add_up(home: Path) -> None:
    stages = "\n".join(
        f"  - {{name: s{n}, steps: 7, weights: {{a: {1 + n % 3}, b: {math.pi}, c: 0.3}}}}" for n in range(40)
    )
    built = composed(home, f"batch: 3\nsources: [{ALL}]\nstages:\n{stages}\n  - {{name: last}}")
    wanted = np.zeros(3)
    for n, stage in enumerate(built.manifest.stages[:-1]):
        weights = np.array(stage.weights)
        wanted += 21 * weights / weights.sum()
        assert np.abs(built.manifest.plan.counts(21 * (n + 1)) - wanted).max() < 1.5


def test_weights_ramp_from_one_stage_to_the_next(home: Path) -> None:
    stages = "[{name: first, steps: 100}, {name: decay, ramp: 50, weights: {a: 0, b: 1, c: 3}}]"
    built = composed(home, f"batch: 20\nsources: [{ALL}]\nstages: {stages}")
    manifest = built.manifest
    assert len(manifest.segments) == 1 + min(RAMP_PIECES, 1000) + 1
    assert mix.stage_at(manifest, 99).weights == pytest.approx([1 / 3] * 3)
    halfway = mix.stage_at(manifest, 125)
    assert halfway.ramping
    assert halfway.weights == pytest.approx([1 / 6, (1 / 3 + 1 / 4) / 2, (1 / 3 + 3 / 4) / 2])
    assert not mix.stage_at(manifest, 150).ramping
    ramp = manifest.plan.counts(3000) - manifest.plan.counts(2000)
    assert np.abs(ramp - 1000 * np.array(halfway.weights)).max() < 3
    assert (manifest.plan.counts(4000) - manifest.plan.counts(3000))[0] == 0
    source, epoch, row = mix.locate(manifest, np.arange(4000))
    assert np.unique(np.stack([source, epoch, row]), axis=1).shape[1] == 4000
    assert np.array_equal(np.bincount(source[:2345], minlength=3), manifest.plan.counts(2345))


RAMPED = f"""
batch: 10
sources: [{ALL}]
stages:
  - {{name: low, steps: 100, resolution: 224, sequence: {{a: 1024, b: 512}}}}
  - {{name: high, ramp: 50, resolution: 448, resolution_multiple: 14, sequence: {{a: 2048, c: 768}},
     sequence_multiple: 256, train: [connector]}}
"""


def test_resolution_and_sequence_ramp_with_the_weights_in_whole_multiples(home: Path) -> None:
    manifest = composed(home, RAMPED).manifest
    found = [mix.stage_at(manifest, step) for step in (0, 99, 100, 101, 125, 149, 150, 10_000)]
    assert [stage.resolution for stage in found] == [224, 224, 224, 224, 336, 448, 448, 448]
    assert [stage.ramping for stage in found] == [False, False, True, True, True, True, False, False]
    # A source of which the stage before said nothing has its length at once.
    assert [stage.sequence for stage in found[3:6]] == [{"a": n, "c": 768} for n in (1024, 1536, 2048)]
    every = [mix.stage_at(manifest, step).resolution or 0 for step in range(90, 160)]
    assert every == sorted(every)
    assert {px % 14 for px in every} == {0}
    assert len(set(every)) == 1 + (448 - 224) // 14
    assert len(manifest.segments) == 2  # weights that stay make no staircase
    assert mix.stage_of(manifest, 1255) == mix.StageAt(
        "high", True, pytest.approx((1 / 3,) * 3), 336, {"a": 1536, "c": 768}, ("connector",)
    )


def test_a_stage_that_does_not_ramp_changes_at_once_and_a_whole_length_ramps_too(home: Path) -> None:
    stages = "[{name: x, steps: 100, resolution: 224}, {name: y, resolution: 448}]"
    manifest = composed(home, f"batch: 3\nsources: [{ALL}]\nstages: {stages}").manifest
    assert [mix.stage_at(manifest, step).resolution for step in (99, 100)] == [224, 448]
    stages = "[{name: x, steps: 10, resolution: 200}, {name: y, ramp: 10, resolution: {a: 400, b: 300}}]"
    manifest = composed(home, f"batch: 3\nsources: [{ALL}]\nstages: {stages}").manifest
    assert mix.stage_at(manifest, 15).resolution == {"a": 300, "b": 250}
    stages = "[{name: x, steps: 10, sequence: 100}, {name: y, ramp: 10, steps: 20, sequence: 200}, {name: z}]"
    manifest = composed(home, f"batch: 3\nsources: [{ALL}]\nstages: {stages}").manifest
    assert [mix.stage_at(manifest, step).sequence for step in (9, 10, 15, 20, 29, 30)] == [
        100,
        100,
        150,
        200,
        200,
        None,
    ]


def test_what_a_step_trains_at_is_shown_beside_its_samples(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    plan = mix.Manifest.model_validate(
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
    ).plan
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
def test_whatever_the_stages_and_limits_no_source_is_drawn_too_often_and_counts_agree(
    small: Path, said: dict[str, Any]
) -> None:
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
    manifest = built.manifest
    end = manifest.end if manifest.end is not None else 1500
    assert end < 20_000
    source, epoch, row = mix.locate(manifest, np.arange(end))
    drawn = np.bincount(source, minlength=3)
    assert all(n <= int(e * size) for n, e, size in zip(drawn, said["epochs"], (100, 40, 9), strict=True))
    assert np.unique(np.stack([source, epoch, row]), axis=1).shape[1] == end
    for position in {0, end // 3, end // 2, end}:
        assert np.array_equal(manifest.plan.counts(position), np.bincount(source[:position], minlength=3))
    if said["mode"] == "homogeneous":
        assert all(len(set(batch.tolist())) == 1 for batch in source[: end // 4 * 4].reshape(-1, 4))


# --- what is refused ---


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("sources: [{path: a, wieght: 2}]", SettingsError, "did you mean 'weight'"),
        ("sources: [{weight: 2}]", SettingsError, "either `path`"),
        ("sources: [{group: g}]", SettingsError, "has no sources"),
        ("sources: []", SettingsError, "sources"),
        ("sources: [{path: a, weight: -1}]", SettingsError, "greater than or equal to 0"),
        ("sources: [{path: a, weight: .nan}]", SettingsError, "finite"),
        ("sources: [{path: a, weight: 0}]", mix.MixtureError, "every weight is 0"),
        ("sources: [{path: a}, {group: g, sources: [{path: b, weight: 0}]}]", mix.MixtureError, "group 'g'.*every"),
        ("sources: [{path: a}, {path: ./a}]", mix.MixtureError, "same content.*again: true"),
        ("sources: [{path: a, name: x}, {path: b, name: x}]", mix.MixtureError, "two sources are named 'x'"),
        ("sources: [{path: a, cap: 3}]", mix.MixtureError, "weigh it and its neighbours by size"),
        ("mode: concat\nsources: [{path: a, weight: 3}]", mix.MixtureError, "say `epochs` or `cap`"),
        ("mode: homogeneous\nsources: [{path: a}]", SettingsError, "batch"),
        ("mode: accumulate\nsources: [{path: a}]", mix.MixtureError, "`batch` of 'a'"),
        ("power: 0.5\nsources: [{path: a}]", SettingsError, "`by: size` as well"),
        ("scale: 0.5\nsources: [{path: a}]", SettingsError, "neither is said"),
        ("mode: accumulate\ntotal: 5\nsources: [{path: a, batch: 1}]", SettingsError, "weighs losses"),
        ("mode: concat\nby: size\nsources: [{path: a}]", SettingsError, "leave `by` out"),
        ("sources: [{path: a, batch: 4}]", SettingsError, "for mode accumulate"),
        ("mode: mixed\nsources: [{path: a}]", SettingsError, "mode"),
        ("unit: total_tokens\nsources: [{path: a}]", SettingsError, "visual_tokens"),
        ("steps: 3\nsources: [{path: a}]", SettingsError, "say `batch`"),
        ("batch: 2\nsources: [{path: a}]\nstages: [{name: x}, {name: y}]", SettingsError, "needs `steps`"),
        (
            "batch: 2\nsources: [{path: a}]\nstages: [{name: x, weights: {A: 1}}]",
            mix.MixtureError,
            "no source or group",
        ),
        (
            "batch: 2\nsources: [{path: a}]\nstages: [{name: x, steps: 1}, {name: y, steps: 2, ramp: 3}, {name: z}]",
            mix.MixtureError,
            "shorter than its ramp",
        ),
        ("sources: [{path: nowhere}]", mix.MixtureError, "no such folder"),
        (RAMPED.replace("resolution: 448", "resolution: 450"), SettingsError, "450 is no multiple of 14"),
        (RAMPED.replace("ramp: 50, ", ""), SettingsError, "say `resolution` and `ramp` as well"),
        (RAMPED.replace("{a: 2048, c: 768}", "{a: 2048, c: 0}"), SettingsError, "sequence"),
    ],
)
def test_a_specification_that_cannot_be_meant_is_refused_with_the_reason(
    home: Path, text: str, error: type[ValueError], message: str
) -> None:
    with pytest.raises(error, match=message):
        composed(home, text)
    assert not (home / "mixture.json").exists()


def test_one_content_twice_is_taken_where_it_is_meant_and_comes_in_orders_of_its_own(home: Path) -> None:
    built = composed(home, "sources: [{path: a, name: x}, {path: a, name: y, again: true}]")
    source, _, row = mix.locate(built.manifest, np.arange(200))
    assert row[source == 0].tolist() != row[source == 1].tolist()
    assert mix.load(home / "mixture.json") == built.manifest


def test_shards_that_two_sources_share_are_warned_of(home: Path) -> None:
    info = load_dataset(home / "b")
    extra = ShardInfo("x.tar", "x.arrow", 1, 1, "f" * 64)
    both = (*info.shards, extra)
    size = sum(s.bytes for s in both)
    grown = DatasetInfo(name="b2", kind="caption", samples=401, bytes=size, recipe="0" * 16, shards=both)
    (home / "b2").mkdir()
    save_dataset(grown, home / "b2")
    built = composed(home, "sources: [{path: b}, {path: b2}, {path: c, weight: 0}]")
    assert "b2 has shards that b has" in built.notes[0]
    assert "c is never drawn" in built.notes[1]


# --- what is shown ---


def test_a_manifest_is_valid_by_its_schema_and_the_same_specification_gives_the_same_bytes(home: Path) -> None:
    text = f"batch: 4\nsources: [{ALL}]\nstages: [{{name: x, steps: 4}}, {{name: y, ramp: 3, weights: {{a: 9}}}}]"
    composed(home, text)
    first = (home / "mixture.json").read_bytes()
    jsonschema.validate(json.loads(first), mix.json_schema())
    composed(home, text)
    assert (home / "mixture.json").read_bytes() == first


def test_the_command_line_takes_a_specification_or_weights_and_lists_and_foretells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("a", 30), ("b", 20)):
        a_dataset(tmp_path / name, size)
    (tmp_path / "spec.yaml").write_text("batch: 5\nseed: 3\nsources: [{path: a, weight: 3}, {path: b, weight: 2}]")
    out = str(tmp_path / "m.json")
    assert main(["mix", str(tmp_path / "spec.yaml"), "-o", out]) == 0
    assert "60.0000%" in capsys.readouterr().out
    assert main(["mix", "at", out, "--step", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["position"] for row in rows] == [5, 6, 7, 8, 9]
    manifest = mix.load(Path(out))
    source, epoch, row = mix.locate(manifest, np.arange(5, 10))
    for found, s, e, r in zip(rows, source.tolist(), epoch.tolist(), row.tolist(), strict=True):
        assert (found["source"], found["epoch"], found["uid"]) == ("ab"[s], e, f"{'ab'[s]}{r}")
    assert main(["mix", "simulate", out, "--steps", "40", "--json"]) == 0
    foretold = json.loads(capsys.readouterr().out)
    assert [(s["samples"], s["epochs"]) for s in foretold["sources"]] == [(120, 4.0), (80, 4.0)]
    every = mix.locate(manifest, np.arange(200))
    first = [int(np.flatnonzero((every[0] == n) & (every[1] == 1))[0]) for n in range(2)]
    assert [s["first_repeat_position"] for s in foretold["sources"]] == first
    assert main(["mix", f"{tmp_path / 'a'}=1", f"{tmp_path / 'b'}=0.5", "-o", out]) == 0
    assert main(["mix", "at", out, "--step", "1"]) == 1
    assert "give --batch" in capsys.readouterr().err
    assert main(["mix", "schema"]) == 0
    assert main(["mix"]) in (0, 2)
    with pytest.raises(ValueError, match="for example"):
        show_mixture.parse_ranges(["5-x"])


def test_keys_of_a_specification_are_set_from_the_command_line(tmp_path: Path) -> None:
    listed(tmp_path, {"a": 30, "b": 20, "c": 10})
    spec, out = tmp_path / "spec.yaml", tmp_path / "m.json"
    spec.write_text("batch: 5\nsources: [{path: a, name: x}, {group: g, sources: [{path: b}, {path: c}]}]")
    changes = ["batch=7", "sources.x.weight=3", "sources.g.weight=2", "sources.g.sources.1.weight=0"]
    built = show_mixture.write([str(spec)], out, 9, show_mixture.ContinueFrom(), changes)
    assert (built.manifest.batch, built.manifest.seed) == (7, 9)
    assert [source.share for source in built.manifest.datasets] == pytest.approx([0.6, 0.4, 0])
    with pytest.raises(SettingsError, match="did you mean 'batch'"):
        show_mixture.write([str(spec)], out, None, show_mixture.ContinueFrom(), ["bacth=7"])
    with pytest.raises(ValueError, match="no specification to change"):
        show_mixture.write([str(tmp_path / "a")], out, None, show_mixture.ContinueFrom(), ["batch=7"])
