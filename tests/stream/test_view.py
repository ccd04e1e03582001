"""A mixture as a list: any sample at any position, the same as the stream's, in any process and order."""

from __future__ import annotations

import itertools
import pickle
import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mixtures
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storage import Proxy
from torch.utils.data import DataLoader
from train_samples import composed, mixture

from curate import mix
from curate.stream import DrawnSample, Fit, MixtureView, ReadOptions, Stream, StreamError

SOURCES = {"a": 23, "b": 11, "c": 40}
MODES = ("interleave", "homogeneous", "accumulate", "concat")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for name, count in SOURCES.items():
        mixtures.a_dataset(folder / name, count)
    return folder


def spec(mode: str, weights: dict[str, int], staged: bool) -> str:
    """A mixture of that mode, of steps of 6, with two stages where they are asked for."""
    each = {"accumulate": ", batch: {w}", "concat": ""}.get(mode, ", weight: {w}")
    entries = ", ".join(f"{{path: {name}{each.format(w=w)}}}" for name, w in weights.items())
    lines = [f"mode: {mode}\nseed: 5\nopen_shards: 2", "" if mode == "accumulate" else "batch: 6"]
    if staged:
        lines.append("stages: [{name: one, steps: 3, resolution: 32}, {name: two, resolution: 64, ramp: 2}]")
    return "\n".join([*lines, f"sources: [{entries}]"])


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(MODES),
    st.lists(st.dictionaries(st.sampled_from(sorted(SOURCES)), st.integers(1, 5), min_size=1), min_size=1, max_size=3),
    st.booleans(),
    st.one_of(st.none(), st.tuples(st.integers(0, 6), st.integers(0, 3))),
)
def test_view_gives_at_every_position_the_sample_and_the_stage_of_the_stream(
    home: Path, mode: str, history: list[dict[str, int]], staged: bool, skipped: tuple[int, int] | None
) -> None:
    """Every mode, with stages, mixtures that others continue, and steps that are left out."""
    onto: mix.Onto | None = None
    for number, weights in enumerate(history[:1] if mode == "accumulate" else history):
        made = mixtures.composed(home, spec(mode, weights, staged), onto, f"{number}.json").mixture
        step = made.manifest.batch or 1
        onto = mix.Onto(made, (number + 1) * 2 * step)
    if skipped is not None:
        begin = onto.position // step + skipped[0]
        made = mix.skip(onto, home / "skipped.json", [(begin, begin + skipped[1])]).mixture
    stream = Stream(made.path, step)
    drawn = [sample for batch in itertools.islice(stream, 20) for sample in batch.samples]
    stream.close()
    view = MixtureView(made.path, length=len(drawn))
    assert [view[position] for position in range(len(view))] == drawn
    order = random.Random(0).sample(range(len(drawn)), len(drawn))
    assert view.__getitems__(order) == [drawn[position] for position in order]
    view.close()


def test_view_prepares_as_the_stream_does(manifest: Path) -> None:
    stream = Stream(manifest, 16, Fit(16))
    batch = next(stream)
    stream.close()
    view = MixtureView(manifest, Fit(16), 16)
    assert torch.equal(torch.stack([sample["image"] for sample in view]), batch.tensors["image"])


def test_what_is_made_of_a_sample_may_be_anything(manifest: Path) -> None:
    view = MixtureView(manifest, lambda sample: sample.parts["txt"].decode(), 90)
    assert view[3] == MixtureView(manifest, length=90)[3].parts["txt"].decode()
    assert [MixtureView(manifest, lambda sample: None, 9)[4]] == [None]


def test_view_is_indexed_as_a_list_is(manifest: Path) -> None:
    view, listed = MixtureView(manifest, length=50), list(range(50))
    assert len(view) == 50
    assert view[-1] == view[49] and view[-50] == view[0] == view[np.int64(0)] == view[torch.tensor(0)]
    assert [sample.uid for sample in view] == [view[n].uid for n in listed]
    for wrong in (50, -51, 10**18):
        for of in (view, listed):
            with pytest.raises(IndexError):
                of[wrong]
    with pytest.raises(IndexError, match="position 50 of a view of 50"):
        view.__getitems__([0, 50])
    for wrong in (1.5, "1", None):
        with pytest.raises(TypeError):
            view[wrong]


def test_view_ends_with_its_mixture_and_an_endless_one_needs_a_length(home: Path) -> None:
    ending = composed(home, "at_limit: stop\nmax_epochs: 2\nsources: [{path: a}, {path: b}]", "ending.json")
    end = mix.read(ending).manifest.end
    assert end is not None and len(MixtureView(ending)) == end and len(MixtureView(ending, length=7)) == 7
    assert max(sample.epoch for sample in MixtureView(ending)) == 1
    with pytest.raises(StreamError, match=f"longer than its mixture, which ends at {end}"):
        MixtureView(ending, length=end + 1)
    endless = composed(home, "sources: [{path: a}, {path: b}]", "endless.json")
    with pytest.raises(StreamError, match=r"no end, so a view of it needs a `length`.*hold 34 samples"):
        MixtureView(endless)
    assert MixtureView(endless, length=10**15)[10**15 - 1].epoch > 10**13
    with pytest.raises(StreamError, match="length, the positions of the view, is 0"):
        MixtureView(endless, length=0)


def test_pickled_view_is_small_and_the_same(manifest: Path) -> None:
    view = MixtureView(manifest, Fit(16), 90)
    view[0]
    data = pickle.dumps(view)
    assert len(data) < 4096
    copy = pickle.loads(data)
    assert repr(copy) == repr(view) and len(copy) == 90
    assert torch.equal(copy[17]["image"], view[17]["image"])


def test_a_stream_goes_on_where_a_reader_of_a_view_stopped_and_the_other_way(manifest: Path, tmp_path: Path) -> None:
    view, stream = MixtureView(manifest, length=90), Stream(manifest, 16)
    stream.load_state_dict(view.state_at(7))
    batch = next(stream)
    stream.close()
    assert batch.uids == tuple(sample.uid for sample in view.__getitems__(range(7, 23)))
    assert view.position_of(batch.state) == 23
    with pytest.raises(StreamError, match="manifest has changed since this state was saved"):
        MixtureView(mixture(tmp_path, few=(1,)), length=90).position_of(batch.state)


def test_name_of_a_view_changes_with_what_it_gives(manifest: Path, tmp_path: Path) -> None:
    """Grain writes it into a checkpoint, and refuses to go on with another."""
    named = repr(MixtureView(manifest, length=90))
    assert named == repr(MixtureView(manifest, length=90))
    assert named != repr(MixtureView(manifest, length=91))
    assert named != repr(MixtureView(mixture(tmp_path, few=(1,)), length=90))


@pytest.mark.parametrize(
    ("workers", "context"), [(0, None), (2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)]
)
def test_torchs_loader_reads_a_view_in_any_order_in_its_processes(
    manifest: Path, workers: int, context: str | None
) -> None:
    order = random.Random(1).sample(range(60), 60)
    view = MixtureView(manifest, length=60)
    loader = DataLoader(view, 8, sampler=order, num_workers=workers, multiprocessing_context=context, collate_fn=list)
    assert [sample for batch in loader for sample in batch] == [view[position] for position in order]


def test_threads_that_share_a_view_read_the_same(manifest: Path) -> None:
    view = MixtureView(manifest, length=60)
    view.close()  # eight threads open it at once
    order = [n % 60 for n in range(480)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(view.__getitem__, order)) == 8 * [view[n] for n in range(60)]


def test_unreadable_sample_is_replaced_as_in_the_stream_and_told(tmp_path: Path) -> None:
    manifest = mixture(tmp_path, many=(5,))
    stream = Stream(manifest, 16, Fit(16))
    batches = list(itertools.islice(stream, 5))
    stream.close()
    [met] = [replaced for batch in batches for replaced in batch.replaced]
    view = MixtureView(manifest, Fit(16), 80)
    images = torch.stack([sample["image"] for sample in view])
    assert torch.equal(images, torch.cat([batch.tensors["image"] for batch in batches]))
    [told] = view.replaced(range(80))
    assert (told.row, told.by, told.error, Path(told.shard).name) == (5, met.by, met.error, "00000.tar")
    assert mix.uids_at(view.mixture, np.array([told.position]))[0].row == 5
    assert view.replaced([told.position - 80]) == [told]


def test_too_many_unreadable_samples_stop_the_reader_of_a_view_and_name_the_shard(tmp_path: Path) -> None:
    view = MixtureView(mixture(tmp_path, many=tuple(range(30, 60))), Fit(16), 60)
    with pytest.raises(StreamError, match=r"more than data.max_unreadable.*00001\.tar"):
        list(view)


class Fussy:
    kinds = ("text",)

    def __call__(self, sample: DrawnSample) -> str:
        return sample.uid


def test_function_for_other_kinds_is_refused_before_anything_is_read(manifest: Path) -> None:
    with pytest.raises(StreamError, match="Fussy takes samples of kind text"):
        MixtureView(manifest, Fussy(), 9)


def test_view_reads_what_lies_elsewhere(store: tuple[Path, Proxy], attached: Path) -> None:
    near = MixtureView(store[0] / "mixture.json", length=80)
    far = MixtureView(attached, length=80)
    kept = MixtureView(attached, length=80, reading=ReadOptions(cache=attached.parent / "cache"))
    order = random.Random(2).sample(range(80), 24)
    assert far.__getitems__(order) == near.__getitems__(order) == kept.__getitems__(order)
    asked = len(store[1].asked)
    kept.__getitems__(order)
    assert len(store[1].asked) == asked


def test_example_of_the_page_runs_as_it_is_printed(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(mixtures.__file__).resolve().parents[1] / "docs" / "stream.md"
    [code] = [code for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if "MixtureView" in code]
    monkeypatch.chdir(manifest.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["view"]) == 100_000 and names["sample"].shape == (3, 224, 224)
    assert torch.equal(names["sample"], MixtureView(manifest, Fit(224), 4001)[-1]["image"])
    assert len(code.splitlines()) == 7 and len(names["loader"].dataset) == 100_000
