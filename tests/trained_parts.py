"""Parts of an objective trained or frozen, as a stage of a run does it."""

from __future__ import annotations

from train.objectives.choice import Objective


def set_trained(objective: Objective, names: frozenset[str]) -> None:
    """Train these parts from now on, and no others."""
    for name, parameters in objective.parts().items():
        for parameter in parameters:
            parameter.requires_grad_(name in names)
    objective.train(objective.training)
