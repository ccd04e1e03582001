"""The adapters of docs/own-trainer.md, run as printed: each trainer sees the mixture's samples, in its order."""

from __future__ import annotations

import itertools
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from own_trainer import FIRST, PAGE, adapter, blocks, first_uids
from torch.utils.data import BatchSampler, SequentialSampler
from train_samples import TINY, mixture, of_every_kind

from curate.stream import Batch, DrawnSample, MixtureView, PackLimits, Share, Stream, StreamError

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than cores
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata calls it
]


class Watched(Stream):
    """A stream that keeps the uids of what it gave."""

    seen: list[str]

    def __next__(self) -> Batch:
        batch = super().__next__()
        self.seen += batch.uids
        return batch


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture"))


def test_every_adapter_of_the_page_has_fewer_than_sixty_lines() -> None:
    found = blocks(PAGE)
    assert {heading for heading, code in found.items() if code} == set(found)
    assert {heading: sum(map(str.count, code, "\n" * len(code))) for heading, code in found.items()} == {
        heading: pytest.approx(30, abs=29) for heading in found
    }


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_torchdata_sees_the_mixtures_first_uids_and_goes_on_where_it_was(
    manifest: Path, tmp_path: Path, workers: int
) -> None:
    loader = adapter(tmp_path, "PyTorch and torchdata").loader
    one = loader(manifest, 50, workers=workers)
    seen = [uid for batch in itertools.islice(one, 12) for uid in batch.uids]
    other = loader(manifest, 50, workers=workers)
    other.load_state_dict(one.state_dict())
    seen += [uid for batch in itertools.islice(other, 8) for uid in batch.uids]
    assert seen == first_uids(manifest)


def clip_arguments(batch: int) -> Namespace:
    """What open_clip's loop asks of its command line."""
    return Namespace(
        device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=True, horovod=False,
        grad_clip_norm=None, log_every_n_steps=100, world_size=1, rank=0, batch_size=batch, wandb=False,
        save_logs=False, local_rank=0, distributed=False,
    )  # fmt: skip


@pytest.mark.slow
def test_open_clips_own_loop_trains_on_the_mixtures_first_uids(manifest: Path, tmp_path: Path) -> None:
    import open_clip
    from open_clip_train.train import train_one_epoch

    page = adapter(tmp_path, "open_clip")
    clip = TINY["model"]["clip"]
    model = open_clip.CLIP(
        clip["embed_dim"], clip["vision_cfg"], clip["text_cfg"] | {"vocab_size": 49408}, output_dict=True
    )
    tokenizer = open_clip.SimpleTokenizer(context_length=12)
    pair = page.Pair(
        manifest, 32, open_clip.constants.OPENAI_DATASET_MEAN, open_clip.constants.OPENAI_DATASET_STD, tokenizer
    )

    def run(stream: Stream, epochs: range) -> None:
        data, args = {"train": page.Epochs(stream, 10)}, clip_arguments(50)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for epoch in epochs:
            train_one_epoch(model, data, open_clip.ClipLoss(), epoch, optimizer, None, None, None, args)
        stream.close()

    whole, late = (Watched(manifest, 50, pair) for _ in range(2))
    whole.seen, late.seen = [], []
    run(whole, range(2))
    assert whole.seen == first_uids(manifest)
    run(late, range(1, 2))
    assert late.seen == whole.seen[500:]


def test_pixels_and_ids_are_those_of_open_clip(manifest: Path, tmp_path: Path) -> None:
    import io

    import open_clip
    from PIL import Image

    sample = MixtureView(manifest, length=9)[3]
    mean, std = open_clip.constants.OPENAI_DATASET_MEAN, open_clip.constants.OPENAI_DATASET_STD
    tokenizer = open_clip.SimpleTokenizer(context_length=12)
    found = adapter(tmp_path, "open_clip").Pair(manifest, 32, mean, std, tokenizer)(sample)
    transform = open_clip.image_transform(32, is_train=False, mean=mean, std=std)
    assert torch.allclose(found["image"], transform(Image.open(io.BytesIO(sample.parts["png"]))), atol=1e-6)
    assert torch.equal(found["text"], tokenizer(sample.parts["txt"].decode())[0])


def words(sample: DrawnSample) -> dict[str, Any]:
    """A row for a language model: so many bytes of the text, and its uid."""
    ids = torch.tensor(list(sample.parts["txt"].ljust(16)[:16]))
    return {"input_ids": ids, "labels": ids, "uid": sample.uid}


class Collator:
    """Batches rows, and keeps the uids of those that were asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        self.seen += [row["uid"] for row in rows]
        return {name: torch.stack([row[name] for row in rows]) for name in ("input_ids", "labels")}


def hugging_face(page: Any, view: MixtureView, out: Path, batch: int, steps: int, checkpoint: Path | None) -> list[str]:
    """Train a tiny model with transformers' Trainer, and tell the uids that it saw."""
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=16, n_embd=8, n_layer=1, n_head=1))
    args = TrainingArguments(
        str(out), max_steps=steps, per_device_train_batch_size=batch, train_sampling_strategy="sequential",
        ignore_data_skip=True, remove_unused_columns=False, use_cpu=True, report_to=[], disable_tqdm=True,
        save_steps=8, save_only_model=False, logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    collator = Collator()
    callback = page.Position(view, page.start_of(view, checkpoint))
    data = page.train_dataset(view, checkpoint)
    trainer = Trainer(model, args, data_collator=collator, train_dataset=data, callbacks=[callback])
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return collator.seen


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers and accelerate
def test_transformers_sees_the_mixtures_first_uids_and_goes_on_with_another_batch(
    manifest: Path, tmp_path: Path
) -> None:
    page, view = adapter(tmp_path, "transformers"), MixtureView(manifest, words, FIRST)
    seen = hugging_face(page, view, tmp_path / "out", 50, 20, None)
    assert seen == first_uids(manifest)
    again = hugging_face(page, view, tmp_path / "out", 25, 32, tmp_path / "out" / "checkpoint-8")
    assert again == seen[400:]
    others = MixtureView(mixture(tmp_path / "others", few=(1,)), words, FIRST)
    with pytest.raises(StreamError, match="manifest has changed"):
        page.train_dataset(others, tmp_path / "out" / "checkpoint-8")


def test_ranks_of_transformers_read_what_the_stream_gives_them(manifest: Path, tmp_path: Path) -> None:
    """Its loaders deal batches to the ranks by accelerate's sampler."""
    from accelerate.data_loader import BatchSamplerShard

    data = adapter(tmp_path, "transformers").train_dataset(MixtureView(manifest, length=240))
    for rank in range(3):
        stream = Stream(manifest, 48, share=Share(rank, 3))
        dealt = BatchSamplerShard(BatchSampler(SequentialSampler(data), 16, drop_last=False), 3, rank)
        rows = [tuple(sample.uid for sample in data.__getitems__(batch)) for batch in dealt]
        assert rows == [batch.uids for batch in itertools.islice(stream, 5)]
        stream.close()


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_every_kind(tmp_path_factory.mktemp("kinds"))


def packs(folder: Path, manifest: Path) -> Iterator[dict[str, Any]]:
    page = adapter(folder, "Packs", "nanoVLM")
    limits = PackLimits(tokens=320, images=6, visual_tokens=4, window=200)
    return iter(page.PackedCollator(page.packed(manifest, 4, limits, size_px=16), image_token_id=300))


def test_nanovlm_sees_the_mixtures_first_uids_in_the_order_of_packs(every_kind: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    for batch in packs(tmp_path, every_kind):
        seen += batch["uids"]
        if len(seen) >= FIRST:
            break
    expected = first_uids(every_kind)
    assert seen[:FIRST] != expected
    for window in range(0, FIRST, 200):
        assert sorted(seen[window : window + 200]) == sorted(expected[window : window + 200])


def test_nanovlms_batches_hold_what_its_collator_gives_and_keep_documents_apart(
    every_kind: Path, tmp_path: Path
) -> None:
    batch = next(packs(tmp_path, every_kind))
    ids, labels, there = batch["input_ids"], batch["labels"], batch["attention_mask"]
    assert ids.shape == labels.shape == there.shape == (4, 320)
    [images] = batch["images"]
    assert images.dtype == torch.float32 and images.shape[1:] == (3, 16, 16) and 0 <= images.min() <= images.max() <= 1
    assert int((ids == 300).sum()) == 4 * len(images)
    learnt = labels != -100
    assert learnt.any() and torch.equal(labels[learnt], ids.roll(-1, 1)[learnt])
    assert not (learnt & (there == 0)).any()
    first_of_a_document = batch["positions"] == 0
    assert not (learnt & first_of_a_document.roll(-1, 1)).any()
    document = (first_of_a_document & (there == 1)).cumsum(1)
    alike = document[:, :, None] == document[:, None, :]
    assert (first_of_a_document & (there == 1)).sum() > 8 and not (batch["mask"] & ~alike).any()


def test_the_lists_on_the_page_name_every_section(tmp_path: Path) -> None:
    rows = [line.split("|")[1].strip() for line in PAGE.read_text().splitlines() if line.startswith("|")][2:]
    told = {heading for heading in blocks(PAGE) if heading != "Packs"}
    assert {row.replace(", ", " and ") for row in rows} == told
