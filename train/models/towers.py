"""The vision towers of a run: those that the settings name, or the dual encoder's own."""

from __future__ import annotations

from curate.models.towers.tower import VisionTower, tower_of
from train.config import Model
from train.models.dual_encoder import DualEncoder


def towers_of(model: Model, clip: DualEncoder) -> dict[str, VisionTower]:
    """The towers by name, in the connector's order, on the CPU; the dual encoder's is `clip`. Raises ModelError."""
    named = {name: settings.build(f"model.towers.{name}") for name, settings in model.towers.items()}
    return named or {"clip": tower_of(clip.net, clip.config)}
