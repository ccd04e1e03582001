"""Assign images to sentences by a dual encoder: MMC4's assignment, or document order with similarities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.document.segments import DOCUMENT, Segment, is_image
from curate.image.files import decode
from curate.models.clip import BUNDLED_CLIP, Precision, clip_identity, load_clip
from curate.ops._segments import columns_of, out_of_step
from curate.ops.alignment._towers import ImageTower, TextTower, normalise_rows
from curate.ops.spec import Columns, Failed, Knobs, op
from curate.pool.blob import BLOB, Absent, Blob
from curate.text.sentences import sentence_spans

MAX_PAIRS = 4_000_000
"""Images times sentences of one document; MMC4's largest have some thousand."""

BLOCK_IMAGES = 256
"""Images that are decoded and resized, then held until they are encoded."""

Matrix = npt.NDArray[np.float64]
Matches = Mapping[int, tuple[int, float]]
"""By image: its sentence, and their cosine."""

Pixels = npt.NDArray[np.uint8]
Picture = Blob | Absent


@op(
    reads=("document", "images"),
    writes={
        "document": DOCUMENT,
        "images": pa.list_(BLOB),
        "similarities": pa.list_(pa.float32()),
        "max_similarity": pa.float32(),
        "similarity_of_75": pa.float32(),
        "images_matched": pa.int32(),
        "sentences": pa.int32(),
        "images_dropped_by_similarity": pa.int32(),
    },
    version=2,
    batch_size=16,
)
class assign_images:  # noqa: N801 - ops are named as recipes name them
    """Each image moved to before the sentence it suits best, no two to one sentence; those that suit none go.

    Zhu et al., Multimodal C4, 2023: an image whose best cosine with any sentence is below `min_similarity` goes (null:
    none does); the others are assigned so that the sum of cosines is largest, each sentence to one image at most, and
    where there are more images than sentences, those left over to their best one. `order: document` moves nothing.
    `similarities`: of each image that stays with its sentence, in the new order, null for absent ones, which stay where
    they are, and for all of a document without text; `max_similarity`: the largest; `similarity_of_75`: what three
    quarters of them reach, MMC4's measure for its core; `images_matched`: how many they are; `sentences`: the
    document's. An image that does not decode becomes absent. `model`, `pretrained`, `precision`: as for clip_score.
    Errors: images_out_of_step, and document_too_large beyond MAX_PAIRS of images and sentences.
    """

    def __init__(
        self,
        *,
        model: str = BUNDLED_CLIP,
        pretrained: str = "",
        precision: Precision = "auto",
        min_similarity: float | None = 0.15,
        order: Literal["assigned", "document"] = "assigned",
    ) -> None:
        import torch

        clip = load_clip(model, pretrained, precision)
        self._images, self._texts = ImageTower(clip), TextTower(clip)
        self._threads = ThreadPoolExecutor(torch.get_num_threads())
        self._min_similarity, self._moves = min_similarity, order == "assigned"

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of what changes the values beside the knobs: the model's files and the precision that `auto` means."""
        return clip_identity(knobs["model"], knobs["pretrained"], knobs["precision"])

    def __call__(self, documents: Sequence[list[Segment]], images: Sequence[list[Blob]]) -> Columns:
        """One document, its images and their similarities a row."""
        rows: list[_AssignedRow | Failed] = [
            _row(document, blobs) for document, blobs in zip(documents, images, strict=True)
        ]
        whole = [row for row in rows if isinstance(row, _AssignedRow)]
        self._encode_images(whole)
        self._encode_texts(whole)
        return columns_of([row if isinstance(row, Failed) else self._assign_row(row) for row in rows], assign_images)

    def _encode_images(self, rows: Sequence[_AssignedRow]) -> None:
        """Fills `vectors` with those of the images that decode; the others become absent."""
        import torch

        places = [(row, n, p) for row in rows for n, p in enumerate(row.pictures) if _is_there(p)]
        for start in range(0, len(places), BLOCK_IMAGES):
            block = places[start : start + BLOCK_IMAGES]
            good: list[tuple[_AssignedRow, int, Pixels]] = []
            for (row, number, _), found in zip(block, self._threads.map(self._prepare_picture, block), strict=True):
                if isinstance(found, Absent):
                    row.pictures[number] = found
                else:
                    good.append((row, number, found))
            if good:
                with torch.inference_mode():
                    vectors_ND = normalise_rows(self._images.encode([pixels for *_, pixels in good]))
                for (row, number, _), vector_D in zip(good, vectors_ND, strict=True):
                    row.vectors[number] = vector_D

    def _prepare_picture(self, place: tuple[_AssignedRow, int, Picture]) -> Pixels | Absent:
        picture = place[2]
        assert isinstance(picture, Blob)
        found = decode(picture.read())
        if found.image is None:
            return Absent(found.error or "decode_error", found.detail)
        return self._images.pixels(found.image)

    def _encode_texts(self, rows: Sequence[_AssignedRow]) -> None:
        import torch

        texts = [text for row in rows if row.vectors for text in row.sentences]
        if not texts:
            return
        with torch.inference_mode():
            found_ND = iter(normalise_rows(self._texts(texts)))
        for row in rows:
            if row.vectors:
                row.sentence_vectors = np.array([next(found_ND) for _ in row.sentences])

    def _assign_row(self, row: _AssignedRow) -> dict[str, Any]:
        numbers = sorted(row.vectors)
        if not numbers or not row.sentences:
            return _written_row(row, {}, set(), self._moves)
        scores_IS = np.stack([row.vectors[n] for n in numbers]) @ row.sentence_vectors.T
        least = self._min_similarity
        good = [at for at in range(len(numbers)) if least is None or scores_IS[at].max() >= least]
        found = best_assignment(scores_IS[good])
        matches = {numbers[at]: (to, float(scores_IS[at, to])) for at, to in zip(good, found, strict=True)}
        return _written_row(row, matches, set(numbers) - set(matches), self._moves)


@dataclass
class _AssignedRow:
    """A document while it is matched: pictures by number, vectors of those that are there, and its sentences."""

    document: list[Segment]
    pictures: list[Picture]
    sentences: list[str]
    vectors: dict[int, Matrix]
    sentence_vectors: Matrix


def _row(document: list[Segment], blobs: Sequence[Blob]) -> _AssignedRow | Failed:
    if failure := out_of_step(document, blobs):
        return failure
    sentences = [s["text"][start:end] for s in document if not is_image(s) for start, end in sentence_spans(s["text"])]
    if len(blobs) * len(sentences) > MAX_PAIRS:
        return Failed("document_too_large", f"{len(blobs)} images, {len(sentences)} sentences; pairs up to {MAX_PAIRS}")
    return _AssignedRow(document, list(blobs), sentences, {}, np.zeros((0, 0)))


def _is_there(picture: Picture) -> bool:
    return isinstance(picture, Blob) and picture.error is None


def best_assignment(scores_IS: Matrix) -> list[int]:  # noqa: N803 - shapes are part of names
    """The sentence of each image: the sum of scores is the largest with no sentence twice; images left over when
    sentences run out take their best one."""
    from scipy.optimize import linear_sum_assignment

    images, sentences = linear_sum_assignment(scores_IS, maximize=True)
    found = dict(zip(images.tolist(), sentences.tolist(), strict=True))
    return [found.get(image, int(scores_IS[image].argmax())) for image in range(len(scores_IS))]


def _written_row(row: _AssignedRow, matches: Matches, dropped: set[int], moves: bool) -> dict[str, Any]:
    placed = list(_place_images(row, matches, dropped, moves))
    order = [number for _, number in placed if number is not None]
    similarities = [matches[number][1] if number in matches else None for number in order]
    ordered = sorted((s for s in similarities if s is not None), reverse=True)
    return {
        "document": [segment for segment, _ in placed],
        "images": [row.pictures[number] for number in order],
        "similarities": similarities,
        "max_similarity": ordered[0] if ordered else None,
        "similarity_of_75": ordered[-(-3 * len(ordered) // 4) - 1] if ordered else None,
        "images_matched": len(ordered),
        "sentences": len(row.sentences),
        "images_dropped_by_similarity": len(dropped),
    }


def _place_images(
    row: _AssignedRow, matches: Matches, dropped: set[int], moves: bool
) -> Iterator[tuple[Segment, int | None]]:
    """The document's segments, its images where they belong, each of them with its number in the old order."""
    places = [segment for segment in row.document if is_image(segment)]
    before: dict[int, list[int]] = {}
    for number, (sentence, _) in sorted(matches.items()) if moves else ():
        before.setdefault(sentence, []).append(number)
    image = sentence = 0
    for segment in row.document:
        if is_image(segment):
            if image not in dropped and not (moves and image in matches):
                yield segment, image
            image += 1
            continue
        start = 0
        for first, _ in sentence_spans(segment["text"]):
            if sentence in before:
                if head := segment["text"][start:first].rstrip():
                    yield {**segment, "text": head}, None
                start = first
                yield from ((places[number], number) for number in before[sentence])
            sentence += 1
        yield {**segment, "text": segment["text"][start:]}, None
