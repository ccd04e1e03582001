"""What is minimised: the contrastive loss of pairs, or the loss of a caption given its image.

An objective turns a drawn sample into tensors (`prepare`, in the decoding threads), says how much a batch weighs
(`weight`), and computes the sum of its losses (`forward`); the step's loss is the sum over weight, over all ranks and
accumulated parts, so that it does not depend on how a batch was cut.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate import mix
from train import images, model, tokens
from train.config import Augment, Caption, Config, Language
from train.connectors.mlp import Mlp
from train.data import Drawn
from train.language import LanguageModel
from train.model import Clip
from train.ranks import gathered
from train.tokens import CaptionCode, Tokenizer

IGNORED = -100


@dataclass(frozen=True)
class Read:
    """How a drawn sample becomes an image and a caption; the draws it makes are keyed by (seed, uid, epoch).

    Where its source has `texts` in the manifest, those say which caption is taken, and `texts` here says nothing.
    Raises MixtureError for a manifest whose sources choose among templates or system prompts.
    """

    size_px: int
    augment: Augment
    texts: str | None
    seed: int
    manifest: mix.Manifest | None = None

    def __post_init__(self) -> None:
        for source in self.manifest.datasets if self.manifest else ():
            if unused := sorted(kind for kind, options in source.choices.items() if options and kind != "text"):
                raise mix.MixtureError(
                    f"the mixture's source {source.name!r} chooses a {' and a '.join(unused)}, of which the trainer's"
                    " objectives make no use: they train on captions alone; leave them out of the specification, or"
                    " use train.data.Stream with curate.mix.choose in a trainer of your own"
                )

    def __call__(self, drawn: Drawn) -> tuple[Tensor, str]:
        """(image_CHW uint8, caption) of the sample. Raises ValueError, or what a broken image raises."""
        rng = images.keyed_rng(self.seed, drawn.uid, drawn.epoch)
        caption = self._caption(drawn, rng)
        return images.varied(images.image_part(drawn.parts), self.size_px, self.augment, rng), caption

    def _caption(self, drawn: Drawn, rng: np.random.Generator) -> str:
        chosen = self._chosen(drawn)
        if chosen is not None:
            found = texts_under(drawn.parts, chosen)
            if not found:
                raise ValueError(f"the mixture chose the text {chosen!r}, which is no part and no text in the JSON")
        else:
            found = listed_captions(drawn.parts, self.texts) if self.texts else []
        return found[int(rng.integers(len(found)))] if found else caption_of(drawn.parts)

    def _chosen(self, drawn: Drawn) -> str | None:
        """What the manifest takes for the sample's text at this access: a part's name or a key of its JSON."""
        if self.manifest is None:
            return None
        return mix.choose(self.manifest, self._numbers[drawn.source], drawn.uid, drawn.epoch)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {source.name: number for number, source in enumerate(self.manifest.datasets if self.manifest else ())}


def caption_of(parts: Mapping[str, bytes]) -> str:
    """The sample's caption. Raises ValueError if it has none."""
    if "txt" not in parts:
        raise ValueError(f"no caption (txt) among the sample's parts ({', '.join(sorted(parts)) or 'none'})")
    return parts["txt"].decode("utf-8").strip()


def listed_captions(parts: Mapping[str, bytes], key: str) -> list[str]:
    """The texts listed under a dotted key of the sample's JSON; none if it has no such list."""
    found = _under(parts, key)
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def texts_under(parts: Mapping[str, bytes], key: str) -> list[str]:
    """What a mixture's choice of `key` means: that part, or the text or list of texts at that dotted key of the JSON.

    None of them: an empty list. Raises ValueError where the part is not UTF-8.
    """
    if key in parts and key != "json":
        return [parts[key].decode("utf-8").strip()]
    found = _under(parts, key)
    return [found.strip()] if isinstance(found, str) else listed_captions(parts, key)


def _under(parts: Mapping[str, bytes], key: str) -> Any:
    """What stands at a dotted key of the sample's JSON, None if nothing does."""
    found = json.loads(parts.get("json", b"{}"))
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


@dataclass(frozen=True)
class PreparePair:
    """A drawn sample to {image: CHW uint8, text: T}."""

    read: Read
    tokenizer: Tokenizer

    def __call__(self, drawn: Drawn) -> dict[str, Tensor]:
        """Tensors of one sample."""
        image_CHW, caption = self.read(drawn)
        return {"image": image_CHW, "text": self.tokenizer([caption])[0]}


@dataclass(frozen=True)
class PrepareCaption:
    """A drawn sample to {image: CHW uint8, ids: T, length: number of real ids}."""

    read: Read
    code: CaptionCode
    text_length: int

    def __call__(self, drawn: Drawn) -> dict[str, Tensor]:
        """Tensors of one sample."""
        image_CHW, caption = self.read(drawn)
        ids_T, length = tokens.caption_ids(caption, self.code, self.text_length)
        return {"image": image_CHW, "ids": ids_T, "length": torch.tensor(length)}


def contrastive_loss(images_BD: Tensor, texts_BD: Tensor, scale: Tensor) -> Tensor:
    """Mean of the two cross entropies of a batch of unit vectors (Radford et al. 2021, figure 3)."""
    logits_BB = scale * images_BD @ texts_BD.T
    truth_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, truth_B) + F.cross_entropy(logits_BB.T, truth_B)) / 2


class ContrastiveObjective(nn.Module):
    """The CLIP loss over the pairs of all ranks; every rank computes it whole."""

    def __init__(self, clip: Clip, max_logit_scale: float) -> None:
        super().__init__()
        self.net = clip.net
        self.bound = math.log(max_logit_scale)

    def weight(self, batch: Mapping[str, Tensor]) -> int:
        """Pairs."""
        return len(batch["image"])

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Sum of the losses of this rank's pairs: their number times the mean over all ranks' pairs."""
        images_BCHW = model.normalised(batch["image"])
        images_BD, texts_BD, scale = self.net(images_BCHW, batch["text"])[:3]
        loss = contrastive_loss(gathered(images_BD.float()), gathered(texts_BD.float()), scale.float())
        return loss * len(images_BD)

    def after_step(self) -> None:
        """The logits' scale stays between 1 and its bound."""
        with torch.no_grad():
            self.net.logit_scale.clamp_(0, self.bound)  # type: ignore[operator]


class CaptionObjective(nn.Module):
    """Patches through a connector stand before the caption; only the caption's tokens and its end are scored."""

    def __init__(self, clip: Clip, settings: Caption, code: CaptionCode) -> None:
        super().__init__()
        language: Language = settings.language
        visual = clip.net.visual
        assert isinstance(visual, nn.Module)
        self.tower = visual
        self.tower_frozen = not settings.train_tower
        self.tower.requires_grad_(settings.train_tower)
        _, width = model.patch_count_and_width(self.tower, clip.size_px)
        self.connector = Mlp(width, language.width)
        self.language = LanguageModel(code.vocab_size, language.width, language.layers, language.heads)

    def train(self, mode: bool = True) -> CaptionObjective:
        """A frozen tower stays in evaluation mode: its batch statistics do not move."""
        super().train(mode)
        self.tower.train(mode and not self.tower_frozen)
        return self

    def weight(self, batch: Mapping[str, Tensor]) -> int:
        """Tokens scored: all of a caption but its begin."""
        return int(batch["length"].sum()) - len(batch["length"])

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Sum of the tokens' cross entropies."""
        with torch.set_grad_enabled(not self.tower_frozen and torch.is_grad_enabled()):
            patches_BND = model.patches(self.tower, model.normalised(batch["image"]))
        ids_BT, patch_count = batch["ids"], patches_BND.shape[1]
        x_BTD = torch.cat((self.connector(patches_BND), self.language.embedding(ids_BT[:, :-1])), dim=1)
        scores_BTV = self.language.logits(self.language(x_BTD)[:, patch_count:])
        places_T = torch.arange(ids_BT.shape[1] - 1, device=ids_BT.device)
        wanted_BT = ids_BT[:, 1:].masked_fill(places_T >= batch["length"][:, None] - 1, IGNORED)
        return F.cross_entropy(
            scores_BTV.flatten(0, 1).float(), wanted_BT.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def after_step(self) -> None:
        """Nothing is bounded."""


def build(
    config: Config, clip: Clip, manifest: mix.Manifest
) -> tuple[ContrastiveObjective | CaptionObjective, PreparePair | PrepareCaption]:
    """The objective that `config` names, and how it wants its samples prepared. Raises MixtureError (see `Read`)."""
    read = Read(clip.size_px, config.data.augment, config.data.texts, config.seed, manifest)
    if isinstance(config.objective, Caption):
        language = config.objective.language
        code = tokens.caption_code(language.tokenizer)
        return CaptionObjective(clip, config.objective, code), PrepareCaption(read, code, language.text_length)
    objective = ContrastiveObjective(clip, config.objective.max_logit_scale)
    return objective, PreparePair(read, clip.tokenizer)
