"""From a configuration and a mixture to an objective and to how its samples are prepared, and packed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from curate import mix
from curate.settings import unknown
from train import fit, images, tokens
from train.config import Augment, Caption, Config, Contrastive, Multimodal
from train.courses import Packing
from train.documents import Rule
from train.lengths import Lengths
from train.model import Clip
from train.objectives import ContrastiveObjective, MultimodalObjective, Objective
from train.packing import Limits
from train.reading import Drawn, Prepare
from train.sequences import Sequences, Sizes
from train.stages import Stages
from train.tokens import Tokenizer
from train.wording import Wording


@dataclass(frozen=True)
class Prepared:
    """An objective, how a drawn sample becomes its tensors, how packs are planned (none where batches are rows)."""

    objective: Objective
    prepare: Prepare
    stages: Stages
    packing: Packing | None = None


@dataclass(frozen=True)
class Pixels:
    """From an image's bytes to image_CHW at the resolution of its stage, varied by the sample's randomness."""

    stages: Stages
    augment: Augment

    def __call__(self, data: bytes, rng: np.random.Generator, at: int) -> Tensor:
        """image_CHW uint8. Raises ValueError, or what a broken image raises."""
        size_px = self.stages.resolution(at)
        if self.augment == Augment():
            return fit.fast(data, size_px)
        return images.varied(data, size_px, self.augment, rng)


@dataclass(frozen=True)
class PreparePair:
    """A drawn sample to {image: CHW uint8, text: T}, the text within its template."""

    wording: Wording
    pixels: Pixels
    tokenizer: Tokenizer

    def __call__(self, drawn: Drawn) -> dict[str, Tensor]:
        """Tensors of one sample."""
        prompts = self.wording.prompts(self.wording.numbers[drawn.source], drawn.uid, drawn.epoch)
        rng = images.keyed_rng(self.wording.seed, drawn.uid, drawn.epoch)
        image_CHW = self.pixels(images.image_part(drawn.parts), rng, drawn.at)
        return {"image": image_CHW, "text": self.tokenizer([prompts.around(self.wording.text(drawn))])[0]}


@dataclass(frozen=True)
class PrepareRow:
    """A drawn sample to {ids, scored: T, image: 1 x CHW}, padded to `length`."""

    sequences: Sequences
    length: int

    def __call__(self, drawn: Drawn) -> dict[str, Tensor]:
        """Tensors of one sample."""
        sample = self.sequences(drawn)
        missing = self.length - len(sample["ids"])
        padded = {name: torch.nn.functional.pad(sample[name], (0, missing)) for name in ("ids", "scored")}
        return {**padded, "image": sample["image"]}


@dataclass(frozen=True)
class Rules:
    """What is taken of a source's samples in the stage at a position: what the settings say, within the sequence."""

    stages: Stages
    rule: Rule

    def __call__(self, source: int, at: int) -> Rule:
        """The settings' rule, its tokens those of the stage."""
        whole = self.stages.pack(at, self.rule.tokens)
        said = self.stages.sequence(at, source)
        return dataclasses.replace(self.rule, tokens=whole if said is None else min(said, whole))


def build(config: Config, clip: Clip, path: Path) -> Prepared:
    """What `config` trains on the mixture in the file `path`. Raises MixtureError, ModelError."""
    manifest = mix.read(path)
    stages = Stages(manifest, clip.size_px, getattr(clip.net.visual, "patch_size", (32, 32))[0])
    wording, pixels = Wording(manifest, config.seed), Pixels(stages, config.data.augment)
    if isinstance(config.objective, Multimodal):
        found = _packs(config.objective, clip, wording, pixels, path)
    else:
        _refuse_sequences(manifest, config.objective.type)
        found = _rows(config.objective, clip, wording, pixels)
    for size_px in sorted(stages.resolutions() - {clip.size_px}):
        found.objective.check_resolution(size_px)
    for stage in manifest.stages:
        if vain := sorted(set(stage.train or ()) - found.objective.parts().keys()):
            raise mix.MixtureError(
                f"the mixture's stage {stage.name!r}: {unknown('part to train', vain[0], found.objective.parts())}"
            )
    return found


def _rows(settings: Contrastive | Caption, clip: Clip, wording: Wording, pixels: Pixels) -> Prepared:
    if isinstance(settings, Contrastive):
        wording.refuse("system", "of which the contrastive objective has no use")
        objective = ContrastiveObjective(clip, settings.max_logit_scale)
        return Prepared(objective, PreparePair(wording, pixels, clip.tokenizer), pixels.stages)
    code = tokens.text_code(settings.language.tokenizer)
    captioner = MultimodalObjective(clip, settings, code)
    length = captioner.visual_tokens + settings.text_length
    rules = Rules(pixels.stages, Rule(length, 1, captioner.visual_tokens))
    return Prepared(captioner, PrepareRow(Sequences(wording, code, rules, pixels), length), pixels.stages)


def _packs(settings: Multimodal, clip: Clip, wording: Wording, pixels: Pixels, path: Path) -> Prepared:
    code, pack, document = tokens.text_code(settings.language.tokenizer), settings.pack, settings.document
    objective = MultimodalObjective(clip, settings, code)
    most = pack.images if document.images is None else min(document.images, pack.images)
    rule = Rule(pack.tokens, most, objective.visual_tokens, document.text_tokens, document.start, document.next_image)
    sequences = Sequences(wording, code, Rules(pixels.stages, rule), pixels)
    sizes = Sizes(wording, code, sequences.rules, Lengths(wording.manifest, path))
    limits = Limits(pack.tokens, pack.images, objective.visual_tokens, pack.window)
    return Prepared(objective, sequences, pixels.stages, Packing(sizes, pixels.stages, limits))


def _refuse_sequences(manifest: mix.Manifest, objective: str) -> None:
    for stage in manifest.stages:
        if stage.sequence is not None:
            raise mix.MixtureError(
                f"the mixture's stage {stage.name!r} says `sequence`, which is for the multimodal objective's packs;"
                f" the {objective} objective has rows of one length: leave it out of the specification"
            )
