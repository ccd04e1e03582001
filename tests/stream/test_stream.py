"""The stream's promises: the same batches for any number of ranks and threads, exact resume, nothing silently lost."""

from __future__ import annotations

import itertools
import os
from contextlib import chdir, suppress
from pathlib import Path

import pytest
import torch
from train_samples import composed, mixture

from curate import mix
from curate.shards import index_tar
from curate.stream.augment import Augment
from curate.stream.prompts import TextChooser
from curate.stream.stages import Stages
from curate.stream.stream import Batch, DrawnSample, ReadOptions, Share, Stream, StreamError
from curate.stream.tokens import token_ids
from curate.tokens.clip import described_tokens
from pipelines.cli.main import main as curate
from train.config import Data
from train.samples import Pixels, PreparePair

VARIED = Augment(crop_min_area=0.5, flip=0.5, color_jitter=0.3, rotate_degrees=10, shift=0.1, random_background=0.5)


def pairs(manifest: Path) -> PreparePair:
    read = mix.read(manifest)
    chooser = TextChooser(read, 3)
    pixels = Pixels(chooser, Stages(read, 24), Data(augment=VARIED))
    return PreparePair(chooser, pixels, described_tokens("simple:1024", 12))


def first(stream: Stream, count: int) -> list[Batch]:
    try:
        return list(itertools.islice(stream, count))
    finally:
        stream.close()


def uids(batches: list[Batch]) -> list[str]:
    return [uid for batch in batches for uid in batch.uids]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture"))


@pytest.mark.parametrize(("world", "threads"), [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_every_global_batch_is_same_for_any_number_of_ranks_and_threads(
    manifest: Path, world: int, threads: int
) -> None:
    whole = first(Stream(manifest, 16, pairs(manifest)), 3)
    ranks = [
        first(Stream(manifest, 16, pairs(manifest), Share(r, world), ReadOptions(threads, 2)), 3) for r in range(world)
    ]
    for number, batch in enumerate(whole):
        parts = [rank[number] for rank in ranks]
        assert batch.uids == tuple(uid for part in parts for uid in part.uids)
        assert all(batch.drawn == part.drawn for part in parts)
        for name, tensor in batch.tensors.items():
            assert torch.equal(tensor, torch.cat([part.tensors[name] for part in parts]))


def test_stream_goes_on_exactly_where_its_state_says(manifest: Path) -> None:
    whole = first(Stream(manifest, 16, pairs(manifest)), 6)
    stopped = Stream(manifest, 16, pairs(manifest))
    next(stopped), next(stopped)
    state = stopped.state_dict()
    stopped.close()
    resumed = Stream(manifest, 16, pairs(manifest))
    resumed.load_state_dict(state)
    assert uids(first(resumed, 4)) == uids(whole[2:])


def test_stream_resumes_on_another_number_of_ranks(manifest: Path) -> None:
    whole = first(Stream(manifest, 12, pairs(manifest)), 4)
    ranks = []
    for rank in range(3):
        stream = Stream(manifest, 12, pairs(manifest), Share(rank, 3))
        stream.load_state_dict({"position": 24, "manifest": stream.digest})
        ranks.append(first(stream, 2))
    assert uids(whole[2:]) == uids([rank[number] for number in range(2) for rank in ranks])


def test_shares_are_those_of_the_manifest_and_epochs_are_whole(manifest: Path) -> None:
    batches = first(Stream(manifest, 16, pairs(manifest)), 5)
    drawn = {name: sum(b.drawn[name] for b in batches) for name in ("many", "few")}
    assert drawn == {"many": 60, "few": 20}
    assert len(set(uids(batches))) == 80


def chosen(folder: Path, entry: str) -> tuple[Path, PreparePair]:
    """A mixture of `many` with those choices, and how the trainer reads it."""
    made = mixture(folder).parent / "chosen.json"
    (folder / "spec.yaml").write_text(f"seed: 7\nsources: [{{path: many, {entry}}}]\n")
    with chdir(folder):
        assert curate(["mix", "spec.yaml", "-o", str(made)]) == 0
    return made, pairs(made)


def test_mixtures_choice_of_text_is_taken_by_sample_and_epoch(tmp_path: Path) -> None:
    made, prepare = chosen(tmp_path, "texts: {txt: 0.5, meta.long: 0.5, gone: 0}")
    parts = {"png": _png(), "txt": b"alt", "json": b'{"meta": {"long": "vecap", "names": ["one", "two"]}}'}
    for uid, epoch in itertools.product("abcdef", range(4)):
        wanted = {"txt": "alt", "meta.long": "vecap"}[mix.read(made).choose(0, uid, epoch) or ""]
        assert prepare.chooser.text(DrawnSample(uid, "many", epoch, parts)) == wanted
    taken = [prepare.chooser.text(DrawnSample(f"u{n}", "many", 0, parts)) for n in range(60)]
    assert 15 < taken.count("alt") < 45


def test_chosen_list_of_texts_gives_one_of_them_and_a_chosen_part_its_text(tmp_path: Path) -> None:
    _, prepare = chosen(tmp_path, "texts: [meta.names, vecap]")
    parts = {"png": _png(), "vecap": b" from a part\n", "json": b'{"meta": {"names": ["one", "two"]}}'}
    taken = {prepare.chooser.text(DrawnSample(f"u{n}", "many", 0, parts)) for n in range(40)}
    assert taken == {"one", "two", "from a part"}


def test_sample_without_the_chosen_text_is_not_given_another(tmp_path: Path) -> None:
    made, prepare = chosen(tmp_path, "texts: [vecap]")
    with pytest.raises(StreamError, match="the mixture chose the text 'vecap'"):
        first(Stream(made, 16, prepare), 2)


def test_template_stands_around_the_text_of_a_pair(tmp_path: Path) -> None:
    _, prepare = chosen(tmp_path, 'templates: ["a photo of {text}, really"]')
    parts = {"png": _png(), "txt": b"a red square"}
    tokenizer = described_tokens("simple:1024", 12)
    wanted = token_ids(tokenizer, ["a photo of a red square, really"])[0]
    assert prepare(DrawnSample("u", "many", 0, parts))["text"].tolist() == wanted.tolist()


def test_shard_that_was_changed_with_its_index_stops_stream_and_is_named(tmp_path: Path) -> None:
    manifest = mixture(tmp_path)
    tar = tmp_path / "many" / "00001.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(b"square")] ^= 32  # as many bytes as before, and an index made anew
    tar.write_bytes(data)
    index_tar(tar)
    with pytest.raises(StreamError, match=r"shard .*many.00001\.tar has changed.*publish"):
        first(Stream(manifest, 16, pairs(manifest)), 4)


def open_below(folder: Path) -> int:
    """How many files below `folder` this process has open."""
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed by now
            count += Path(os.readlink(file)).is_relative_to(folder)
    return count


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted by Linux's /proc")
def test_tars_are_open_only_as_many_as_allowed(tmp_path: Path) -> None:
    """No more tars are open than the reading allows."""
    manifest = mixture(tmp_path)
    whole = first(Stream(manifest, 16, pairs(manifest)), 6)
    stream = Stream(manifest, 16, pairs(manifest), reading=ReadOptions(open_shards=1))
    found = []
    for _ in range(6):
        found.append(next(stream))
        assert open_below(tmp_path) <= 1 + 2  # what the two threads are reading as well
    stream.close()
    assert uids(found) == uids(whole)


def test_unreadable_image_is_replaced_from_its_own_source_and_listed(tmp_path: Path) -> None:
    manifest = mixture(tmp_path, many=(5,))
    whole = first(Stream(manifest, 16, pairs(manifest)), 5)
    [replaced] = [r for batch in whole for r in batch.replaced]
    assert (replaced.source, replaced.row, Path(replaced.shard).name) == ("many", 5, "00000.tar")
    assert "truncated" in replaced.error or "cannot identify" in replaced.error
    assert replaced.by in uids(whole)
    halves = [first(Stream(manifest, 16, pairs(manifest), Share(r, 2)), 5) for r in range(2)]
    assert uids(whole) == uids([half[n] for n in range(5) for half in halves])
    assert {name: sum(b.drawn[name] for b in whole) for name in whole[0].drawn} == {"many": 60, "few": 20}


def test_too_many_unreadable_samples_stop_the_stream_and_name_the_shard(tmp_path: Path) -> None:
    manifest = mixture(tmp_path, many=tuple(range(30, 60)))
    with pytest.raises(StreamError, match=r"could not be read, more than data.max_unreadable.*00001\.tar"):
        first(Stream(manifest, 16, pairs(manifest), reading=ReadOptions(max_unreadable=0.05)), 10)


def test_source_of_which_nothing_can_be_read_stops_the_stream(tmp_path: Path) -> None:
    manifest = mixture(tmp_path, few=tuple(range(21)))
    with pytest.raises(StreamError, match=r"'few'.*cannot be read"):
        first(Stream(manifest, 16, pairs(manifest)), 1)


def test_shard_that_vanished_is_named(tmp_path: Path) -> None:
    manifest = mixture(tmp_path)
    (tmp_path / "many" / "00001.tar").unlink()
    with pytest.raises(StreamError, match=r"00001\.tar"):
        first(Stream(manifest, 16, pairs(manifest)), 10)


def test_state_of_another_manifest_is_refused(manifest: Path) -> None:
    stream = Stream(manifest, 16, pairs(manifest))
    with pytest.raises(StreamError, match="manifest has changed"):
        stream.load_state_dict({"position": 16, "manifest": "0" * 64})
    stream.close()


def test_batch_that_the_ranks_cannot_share_is_refused(manifest: Path) -> None:
    with pytest.raises(StreamError, match="choose a multiple"):
        Stream(manifest, 16, pairs(manifest), Share(0, 3))


def test_batches_across_the_steps_of_a_mixture_of_whole_steps_are_refused(tmp_path: Path) -> None:
    """Batches that run across the steps of a mixture of whole steps are refused."""
    home = mixture(tmp_path).parent
    made = composed(home, "mode: homogeneous\nbatch: 8\nsources: [{path: many}, {path: few}]", "homogeneous.json")
    for batch in first(Stream(made, 4), 6):
        assert sorted(batch.drawn.values()) == [0, 4]
    every = composed(home, "mode: accumulate\nsources: [{path: many, batch: 5}, {path: few, batch: 3}]")
    for path, size in itertools.product((made, every), (16, 3)):
        with pytest.raises(StreamError, match=f"steps of 8 samples, and batches of {size} would run across them"):
            Stream(path, size)


def _png() -> bytes:
    from train_samples import square

    return square(0)[0]
