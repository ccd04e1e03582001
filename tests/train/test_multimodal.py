"""Packs of every kind: planned to the token, documents apart, resumed anywhere, the same on any number of ranks."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from train_samples import FLAMINGO, MULTIMODAL, TINY, composed, mixture, of_every_kind

from curate import mix
from curate.stream.served import ServedTally
from curate.stream.stream import Batch, ReadOptions, Share, Stream, StreamError
from curate.tokens.encoders import RULES
from train import prepare
from train.config import Config
from train.models.dual_encoder import build
from train.prepare import PreparedObjective


def settings(**objective: Any) -> Config:
    return Config.model_validate({**TINY, "objective": {**MULTIMODAL, **objective}})


def made(manifest: Path, **objective: Any) -> PreparedObjective:
    torch.manual_seed(0)
    config = settings(**objective)
    return prepare.build(config, build(config.model), manifest)


def batches(manifest: Path, count: int, size: int = 4, share: Share | None = None, **objective: Any) -> list[Batch]:
    prepared = made(manifest, **objective)
    stream = Stream(manifest, size, prepared.prepare, share or Share(), ReadOptions(threads=1), prepared.packing)
    try:
        return list(itertools.islice(stream, count))
    finally:
        stream.close()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_every_kind(tmp_path_factory.mktemp("kinds"))


def test_packs_hold_samples_of_every_kind_as_long_as_planned(manifest: Path) -> None:
    found = batches(manifest, 30)
    drawn = {name: sum(b.drawn[name] for b in found) for name in found[0].drawn}
    assert min(drawn.values()) > 10
    assert not any(batch.replaced for batch in found)


def alone(batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Each document of a batch as a batch of its own."""
    out, seen = [], 0
    for row in range(len(batch["ids"])):
        for segment in range(1, int(batch["segments"][row].max()) + 1):
            mine = batch["segments"][row] == segment
            one = {name: batch[name][row][mine][None] for name in ("ids", "scored", "source")}
            count = int((one["ids"] < 0).sum()) // 4
            out.append({**one, "image": batch["image"][seen : seen + count]})
            seen += count
    assert seen == len(batch["image"])
    return out


@pytest.mark.parametrize("form", [{}, FLAMINGO, {"image_tag": "around", "chat": "chatml"}], ids=str)
def test_loss_of_packs_is_the_sum_of_the_losses_of_their_documents_alone(manifest: Path, form: dict[str, Any]) -> None:
    objective = made(manifest, language={"width": 32, "layers": 2, "heads": 2}, form=form).objective.eval()
    for batch in batches(manifest, 2, form=form):
        documents = alone(batch.tensors)
        assert len(documents) == len(batch.uids) > len(batch.tensors["ids"])
        parts = [objective(document) for document in documents]
        torch.testing.assert_close(objective(batch.tensors), torch.stack(parts).sum(), rtol=1e-5, atol=1e-3)
        assert objective.counts(batch.tensors) == [
            sum(ns) for ns in zip(*map(objective.counts, documents), strict=True)
        ]


def test_packed_batch_is_the_same_for_any_number_of_ranks(manifest: Path) -> None:
    whole = batches(manifest, 6)
    for world in (2, 4):
        ranks = [batches(manifest, 6, share=Share(rank, world)) for rank in range(world)]
        for number, batch in enumerate(whole):
            parts = [rank[number] for rank in ranks]
            assert sorted(batch.uids) == sorted(uid for part in parts for uid in part.uids)
            assert all(part.state == batch.state and part.drawn == batch.drawn for part in parts)
            assert {len(part.tensors["ids"]) for part in parts} == {4 // world}
            packs = {tuple(row) for row in batch.tensors["ids"].tolist()}
            assert packs == {tuple(row) for part in parts for row in part.tensors["ids"].tolist()}


def test_packs_go_on_exactly_where_a_state_says_also_with_other_ranks(manifest: Path) -> None:
    whole = batches(manifest, 9)
    prepared = made(manifest)
    for stopped in (1, 4, 7):
        state = json.loads(json.dumps(whole[stopped].state))
        assert len(json.dumps(state)) < 200
        for rank in range(2):
            stream = Stream(manifest, 4, prepared.prepare, Share(rank, 2), packing=prepared.packing)
            stream.load_state_dict(state)
            batch = next(stream)
            stream.close()
            assert set(batch.uids) <= set(whole[stopped + 1].uids)
            assert batch.state == whole[stopped + 1].state


def test_every_position_of_a_window_is_in_one_pack(manifest: Path) -> None:
    found = batches(manifest, 16)
    positions = [p for batch in found for p in batch.positions.tolist()]
    assert len(set(positions)) == len(positions) > 128
    assert set(range(128)) <= set(positions)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_packs_come_through_torchs_dataloader_with_any_number_of_workers(manifest: Path, workers: int) -> None:
    from torch.utils.data import DataLoader

    prepared, whole = made(manifest), batches(manifest, 7)
    stream = Stream(manifest, 4, prepared.prepare, Share(), ReadOptions(threads=1, prefetch=1), prepared.packing)
    found = list(itertools.islice(DataLoader(stream, batch_size=None, num_workers=workers), 7))
    assert [batch.uids for batch in found] == [batch.uids for batch in whole]
    assert all(torch.equal(a.tensors["ids"], b.tensors["ids"]) for a, b in zip(found, whole, strict=True))


def test_state_at_which_no_pack_starts_is_refused(manifest: Path) -> None:
    prepared = made(manifest)
    stream = Stream(manifest, 4, prepared.prepare, Share(), packing=prepared.packing)
    taken = {batch.state["position"] for batch in batches(manifest, 9, size=1)}
    stream.load_state_dict({**stream.state_dict(), "position": min(set(range(1, 60)) - taken)})
    with pytest.raises(StreamError, match="no pack starts at position"):
        next(stream)
    stream.close()


def test_state_of_rows_or_of_other_limits_is_refused(manifest: Path) -> None:
    prepared, other = made(manifest), made(manifest, pack={**MULTIMODAL["pack"], "tokens": 256})
    streams = [Stream(manifest, 4, p.prepare, Share(), packing=p.packing) for p in (prepared, other)]
    for state in (streams[1].state_dict(), Stream(manifest, 4, share=Share()).state_dict()):
        with pytest.raises(StreamError, match="of rows, or of packs with other limits"):
            streams[0].load_state_dict(state)


IN_TOKENS = """seed: 3
unit: text_tokens
batch: 16
sources: [{path: caption, weight: 2}, {path: interleaved}, {path: text, weight: 3}]
"""


def test_packs_of_tokens_keep_shares_and_alarm_where_replacements_do_not(tmp_path: Path) -> None:
    """Packs of a mixture in tokens keep its shares and alarm where replacements do not."""
    path = composed(of_every_kind(tmp_path).parent, IN_TOKENS, "tokens.json")

    def served(count: int) -> list[ServedTally]:
        prepared, found = made(path), []
        reading = ReadOptions(threads=1, max_unreadable=1)
        stream = Stream(path, 4, prepared.prepare, Share(), reading, prepared.packing)
        for batch in itertools.islice(stream, count):
            found.append(copy.deepcopy(found[-1]) if found else ServedTally(stream.mixture))
            found[-1].add(batch)
        stream.close()
        return found

    whole = served(80)
    for counted in whole:
        assert counted.find_alarms() == []
        off = [abs(figures["units_off"]) for figures in counted.report().values()]
        assert max(off) < 2 * MULTIMODAL["pack"]["tokens"]
    assert whole[0].conditions.stray < MULTIMODAL["pack"]["tokens"]
    (tmp_path / "text" / "00001.tar").unlink()
    lost = served(80)[-1]
    assert {(alarm.source, alarm.promise) for alarm in lost.find_alarms()} == {("text", "unit"), ("text", "readable")}
    now, then = lost.report()["text"], whole[-1].report()["text"]
    assert now["samples"] == then["samples"]
    assert now["units"] < then["units"]
    assert now["text_tokens"] < then["text_tokens"]
    assert lost.report()["caption"] == whole[-1].report()["caption"] | {
        name: lost.report()["caption"][name] for name in ("text_tokens_share", "images_share", "units_share")
    }


def test_state_of_packs_is_of_the_unit_that_they_are_ordered_by(manifest: Path) -> None:
    tokens = composed(manifest.parent, IN_TOKENS, "tokens.json")
    assert made(tokens).packing.name != made(manifest).packing.name


def test_packs_go_on_with_a_mixture_that_continues_theirs_at_a_window(manifest: Path) -> None:
    home, spec = manifest.parent, "seed: 3\nbatch: 16\nsources: [{path: caption}, {path: text, weight: %d}]\n"
    old = composed(home, spec % 1, "old.json")
    later = composed(home, spec % 9, "later.json", mix.Onto(mix.load(old), 64))
    before = batches(old, 3)
    prepared = made(later)
    stream = Stream(later, 4, prepared.prepare, Share(), packing=prepared.packing)
    stream.load_state_dict(before[1].state)
    after = [next(stream) for _ in range(12)]
    stream.close()
    assert after[0].uids == before[2].uids
    positions = [p for batch in (*before[:2], *after) for p in batch.positions.tolist()]
    assert len(set(positions)) == len(positions)
    late = [batch.drawn for batch in after if batch.positions.size and batch.positions.min() >= 64]
    assert sum(drawn["text"] for drawn in late) > 5 * sum(drawn["caption"] for drawn in late)


@pytest.mark.parametrize("how", ["weights", "skips"])
def test_packs_refuse_a_mixture_that_takes_over_within_their_window(manifest: Path, how: str) -> None:
    """Packs do not go on with a mixture that takes over within their window."""
    home, spec = manifest.parent, "seed: 3\nbatch: 16\nsources: [{path: caption}, {path: text, weight: %d}]\n"
    old = composed(home, spec % 1, "old.json")
    states = [batch.state for batch in batches(old, 40, size=1)]

    def later(position: int) -> Stream:
        onto = mix.Onto(mix.load(old), position)
        if how == "weights":
            path = composed(home, spec % 9, "later.json", onto)
        else:
            path = home / "later.json"
            mix.skip(onto, path, [(position // 16, position // 16 + 1)])
        prepared = made(path)
        return Stream(path, 1, prepared.prepare, Share(), packing=prepared.packing)

    within = [state for state in states if 0 < state["position"] < 48]
    assert within
    for state in within:
        with pytest.raises(StreamError, match="continue the old one at 64 or later"):
            later(48).load_state_dict(state)
        with pytest.raises(StreamError, match="continue the old one at 64 or later"):
            later(48).load_state_dict({name: value for name, value in state.items() if name != "window"})
        stream = later(64)
        stream.load_state_dict(state)
        follows = next(new for new in states if new["position"] > state["position"])
        assert next(stream).state["position"] == follows["position"]
        stream.close()
    later(48).load_state_dict({**states[0], "position": 0, "window": [0, 64]})


def test_packs_of_homogeneous_batches_are_refused(manifest: Path) -> None:
    spec = "mode: homogeneous\nbatch: 4\nsources: [{path: caption}, {path: text}]"
    with pytest.raises(mix.MixtureError, match="mode is homogeneous"):
        made(composed(manifest.parent, spec, "homogeneous.json"))


def test_packs_stop_before_the_end_of_the_mixture(manifest: Path) -> None:
    ending = manifest.with_name("ending.json")
    mix.save(mix.load(manifest).manifest.model_copy(update={"end": 100}), ending)
    found = batches(ending, 99)
    assert 0 < len(found) < 20
    assert max(p for batch in found for p in batch.positions.tolist()) < 100


def test_texts_counted_by_another_tokenizer_are_refused(tmp_path: Path) -> None:
    manifest = of_every_kind(tmp_path, tokenizer="words")
    told = rf"counted by 'words {RULES}', the model spells by 'bytes {RULES}'.*curate index"
    with pytest.raises(mix.MixtureError, match=told):
        made(manifest)


def test_lengths_that_no_index_has_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(mix.MixtureError, match=r"curate index .* --tokenizer"):
        made(mixture(tmp_path))


def test_loader_may_send_the_stream_to_workers_that_it_spawns(manifest: Path) -> None:
    from multiprocessing.reduction import ForkingPickler

    prepared = made(manifest)
    stream = Stream(manifest, 4, prepared.prepare, Share(), packing=prepared.packing)
    next(stream)
    assert len(ForkingPickler.dumps(stream)) > 0
    stream.close()


def test_tower_may_be_the_demos_own(manifest: Path) -> None:
    weights = ROOT / "curate" / "weights" / "tiny-clip.safetensors"
    config = Config.model_validate({**TINY, "model": {"clip": str(weights)}, "objective": MULTIMODAL})
    prepared = prepare.build(config, build(config.model), manifest)
    stream = Stream(manifest, 2, prepared.prepare, Share(), packing=prepared.packing)
    batch = next(stream).tensors
    stream.close()
    assert batch["image"].shape[1:] == (3, 64, 64)
    loss = prepared.objective(batch)
    loss.backward()
    assert loss.item() > 0


@pytest.mark.parametrize("kind", ["interleaved", "text"])
def test_pairs_are_not_looked_for_where_there_are_none(manifest: Path, kind: str) -> None:
    config = Config.model_validate({**TINY, "objective": {"type": "contrastive"}})
    alone = composed(manifest.parent, f"sources: [{{path: {kind}}}]", f"{kind}-pairs.json")
    with pytest.raises(mix.MixtureError, match=f"of kind {kind}, and the contrastive objective takes pairs"):
        prepare.build(config, build(config.model), alone)
