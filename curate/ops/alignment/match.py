"""Ops of BLIP's filter: whether a text says what its picture shows, and which of the candidate texts are left.

Li et al. 2201.12086, 3.3 (CapFilt): a text goes where the matching head says that it does not match, the web's and the
synthetic one each by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.models.devices import CPU, Device, Precision
from curate.models.files import ModelError
from curate.models.matchers import load_matcher, matcher_identity, weights_of
from curate.ops.spec import Columns, Failed, Knobs, Maker, Share, op

if TYPE_CHECKING:
    from PIL.Image import Image

_ROWS = 16
"""Images in every pass, short ones padded: see curate.ops.synth.caption."""

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
    probability. Error: match_not_finite.
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
    weights with the captioner passes its mistakes (noise found 8 % against 25 %). Error: match_not_finite.
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
        whole = [next((p for p in row if isinstance(p, Failed)), None) for row in rows]
        web = [failed or row[0] for failed, row in zip(whole, rows, strict=True)]
        return {
            "text_match": web,
            "text_matched": [_verdict(p) for p in web],
            "captions_match": [failed or row[1:] for failed, row in zip(whole, rows, strict=True)],
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


def _verdict(probability: Any) -> Any:
    return probability > EVEN if isinstance(probability, float) else probability


class _Matching:
    """A matcher that is fed batches of one shape, so that a row's values hang on that row alone."""

    def __init__(self, model: str, precision: Precision, device: Device) -> None:
        self._model = load_matcher(model, device.place(precision))
        # On an accelerator all calls are of one shape already.
        self._rows = _ROWS if device.kind == CPU.kind else 0
        self._threads = ThreadPoolExecutor(device.threads)

    def probabilities(
        self, images: Sequence[Image], texts: Sequence[Sequence[str]]
    ) -> list[list[float | Failed | None]]:
        """The probability of each text of each image; None of a blank text."""
        found: list[list[float | Failed | None]] = []
        rows = self._rows or len(images)
        for start in range(0, len(images), rows):
            found += self._pass(images[start : start + rows], texts[start : start + rows])
        return found

    def _pass(self, images: Sequence[Image], texts: Sequence[Sequence[str]]) -> list[list[float | Failed | None]]:
        import torch

        with torch.inference_mode():
            pixels = list(self._threads.map(self._model.prepare, images))
            left = max(0, self._rows - len(pixels))
            vectors_BNE = self._model.look(torch.stack(pixels + [pixels[-1]] * left))
            found: list[list[float | Failed | None]] = [[] for _ in images]
            for number in range(max(map(len, texts))):
                some = [row[number] if number < len(row) else "" for row in texts]
                values = self._model.match(vectors_BNE, some + [""] * left).tolist()
                for row, own, text, value in zip(found, texts, some, values, strict=False):
                    if number < len(own):
                        row.append(_checked(value) if text.strip() else None)
        return found


def _checked(value: float) -> float | Failed:
    return value if math.isfinite(value) else Failed("match_not_finite", f"the head says {value}")
