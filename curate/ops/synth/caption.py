"""The op caption: what a model writes of an image, beside the text that came with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.models.captioners import captioner_identity, load_captioner
from curate.models.devices import CPU, Device, Precision
from curate.models.files import ModelError
from curate.ops._keys import generator
from curate.ops._passes import Passes
from curate.ops.spec import Columns, Count, Knobs, Mass, Natural, op

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Penalty = Annotated[float, Field(ge=1)]


@op(
    reads=("image", "uid"),
    writes={"caption": pa.string(), "captions": pa.list_(pa.string()), "caption_model": pa.string()},
    version=1,
    batch_size=32,
    needs=("open_clip",),
    runs_on="accelerator",
    memory_gb=6.0,
    device_batch=64,
)
class caption:  # noqa: N801 - ops are named as recipes name them
    """Captions that a model writes of an image: `captions`, the first of them as `caption`, and the model's name.

    The captioner of BLIP's CapFilt (Li et al. 2201.12086, 4.2): nucleus sampling, each of `n` captions from draws of
    its own, by `seed`, the row's uid and the caption's number, whatever shares its batch. `model`, `pretrained`: see
    curate.models.captioners.load_captioner. `min_tokens`, `max_tokens`: of a sequence with its begin mark and `prompt`,
    which is left out of the caption ("a picture of " is BLIP's); `top_p`, `repetition_penalty`: see
    curate.models.sampling. The defaults are BLIP's.
    """

    def __init__(  # noqa: PLR0913 - each is a knob
        self,
        *,
        model: str,
        pretrained: str = "",
        n: Count = 1,
        top_p: Mass = 0.9,
        min_tokens: Natural = 10,
        max_tokens: Count = 30,
        repetition_penalty: Penalty = 1.1,
        prompt: str = "",
        seed: Natural = 0,
        precision: Precision = "auto",
        device: Device = CPU,
    ) -> None:
        from curate.models.sampling import Sampling

        self._captioner = load_captioner(model, pretrained, precision, device)
        self._prefix = self._captioner.spell(prompt)
        if not len(self._prefix) < max_tokens <= self._captioner.longest:
            raise ModelError(
                f"max_tokens is {max_tokens}: before its first word a caption has {len(self._prefix)} ids, begin mark"
                f" and prompt, and this model reads {self._captioner.longest} at most"
            )
        self._sampling = Sampling(top_p, min_tokens, max_tokens, repetition_penalty)
        self._n, self._seed, self._name = n, seed, model_name(model, pretrained)
        self._passes = Passes(self._captioner, device)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the model's files."""
        return captioner_identity(knobs["model"], knobs["pretrained"])

    def __call__(self, images: Sequence[Image], uids: Sequence[str]) -> Columns:
        """`n` captions an image."""
        import torch

        with torch.inference_mode():
            passes = self._passes(images)
            captions = [row for some, seen, copies in passes for row in self._write(seen, uids[some], copies)]
        return {
            "caption": [texts[0] for texts in captions],
            "captions": captions,
            "caption_model": [self._name] * len(captions),
        }

    def _write(self, seen: Tensor, uids: Sequence[str], copies: int) -> list[list[str]]:
        import torch

        from curate.models.sampling import sample

        found: list[list[str]] = [[] for _ in uids]
        for number in range(self._n):
            draws = [draws_of(self._seed, uid, number, self._sampling.max_tokens) for uid in uids]
            draws_BS = torch.from_numpy(np.stack(draws + [draws[-1]] * copies))
            reader = self._captioner.write(seen)
            rows = sample(reader, self._prefix, draws_BS, self._captioner.marks, self._sampling)
            for texts, ids in zip(found, rows, strict=False):
                texts.append(" ".join(self._captioner.text(ids).split()))
        return found


def draws_of(seed: int, uid: str, number: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Draw the numbers of [0, 1) behind one caption: the same whatever batch, worker or machine writes it."""
    return generator(seed, uid, str(number)).random(count)


def model_name(model: str, pretrained: str) -> str:
    """The name of a model for people: of a path its last part, wherever it lies."""
    name = Path(model).name if Path(model).exists() else model
    return f"{name} {pretrained}".strip()
