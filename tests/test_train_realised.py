"""What was really served: exact shares, tokens and images where they are known, alarms where a promise is broken."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from train_samples import mixture

from curate import mix
from pipelines.cli import main as curate
from pipelines.lengths import add_text_tokens
from train.data import Batch, Share, Stream
from train.fit import Fit
from train.realised import Realised


def first(path: Path, count: int, share: Share | None = None) -> list[Batch]:
    stream = Stream(path, 16, Fit(16), share)
    try:
        return list(itertools.islice(stream, count))
    finally:
        stream.close()


def tally(path: Path, batches: list[Batch]) -> Realised:
    realised = Realised(mix.load(path), path)
    for batch in batches:
        realised.add(batch)
    return realised


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
    again = Realised(mix.load(path), path)
    again.load_state_dict(json.loads(json.dumps(half.state_dict())))
    for batch in batches[3:]:
        again.add(batch)
    assert again.report() == tally(path, batches).report()


def test_a_share_that_leaves_its_bound_is_an_alarm(path: Path) -> None:
    realised = tally(path, first(path, 6))
    assert realised.alarms() == []
    realised.served["few"] = replace(realised.served["few"], samples=40)
    assert any("few: 40 samples, 24.0 wanted" in alarm.text for alarm in realised.alarms())


def test_many_replacements_are_an_alarm(tmp_path: Path) -> None:
    made = mixture(tmp_path, many=(3, 8, 9))
    [alarm] = tally(made, first(made, 9)).alarms()
    assert alarm.text.startswith("many: ") and alarm.text.endswith("of 108 samples were unreadable and replaced")


def test_lengths_that_came_in_the_middle_of_a_run_are_not_told_as_if_of_all_of_it(tmp_path: Path) -> None:
    made = mixture(tmp_path)
    batches = first(made, 4)
    half = tally(made, batches[:2]).state_dict()
    for name in ("many", "few"):
        add_text_tokens(tmp_path / name, "words")
    again = Realised(mix.load(made), made)
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
    assert curate(["mix", str(home / "spec.yaml"), "--skip-steps", "10-12", "-o", str(made)]) == 0
    realised = Realised(mix.load(made), made)
    stream = Stream(made, 16, share=Share())
    for _ in range(120):
        realised.add(next(stream))
        assert realised.alarms() == []
        assert max(abs(s.samples - s.wanted) for s in realised.served.values()) < 4
    stream.close()
    assert realised.served["few"].samples > realised.served["many"].samples


def test_indexes_without_lengths_leave_tokens_unknown(tmp_path: Path) -> None:
    found = tally(mixture(tmp_path), first(tmp_path / "mixture.json", 1)).report()
    assert (found["many"]["text_tokens"], found["many"]["images"], found["many"]["samples"]) == (None, 12, 12)
