"""What is cut is counted: seen = trained + cut + replaced, to the token, over a whole epoch of every source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_samples import CAPTION, FLAMINGO, MULTIMODAL, TINY, composed, dataset, page, prose, published, scan, talk

from curate import mix
from curate.mix.count_tokens import add_text_tokens
from curate.stream.sample_lengths import SampleLengths
from curate.stream.served import ServedTally
from curate.stream.stream import ReadOptions, Share, Stream
from curate.tokens.clip import described_tokens
from train import prepare
from train.config import Config
from train.models.dual_encoder import build

EACH = 24
TALE = "a red square on black, " * 3
EPOCH = "batch: 8\nsources: [{sources}]\nstages: [{{name: once, steps: {steps}}}, {{name: again}}]"
"""A stage that sees every sample of every source once."""


def torn(number: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A page; some name an image that is not there."""
    parts, said = page(number)
    return ({}, said) if number % 7 == 2 and parts else (parts, said)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("epoch")
    dataset(folder / "pairs", EACH, seed=1, broken=(5,))
    published(folder / "pages", "interleaved", [torn(n) for n in range(EACH)])
    published(folder / "talk", "interleaved", [talk(n) for n in range(EACH)])
    published(folder / "scans", "ocr", [scan(n) for n in range(EACH)])
    tales = [({"png": scan(n)[0]["png"], "txt": TALE.encode()}, {}) for n in range(EACH)]
    published(folder / "tales", "caption", tales)
    published(folder / "books", "text", [prose(n) for n in range(EACH)])
    for name in ("pairs", "pages", "talk", "scans", "books"):
        add_text_tokens(folder / name, "bytes")
    return folder


def once(home: Path, sources: list[str]) -> Path:
    asked = {"pairs": ', templates: ["What is it?"]'}  # words that are none of a sample's own
    listed = ", ".join(f"{{path: {name}{asked.get(name, '')}}}" for name in sources)
    return composed(home, EPOCH.format(sources=listed, steps=EACH * len(sources) // 8), f"{'-'.join(sources)}.json")


def epoch(
    manifest: Path, objective: dict[str, Any], world: int, stop: int | None = None, tokenizer: str = "simple:1024"
) -> dict[str, dict[str, Any]]:
    """The report of one epoch of every source on `world` ranks, saved and resumed after `stop` batches."""
    model = {**TINY["model"], "tokenizer": tokenizer}
    config = Config.model_validate({**TINY, "model": model, "objective": objective})
    prepared = prepare.build(config, build(config.model), manifest)
    size = 2 if prepared.packing else 8
    end = EACH * len(mix.load(manifest).manifest.datasets)

    def begun(rank: int) -> tuple[Stream, ServedTally]:
        options = ReadOptions(threads=1, max_unreadable=1.0)
        stream = Stream(manifest, size, prepared.prepare, Share(rank, world), options, prepared.packing)
        return stream, ServedTally(stream.mixture)

    ranks, steps = [begun(rank) for rank in range(world)], 0
    while ranks[0][0].position < end:
        for stream, tally in ranks:
            tally.add(next(stream))
        if (steps := steps + 1) == stop:
            state, counts = ranks[0][0].state_dict(), json.dumps(together([t for _, t in ranks]).state_dict())
            for stream, _ in ranks:
                stream.close()
            ranks = [begun(rank) for rank in range(world)]
            for stream, tally in ranks:
                stream.load_state_dict(state)
                tally.load_state_dict(json.loads(counts))
    assert ranks[0][0].position == end
    for stream, _ in ranks:
        stream.close()
    return together([tally for _, tally in ranks]).report()


def together(tallies: list[ServedTally]) -> ServedTally:
    """What `Ranks.sum` makes of them: each list added up over ranks."""
    asked: list[list[float]] = []
    for tally in tallies:
        tally.sum_over_ranks(lambda values: asked.append(values) or values)  # type: ignore[func-returns-value]
    return tallies[0].sum_over_ranks(lambda _: np.array(asked).sum(0).tolist())  # type: ignore[no-any-return]


PACKS = {**MULTIMODAL, "pack": {"tokens": 120, "images": 3, "window": 4096}}
OBJECTIVES = {
    "packs": PACKS,
    "flamingo": {
        **PACKS,
        "form": FLAMINGO,
        "document": {"text_tokens": 50, "images": 2, "start": "random", "next_image": 0.5},
    },
    "chat": {**PACKS, "form": {"chat": "chatml"}},
}


TWO = pytest.param(2, 3, marks=pytest.mark.slow)


@pytest.mark.parametrize(("world", "stop"), [(1, None), TWO])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_that_packs_saw_was_trained_on_or_cut_or_replaced(
    home: Path, objective: str, world: int, stop: int | None
) -> None:
    manifest = once(home, ["pairs", "pages", "talk", "books"])
    check(manifest, epoch(manifest, OBJECTIVES[objective], world, stop), cut={"pages", "talk", "books"})


@pytest.mark.parametrize(("world", "stop"), [(1, None), TWO])
def test_all_that_rows_saw_was_trained_on_or_cut_or_replaced(home: Path, world: int, stop: int | None) -> None:
    manifest = once(home, ["pairs", "scans"])
    check(manifest, epoch(manifest, {**CAPTION, "text_length": 20}, world, stop), cut={"pairs", "scans"})


@pytest.mark.parametrize(("tokenizer", "marks"), [('words:["a", "red", "square", "on"]', 1), ("simple:1024", 2)])
def test_captions_that_a_context_cuts_are_counted(home: Path, tokenizer: str, marks: int) -> None:
    manifest = once(home, ["scans", "tales"])
    report = epoch(manifest, {"type": "contrastive"}, 1, tokenizer=tokenizer)
    whole = described_tokens(tokenizer, 1000)
    for name, texts in (("scans", [scan(n)[0]["txt"].decode() for n in range(EACH)]), ("tales", [TALE] * EACH)):
        had = [len(whole(text)) - marks for text in texts]
        taken = [min(n, 12 - marks) for n in had]
        of = report[name]
        assert (of["seen_samples"], of["seen_images"], of["trained_images"]) == (EACH, EACH, EACH)
        assert (of["seen_text_tokens"], of["trained_text_tokens"]) == (sum(had), sum(taken))
        assert of["cut_text_tokens"] == sum(had) - sum(taken)
        assert of["cut_samples"] == sum(t < n for t, n in zip(taken, had, strict=True)) == EACH - of["trained_samples"]
    assert report["tales"]["cut_samples"] == EACH


def check(manifest: Path, report: dict[str, dict[str, Any]], cut: set[str]) -> None:
    """The law, of what the indexes say that an epoch holds."""
    mixture = mix.load(manifest)
    lengths = SampleLengths(mixture)
    for number, (name, of) in enumerate(report.items()):
        rows = np.arange(EACH)
        held = {
            unit: int(lengths.of(np.full(EACH, number), rows, unit).sum())
            for unit in ("samples", "text_tokens", "images")
        }
        assert min(n for figure, n in of.items() if figure.startswith(("seen", "trained", "cut", "replaced"))) >= 0
        for unit, whole in held.items():
            assert of[f"seen_{unit}"] == of[f"trained_{unit}"] + of[f"cut_{unit}"] + of[f"replaced_{unit}"] == whole, (
                name,
                unit,
            )
        assert (of["cut_samples"] > 0 and of["cut_text_tokens"] > 0) == (name in cut), name
        assert (of["replaced_samples"] > 0) == (name in {"pairs", "pages"}), name


def test_what_was_trained_on_is_what_stands_in_the_batches(home: Path) -> None:
    manifest = once(home, ["talk", "books"])
    config = Config.model_validate({**TINY, "objective": PACKS})
    prepared = prepare.build(config, build(config.model), manifest)
    stream = Stream(manifest, 2, prepared.prepare, Share(), ReadOptions(threads=1), prepared.packing)
    tally, text, images, gaps = ServedTally(stream.mixture), np.zeros(2), np.zeros(2), np.zeros(2)
    while stream.position < 2 * EACH:
        batch = next(stream)
        tally.add(batch)
        t = batch.tensors
        said = (t["segments"] > 0) & (t["ids"] >= 0) & (t["ids"] < 256)
        text += np.bincount(t["source"][said], minlength=2)
        images += np.bincount(t["source"][t["ids"] == -1], minlength=2) / 4
        gaps += [bytes(t["ids"][said & (t["source"] == n)].tolist()).count(b"\n\n") for n in range(2)]
    stream.close()
    found = tally.report()
    for number, name in enumerate(("talk", "books")):
        assert found[name]["trained_images"] == images[number]
        assert found[name]["trained_text_tokens"] == text[number] - 2 * gaps[number]  # empty lines part two turns


def test_batches_that_do_not_say_what_was_taken_leave_it_unknown(home: Path) -> None:
    manifest = once(home, ["pairs", "books"])
    stream = Stream(manifest, 8, share=Share())
    tally = ServedTally(stream.mixture)
    tally.add(next(stream))
    stream.close()
    again = ServedTally(stream.mixture)
    again.load_state_dict(json.loads(json.dumps(tally.state_dict())))
    for found in (tally.report(), again.report()):
        assert all(
            of["cut_samples"] is None and of["seen_images"] is None and of["samples"] == 4 for of in found.values()
        )
