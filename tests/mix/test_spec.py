"""Specifications of mixtures: what is written by hand is resolved, shown and kept to; what cannot be is refused."""

from __future__ import annotations

import json
from contextlib import chdir
from fractions import Fraction
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixtures import ALL, RAMPED, a_dataset, composed, drawn_shares, listed

from curate import mix
from curate.mix.count_tokens import add_text_tokens
from curate.mix.schedule import apportion
from curate.settings import SettingsError
from curate.shards import DatasetInfo, ShardError, ShardInfo, load_dataset, save_dataset
from pipelines.cli import show_mixture
from pipelines.cli.main import main


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any), st.integers(0, 10_000))
def test_whole_items_add_up_and_none_is_a_whole_item_off(weights: list[int], total: int) -> None:
    parts = apportion([Fraction(w) for w in weights], total)
    assert sum(parts) == total
    assert all(abs(n - w * total / sum(weights)) < 1 for n, w in zip(parts, weights, strict=True))


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


def test_token_shares_are_exact_whenever_all_sources_end_an_epoch(tmp_path: Path) -> None:
    """Tokens are exactly in their shares whenever the sources end an epoch together."""
    length = {"x": [1, 5, 9, 25], "y": [2, 2, 4, 8]}
    for name, values in length.items():
        a_dataset(tmp_path / name, 4, text_tokens=values)
    built = composed(tmp_path, "unit: text_tokens\nsources: [{path: x, weight: 5}, {path: y, weight: 2}]")
    source, _, row = built.mixture.locate(np.arange(8 * 20))
    tokens = np.array([length["xy"[s]][r] for s, r in zip(source, row, strict=True)])
    for epochs in range(1, 21):
        part = slice(0, 8 * epochs)
        assert tokens[part][source[part] == 0].sum() * 2 == tokens[part][source[part] == 1].sum() * 5


def test_unit_without_lengths_is_refused_with_the_command_that_adds_them(tmp_path: Path) -> None:
    a_dataset(tmp_path / "a", 5)
    with pytest.raises(mix.MixtureError, match=r"no column 'text_tokens'.*curate index .* --tokenizer"):
        composed(tmp_path, "unit: text_tokens\nsources: [{path: a}]")
    before = (tmp_path / "a" / "dataset.json").read_bytes(), (tmp_path / "a" / "00000.tar").read_bytes()
    assert add_text_tokens(tmp_path / "a", "bytes") == {"samples": 5, "text_tokens": 5}
    index = (tmp_path / "a" / "00000.arrow").read_bytes()
    assert add_text_tokens(tmp_path / "a", "bytes") == {"samples": 5, "text_tokens": 5}
    assert ((tmp_path / "a" / "dataset.json").read_bytes(), (tmp_path / "a" / "00000.tar").read_bytes()) == before
    assert (tmp_path / "a" / "00000.arrow").read_bytes() == index
    assert composed(tmp_path, "unit: text_tokens\nsources: [{path: a}]").mixture.manifest.datasets[0].units == 5
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


def test_group_of_losses_multiplies_those_of_its_sources(home: Path) -> None:
    entries = "{path: a, batch: 2}, {group: g, weight: 0.5, sources: [{path: b, weight: 0.4, batch: 1}]}"
    stages = "[{name: x, steps: 3}, {name: y, weights: {g: 2}}]"
    built = composed(home, f"mode: accumulate\nsources: [{entries}]\nstages: {stages}")
    assert built.mixture.stage_at(2).weights == (1.0, 0.2)
    assert built.mixture.stage_at(3).weights == (1.0, 0.8)


def test_pass_takes_parts_of_epochs_and_next_pass_goes_on_with_rest(home: Path) -> None:
    built = composed(
        home, "mode: concat\nsources: [{path: a, epochs: 0.25}, {path: b, epochs: 0.5}, {path: c, epochs: 2}]"
    )
    assert built.mixture.manifest.epoch == 250 + 200 + 180
    source, epoch, row = built.mixture.locate(np.arange(4 * 630))
    for number, (part, size) in enumerate(((250, 1000), (200, 400), (180, 90))):
        mine = row[source == number]
        assert [int((source[n * 630 : (n + 1) * 630] == number).sum()) for n in range(4)] == [part] * 4
        assert all(np.array_equal(np.sort(mine[at : at + size]), np.arange(size)) for at in range(0, len(mine), size))
    assert epoch.max() == 7


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
def test_specification_that_cannot_be_meant_is_refused_with_the_reason(
    home: Path, text: str, error: type[ValueError], message: str
) -> None:
    with pytest.raises(error, match=message):
        composed(home, text)
    assert not (home / "mixture.json").exists()


def test_content_listed_twice_on_purpose_comes_in_orders_of_its_own(home: Path) -> None:
    """One content twice is taken where it is meant and comes in orders of its own."""
    built = composed(home, "sources: [{path: a, name: x}, {path: a, name: y, again: true}]")
    source, _, row = built.mixture.locate(np.arange(200))
    assert row[source == 0].tolist() != row[source == 1].tolist()
    assert mix.load(home / "mixture.json").manifest == built.mixture.manifest


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


def test_manifest_is_valid_by_its_schema_and_the_same_bytes_each_time(home: Path) -> None:
    """A manifest is valid by its schema and the same specification gives the same bytes."""
    text = f"batch: 4\nsources: [{ALL}]\nstages: [{{name: x, steps: 4}}, {{name: y, ramp: 3, weights: {{a: 9}}}}]"
    composed(home, text)
    first = (home / "mixture.json").read_bytes()
    jsonschema.validate(json.loads(first), mix.json_schema())
    composed(home, text)
    assert (home / "mixture.json").read_bytes() == first


def test_command_takes_a_specification_or_weights_lists_and_foretells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line takes a specification or weights and lists and foretells."""
    for name, size in (("a", 30), ("b", 20)):
        a_dataset(tmp_path / name, size)
    (tmp_path / "spec.yaml").write_text("batch: 5\nseed: 3\nsources: [{path: a, weight: 3}, {path: b, weight: 2}]")
    out = str(tmp_path / "m.json")
    with chdir(tmp_path):
        assert main(["mix", "spec.yaml", "-o", out]) == 0
    assert "60.0000%" in capsys.readouterr().out
    assert main(["mix", "at", out, "--step", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["position"] for row in rows] == [5, 6, 7, 8, 9]
    mixture = mix.load(Path(out))
    source, epoch, row = mixture.locate(np.arange(5, 10))
    for found, s, e, r in zip(rows, source.tolist(), epoch.tolist(), row.tolist(), strict=True):
        assert (found["source"], found["epoch"], found["uid"]) == ("ab"[s], e, f"{'ab'[s]}{r}")
    assert main(["mix", "simulate", out, "--steps", "40", "--json"]) == 0
    foretold = json.loads(capsys.readouterr().out)
    assert [(s["samples"], s["epochs"]) for s in foretold["sources"]] == [(120, 4.0), (80, 4.0)]
    every = mixture.locate(np.arange(200))
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
    with chdir(tmp_path):
        built = show_mixture.write([str(spec)], out, 9, show_mixture.ContinueFrom(), changes)
    assert (built.mixture.manifest.batch, built.mixture.manifest.seed) == (7, 9)
    assert [source.share for source in built.mixture.manifest.datasets] == pytest.approx([0.6, 0.4, 0])
    with pytest.raises(SettingsError, match="did you mean 'batch'"):
        show_mixture.write([str(spec)], out, None, show_mixture.ContinueFrom(), ["bacth=7"])
    with pytest.raises(ValueError, match="no specification to change"):
        show_mixture.write([str(tmp_path / "a")], out, None, show_mixture.ContinueFrom(), ["batch=7"])
