"""Ops of BLIP's filter: whether a text says what its picture shows, and which of the candidate texts are left.

Li et al. 2201.12086, 3.3 (CapFilt): a text goes where the matching head says that it does not match, the web's and the
synthetic one each by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.models.devices import CPU, Device, Precision
from curate.models.files import ModelError
from curate.models.matchers import load_matcher, matcher_identity, weights_of
from curate.ops._passes import Passes
from curate.ops.spec import Columns, Knobs, Maker, Share, op

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

EVEN = 0.5
"""Above this the larger of the head's two scores is that of a match."""


@op(
    reads=("image", "text"),
    writes={"text_match": pa.float32(), "text_matched": pa.bool_()},
    version=1,
    batch_size=64,
    needs=("open_clip",),
    runs_on="accelerator",
    memory_gb=4.0,
    device_batch=128,
)
class match_text:  # noqa: N801 - ops are named as recipes name them
    """Probability, 0 to 1, that a text says what the image shows, by a matching head, and the head's verdict.

    BLIP's ITM (Li et al. 2201.12086). `model`: see curate.models.matchers.load_matcher. A text that is blank has no
    probability.
    """

    def __init__(self, *, model: str, precision: Precision = "auto", device: Device = CPU) -> None:
        self._matcher = _Matching(model, precision, device)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the model's files."""
        return matcher_identity(knobs["model"])

    def __call__(self, images: Sequence[Image], texts: Sequence[str]) -> Columns:
        """One probability and one verdict a pair."""
        found = [row[0] for row in self._matcher.probabilities(images, [[text] for text in texts])]
        return {"text_match": found, "text_matched": [_verdict(p) for p in found]}


@op(
    reads=("image", "text", "captions"),
    writes={"text_match": pa.float32(), "text_matched": pa.bool_(), "captions_match": pa.list_(pa.float32())},
    version=1,
    batch_size=64,
    needs=("open_clip",),
    runs_on="accelerator",
    memory_gb=4.0,
    device_batch=128,
)
class match_texts:  # noqa: N801 - ops are named as recipes name them
    """`match_text`'s columns, and the probability of each synthetic caption (`captions_match`, null of a blank one).

    The image is looked at once. The captioner and this model must not be one: BLIP found that a filter which shares its
    weights with the captioner passes its mistakes (noise found 8 % against 25 %).
    """

    def __init__(self, *, model: str, precision: Precision = "auto", device: Device = CPU) -> None:
        self._matcher = _Matching(model, precision, device)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the model's files."""
        return matcher_identity(knobs["model"])

    @staticmethod
    def fits(knobs: Knobs, makers: Mapping[str, Maker]) -> None:
        """Refuse captions by a model with the same weights. Raises ModelError."""
        maker = makers.get("captions")
        if maker is not None and weights_of(knobs["model"]) & weights_of(maker.knobs.get("model", "")):
            raise ModelError(
                f"model: {knobs['model']} wrote the captions that it is to judge; a filter shares no weights with the"
                " captioner: name a model that was trained by itself"
            )

    def __call__(self, images: Sequence[Image], texts: Sequence[str], captions: Sequence[list[str]]) -> Columns:
        """A probability of each text."""
        candidates = [[text, *made] for text, made in zip(texts, captions, strict=True)]
        rows = self._matcher.probabilities(images, candidates)
        return {
            "text_match": [row[0] for row in rows],
            "text_matched": [_verdict(row[0]) for row in rows],
            "captions_match": [row[1:] for row in rows],
        }


@op(
    reads=("text", "text_match", "captions", "captions_match"),
    writes={"texts": pa.list_(pa.string()), "texts_from": pa.list_(pa.string()), "texts_kept": pa.int32()},
    version=1,
    batch_size=1024,
)
def kept_texts(
    texts: Sequence[str],
    text_match: Sequence[float | None],
    captions: Sequence[list[str]],
    captions_match: Sequence[list[float | None]],
    *,
    above: Share = EVEN,
) -> Columns:
    """The candidate texts of a sample that its picture bears out: `texts`, in step with `texts_from`, and their number.

    The web's text and each caption is left by itself where its probability is above `above` (1/2: the larger of the
    head's scores), as in BLIP's CapFilt (Li et al. 2201.12086, 3.3). `texts_from`: `web` or `caption`. Publish `texts`,
    and a mixture takes one of them at each access; a row without any goes by a rule on `texts_kept`.
    """
    rows = [
        [(text, name) for text, name, p in _candidates(*row) if p is not None and p > above]
        for row in zip(texts, text_match, captions, captions_match, strict=True)
    ]
    return {
        "texts": [[text for text, _ in row] for row in rows],
        "texts_from": [[name for _, name in row] for row in rows],
        "texts_kept": [len(row) for row in rows],
    }


def _candidates(
    text: str, match: float | None, captions: list[str], matches: list[float | None]
) -> Iterator[tuple[str, str, float | None]]:
    yield text, "web", match
    yield from ((made, "caption", p) for made, p in zip(captions, matches, strict=True))


def _verdict(probability: float | None) -> bool | None:
    return None if probability is None else probability > EVEN


class _Matching:
    """A matcher of texts and images."""

    def __init__(self, model: str, precision: Precision, device: Device) -> None:
        self._model = load_matcher(model, device.place(precision))
        self._passes = Passes(self._model, device)

    def probabilities(self, images: Sequence[Image], texts: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """The probability of each text of each image; None of a blank text."""
        import torch

        with torch.inference_mode():
            passes = self._passes(images)
            return [row for some, seen, copies in passes for row in self._match(seen, texts[some], copies)]

    def _match(self, seen: Tensor, texts: Sequence[Sequence[str]], copies: int) -> list[list[float | None]]:
        found: list[list[float | None]] = [[] for _ in texts]
        for number in range(max(map(len, texts))):
            some = [row[number] if number < len(row) else "" for row in texts]
            values = self._model.match(seen, some + [""] * copies).tolist()
            for row, own, text, value in zip(found, texts, some, values, strict=False):
                if number < len(own):
                    row.append(value if text.strip() else None)
        return found
