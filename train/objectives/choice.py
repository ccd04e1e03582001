"""The choice of objective, and what all of them have: parts, counts of what a batch has to predict, losses.

An objective counts what a batch has to predict (`counts`, by source), and computes the sum of its losses, each times
what `scale` says of its source (`forward`). The step's scale is made of the counts of all ranks and accumulated parts,
so that its loss does not depend on how a batch was cut. How samples become its tensors is `train.prepare`.
"""

from __future__ import annotations

from curate.models.languages.encoder_decoder import EncoderDecoderConfig
from train.config import BootstrapConfig, Config, Contrastive, MatchingConfig, TextOnly
from train.models.dual_encoder import DualEncoder
from train.models.towers import towers_of
from train.objectives.bootstrap import BootstrapObjective
from train.objectives.contrastive import ContrastiveObjective
from train.objectives.encoder_decoder import EncoderDecoderObjective
from train.objectives.matching import MatchingObjective
from train.objectives.multimodal import MultimodalObjective
from train.objectives.text_only import TextOnlyObjective

Objective = BootstrapObjective | ContrastiveObjective | MatchingObjective | MultimodalObjective


def objective_of(config: Config, clip: DualEncoder, sources: int = 1) -> Objective:
    """The objective that a configuration describes, over so many sources; what has no weights yet is drawn."""
    settings = config.objective
    if isinstance(settings, Contrastive):
        return ContrastiveObjective(clip, settings.max_logit_scale)
    if isinstance(settings, MatchingConfig):
        return MatchingObjective(clip, settings)
    if isinstance(settings, BootstrapConfig):
        return BootstrapObjective(towers_of(config.model, clip), settings)
    if isinstance(settings, TextOnly):
        return TextOnlyObjective(clip, settings, sources)
    of_answers = isinstance(settings.language, EncoderDecoderConfig)
    kind = EncoderDecoderObjective if of_answers else MultimodalObjective
    return kind(towers_of(config.model, clip), settings, sources)
