"""What was really served: exact shares, tokens and images where they are known, alarms where a promise is broken."""

from __future__ import annotations

import itertools
import json
import tempfile
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mixtures import composed, measured
from train_samples import mixture, prose, published

from curate import mix
from curate.mix.count_tokens import add_text_tokens
from curate.stream.alarms import Alarm
from curate.stream.resize import Fit
from curate.stream.served import ServedTally
from curate.stream.stream import Batch, ReadOptions, Share, Stream
from pipelines.cli.main import main as curate


def first(path: Path, count: int, share: Share | None = None) -> list[Batch]:
    stream = Stream(path, 16, Fit(16), share)
    try:
        return list(itertools.islice(stream, count))
    finally:
        stream.close()


def tally(path: Path, batches: list[Batch]) -> ServedTally:
    counted = ServedTally(mix.load(path))
    for batch in batches:
        counted.add(batch)
    return counted


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = mixture(tmp_path_factory.mktemp("mixture"), many=(5,))
    for name in ("many", "few"):
        add_text_tokens(made.parent / name, "words")
    return made


def test_samples_tokens_images_epochs_and_replacements_are_told_by_source(path: Path) -> None:
    found = tally(path, first(path, 5)).report()
    assert (found["many"]["samples"], found["few"]["samples"]) == (60, 20)
    assert (found["many"]["text_tokens"], found["many"]["images"]) == (60 * 5, 60)  # "a red square on black"
    assert (found["many"]["epochs"], found["many"]["replaced"], found["few"]["replaced"]) == (1.0, 1, 0)
    assert found["many"]["samples_share"] == found["many"]["text_tokens_share"] == 0.75


def test_every_rank_counts_the_same_global_batches(path: Path) -> None:
    ranks = [tally(path, first(path, 3, Share(rank, 2))).state_dict() for rank in range(2)]
    for counts in ranks:
        for served in counts["sources"].values():
            served.pop("replaced")
    assert ranks[0] == ranks[1]


def test_counts_go_on_from_a_checkpoint(path: Path) -> None:
    batches = first(path, 6)
    half = tally(path, batches[:3])
    again = ServedTally(mix.load(path))
    again.load_state_dict(json.loads(json.dumps(half.state_dict())))
    for batch in batches[3:]:
        again.add(batch)
    assert again.report() == tally(path, batches).report()


def test_share_that_leaves_its_bound_is_an_alarm(path: Path) -> None:
    counted = tally(path, first(path, 6))
    assert counted.find_alarms() == []
    counted.served["few"] = replace(counted.served["few"], samples=40)
    assert any("few: 40 samples, 24.0 wanted" in alarm.text for alarm in counted.find_alarms())


def test_many_replacements_are_an_alarm(tmp_path: Path) -> None:
    made = mixture(tmp_path, many=(3, 8, 9))
    [alarm] = tally(made, first(made, 9)).find_alarms()
    assert alarm.text.startswith("many: ") and alarm.text.endswith("of 108 samples were unreadable and replaced")


def test_lengths_that_came_mid_run_are_not_told_as_of_all_of_it(tmp_path: Path) -> None:
    """Lengths that came in the middle of a run are not told as if of all of it."""
    made = mixture(tmp_path)
    batches = first(made, 4)
    half = tally(made, batches[:2]).state_dict()
    for name in ("many", "few"):
        add_text_tokens(tmp_path / name, "words")
    again = ServedTally(mix.load(made))
    again.load_state_dict(half)
    for batch in batches[2:]:
        again.add(batch)
    assert [(s.samples, s.text_tokens) for s in again.served.values()] == [(48, None), (16, None)]


def test_ramps_and_skipped_steps_are_no_alarms(tmp_path: Path) -> None:
    home = mixture(tmp_path).parent
    (home / "spec.yaml").write_text(
        "batch: 16\nsources: [{path: many}, {path: few}]\nstages:\n"
        "  - {name: one, steps: 30, weights: {many: 9, few: 1}}\n"
        "  - {name: two, ramp: 40, weights: {many: 1, few: 9}}\n"
    )
    made = home / "staged.json"
    with chdir(home):
        assert curate(["mix", "spec.yaml", "--skip-steps", "10-12", "-o", str(made)]) == 0
    counted = ServedTally(mix.load(made))
    stream = Stream(made, 16, share=Share())
    for _ in range(120):
        counted.add(next(stream))
        assert counted.find_alarms() == []
        assert max(abs(s.samples - s.wanted) for s in counted.served.values()) < 4
    stream.close()
    assert counted.served["few"].samples > counted.served["many"].samples


def test_indexes_without_lengths_leave_tokens_unknown(tmp_path: Path) -> None:
    found = tally(mixture(tmp_path), first(tmp_path / "mixture.json", 1)).report()
    assert (found["many"]["text_tokens"], found["many"]["images"], found["many"]["samples"]) == (None, 12, 12)


LAWS = st.sampled_from(["even", "log-normal", "a few long", "sorted"])


def lengths_of(law: str, rows: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    if law == "even":
        return np.full(rows, int(rng.integers(1, 50)))
    if law == "a few long":
        return np.where(rng.random(rows) < 0.03, 4000, 3)
    found = np.clip(rng.lognormal(4, 1, rows), 2, 4096).astype(np.int64)
    return np.sort(found) if law == "sorted" else found


@settings(deadline=None, max_examples=8)
@example(
    [("a few long", 505, 4), ("sorted", 182, 1), ("log-normal", 57, 4), ("log-normal", 91, 1)],
    "interleave",
    "stages: [{name: one, steps: 37}, {name: two, ramp: 20, weights: {s0: 7}}]\n",
    10,
    3,
)
@given(
    st.lists(st.tuples(LAWS, st.integers(1, 600), st.integers(1, 9)), min_size=1, max_size=4),
    st.sampled_from(["interleave", "homogeneous"]),
    st.sampled_from(["", "stages: [{name: one, steps: 37}, {name: two, ramp: 20, weights: {s0: 7}}]\n"]),
    st.integers(1, 12),
    st.integers(0, 99),
)
def test_mixture_in_tokens_that_is_served_as_it_is_never_alarms(
    sources: list[tuple[str, int, int]], mode: str, stages: str, open_shards: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        home, per_shard = Path(folder), int(rng.integers(10, 200))
        measured(home, {f"s{n}": lengths_of(law, rows, rng) for n, (law, rows, _) in enumerate(sources)}, per_shard)
        entries = ", ".join(f"{{path: s{n}, weight: {weight}}}" for n, (_, _, weight) in enumerate(sources))
        spec = f"unit: text_tokens\nmode: {mode}\nbatch: 8\nopen_shards: {open_shards}\nsources: [{entries}]\n{stages}"
        mixture = composed(home, spec).mixture
        counted = ServedTally(mixture)
        for step in range(100):
            positions = mixture.positions_of(step)
            drawn = np.bincount(mixture.locate(positions)[0], minlength=len(sources))
            names = [source.name for source in mixture.manifest.datasets]
            counted.add(Batch({}, (), (), dict(zip(names, drawn.tolist(), strict=True)), {}, positions=positions))
            assert counted.find_alarms() == []
        for source, figures in zip(mixture.manifest.datasets, counted.report().values(), strict=True):
            assert figures["units"] == figures["text_tokens"]
            if not stages:
                assert figures["due"] == pytest.approx(
                    source.share * sum(s.units or 0 for s in counted.served.values())
                )


def of_two_lengths(home: Path) -> Path:
    """A mixture in text tokens of `few` and `uneven`, whose first shard has long texts, its second short ones."""
    books = [({"txt": b" ".join([b"word"] * (60 if n < 100 else 6))}, {}) for n in range(200)]
    published(home / "uneven", "text", books)
    published(home / "few", "text", [prose(n) for n in range(90)])
    for name in ("uneven", "few"):
        add_text_tokens(home / name, "words")
    composed(home, "seed: 2\nunit: text_tokens\nbatch: 16\nsources: [{path: uneven}, {path: few}]")
    return home / "mixture.json"


def served(path: Path, steps: int, share: Share | None = None) -> ServedTally:
    """What so many steps of 16 samples are, whatever cannot be read."""
    stream, counted = (
        Stream(path, 16, share=share, reading=ReadOptions(max_unreadable=1)),
        ServedTally(mix.load(path)),
    )
    for batch in itertools.islice(stream, steps):
        counted.add(batch)
    stream.close()
    return counted


def test_token_share_changed_by_replacements_is_counted_and_an_alarm(tmp_path: Path) -> None:
    """A share of tokens that replacements change is counted as it came and is an alarm."""
    path = of_two_lengths(tmp_path)
    whole = served(path, 20)
    assert whole.find_alarms() == []
    (tmp_path / "uneven" / "00000.tar").unlink()  # all that is long is lost, and short texts take its place
    lost = served(path, 20)
    assert {alarm.promise for alarm in lost.find_alarms()} == {"unit", "readable"}
    [alarm] = [alarm for alarm in lost.find_alarms() if alarm.promise == "unit"]
    report = lost.report()
    assert alarm.text.startswith(f"uneven: {report['uneven']['units']} text tokens, ")
    assert report["uneven"]["units"] == report["uneven"]["text_tokens"] == 6 * report["uneven"]["samples"]
    assert report["uneven"]["due"] == whole.report()["uneven"]["due"]
    assert report["few"]["units"] == whole.report()["few"]["units"]
    assert report["uneven"]["units_share"] < 0.3


def test_replacements_are_added_up_over_ranks_and_kept_by_a_checkpoint(tmp_path: Path) -> None:
    """What replacements change is added up over ranks and kept by a checkpoint."""
    path = of_two_lengths(tmp_path)
    (tmp_path / "uneven" / "00000.tar").unlink()
    alone = served(path, 12)
    ranks = [served(path, 12, Share(rank, 2)) for rank in range(2)]
    asked: list[list[float]] = []
    for rank in ranks:
        rank.sum_over_ranks(lambda values: asked.append(values) or values)
    total = [float(sum(values)) for values in zip(*asked, strict=True)]
    together = [rank.sum_over_ranks(lambda _: total) for rank in ranks]
    assert together[0].report() == together[1].report() == alone.report()
    again = ServedTally(mix.load(path))
    again.load_state_dict(json.loads(json.dumps(together[1].state_dict())))
    assert again.report() == alone.report()
    assert again.find_alarms() == alone.find_alarms()


def promised(alarms: list[Alarm]) -> set[tuple[str, str]]:
    return {(alarm.source, alarm.promise) for alarm in alarms}


def test_index_whose_lengths_were_not_true_is_an_alarm_once_they_are(tmp_path: Path) -> None:
    made = mixture(tmp_path)  # every text has five words
    for name in ("many", "few"):
        add_text_tokens(tmp_path / name, "words")
    composed(tmp_path, "seed: 2\nunit: text_tokens\nbatch: 16\nsources: [{path: many, weight: 3}, {path: few}]")
    assert served(made, 12).find_alarms() == []
    add_text_tokens(tmp_path / "few", "bytes")
    found = served(made, 12)
    assert promised(found.find_alarms()) == {("many", "unit"), ("few", "unit")}
    assert found.report()["few"]["units_share"] > 0.5


def test_source_in_an_order_without_token_shares_is_not_held_to_them(tmp_path: Path) -> None:
    """A source whose order does not keep shares of tokens is not held to them."""
    measured(tmp_path, {"a": np.sort(np.arange(500)) + 1, "b": np.full(100, 5)}, 100)
    composed(tmp_path, "unit: text_tokens\nbatch: 16\nsources: [{path: a, rotate: 5}, {path: b}]")
    mixture = mix.read(tmp_path / "mixture.json")
    counted = ServedTally(mixture)
    for step in range(30):
        positions = mixture.positions_of(step)
        drawn = np.bincount(mixture.locate(positions)[0], minlength=2).tolist()
        counted.add(Batch({}, (), (), {"a": drawn[0], "b": drawn[1]}, {}, positions=positions))
        assert counted.find_alarms() == []


def test_run_that_goes_on_weighed_in_tokens_counts_them_from_there(tmp_path: Path) -> None:
    path = of_two_lengths(tmp_path)
    spec = "seed: 2\n{}batch: 16\nsources: [{{path: uneven}}, {{path: few}}]"
    old = composed(tmp_path, spec.format(""), out="old.json").mixture
    first = served(tmp_path / "old.json", 10).state_dict()
    onto = mix.Onto(old, 160)
    composed(tmp_path, spec.format("unit: text_tokens\n"), onto, "new.json")
    later = ServedTally(mix.load(tmp_path / "new.json"))
    later.load_state_dict(first)
    stream = Stream(tmp_path / "new.json", 16)
    stream.load_state_dict({"position": 160, "manifest": stream.digest})
    for batch in itertools.islice(stream, 5):
        later.add(batch)
    stream.close()
    report = later.report()
    assert sum(figures["samples"] for figures in report.values()) == 240
    assert sum(f["due"] for f in report.values()) == pytest.approx(sum(f["units"] for f in report.values()))
    assert sum(f["units"] for f in report.values()) < sum(f["text_tokens"] for f in report.values())
    assert path.exists()
