"""Answers of models that see: texts and pictures in, what the model says in turn.

One face for whoever asks: `curate ask`, `curate eval`, and adapters to other projects' evaluation
(docs/training/evaluate.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from curate.image.files import ImageError, decode
from curate.mix.content import BETWEEN, Picture, Prompt, Segment, segment_text
from curate.models.captioners import Captioner, TrainedCaptioner
from curate.models.files import ModelError
from curate.models.sampling import NextScores, Sampling, sample
from curate.settings import validate
from curate.stream.forms import FormConfig, SequenceForm
from curate.stream.images import keyed_rng
from curate.stream.instructions import Instructions
from curate.stream.prompts import Prompts
from curate.stream.spelling import spell_prompt

Asked = Sequence[str | Prompt | Image.Image]
"""What a model is told and shown, in order: what it is asked, what was answered before, RGB pictures."""

BATCH = 16
"""Rows answered together, if all begin with the same texts."""
_GREY = (122, 116, 104)
"""The mean of CLIP's training pictures (Radford et al. 2021)."""
_SHOWN = Picture("shown")


@dataclass(frozen=True)
class Manner:
    """Settings of answers: at most so many `tokens`; greedy, unless `top_p` (Holtzman et al. 1904.09751) is above 0.

    `seed` decides, with the name of what is asked, among the likely tokens.
    """

    tokens: int = 64
    top_p: float = 0.0
    temperature: float = 1.0
    seed: int = 0


class Answerer:
    """Asks one captioner. Ours read pictures and texts in any order, others one picture and the text behind it."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        self._form: SequenceForm | None = None
        self._instructions: Instructions | None = None
        if isinstance(captioner, TrainedCaptioner):
            config = validate(dict(captioner.form), FormConfig, "the model's form")
            own_chat = captioner.chat() if config.chat == "own" else None
            self._form = SequenceForm(captioner.code, captioner.places, captioner.views, config, own_chat)
            if captioner.connector_code is not None:
                self._instructions = Instructions(captioner.connector_code)
        self.interleaves = self._form is not None
        self.blind_with = "nothing: the texts alone" if self.interleaves else "a grey picture"
        """What stands in a picture's place for a model that is not to see."""

    def answer(self, pictures: Sequence[Image.Image], question: str, manner: Manner = Manner()) -> str:
        """The model's words to a question about pictures, or about pictures alone where the question is empty."""
        asked: Asked = [*pictures, Prompt(question)] if question else pictures
        return self.answer_all([asked], manner, [question])[0]

    def answer_all(self, asked: Sequence[Asked], manner: Manner, names: Sequence[str]) -> list[str]:
        """The model's words to each, up to an empty line or a mark; `names`: of each, for its randomness.

        What begins with the same texts is answered together. Raises ModelError for what the model cannot read.
        """
        layouts = [tuple(_SHOWN if isinstance(part, Image.Image) else part for part in parts) for parts in asked]
        found = [""] * len(asked)
        for layout in dict.fromkeys(layouts):
            alike = [number for number, other in enumerate(layouts) if other == layout]
            for start in range(0, len(alike), BATCH):
                some = alike[start : start + BATCH]
                shown = [part for number in some for part in asked[number] if isinstance(part, Image.Image)]
                draws = [keyed_rng(manner.seed, names[n], 0, "answer").random(manner.tokens) for n in some]
                for number, text in zip(some, self._write(layout, shown, manner, np.stack(draws)), strict=True):
                    found[number] = text
        return found

    def without_pictures(self, asked: Asked) -> Asked:
        """The same for a model that is not to see: pictures left out, or what `blind_with` says in their place."""
        if self.interleaves:
            return [part for part in asked if not isinstance(part, Image.Image)]
        return [Image.new("RGB", p.size, _GREY) if isinstance(p, Image.Image) else p for p in asked]

    def _write(
        self,
        layout: Sequence[Segment],
        shown: Sequence[Image.Image],
        manner: Manner,
        draws_BS: npt.NDArray[np.float64],
    ) -> list[str]:
        captioner = self._captioner
        with torch.inference_mode():
            vectors_NPE = self._look(shown, layout) if shown else None
            prefix, scores_of = self._begin(layout, vectors_NPE, len(draws_BS))
            longest = min(len(prefix) + manner.tokens, captioner.longest)
            if longest <= len(prefix):
                raise ModelError(
                    f"what is asked has {len(prefix)} tokens, and this model reads {captioner.longest}; ask in fewer"
                    " words"
                )
            sampling = Sampling(manner.top_p, 0, longest, 1.0, manner.temperature)
            written = sample(scores_of, prefix, torch.from_numpy(draws_BS), captioner.marks, sampling)
        return [self._said(ids) for ids in written]

    def _look(self, shown: Sequence[Image.Image], layout: Sequence[Segment]) -> Tensor:
        """vectors_NPE of pictures; a connector that reads questions is told what is asked of them."""
        captioner = self._captioner
        pictures = torch.stack([captioner.prepare(image) for image in shown])
        if self._instructions is None:
            return captioner.look(pictures)
        assert isinstance(captioner, TrainedCaptioner)
        return captioner.look(pictures, self._instructions(layout, Prompts()).expand(len(shown), -1))

    def _begin(self, layout: Sequence[Segment], vectors_NPE: Tensor | None, rows: int) -> tuple[list[int], NextScores]:
        """(ids of the texts that the rows begin with, scores of what follows)."""
        captioner = self._captioner
        if self._form is not None:
            assert isinstance(captioner, TrainedCaptioner)
            begun = spell_prompt(self._form, layout, captioner.longest).ids
            return [i for i in begun if i >= 0], captioner.write_after(begun, vectors_NPE, rows)
        if vectors_NPE is None or list(layout).count(_SHOWN) != 1:
            raise ModelError(
                f"this model captions one picture at a time, and {list(layout).count(_SHOWN)} are shown; give one, or"
                " ask a model of the objective caption or multimodal"
            )
        texts = [segment_text(part) for part in layout if not isinstance(part, Picture)]
        return captioner.spell(" ".join(texts)), captioner.write(vectors_NPE)

    def _said(self, ids: Sequence[int]) -> str:
        """The text before the first mark (of a turn, of a chunk) or empty line, as one line."""
        tags = frozenset(self._form.code.tags.values()) if self._form is not None else frozenset[int]()
        end = next((place for place, identity in enumerate(ids) if identity in tags), len(ids))
        return " ".join(self._captioner.text(ids[:end]).strip().split(BETWEEN)[0].split())


def decoded(data: bytes) -> Image.Image:
    """The RGB picture in a file's bytes. Raises ImageError."""
    found = decode(data)
    if found.image is None:
        raise ImageError(str(found.error), found.detail)
    return found.image
