"""Export what a run has trained: one safetensors file with all that an op needs to run it.

A dual encoder as `curate.models.dual_encoder` describes it; a captioner or a matching network with the same metadata,
which says how its image tower, texts and pixels are made, and an entry of its own (`curate.models.exports`).
"""

from __future__ import annotations

from pathlib import Path

from curate.models.exports import CaptionerShape
from curate.stream.forms import SequenceForm
from train.config import Caption, Config, Multimodal, TextOnly
from train.models.dual_encoder import DualEncoder, Precision, described, write_weights
from train.models.dual_encoder import export as export_dual_encoder
from train.objectives.choice import Objective
from train.objectives.contrastive import ContrastiveObjective
from train.objectives.matching import MatchingObjective
from train.objectives.multimodal import MultimodalObjective


def export(clip: DualEncoder, objective: Objective, config: Config, path: Path, precision: Precision = "fp32") -> None:
    """Write the weights of a trained objective; the same weights, the same bytes."""
    if isinstance(objective, ContrastiveObjective):
        export_dual_encoder(clip, path, precision)
    elif isinstance(objective, MatchingObjective):
        metadata = described(clip) | objective.shape.metadata()
        write_weights(objective.network.state_dict(), metadata, path, precision)
    else:
        assert isinstance(objective, MultimodalObjective), "the command line refuses the export of others"
        settings = config.objective
        assert isinstance(settings, Multimodal | Caption | TextOnly)
        built = objective.net.all_towers() if config.model.towers or isinstance(settings, TextOnly) else {}
        towers = {name: tower.described().model_dump(mode="json") for name, tower in built.items()}
        parts = (settings.language, settings.connector, settings.fusion, settings.form)
        language, connector, fusion, form = (part.model_dump(mode="json") for part in parts)
        tags, net = settings.form.tags(), objective.net
        picture = SequenceForm(settings.language.code(tags), net.places, net.views, settings.form).image
        shape = CaptionerShape(language, tags, connector, fusion, towers, form, picture)
        write_weights(objective.net.state_dict(), described(clip) | shape.metadata(), path, precision)
