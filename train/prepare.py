"""Build an objective and the preparation and packing of its samples from a configuration and a mixture."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from curate import mix
from curate.settings import unknown_message
from curate.shards import load_dataset
from curate.stream import images, resize
from curate.stream.augment import Augment
from curate.stream.batches import Packing
from curate.stream.documents import CutRule
from curate.stream.packing import PackLimits
from curate.stream.prompts import TextChooser
from curate.stream.reading import DrawnSample, Prepare
from curate.stream.sample_lengths import SampleLengths
from curate.stream.sequences import Sequences, Sizes
from curate.stream.stages import Stages
from curate.stream.tokens import token_ids
from curate.tokens.clip import Tokenizer
from train.config import Caption, Config, Contrastive, Data, MatchingConfig, Multimodal
from train.models.dual_encoder import DualEncoder
from train.objectives.choice import Objective
from train.objectives.contrastive import ContrastiveObjective
from train.objectives.matching import MatchingObjective
from train.objectives.multimodal import MultimodalObjective


@dataclass(frozen=True)
class PreparedObjective:
    """An objective, how a drawn sample becomes its tensors, how packs are planned (none where batches are rows)."""

    objective: Objective
    prepare: Prepare
    stages: Stages
    packing: Packing | None = None


@dataclass(frozen=True)
class Pixels:
    """Makes image_CHW from an image's bytes, at the resolution of its stage, varied by the sample's randomness."""

    chooser: TextChooser
    stages: Stages
    data: Data

    def __call__(self, data: bytes, rng: np.random.Generator, drawn: DrawnSample) -> Tensor:
        """image_CHW uint8. Raises ImageError."""
        source, whole = self.chooser.numbers[drawn.source], drawn.kind in self.data.whole
        size_px = self.stages.resolution(drawn.at, source)
        if self.data.augment == Augment():
            return resize.whole(data, size_px) if whole else resize.fast(data, size_px)
        return images.varied(data, size_px, self.data.augment, rng, whole=whole)


@dataclass(frozen=True)
class PreparePair:
    """Makes {image: CHW uint8, text: T} from a drawn sample, the text within its template."""

    chooser: TextChooser
    pixels: Pixels
    tokenizer: Tokenizer

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample."""
        prompts = self.chooser.prompts(self.chooser.numbers[drawn.source], drawn.uid, drawn.epoch)
        rng = images.keyed_rng(self.chooser.seed, drawn.uid, drawn.epoch)
        image_CHW = self.pixels(images.image_part(drawn.parts), rng, drawn)
        return {"image": image_CHW, "text": token_ids(self.tokenizer, [prompts.wrap(self.chooser.text(drawn))])[0]}


@dataclass(frozen=True)
class PrepareRow:
    """Makes {ids, scored: T, image: 1 x CHW, source} from a drawn sample, padded to `length`."""

    sequences: Sequences
    length: int

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample."""
        sample = self.sequences(drawn)
        missing = self.length - len(sample["ids"])
        padded = {name: torch.nn.functional.pad(sample[name], (0, missing)) for name in ("ids", "scored")}
        return {**sample, **padded}


@dataclass(frozen=True)
class StageRules:
    """The cut rule of a source's samples in the stage at a position: the settings', within the sequence."""

    stages: Stages
    rule: CutRule

    def __call__(self, source: int, at: int) -> CutRule:
        """The settings' rule, its tokens those of the stage."""
        whole = self.stages.pack(at, self.rule.tokens)
        length = self.stages.sequence(at, source)
        return dataclasses.replace(self.rule, tokens=whole if length is None else min(length, whole))


def build(config: Config, clip: DualEncoder, path: Path) -> PreparedObjective:
    """Build what `config` trains on the mixture in the file `path`. Raises MixtureError, ModelError."""
    mixture = mix.read(path)
    stages = Stages(mixture, clip.size_px)
    chooser = TextChooser(mixture, config.seed)
    pixels = Pixels(chooser, stages, config.data)
    if isinstance(config.objective, Multimodal):
        found = _packs(config.objective, clip, chooser, pixels)
    else:
        _refuse_sequences(stages, config.objective.type)
        if isinstance(config.objective, Contrastive | MatchingConfig):
            _refuse_unpaired(mixture, config.objective.type)
        manifest = mixture.manifest
        if manifest.mode == "accumulate" and manifest.batch != config.data.batch_size:
            raise mix.MixtureError(
                f"the mixture's mode is accumulate, every source in every step of {manifest.batch} samples, and"
                f" data.batch_size is {config.data.batch_size}; make both the same"
            )
        found = _rows(config.objective, clip, chooser, pixels)
    for size_px in sorted(stages.all_resolutions() - {clip.size_px}):
        found.objective.check_resolution(size_px)
    _check_stages(mixture.manifest, found.objective)
    return found


def _rows(
    settings: Contrastive | MatchingConfig | Caption, clip: DualEncoder, chooser: TextChooser, pixels: Pixels
) -> PreparedObjective:
    if isinstance(settings, Contrastive | MatchingConfig):
        chooser.refuse_choices("system", f"of which the {settings.type} objective has no use")
        if chooser.mixture.manifest.mode == "accumulate":
            raise mix.MixtureError(
                f"the mixture's mode is accumulate, which weighs the losses of sources; the {settings.type} objective"
                " has one loss of all pairs of a batch: use mode interleave or homogeneous"
            )
        of_pairs = (
            MatchingObjective(clip, settings)
            if isinstance(settings, MatchingConfig)
            else ContrastiveObjective(clip, settings.max_logit_scale)
        )
        return PreparedObjective(of_pairs, PreparePair(chooser, pixels, clip.tokenizer), pixels.stages)
    code = settings.language.code()
    captioner = MultimodalObjective(clip, settings, code, len(chooser.numbers))
    length = captioner.visual_tokens + settings.text_length
    rules = StageRules(pixels.stages, CutRule(length, 1, captioner.visual_tokens))
    return PreparedObjective(captioner, PrepareRow(Sequences(chooser, code, rules, pixels), length), pixels.stages)


def _packs(settings: Multimodal, clip: DualEncoder, chooser: TextChooser, pixels: Pixels) -> PreparedObjective:
    if chooser.mixture.manifest.mode == "homogeneous":
        raise mix.MixtureError(
            "the mixture's mode is homogeneous, a source a batch, and packs are made of all sources: use interleave"
        )
    code, pack, document = settings.language.code(), settings.pack, settings.document
    objective = MultimodalObjective(clip, settings, code, len(chooser.numbers))
    most = pack.images if document.images is None else min(document.images, pack.images)
    rule = CutRule(
        pack.tokens, most, objective.visual_tokens, document.text_tokens, document.start, document.next_image
    )
    sequences = Sequences(chooser, code, StageRules(pixels.stages, rule), pixels)
    sizes = Sizes(chooser, code, sequences.rules, SampleLengths(chooser.mixture))
    limits = PackLimits(pack.tokens, pack.images, objective.visual_tokens, pack.window)
    return PreparedObjective(objective, sequences, pixels.stages, Packing(sizes, pixels.stages, limits))


def _check_stages(manifest: mix.Manifest, objective: Objective) -> None:
    """Raise MixtureError for names that are neither parts of the objective, nor sources or groups."""
    names = {name for source in manifest.datasets for name in (source.name, *source.group.split("/"))}
    for stage in manifest.stages:
        where = f"the mixture's stage {stage.name!r}: "
        for name in sorted(set(stage.train or ()) - objective.parts().keys()):
            raise mix.MixtureError(where + unknown_message("part to train", name, sorted(objective.parts())))
        for values in (stage.resolution, stage.sequence):
            for name in sorted(values.keys() - names) if isinstance(values, dict) else ():
                raise mix.MixtureError(where + unknown_message("source or group", name, sorted(names - {""})))


def _refuse_unpaired(mixture: mix.Mixture, objective: str) -> None:
    for number, source in enumerate(mixture.manifest.datasets):
        kind = load_dataset(mixture.folder(number)).kind
        if kind in ("interleaved", "text"):
            raise mix.MixtureError(
                f"the mixture's source {source.name!r} is of kind {kind}, and the {objective} objective takes pairs of"
                " an image and a text: leave it out, or train with `objective: {type: multimodal}`"
            )


def _refuse_sequences(stages: Stages, objective: str) -> None:
    """Raise MixtureError for what only packs can have: lengths by stage, images of several sizes in a batch."""
    for stage, sides in zip(stages.mixture.manifest.stages, stages.resolutions(), strict=True):
        found = "`sequence`" if stage.sequence is not None else "a `resolution` by source" if len(sides) > 1 else None
        if found:
            raise mix.MixtureError(
                f"the mixture's stage {stage.name!r} says {found}, which is for the multimodal objective's packs; the"
                f" {objective} objective has rows of one length and size: leave it out of the specification"
            )
