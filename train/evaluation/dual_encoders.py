"""Evaluate a dual encoder: recall at k over distinct captions, ROC AUC of matched pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from curate.mix.content import own_text
from curate.models.image_tower import normalised
from curate.stream import images
from curate.stream.reading import UNREADABLE
from curate.stream.stream import DatasetReader
from curate.stream.tokens import token_ids
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


def evaluate(clip: DualEncoder, dataset: Path, *, seed: int = 0, limit: int = 5_000) -> Matching:
    """Measure `clip` on the first `limit` pairs of a published dataset. Raises ValueError if none can be read."""
    dataset_reader = DatasetReader(dataset.name, dataset)
    try:
        images_ND, texts_ND, captions, unreadable = _embed(clip, dataset_reader, min(limit, dataset_reader.rows))
    finally:
        dataset_reader.close()
    if len(captions) < 2:
        raise ValueError(f"{dataset}: {len(captions)} readable pairs; at least 2 are needed to evaluate on")
    scores_NN = images_ND @ texts_ND.T
    other = swap_captions(captions, seed)
    rows = torch.arange(len(captions))
    auc = roc_auc(scores_NN[rows, rows].numpy(), scores_NN[rows, torch.from_numpy(other)].numpy())
    numbers, firsts = _number_captions(captions)
    recall = {f"image_to_text@{k}": recall_at(scores_NN[:, firsts], numbers, torch.arange(len(firsts)), k) for k in KS}
    recall |= {f"text_to_image@{k}": recall_at(scores_NN.T[firsts], torch.arange(len(firsts)), numbers, k) for k in KS}
    return Matching(len(captions), unreadable, auc, recall)


def roc_auc(matched: npt.NDArray[Any], mismatched: npt.NDArray[Any]) -> float:
    """Chance that a matched pair scores above a mismatched one, ties counting half (Mann-Whitney)."""
    ordered = np.sort(mismatched)
    below = np.searchsorted(ordered, matched, side="left")
    upto = np.searchsorted(ordered, matched, side="right")
    return float((below + upto).mean() / (2 * len(mismatched)))


def recall_at(scores_RC: Tensor, rows: Tensor, columns: Tensor, k: int) -> float:
    """Share of rows with one of their own among the `k` best columns; `rows` and `columns` number the captions."""
    best_RK = scores_RC.topk(min(k, scores_RC.shape[1]), dim=1).indices
    return float((columns[best_RK] == rows[:, None]).any(1).float().mean())


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


def _embed(clip: DualEncoder, dataset_reader: DatasetReader, rows: int) -> tuple[Tensor, Tensor, list[str], int]:
    device = next(clip.net.parameters()).device
    clip.net.eval()
    image_parts: list[Tensor] = []
    text_parts: list[Tensor] = []
    captions: list[str] = []
    with torch.inference_mode():
        for images_BCHW, texts in _batches(dataset_reader, rows, clip.size_px):
            pictures = normalised(images_BCHW.to(device))
            image_parts.append(F.normalize(clip.net.encode_image(pictures), dim=-1).float().cpu())  # type: ignore[operator]
            ids_BT = token_ids(clip.tokenizer, texts).to(device)
            text_parts.append(F.normalize(clip.net.encode_text(ids_BT), dim=-1).float().cpu())  # type: ignore[operator]
            captions += texts
    width = clip.config.model["embed_dim"]
    empty = torch.zeros(0, width)
    return torch.cat([empty, *image_parts]), torch.cat([empty, *text_parts]), captions, rows - len(captions)


def _batches(dataset_reader: DatasetReader, rows: int, size_px: int) -> Iterator[tuple[Tensor, list[str]]]:
    pictures: list[Tensor] = []
    texts: list[str] = []
    for row in range(rows):
        try:
            _, parts = dataset_reader.read(row)
            text = own_text(parts)
            pictures.append(images.plain(images.image_part(parts), size_px))
        except UNREADABLE:
            continue  # counted as unreadable by the caller
        texts.append(text)
        if len(texts) == BATCH:
            yield torch.stack(pictures), texts
            pictures, texts = [], []
    if texts:
        yield torch.stack(pictures), texts
