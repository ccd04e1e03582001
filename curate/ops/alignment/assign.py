"""Assign images to sentences by a dual encoder: MMC4's assignment, or document order with the similarities."""

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
from curate.models.clip import BUNDLED_CLIP, clip_identity, load_clip
from curate.models.devices import CPU, Device, Precision
from curate.ops._segments import columns_of, out_of_step
from curate.ops.alignment._towers import ImageTower, TextTower, normalise_rows
from curate.ops.spec import Columns, Failed, Knobs, op
from curate.pool.blob import BLOB, Blob
from curate.text.sentences import sentence_spans

MAX_PAIRS = 4_000_000
"""Images times sentences of one document; MMC4's largest have some thousand."""

BLOCK_IMAGES = 256
"""Images that are decoded and resized, then held until they are encoded."""

Matrix = npt.NDArray[np.float64]
Matches = Mapping[int, tuple[int, float]]
"""By image: its sentence, and their cosine."""

Pixels = npt.NDArray[np.uint8]


@op(
    reads=("document", "images"),
    writes={"sentence_similarities": pa.list_(pa.list_(pa.float64())), "best_similarity": pa.list_(pa.float64())},
    version=2,
    batch_size=16,
    parts={"sentence_similarities": "images", "best_similarity": "images"},
    needs=("open_clip",),
    runs_on="accelerator",
    memory_gb=4.0,
)
class sentence_similarity:  # noqa: N801 - ops are named as recipes name them
    """Cosine of each image of a document with each of its sentences, and the largest, by a dual encoder.

    Null of an image that is absent or does not decode; without sentences there is no largest. `model`, `pretrained`,
    `precision`: as for clip_score. MMC4 (Zhu et al. 2023, section 3) drops images below .15. Errors:
    images_out_of_step, and document_too_large beyond MAX_PAIRS of images and sentences.
    """

    def __init__(
        self,
        *,
        model: str = BUNDLED_CLIP,
        pretrained: str = "",
        precision: Precision = "auto",
        device: Device = CPU,
    ) -> None:
        clip = load_clip(model, pretrained, precision, device)
        self._images, self._texts = ImageTower(clip), TextTower(clip)
        self._threads = ThreadPoolExecutor(device.threads)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of what changes the values beside the knobs: the model's files."""
        return clip_identity(knobs["model"], knobs["pretrained"])

    def __call__(self, documents: Sequence[list[Segment]], images: Sequence[list[Blob]]) -> Columns:
        """One list a document, an entry an image."""
        rows = [_row(document, blobs) for document, blobs in zip(documents, images, strict=True)]
        whole = [row for row in rows if isinstance(row, _ScoredRow)]
        self._encode_images(whole)
        self._encode_texts(whole)
        return columns_of([row if isinstance(row, Failed) else row.similarities() for row in rows], sentence_similarity)

    def _encode_images(self, rows: Sequence[_ScoredRow]) -> None:
        """Fills `vectors` with those of the images that decode."""
        import torch

        places = [(row, n, b) for row in rows for n, b in enumerate(row.blobs) if b.error is None]
        for start in range(0, len(places), BLOCK_IMAGES):
            block = places[start : start + BLOCK_IMAGES]
            pixels = self._threads.map(self._pixels, (blob for *_, blob in block))
            good = [(row, n, found) for (row, n, _), found in zip(block, pixels, strict=True) if found is not None]
            if good:
                with torch.inference_mode():
                    vectors_ND = normalise_rows(self._images.encode([found for *_, found in good]))
                for (row, number, _), vector_D in zip(good, vectors_ND, strict=True):
                    row.vectors[number] = vector_D

    def _pixels(self, blob: Blob) -> Pixels | None:
        image = decode(blob.read()).image
        return None if image is None else self._images.pixels(image)

    def _encode_texts(self, rows: Sequence[_ScoredRow]) -> None:
        import torch

        texts = [text for row in rows if row.vectors for text in row.sentences]
        if not texts:
            return
        with torch.inference_mode():
            found_ND = iter(normalise_rows(self._texts(texts)))
        for row in rows:
            if row.vectors:
                row.sentence_vectors = np.array([next(found_ND) for _ in row.sentences])


@dataclass
class _ScoredRow:
    """A document while it is scored: its images, vectors of those that decode by their numbers, and its sentences."""

    blobs: list[Blob]
    sentences: list[str]
    vectors: dict[int, Matrix]
    sentence_vectors: Matrix

    def similarities(self) -> dict[str, Any]:
        numbers = sorted(self.vectors)
        scores: list[list[float] | None] = [None] * len(self.blobs)
        if numbers and self.sentences:
            scores_IS = np.stack([self.vectors[n] for n in numbers]) @ self.sentence_vectors.T
            for number, row_S in zip(numbers, scores_IS.tolist(), strict=True):
                scores[number] = row_S
        return {"sentence_similarities": scores, "best_similarity": [max(row) if row else None for row in scores]}


def _row(document: list[Segment], blobs: Sequence[Blob]) -> _ScoredRow | Failed:
    if failure := out_of_step(document, blobs):
        return failure
    sentences = sentences_of(document)
    if len(blobs) * len(sentences) > MAX_PAIRS:
        return Failed("document_too_large", f"{len(blobs)} images, {len(sentences)} sentences; pairs up to {MAX_PAIRS}")
    return _ScoredRow(list(blobs), sentences, {}, np.zeros((0, 0)))


def sentences_of(document: Sequence[Segment]) -> list[str]:
    """The sentences of a document's texts, in order."""
    return [s["text"][start:end] for s in document if not is_image(s) for start, end in sentence_spans(s["text"])]


@op(
    reads=("document", "images", "sentence_similarities"),
    writes={
        "document": DOCUMENT,
        "images": pa.list_(BLOB),
        "similarities": pa.list_(pa.float32()),
        "max_similarity": pa.float32(),
        "similarity_of_75": pa.float32(),
        "images_matched": pa.int32(),
        "sentences": pa.int32(),
    },
    version=3,
    batch_size=64,
    parts={"images": "images", "similarities": "images"},
    needs=("scipy",),
)
def assign_images(
    documents: Sequence[list[Segment]],
    images: Sequence[list[Blob]],
    similarities: Sequence[list[list[float] | None]],
    *,
    order: Literal["assigned", "document"] = "assigned",
) -> Columns:
    """Each image moved to before the sentence it suits best, no two to one sentence, by `sentence_similarity`.

    Zhu et al., Multimodal C4, 2023: images are assigned so that the sum of cosines is largest, each sentence to one
    image at most, and where there are more images than sentences, those left over to their best one. `order: document`
    moves nothing. `similarities`: of each image with its sentence, in the new order, null for those without any, which
    stay where they are; `max_similarity`: the largest; `similarity_of_75`: what three quarters of them reach, MMC4's
    measure for its core; `images_matched`: how many they are; `sentences`: the document's. Errors: images_out_of_step,
    and similarities_out_of_step where texts have changed since.
    """
    rows = [
        out_of_step(document, blobs) or _assigned(document, blobs, scores, order == "assigned")
        for document, blobs, scores in zip(documents, images, similarities, strict=True)
    ]
    return columns_of(rows, assign_images)


def _assigned(
    document: list[Segment], blobs: list[Blob], scores: list[list[float] | None], moves: bool
) -> Failed | dict[str, Any]:
    sentences = len(sentences_of(document))
    known = {number: row for number, row in enumerate(scores) if row}
    if len(scores) != len(blobs) or any(len(row) != sentences for row in known.values()):
        return Failed(
            "similarities_out_of_step", f"{sentences} sentences, {len(blobs)} images: not those that were scored"
        )
    matches: Matches = {}
    if known:
        numbers, scores_IS = list(known), np.array(list(known.values()))
        found = zip(numbers, best_assignment(scores_IS), strict=True)
        matches = {number: (to, known[number][to]) for number, to in found}
    return _written_row(document, blobs, sentences, matches, moves)


def best_assignment(scores_IS: Matrix) -> list[int]:  # noqa: N803 - shapes are part of names
    """The sentence of each image: the sum of scores is the largest with no sentence twice; images left over when
    sentences run out take their best one."""
    from scipy.optimize import linear_sum_assignment

    images, sentences = linear_sum_assignment(scores_IS, maximize=True)
    found = dict(zip(images.tolist(), sentences.tolist(), strict=True))
    return [found.get(image, int(scores_IS[image].argmax())) for image in range(len(scores_IS))]


def _written_row(
    document: list[Segment], blobs: list[Blob], sentences: int, matches: Matches, moves: bool
) -> dict[str, Any]:
    placed = list(_place_images(document, matches, moves))
    order = [number for _, number in placed if number is not None]
    similarities = [matches[number][1] if number in matches else None for number in order]
    known = sorted((s for s in similarities if s is not None), reverse=True)
    return {
        "document": [segment for segment, _ in placed],
        "images": [blobs[number] for number in order],
        "similarities": similarities,
        "max_similarity": known[0] if known else None,
        "similarity_of_75": known[-(-3 * len(known) // 4) - 1] if known else None,
        "images_matched": len(known),
        "sentences": sentences,
    }


def _place_images(document: list[Segment], matches: Matches, moves: bool) -> Iterator[tuple[Segment, int | None]]:
    """The document's segments, its images where they belong, each of them with its number in the old order."""
    places = [segment for segment in document if is_image(segment)]
    before: dict[int, list[int]] = {}
    for number, (sentence, _) in sorted(matches.items()) if moves else ():
        before.setdefault(sentence, []).append(number)
    image = sentence = 0
    for segment in document:
        if is_image(segment):
            if not (moves and image in matches):
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
