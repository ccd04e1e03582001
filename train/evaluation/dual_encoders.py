"""Evaluate a dual encoder: recall at k over distinct captions, AUC of matched pairs, zero-shot accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from curate.mix.content import own_text, texts_under
from curate.models.image_tower import normalised
from curate.stream import images
from curate.stream.reading import UNREADABLE
from curate.stream.stream import DatasetReader
from curate.stream.tokens import token_ids
from train.evaluation.figures import MeasuredViews, View, measured
from train.evaluation.intervals import Draws, Resampled
from train.models.dual_encoder import DualEncoder

BATCH = 64
KS = (1, 5, 10)


@dataclass(frozen=True)
class Matching:
    """The result of `evaluate`. `recall` maps `image_to_text@k` and `text_to_image@k` to shares in [0, 1]."""

    pairs: int
    unreadable: int
    auc: float
    recall: dict[str, float]

    def plain(self) -> dict[str, Any]:
        """The result as JSON-able data, rounded to what a few thousand pairs can tell."""
        rounded = {name: round(value, 4) for name, value in self.recall.items()}
        return {**asdict(self), "auc": round(self.auc, 4), "recall": rounded}


@dataclass(frozen=True)
class EmbeddedPairs:
    """Unit vectors of N pictures and of their captions, on the CPU; `label`s where they were asked for.

    `grey_D`: of a picture that shows nothing.
    """

    images_ND: Tensor
    texts_ND: Tensor
    grey_D: Tensor
    uids: list[str]
    captions: list[str]
    labels: list[str]
    unreadable: int


def evaluate(clip: DualEncoder, dataset: Path, *, seed: int = 0, limit: int = 5_000) -> Matching:
    """Measure `clip` on the first `limit` pairs of a published dataset. Raises ValueError if none can be read."""
    pairs = embed_pairs(clip, dataset, limit)
    scores_NN = pairs.images_ND @ pairs.texts_ND.T
    other = swap_captions(pairs.captions, seed)
    rows = torch.arange(len(pairs.captions))
    auc = roc_auc(scores_NN[rows, rows].numpy(), scores_NN[rows, torch.from_numpy(other)].numpy())
    recall = {name: float(hits.float().mean()) for name, hits in retrieval_hits(scores_NN, pairs.captions).items()}
    return Matching(len(pairs.captions), pairs.unreadable, auc, recall)


def embed_pairs(clip: DualEncoder, dataset: Path, limit: int, label: str = "") -> EmbeddedPairs:
    """Embed the first `limit` pairs of a published dataset, with the texts under the key `label` of their JSON.

    Raises ValueError where fewer than two can be read.
    """
    dataset_reader = DatasetReader(dataset.name, dataset)
    try:
        pairs = _embed(clip, dataset_reader, min(limit, dataset_reader.rows), label)
    finally:
        dataset_reader.close()
    if len(pairs.captions) < 2:
        raise ValueError(f"{dataset}: {len(pairs.captions)} readable pairs; at least 2 are needed to evaluate on")
    return pairs


def measure_pairs(clip: DualEncoder, pairs: EmbeddedPairs, views: Sequence[View], seed: int) -> list[MeasuredViews]:
    """Recall of a dual encoder, and its zero-shot accuracy where pairs have labels, by view, with intervals."""
    order = np.random.default_rng(seed).permutation(len(pairs.uids))
    other = np.empty_like(order)
    other[order] = np.roll(order, -1)  # one circle through all
    shown: dict[View, Tensor] = {
        "seen": pairs.images_ND,
        "blind": pairs.grey_D.expand_as(pairs.images_ND),
        "shuffled": pairs.images_ND[torch.from_numpy(other)],
    }
    firsts = _number_captions(pairs.captions)[1].tolist()
    by_image, by_text = Resampled(pairs.uids, seed), Resampled([pairs.uids[n] for n in firsts], seed)
    draws: dict[View, dict[str, Draws]] = {}
    for view in views:
        hits = retrieval_hits(shown[view] @ pairs.texts_ND.T, pairs.captions)
        draws[view] = {
            name: (by_image if name.startswith("image") else by_text).mean(found.double().tolist())
            for name, found in hits.items()
        }
    found = [measured("retrieval", name, len(pairs.uids), draws) for name in draws["seen"]]
    if not pairs.labels:
        return found
    classes = sorted(set(pairs.labels))
    weights_DC = zero_shot_weights(clip, classes)
    truth_N = torch.tensor([classes.index(label) for label in pairs.labels])
    for view in views:
        hits = class_hits(shown[view] @ weights_DC, truth_N)
        draws[view] = {name: by_image.mean(right.double().tolist()) for name, right in hits.items()}
    return found + [measured("zero-shot", name, len(pairs.uids), draws) for name in draws["seen"]]


def zero_shot_weights(clip: DualEncoder, classes: Sequence[str]) -> Tensor:
    """weights_DC: of each class the mean of its name in seven sentences, by open_clip (Radford et al. 2021, 3.1.4)."""
    import open_clip

    device = next(clip.net.parameters()).device
    weights_DC: Tensor = open_clip.build_zero_shot_classifier(
        clip.net,
        tokenizer=lambda texts: token_ids(clip.tokenizer, texts),
        classnames=list(classes),
        templates=open_clip.SIMPLE_IMAGENET_TEMPLATES,
        device=device,
    )
    return weights_DC.float().cpu()


def class_hits(scores_NC: Tensor, truth_N: Tensor) -> dict[str, Tensor]:
    """Hits of each picture: the right class is the first; of more than five, it is among the first five."""
    best_NK = scores_NC.topk(min(5, scores_NC.shape[1]), dim=1).indices
    hits_NK = best_NK == truth_N[:, None]
    found = {"accuracy@1": hits_NK[:, 0]}
    return found | {"accuracy@5": hits_NK.any(1)} if scores_NC.shape[1] > 5 else found


def retrieval_hits(scores_NN: Tensor, captions: list[str]) -> dict[str, Tensor]:
    """Hits by name: of each picture (`image_to_text@k`), of each distinct caption (`text_to_image@k`)."""
    numbers, firsts = _number_captions(captions)
    each = torch.arange(len(firsts))
    hits = {f"image_to_text@{k}": hits_at(scores_NN[:, firsts], numbers, each, k) for k in KS}
    return hits | {f"text_to_image@{k}": hits_at(scores_NN.T[firsts], each, numbers, k) for k in KS}


def roc_auc(matched: npt.NDArray[Any], mismatched: npt.NDArray[Any]) -> float:
    """Chance that a matched pair scores above a mismatched one, ties counting half (Mann-Whitney)."""
    ordered = np.sort(mismatched)
    below = np.searchsorted(ordered, matched, side="left")
    upto = np.searchsorted(ordered, matched, side="right")
    return float((below + upto).mean() / (2 * len(mismatched)))


def hits_at(scores_RC: Tensor, rows: Tensor, columns: Tensor, k: int) -> Tensor:
    """Hits of the rows with one of their own among the `k` best columns; `rows`, `columns` number the captions."""
    best_RK = scores_RC.topk(min(k, scores_RC.shape[1]), dim=1).indices
    return (columns[best_RK] == rows[:, None]).any(1)


def swap_captions(captions: list[str], seed: int) -> npt.NDArray[np.int64]:
    """Swap captions: for each the number of another with a different text, where there is one."""
    rng = np.random.default_rng(seed)
    other = rng.permutation(len(captions))
    for row in np.flatnonzero([captions[o] == captions[r] for r, o in enumerate(other)]):
        choices = [n for n in rng.permutation(len(captions))[:64] if captions[n] != captions[row]]
        other[row] = choices[0] if choices else other[row]
    return other.astype(np.int64)


def _number_captions(captions: list[str]) -> tuple[Tensor, Tensor]:
    """(number of each pair's caption, first pair of each number): a caption that many images share is one text."""
    firsts: dict[str, int] = {}
    for place, text in enumerate(captions):
        firsts.setdefault(text, place)
    numbers = {text: n for n, text in enumerate(firsts)}
    return torch.tensor([numbers[text] for text in captions]), torch.tensor(list(firsts.values()))


def _embed(clip: DualEncoder, dataset_reader: DatasetReader, rows: int, label: str) -> EmbeddedPairs:
    device = next(clip.net.parameters()).device
    clip.net.eval()
    width = clip.config.model["embed_dim"]
    seen, read = [torch.zeros(0, width)], [torch.zeros(0, width)]
    uids: list[str] = []
    captions: list[str] = []
    labels: list[str] = []

    def unit(vectors_BD: Tensor) -> Tensor:
        return F.normalize(vectors_BD, dim=-1).float().cpu()

    with torch.inference_mode():
        for batch in _batches(dataset_reader, rows, clip.size_px, label):
            images_BCHW = torch.stack([pixels for pixels, *_ in batch])
            seen.append(unit(clip.net.encode_image(normalised(images_BCHW.to(device)))))  # type: ignore[operator]
            ids_BT = token_ids(clip.tokenizer, [text for _, text, _, _ in batch]).to(device)
            read.append(unit(clip.net.encode_text(ids_BT)))  # type: ignore[operator]
            captions += [text for _, text, _, _ in batch]
            labels += [found for _, _, found, _ in batch if label]
            uids += [uid for *_, uid in batch]
        grey_1CHW = torch.full((1, 3, clip.size_px, clip.size_px), 128, dtype=torch.uint8, device=device)
        grey_D = unit(clip.net.encode_image(normalised(grey_1CHW)))[0]  # type: ignore[operator]
    return EmbeddedPairs(torch.cat(seen), torch.cat(read), grey_D, uids, captions, labels, rows - len(captions))


def _batches(
    dataset_reader: DatasetReader, rows: int, size_px: int, label: str
) -> Iterator[list[tuple[Tensor, str, str, str]]]:
    """(pixels, caption, label, uid) of readable samples."""
    batch: list[tuple[Tensor, str, str, str]] = []
    for row in range(rows):
        try:
            uid, parts = dataset_reader.read(row)
            named = texts_under(parts, label)[0] if label else ""
            batch.append((images.plain(images.image_part(parts), size_px), own_text(parts), named, uid))
        except UNREADABLE:
            continue  # counted as unreadable by the caller
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
