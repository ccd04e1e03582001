"""Readers of a mixture through the trainers that have an environment of their own: `python readers.py NAME MANIFEST`.

Each takes the adapter that docs/own-trainer.md prints and says, as JSON, what was seen.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from own_trainer import FIRST, adapter

from curate import mix
from curate.stream import DrawnSample, MixtureView


def row(sample: DrawnSample) -> dict[str, Any]:
    """A sample as numbers: the bytes of its uid, sixteen of its text."""
    ids = list(sample.parts["txt"].ljust(16)[:16])
    return {"uid": sample.uid, "input_ids": ids, "labels": ids}


class Numbers:
    """The same as arrays, which Grain stacks."""

    def __call__(self, sample: DrawnSample) -> dict[str, Any]:
        import numpy as np

        return {"uid": np.frombuffer(sample.uid.encode(), np.uint8), "text": np.array(row(sample)["input_ids"])}


def grain(manifest: Path, folder: Path) -> dict[str, Any]:
    """The first uids of one reader, of worker processes, of two ranks together, and of one that went on."""
    page = adapter(folder, "Grain")
    view = MixtureView(manifest, Numbers(), FIRST)

    def uids(batches: Any) -> list[str]:
        return [bytes(uid).decode() for batch in batches for uid in batch["uid"]]

    ranks = [list(page.batches(view, 25, rank, 2)) for rank in range(2)]
    one = iter(page.batches(view, 50))
    seen = uids(itertools.islice(one, 7))
    other = iter(page.batches(view, 50))
    other.set_state(one.get_state())
    return {
        "one": uids(page.batches(view, 50)),
        "workers": uids(page.batches(view, 50, workers=2)),
        "ranks": uids(batch for step in zip(*ranks, strict=True) for batch in step),
        "resumed": seen + uids(other),
        "source": repr(view),
        "refused": refuses_another_mixture(manifest, folder / "other.json"),
    }


def refuses_another_mixture(manifest: Path, changed: Path) -> str:
    """What Grain says to a checkpoint of a mixture with other weights."""
    import grain.python as g

    mix.build([(manifest.parent / "many", 1.0), (manifest.parent / "few", 1.0)], 7, changed)

    def loader(path: Path) -> Any:
        view = MixtureView(path, Numbers(), FIRST)
        return iter(g.DataLoader(data_source=view, sampler=g.SequentialSampler(len(view), g.NoSharding())))

    one, other = loader(manifest), loader(changed)
    next(one), next(other)
    try:
        other.set_state(one.get_state())
    except ValueError as err:
        return str(err)
    return ""


def trl(manifest: Path, folder: Path) -> dict[str, Any]:
    """The uids that SFTTrainer's collator is given, from the beginning and after a stop."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    page, view = adapter(folder, "transformers", "TRL"), MixtureView(manifest, row, FIRST)
    spelled = Tokenizer(models.WordLevel({"[pad]": 0, "[end]": 1}, unk_token="[pad]"))
    spelled.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=spelled, pad_token="[pad]", eos_token="[end]")

    def run(batch: int, steps: int, checkpoint: Path | None) -> list[str]:
        seen: list[str] = []
        stacked = DataCollatorForLanguageModeling(pad_token_id=0)

        def collate(rows: list[dict[str, Any]]) -> Any:
            seen.extend(found["uid"] for found in rows)
            return stacked([{name: found[name] for name in ("input_ids", "labels")} for found in rows])

        start = page.start_of(view, checkpoint)
        args = SFTConfig(
            str(folder / "out"), max_steps=steps, per_device_train_batch_size=batch, use_cpu=True, bf16=False,
            train_sampling_strategy="sequential", ignore_data_skip=True, remove_unused_columns=False, save_steps=8,
            dataset_kwargs={"skip_prepare_dataset": True}, report_to=[], disable_tqdm=True,
            gradient_checkpointing=False, dataloader_pin_memory=False,
        )  # fmt: skip
        model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=16, n_embd=8, n_layer=1, n_head=1))
        SFTTrainer(
            model, args, data_collator=collate, train_dataset=page.rows(view, start), processing_class=tokenizer,
            callbacks=[page.Position(view, start)],
        ).train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)  # fmt: skip
        return seen

    return {"one": run(50, 20, None), "resumed": run(25, 32, folder / "out" / "checkpoint-8")}


def torchtitan(manifest: Path, folder: Path) -> dict[str, Any]:
    """Uids of the loader that torchtitan's configuration builds; states saved on one rank, gone on from on two."""
    import torch.distributed.checkpoint as dcp

    page = adapter(folder, "Packs", "torchtitan")
    config = page.MixtureDataLoader.Config(dataset_path=str(manifest), window=200)

    def build(rank: int = 0, world: int = 1) -> Any:
        return config.build(
            dp_world_size=world, dp_rank=rank, tokenizer=None, seq_len=256, local_batch_size=4 // world,
            snapshot_every_n_steps=None,
        )  # fmt: skip

    def digest(inputs: torch.Tensor) -> list[int]:
        return [hash(tuple(ids)) for ids in inputs.tolist()]

    one, stream = build(), build().stream
    uids = [uid for batch in itertools.islice(stream, 200) for uid in batch.uids]
    steps = [batch for batch, _ in itertools.islice(one, 5)]
    dcp.save({"dataloader": one}, checkpoint_id=folder / "step", no_dist=True)
    later = [digest(batch["input"]) for batch, _ in itertools.islice(one, 3)]
    ranks = [build(rank, 2) for rank in range(2)]
    for loader in ranks:
        dcp.load({"dataloader": loader}, checkpoint_id=folder / "step", no_dist=True)
    dealt = [[digest(batch["input"]) for batch, _ in itertools.islice(loader, 3)] for loader in ranks]
    inputs, labels = next(iter(build()))
    return {
        "uids": uids[:FIRST],
        "shapes": [list(inputs["input"].shape), list(inputs["positions"].shape), list(labels.shape)],
        "first": digest(inputs["input"]) == digest(steps[0]["input"]),
        "later": [sorted(step) for step in later],
        "dealt": [sorted(a + b) for a, b in zip(*dealt, strict=True)],
    }


def energon(manifest: Path, folder: Path) -> dict[str, Any]:
    """Keys and sources of the samples that energon draws by the metadataset of the mixture."""
    import subprocess

    from megatron import energon as en

    from curate.mix import read

    command = [str(Path(sys.executable).parent / "energon"), "prepare", "--non-interactive", "--no-progress"]
    options = ["--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset", "--num-workers", "1"]
    mixture = read(manifest)
    for number in range(len(mixture.manifest.datasets)):
        done = [*command, *options, str(mixture.folder(number))]
        subprocess.run(done, check=True, stdout=subprocess.DEVNULL)
    out = folder / "mixture.yaml"
    adapter(folder, "Megatron-Energon").metadataset(manifest, out)

    @en.stateless
    def cook(sample: Any) -> Any:
        return {**en.basic_sample_keys(sample), "uid": sample["__key__"]}

    class Encoder(en.DefaultTaskEncoder):  # type: ignore[misc]
        decoder = None
        cookers = [en.Cooker(cook)]  # noqa: RUF012

        def batch(self, batch: Any) -> Any:
            return [(sample["uid"], sample["__subflavors__"]["source"]) for sample in batch]

    dataset = en.get_train_dataset(
        str(out), worker_config=en.WorkerConfig(rank=0, world_size=1, num_workers=0), batch_size=50,
        shuffle_buffer_size=100, max_samples_per_sequence=100, task_encoder=Encoder(),
    )  # fmt: skip
    seen = [one for batch in itertools.islice(en.get_loader(dataset), FIRST // 50) for one in batch]
    return {"seen": [[uid.rpartition("/")[2], source] for uid, source in seen]}


READERS = {"grain": grain, "trl": trl, "torchtitan": torchtitan, "megatron-energon": energon}

if __name__ == "__main__":
    name, manifest, folder = sys.argv[1:]
    sys.path.insert(0, folder)  # where worker processes find the adapter
    print(json.dumps(READERS[name](Path(manifest), Path(folder))))
