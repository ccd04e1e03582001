"""Build an objective and the preparation and packing of its samples from a configuration and a mixture."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from curate import mix
from curate.image.tensors import Shown
from curate.image.views import Views
from curate.models.connectors.qformer import QFormerConfig
from curate.models.towers.tower import VisionTower
from curate.settings import unknown_message
from curate.shards import load_dataset
from curate.stream.batches import Packing
from curate.stream.documents import CutRule
from curate.stream.forms import SequenceForm
from curate.stream.instructions import Instructions
from curate.stream.packing import PackLimits
from curate.stream.prompts import PLACE, TextChooser
from curate.stream.reading import Prepare
from curate.stream.sample_lengths import SampleLengths
from curate.stream.sequences import Sequences, Sizes
from curate.stream.stages import Stages
from curate.tokens.encoders import text_code
from train.config import BootstrapConfig, Caption, Config, Contrastive, MatchingConfig, Multimodal, TextOnly
from train.models.dual_encoder import DualEncoder
from train.objectives.bootstrap import BootstrapObjective
from train.objectives.choice import Objective, objective_of
from train.objectives.multimodal import MultimodalObjective
from train.samples import ContextIds, Pixels, PreparePair, PrepareRow, PrepareTextOnly, PrepareTold


@dataclass(frozen=True)
class PreparedObjective:
    """An objective, how a drawn sample becomes its tensors, how packs are planned (none where batches are rows)."""

    objective: Objective
    prepare: Prepare
    stages: Stages
    packing: Packing | None = None


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
    objective = objective_of(config, clip, len(mixture.manifest.datasets))
    towers = objective.net.all_towers() if isinstance(objective, BootstrapObjective | MultimodalObjective) else {}
    own_px = next((tower.size_px for tower in towers.values()), clip.size_px)
    stages = Stages(mixture, own_px)
    chooser = TextChooser(mixture, config.seed)
    pixels = _pixels(config, towers, chooser, stages)
    if isinstance(config.objective, Multimodal):
        _refuse_sizes(stages, pixels.views)
        found = _packs(config.objective, objective, chooser, pixels)
    else:
        _refuse_sequences(stages, config.objective.type)
        _refuse_kinds(mixture, config.objective.type)
        manifest = mixture.manifest
        if manifest.mode == "accumulate" and manifest.batch != config.data.batch_size:
            raise mix.MixtureError(
                f"the mixture's mode is accumulate, every source in every step of {manifest.batch} samples, and"
                f" data.batch_size is {config.data.batch_size}; make both the same"
            )
        found = _rows(config.objective, objective, clip, chooser, pixels)
    for size_px in sorted(stages.all_resolutions() - {own_px}):
        found.objective.check_resolution(size_px)
    _check_stages(mixture.manifest, found.objective)
    return found


def _pixels(config: Config, towers: Mapping[str, VisionTower], chooser: TextChooser, stages: Stages) -> Pixels:
    """What all towers are shown; a batch of rows has pictures of one shape."""
    if not towers:
        return Pixels(chooser, stages, config.data)
    (_, first), *rest = towers.items()
    others = {name: Shown(tower.size_px, tower.config.views) for name, tower in rest}
    whole = not isinstance(config.objective, Multimodal)
    return Pixels(chooser, stages, config.data, first.config.views, others, whole)


def _rows(
    settings: Contrastive | MatchingConfig | BootstrapConfig | Caption | TextOnly,
    objective: Objective,
    clip: DualEncoder,
    chooser: TextChooser,
    pixels: Pixels,
) -> PreparedObjective:
    if not isinstance(settings, Caption | TextOnly):
        return PreparedObjective(objective, _pairs(settings, clip, chooser, pixels), pixels.stages)
    assert isinstance(objective, MultimodalObjective)
    form = _form(settings, objective, chooser)
    length = len(form.image) + settings.text_length
    rules = StageRules(pixels.stages, CutRule(length, 1))
    if isinstance(settings, Caption):
        sequences = Sequences(chooser, form, rules, pixels, _instructions(settings))
        return PreparedObjective(objective, PrepareRow(sequences, length), pixels.stages)
    chooser.refuse_choices("template", "of which the text_only objective has no use: its prompts are the questions")
    row = PrepareRow(Sequences(chooser, form, rules, ContextIds(clip.tokenizer)), length)
    return PreparedObjective(objective, PrepareTextOnly(row), pixels.stages)


def _pairs(
    settings: Contrastive | MatchingConfig | BootstrapConfig, clip: DualEncoder, chooser: TextChooser, pixels: Pixels
) -> PreparePair | PrepareTold:
    chooser.refuse_choices("system", f"of which the {settings.type} objective has no use")
    if chooser.mixture.manifest.mode == "accumulate":
        raise mix.MixtureError(
            f"the mixture's mode is accumulate, which weighs the losses of sources; the {settings.type} objective"
            " has one loss of all pairs of a batch: use mode interleave or homogeneous"
        )
    if isinstance(settings, BootstrapConfig):
        return PrepareTold(chooser, pixels, text_code(settings.connector.tokenizer), settings.text_length)
    return PreparePair(chooser, pixels, clip.tokenizer)


def _packs(settings: Multimodal, objective: Objective, chooser: TextChooser, pixels: Pixels) -> PreparedObjective:
    if chooser.mixture.manifest.mode == "homogeneous":
        raise mix.MixtureError(
            "the mixture's mode is homogeneous, a source a batch, and packs are made of all sources: use interleave"
        )
    assert isinstance(objective, MultimodalObjective)
    pack, document = settings.pack, settings.document
    most = pack.images if document.images is None else min(document.images, pack.images)
    rule = CutRule(pack.tokens, most, document.text_tokens, document.start, document.next_image)
    form = _form(settings, objective, chooser)
    sequences = Sequences(chooser, form, StageRules(pixels.stages, rule), pixels, _instructions(settings))
    sizes = Sizes(chooser, form, sequences.rules, SampleLengths(chooser.mixture))
    limits = PackLimits(pack.tokens, pack.images, len(form.image), pack.window)
    return PreparedObjective(objective, sequences, pixels.stages, Packing(sizes, pixels.stages, limits))


def _instructions(settings: Caption | Multimodal) -> Instructions | None:
    """How what is asked of pictures is spelled for a connector that reads it."""
    connector = settings.connector
    if isinstance(connector, QFormerConfig) and connector.instruction:
        return Instructions(text_code(connector.tokenizer))
    return None


def _form(
    settings: Caption | TextOnly | Multimodal, objective: MultimodalObjective, chooser: TextChooser
) -> SequenceForm:
    """The form of an objective's sequences. Raises MixtureError for templates that are no turns of its chat."""
    own_chat = settings.language.chat() if settings.form.chat == "own" else None
    code, net = settings.language.code(settings.form.tags()), objective.net
    form = SequenceForm(code, net.places, net.views, settings.form, own_chat)
    for source in chooser.mixture.manifest.datasets if form.chat is not None else ():
        if behind := [words for words in source.choices.get("template", {}) if words.partition(PLACE)[2]]:
            raise mix.MixtureError(
                f"the mixture's source {source.name!r} has the template {behind[0]!r}, with words behind the text: in a"
                " chat the text is the answer, and ends the turn; put them before it, or leave out `form.chat`"
            )
    return form


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


def _refuse_kinds(mixture: mix.Mixture, objective: str) -> None:
    """Raise MixtureError for sources of a kind that an objective of rows can do nothing with."""
    if objective == "caption":
        return
    kinds, what = (
        (("text",), "texts") if objective == "text_only" else (("caption", "ocr"), "pairs of an image and a text")
    )
    for number, source in enumerate(mixture.manifest.datasets):
        if (kind := load_dataset(mixture.folder(number)).kind) not in kinds:
            raise mix.MixtureError(
                f"the mixture's source {source.name!r} is of kind {kind}, and the {objective} objective takes"
                f" {what}: leave it out, or train with `objective: {{type: multimodal}}`"
            )


def _refuse_sizes(stages: Stages, views: Views) -> None:
    """Raise MixtureError for pictures of several sizes in a batch whose views say where in them something is."""
    for stage, sides in zip(stages.mixture.manifest.stages, stages.resolutions(), strict=True):
        if views.sized and len(sides) > 1:
            raise mix.MixtureError(
                f"the mixture's stage {stage.name!r} says a `resolution` by source, and the first tower is shown"
                " pictures that do not fill their views (fit: pad or native, frames): say one for all, or fit: square"
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
