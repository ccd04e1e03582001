"""Captioners, one face for all: a file of our trainer's, BLIP by `transformers`, CoCa by open_clip.

Shapes: B images, C x H x W pixels, N vectors of an image, E their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from curate.models.blip import blip_folder, blip_identity, is_blip
from curate.models.clip import Clip, clip_identity, load_clip
from curate.models.devices import CPU, Device, Place, Precision
from curate.models.dual_encoder import ClipConfig, exported_config, new_network
from curate.models.exports import CaptionerShape, captioner_shape, load_weights
from curate.models.files import ModelError, file_digest
from curate.models.pixels import Prepare, not_too_long, open_clip_pixels
from curate.tokens.encoders import text_code

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from curate.models.sampling import Marks, NextScores
    from curate.models.vision_language import VisionLanguage


class Captioner(Protocol):
    """A model that writes what a picture shows.

    `longest`: ids of a sequence at most, begin mark and prompt included.
    """

    prepare: Prepare
    marks: Marks
    longest: int

    def spell(self, prompt: str) -> list[int]:
        """The ids that a sequence begins with: its mark, then the prompt's."""

    def look(self, images_BCHW: Tensor) -> Tensor:
        """vectors_BNE of prepared images, for `write`."""

    def write(self, vectors_BNE: Tensor) -> NextScores:
        """A sequence's scores, token by token."""

    def text(self, ids: Sequence[int]) -> str:
        """The text that ids spell."""


def captioner_identity(model: str, pretrained: str) -> str:
    """Digest of a captioner's files, which are fetched where they lie on a hub. Raises ModelError."""
    if Path(model).suffix == ".safetensors":
        captioner_shape(Path(model))
        return file_digest(Path(model))
    if is_blip(model):
        return blip_identity(model)
    return clip_identity(model, pretrained)


def load_captioner(model: str, pretrained: str, precision: Precision, device: Device = CPU) -> Captioner:
    """Load a captioner for inference onto its device. Raises ModelError, or MachineError without such a device.

    `model`: a `.safetensors` that `curate train --export` wrote of the objective caption or multimodal; a folder of
    `transformers` with BLIP, or its name on the hub (owner/name); or what `curate.models.clip.load_clip` takes with
    `pretrained`, if that is a CoCa.
    """
    if Path(model).suffix == ".safetensors":
        return TrainedCaptioner(Path(model), device.place(precision))
    if is_blip(model):
        from curate.models.blip import BlipCaptioner

        return BlipCaptioner(blip_folder(model), device.place(precision))
    return CocaCaptioner(load_clip(model, pretrained, precision, device), model)


class TrainedCaptioner:
    """Our trainer's captioner: image tower, connector, language model (`train.objectives.multimodal`).

    `code`: how it spells texts; `places` of a picture, over all its `views`; `form`: settings of its sequences
    (`curate.stream.forms`), in which a picture is the ids `picture`; `chat`: gives the words of its tokenizer's chat.
    `connector_code`: how questions are spelled for its connector; None: it reads none.
    """

    def __init__(self, path: Path, place: Place) -> None:
        from curate.models.languages.table import language_of
        from curate.models.sampling import Marks

        described, config = exported_config(path), captioner_shape(path)
        self._place = place
        language = language_of(config.language)
        self.code, self.chat = language.code(config.tags), language.chat
        net = _network(described, config)
        self._net = load_weights(net, path).to(place.device, place.dtype).eval()
        self.longest = self._net.language.longest
        self.places, self.views = self._net.places, self._net.views
        self.form, self.picture = config.form, tuple(config.picture)
        reads = config.connector.get("instruction", False)
        self.connector_code = text_code(config.connector["tokenizer"]) if reads else None
        self.prepare: Prepare = self._shown
        self.marks = Marks(self.code.end, (self.code.begin,))

    def _shown(self, image: Image) -> Tensor:
        """What all towers are shown, as in training, in one row of bytes."""
        from curate.models.towers.rows import row_of

        return row_of(np.array(not_too_long(image)), self._net.all_towers())

    def spell(self, prompt: str) -> list[int]:
        """See `Captioner`."""
        return [self.code.begin, *self.code.encode(prompt)]

    def look(self, images_BCHW: Tensor, asked_BL: Tensor | None = None) -> Tensor:
        """See `Captioner`. `asked_BL`: what is asked of each picture, in `connector_code`; ids below 0 are none."""
        from curate.models.features import ReadTexts
        from curate.models.towers.rows import pictures_of

        pictures = pictures_of(images_BCHW.to(self._place.device), self._net.all_towers())
        return self._net.see(pictures, None if asked_BL is None else ReadTexts.of(asked_BL.to(self._place.device)))

    def write(self, vectors_BNE: Tensor) -> NextScores:
        """See `Captioner`. The picture stands behind the begin mark, with its tags, as in training."""
        import torch

        begun: list[NextScores] = []

        def scores_of(ids_BT: Tensor) -> Tensor:
            ids_BT = ids_BT.to(self._place.device)
            if not begun:
                picture_BP = torch.tensor([list(self.picture)] * len(ids_BT), device=ids_BT.device)
                begun.append(self._net.writer(vectors_BNE, torch.cat((ids_BT[:, :1], picture_BP, ids_BT[:, 1:]), 1)))
            return begun[0](ids_BT)

        return scores_of

    def write_after(self, begun: Sequence[int], vectors_NPE: Tensor | None, rows: int) -> NextScores:
        """Scores of what follows the ids `begun` in so many rows, whose pictures come one after another.

        An id below 0 stands where a vector of a picture goes (`curate.stream.spelling.spell_prompt`).
        """
        import torch

        begun_BT = torch.tensor([list(begun)] * rows, device=self._place.device)
        vectors_NPE = self._net.see_nothing(begun_BT.device) if vectors_NPE is None else vectors_NPE
        scores_of = self._net.writer(vectors_NPE, begun_BT)
        return lambda ids_BT: scores_of(ids_BT.to(self._place.device))

    def text(self, ids: Sequence[int]) -> str:
        """See `Captioner`."""
        return self.code.decode(ids)


def _network(described: ClipConfig, shape: CaptionerShape) -> VisionLanguage:
    """The network that the file's weights are of."""
    from curate.models.connectors.table import connector_of
    from curate.models.fusion import fusion_of
    from curate.models.languages.table import language_of
    from curate.models.towers.tower import TowerConfig, tower_of
    from curate.models.vision_language import VisionLanguage

    settings = {name: TowerConfig.model_validate(plain) for name, plain in shape.towers.items()}
    towers = {name: config.build(name) for name, config in settings.items()}
    towers = towers or {"clip": tower_of(new_network(described), described)}
    language = language_of(shape.language).build(shape.tags)
    connector, fusion = connector_of(shape.connector), fusion_of(shape.fusion)
    return VisionLanguage(towers, connector, language, fusion)


class CocaCaptioner:
    """CoCa (Yu et al. 2205.01917) of open_clip, which keeps no keys and values: each token reads the text anew.

    open_clip's own `generate` draws from torch's one generator, by which a caption would hang on its batch.
    """

    def __init__(self, clip: Clip, model: str) -> None:
        from open_clip.coca_model import CoCa
        from open_clip.tokenizer import SimpleTokenizer

        from curate.models.sampling import Marks

        if not isinstance(clip.net, CoCa):
            raise ModelError(
                f"captioner {model}: a {type(clip.net).__name__} writes no captions; of open_clip's, CoCa does"
            )
        self._clip, self._net = clip, clip.net
        self._spelling = SimpleTokenizer()
        self.prepare = open_clip_pixels(clip.prepare)
        self.marks = Marks(self._spelling.eot_token_id, (self._spelling.sot_token_id,))
        self.longest = clip.context_length

    def spell(self, prompt: str) -> list[int]:
        """See `Captioner`."""
        return list(self._clip.tokens(prompt))[:-1]

    def look(self, images_BCHW: Tensor) -> Tensor:
        """See `Captioner`."""
        _, vectors_BNE = self._net._encode_image(images_BCHW.to(self._clip.device.torch(), self._clip.dtype))
        found: Tensor = vectors_BNE
        return found

    def write(self, vectors_BNE: Tensor) -> NextScores:
        """See `Captioner`."""

        def scores_of(ids_BT: Tensor) -> Tensor:
            _, texts_BTE = self._net._encode_text(ids_BT.to(self._clip.device.torch()))
            scores_BV: Tensor = self._net.text_decoder(vectors_BNE, texts_BTE)[:, -1]
            return scores_BV

        return scores_of

    def text(self, ids: Sequence[int]) -> str:
        """See `Captioner`."""
        return str(self._spelling.decode(list(ids)))
