"""Shares of tokens: kept at every moment, from orders that spread long and short samples evenly and need no history."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixtures import composed, listed, measured
from torch.utils.data import DataLoader
from train_samples import mixture

from curate import mix
from curate.mix.count_tokens import add_text_tokens
from curate.mix.strata import LINE, STRATA, Strata, cut_strata, shard_line
from curate.shards import ShardError
from curate.stream.stream import Share, Stream
from pipelines.cli.show_mixture import show_simulated, simulate

Lengths = npt.NDArray[np.int64]


def pages(seed: int, count: int) -> Lengths:
    rng = np.random.default_rng(seed)
    return np.clip(rng.lognormal(5.5, 1, count), 5, 4096).astype(np.int64)


def captions(seed: int, count: int) -> Lengths:
    return np.clip(np.random.default_rng(seed).normal(20, 8, count), 3, 77).astype(np.int64)


SOURCES = {"pages": pages(1, 6000), "captions": captions(2, 9000), "code": pages(3, 900) + 100}
TOKENS = "unit: text_tokens\nopen_shards: 4\nsources: [{path: pages, weight: 5}, {path: captions}, {path: code}]"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    measured(folder, SOURCES, per_shard=250)
    return folder


def off(mixture: mix.Mixture, sources: Mapping[str, Lengths], positions: int) -> float:
    """The largest |tokens of a source - its share of all tokens| at any prefix, in lengths of the longest sample."""
    source, _, row = mixture.locate(np.arange(positions))
    tokens = np.zeros((len(sources), positions), np.int64)
    for number, lengths in enumerate(sources.values()):
        mine = source == number
        tokens[number, mine] = lengths[row[mine]]
    so_far = tokens.cumsum(axis=1)
    wanted = np.array([d.share for d in mixture.manifest.datasets])[:, None] * so_far.sum(axis=0)
    return float(np.abs(so_far - wanted).max() / max(int(lengths.max()) for lengths in sources.values()))


def in_any_order(mixture: mix.Mixture) -> mix.Mixture:
    """The same mixture by orders that ignore lengths."""
    data = mixture.manifest.model_dump()
    for source in data["datasets"]:
        source["spread"] = None
    return mix.Mixture(mix.Manifest.model_validate({**data, "lengths": None, "seal": ""}), mixture.path)


def test_every_source_has_its_share_of_the_tokens_at_every_prefix_to_about_the_longest_sample(home: Path) -> None:
    mixture = composed(home, TOKENS).mixture
    assert off(mixture, SOURCES, 40_000) < 1.5
    assert off(in_any_order(mixture), SOURCES, 40_000) > 3


def test_whole_batches_of_a_source_keep_the_shares_to_about_a_batch(home: Path) -> None:
    mixture = composed(home, f"mode: homogeneous\nbatch: 16\n{TOKENS}").mixture
    source, _, _ = mixture.locate(np.arange(32_000))
    assert all(len(set(batch.tolist())) == 1 for batch in source.reshape(-1, 16))
    assert off(mixture, SOURCES, 32_000) < 3  # a batch of pages holds 1.5 times the longest


def test_forecast_tells_the_share_of_the_unit_too(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is foretold tells the share of the unit too."""
    composed(home, f"batch: 16\n{TOKENS}")
    foretold = simulate(home / "mixture.json", 1000, None)
    assert [s["share_of_text_tokens"] for s in foretold["sources"]] == pytest.approx([5 / 7, 1 / 7, 1 / 7], abs=1e-3)
    show_simulated(foretold)
    out = capsys.readouterr().out
    assert "text tokens" in out
    assert f"{foretold['sources'][0]['share_of_text_tokens']:.4%}" in out


def test_shards_of_unlike_lengths_are_read_together_so_that_they_cancel(tmp_path: Path) -> None:
    unlike = {name: np.sort(lengths)[::-1] for name, lengths in SOURCES.items()}  # the first shard has the longest
    measured(tmp_path, unlike, per_shard=60)
    built = composed(tmp_path, TOKENS.replace("open_shards: 4", "open_shards: 16"))
    assert off(built.mixture, unlike, 30_000) < 0.7 * off(in_any_order(built.mixture), unlike, 30_000)
    assert "pages has shards of unlike lengths, 16 of them" in built.notes[0]
    built = composed(tmp_path, TOKENS.replace("open_shards: 4", "open_shards: 200"))
    assert off(built.mixture, unlike, 30_000) < 1.5
    assert not built.notes


@pytest.mark.parametrize("open_shards", [1, 3, 16, 100])
def test_every_epoch_gives_every_row_once_in_an_order_of_its_own(home: Path, open_shards: int) -> None:
    mixture = composed(home, TOKENS.replace("open_shards: 4", f"open_shards: {open_shards}")).mixture
    source, epoch, row = mixture.locate(np.arange(60_000))
    for number, lengths in enumerate(SOURCES.values()):
        mine = source == number
        full = int(mine.sum()) // len(lengths)
        orders = [row[mine & (epoch == turn)] for turn in range(full)]
        assert full >= 1
        for order in orders:
            assert np.array_equal(np.sort(order), np.arange(len(lengths)))
        for one, other in itertools.pairwise(orders):
            assert (one == other).mean() < 0.02
        shards = row[mine][: len(lengths)] // 250
        at_once = max(len(set(part.tolist())) for part in np.array_split(shards, max(len(lengths) // 250, 1)))
        assert at_once <= 2 * open_shards


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 40), max_size=30), min_size=1, max_size=12).filter(lambda s: any(map(len, s))),
    st.integers(1, 5),
    st.integers(0, 1 << 63),
)
def test_epoch_is_a_permutation_whatever_the_lengths_and_shards(
    shards: list[list[int]], open_shards: int, key: int
) -> None:
    """Whatever the lengths and shards an epoch is a permutation."""
    lengths = [np.array(shard, np.int64) for shard in shards]
    known, counts = np.unique(np.concatenate(lengths), return_counts=True)
    bounds = cut_strata(known, counts)
    assert len(bounds) < STRATA
    lines = np.array([shard_line(shard, bounds) for shard in lengths], LINE)
    order = Strata(lines, np.array([len(s) for s in lengths]), key, open_shards, lambda n: lengths[n])
    rows = sum(map(len, shards))
    for epoch in (0, 7):
        found = order.at(epoch, np.arange(rows))
        assert np.array_equal(np.sort(found), np.arange(rows))
        assert all(order.at(epoch, np.array([n]))[0] == found[n] for n in (0, rows // 2, rows - 1))


def test_samples_of_one_length_come_in_any_order(tmp_path: Path) -> None:
    lengths = [np.repeat([10, 500], [8, 2])]
    lines = np.array([shard_line(lengths[0], (10,))], LINE)
    places = np.zeros((10, 10))
    for key in range(2000):
        order = Strata(lines, np.array([10]), key * 7919, 1, lambda n: lengths[n])
        places[np.arange(10), order.at(key % 3, np.arange(10))] += 1
    # Each of the ten places has each row as often; rows of a stratum exclude each other, so counts vary a little more.
    assert np.abs(places / 2000 - 0.1).max() < 0.04


def test_position_far_out_needs_no_history(home: Path) -> None:
    mixture = composed(home, TOKENS).mixture
    far = np.arange(10**9, 10**9 + 3000)
    together = mixture.locate(far)
    again = mix.load(home / "mixture.json")
    for at in (0, 1234, 2999):
        assert [int(x[0]) for x in again.locate(far[at : at + 1])] == [int(x[at]) for x in together]
    other = pickle.loads(pickle.dumps(mixture))  # as a worker process gets it
    for now, then in zip(other.locate(far), together, strict=True):
        assert np.array_equal(now, then)


FAR = """batch: 8
open_shards: 3
sources: [{path: pages, weight: 0.123456789}, {path: captions, weight: 3}, {path: one}]
"""


@pytest.mark.parametrize("how", ["mode: interleave", "mode: homogeneous", "unit: text_tokens"])
@pytest.mark.parametrize("far", [10**12 + 7, 1 << 53, 1 << 60])
def test_positions_however_far_overflow_nothing(tmp_path: Path, how: str, far: int) -> None:
    """Nothing overflows at positions however far."""
    measured(tmp_path, {"pages": pages(1, 700), "captions": captions(2, 300), "one": np.array([7])}, 50)
    mixture = composed(tmp_path, f"{how}\n{FAR}").mixture
    source, epoch, row = mixture.locate(np.arange(far, far + 4000))
    drawn = mixture.counts(far + 4000) - mixture.counts(far)
    assert np.bincount(source, minlength=3).tolist() == drawn.tolist()
    for number, data in enumerate(mixture.manifest.datasets):
        for turn in set(epoch[source == number].tolist()):
            rows = row[(source == number) & (epoch == turn)]
            assert len(set(rows.tolist())) == len(rows) and 0 <= rows.min() <= rows.max() < data.samples


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_batches_of_a_mixture_in_tokens_are_same_for_any_ranks_and_workers(tmp_path: Path) -> None:
    mixture(tmp_path)
    for name in ("many", "few"):
        add_text_tokens(tmp_path / name, "bytes")
    composed(tmp_path, "unit: text_tokens\nseed: 4\nsources: [{path: many, weight: 3}, {path: few}]")

    def batches(workers: int = 0, share: Share | None = None) -> list[tuple[str, ...]]:
        stream = Stream(tmp_path / "mixture.json", 16, share=share)
        loader = DataLoader(stream, batch_size=None, num_workers=workers)
        return [batch.uids for batch in itertools.islice(loader, 12)]

    alone = batches()
    assert mix.read(tmp_path / "mixture.json").manifest.lengths is not None
    assert len({uid for batch in alone[:5] for uid in batch}) > 70
    assert batches(workers=2) == alone
    parts = [batches(share=Share(rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == alone


def test_order_by_length_never_changes_between_versions(home: Path) -> None:
    """A change of this digest breaks the exact resume of every run: it needs a new manifest version."""
    digest = hashlib.sha256()
    for array in composed(home, TOKENS).mixture.locate(np.arange(10**6, 10**6 + 20_000)):
        digest.update(array.astype("<i8").tobytes())
    assert digest.hexdigest() == "a4a75aef2d6c584d47f57ad6623d70bd97e81c6f370a6e02cbb149379e867c36"


def test_same_datasets_give_the_same_lines(home: Path) -> None:
    composed(home, TOKENS)
    first = (home / "mixture.json").read_bytes(), (home / "mixture.lengths.npy").read_bytes()
    jsonschema.validate(json.loads(first[0]), mix.json_schema())
    composed(home, TOKENS)
    assert ((home / "mixture.json").read_bytes(), (home / "mixture.lengths.npy").read_bytes()) == first


def test_samples_images_and_equal_lengths_need_no_lines(tmp_path: Path) -> None:
    measured(tmp_path, {"a": np.full(50, 7), "b": np.full(30, 9)}, 10)
    for unit in ("samples", "images", "text_tokens"):
        mixture = composed(tmp_path, f"unit: {unit}\nsources: [{{path: a}}, {{path: b}}]", out=f"{unit}.json").mixture
        assert mixture.manifest.lengths is None
        assert not (tmp_path / f"{unit}.lengths.npy").exists()


def test_lengths_that_changed_since_mixing_are_named_before_any_sample(tmp_path: Path) -> None:
    """Lengths that changed since they were mixed are named before a wrong sample is given."""
    measured(tmp_path, {"a": captions(1, 200), "b": captions(2, 200)}, 50)
    text = "unit: text_tokens\nsources: [{path: a}, {path: b}]"
    composed(tmp_path, text)
    (tmp_path / "lines.npy").write_bytes((tmp_path / "mixture.lengths.npy").read_bytes())
    other = tmp_path / "other"
    measured(other, {"a": captions(3, 200), "b": captions(2, 200)}, 50)
    (tmp_path / "a" / "00002.arrow").write_bytes((other / "a" / "00002.arrow").read_bytes())
    with pytest.raises(mix.MixtureError, match=r"lengths of the samples in shard 2 .* have changed"):
        mix.load(tmp_path / "mixture.json").locate(np.arange(400))
    lines = tmp_path / "mixture.lengths.npy"
    for data in (b"", lines.read_bytes()[:-1], lines.read_bytes()[:-8] + b"changed."):
        lines.write_bytes(data)
        with pytest.raises(mix.MixtureError, match=r"mixture.lengths.npy.*curate mix"):
            mix.load(tmp_path / "mixture.json")
    foreign = np.load(tmp_path / "lines.npy")
    foreign["counts"] = np.roll(foreign["counts"], 1, axis=0)
    foreign["counts"][:, 0] += 1
    np.save(lines, foreign)
    with pytest.raises(mix.MixtureError, match="of other shards"):
        mix.read(tmp_path / "mixture.json").locate([0, 1, 2])
    lines.unlink()
    with pytest.raises(mix.MixtureError, match=r"mixture.lengths.npy.*curate mix"):
        mix.read(tmp_path / "mixture.json")


def test_mixture_that_goes_on_keeps_every_order_and_spreads_what_is_new(tmp_path: Path) -> None:
    measured(tmp_path, {name: captions(n, 400) for n, name in enumerate("abc")}, 50)
    old = composed(tmp_path, "batch: 10\nunit: text_tokens\nsources: [{path: a}, {path: b}]", out="old.json").mixture
    plain = composed(tmp_path, "batch: 10\nsources: [{path: a}, {path: b}]", out="plain.json").mixture
    for name, before, notes in (("old", old, 0), ("plain", plain, 2)):
        onto = mix.Onto(before, 300)
        text = "batch: 10\nunit: text_tokens\nsources: [{path: c}, {path: a}, {path: b}]"
        built = composed(tmp_path, text, onto, "new.json")
        new = mix.load(tmp_path / "new.json")
        assert [d.spread is None for d in new.manifest.datasets] == [name == "plain"] * 2 + [False]
        assert len([note for note in built.notes if "strays within an epoch" in note]) == notes
        for now, then in zip(new.locate(np.arange(300)), before.locate(np.arange(300)), strict=True):
            assert np.array_equal(now, then)
        source, epoch, row = new.locate(np.arange(3000))
        for number in range(3):
            first = row[(source == number) & (epoch == 0)]
            assert np.array_equal(np.sort(first), np.arange(400))
    less = mix.skip(mix.Onto(old, 0), tmp_path / "less.json", [(3, 4)]).mixture
    every, kept = old.locate(np.arange(500)), np.r_[0:30, 50:500]
    for now, then in zip(mix.load(tmp_path / "less.json").locate(np.arange(480)), every, strict=True):
        assert np.array_equal(now, then[kept])
    assert less.manifest.lengths is not None
    assert less.manifest.lengths.file == "less.lengths.npy"


def test_rotating_parts_keep_their_rows_and_tell_that_tokens_stray(tmp_path: Path) -> None:
    """Parts that rotate keep their rows and it is said that tokens stray."""
    measured(tmp_path, {"a": captions(1, 500), "b": captions(2, 100)}, 50)
    built = composed(tmp_path, "unit: text_tokens\nsources: [{path: a, rotate: 5}, {path: b}]")
    assert [d.spread is None for d in built.mixture.manifest.datasets] == [True, False]
    assert "a keeps an order" in built.notes[0]


VERSION_2 = json.loads(
    """{"batch":5,
"continued":null,
"datasets":[
{"again": false, "choices": {}, "digest": "e7383198ac84e26bfcfc216858a42964c3a1e94e3e51862e29e7ea185e0ff22e",
"group": "", "max_epochs": null, "name": "a", "path": "a", "rotate": 1, "samples": 70, "shards": [[7, 10]],
"share": 0.75, "units": 70, "weight": 3.0},
{"again": false, "choices": {}, "digest": "228c156528e93ae876aa1c1d3e4f93b3dc6c5c29bfa8c0f1318341b30c9f233a",
"group": "", "max_epochs": null, "name": "b", "path": "b", "rotate": 1, "samples": 30, "shards": [[3, 10]],
"share": 0.25, "units": 30, "weight": 1.0}],
"end":null,
"epoch":null,
"mode":"interleave",
"open_shards":2,
"seal":"ccb616370e4e58ff",
"seed":3,
"segments":[
{"slots": [15, 5], "start": 0},
{"slots": [1, 0], "start": 20},
{"slots": [0, 1], "start": 21},
{"slots": [1, 0], "start": 22},
{"slots": [1, 0], "start": 23},
{"slots": [0, 1], "start": 24},
{"slots": [1, 0], "start": 25},
{"slots": [1, 0], "start": 26},
{"slots": [0, 1], "start": 27},
{"slots": [1, 0], "start": 28},
{"slots": [0, 1], "start": 29},
{"slots": [1, 1], "start": 30}],
"skips":[],
"stages":[
{"name": "x", "ramp": 0, "resolution": null, "sequence": null, "start": 0, "train": null, "weights": [0.75,
0.25]},
{"name": "y", "ramp": 10, "resolution": null, "sequence": null, "start": 20, "train": null, "weights": [0.5,
0.5]}],
"unit":"samples",
"version":2,
"visual_tokens":0}"""
)


def test_manifest_of_the_version_before_goes_on_as_it_did(tmp_path: Path) -> None:
    listed(tmp_path, {"a": 70, "b": 30}, per_shard=10)
    (tmp_path / "mixture.json").write_text(json.dumps(VERSION_2))
    mixture = mix.load(tmp_path / "mixture.json")
    source, _, row = mixture.locate(np.arange(12))
    assert source.tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert row.tolist() == [32, 33, 9, 35, 30, 36, 8, 31, 34, 38, 1, 37]
    changed: dict[str, Any] = {**VERSION_2, "seed": 4}
    (tmp_path / "mixture.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="by hand"):
        mix.load(tmp_path / "mixture.json")


def test_index_that_is_not_there_is_named_when_the_mixture_is_made(tmp_path: Path) -> None:
    measured(tmp_path, {"a": captions(1, 100)}, 50)
    (tmp_path / "a" / "00001.arrow").unlink()
    with pytest.raises(ShardError, match=r"00001\.arrow.*curate index"):
        composed(tmp_path, "unit: text_tokens\nsources: [{path: a}]")
