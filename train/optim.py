"""Settings of the optimizer, and the learning rate: a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from curate.settings import Settings, unknown_message
from curate.stream.augment import Share

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0)] | Literal["mm1"]


class ParameterGroup(Settings):
    """Parameters that are trained in a way of their own; of several groups that match one, the first has it."""

    match: Annotated[tuple[str, ...], Field(min_length=1)]
    """Parts (as a stage's `train` names them), or patterns of parameters' names: `connector.queries`, `*.gate`."""
    lr: Annotated[float, Field(ge=0.0)] | None = None
    """The rate after the warm-up; 0: frozen. Nothing: the run's."""
    decay: Annotated[float, Field(ge=0.0)] | None = None
    """Weight decay. Nothing: the run's, and none where only some rows train."""
    decay_axes: Literal["matrices", "all"] = "matrices"
    """Which of them decay: those of two axes or more that are no bias (queries and latents too: LAVIS), or `all`,
    norms and gates as well (Flamingo's gated blocks). None: `decay: 0`."""
    rows: tuple[int, ...] = ()
    """Rows that alone train, of embeddings for instance; -1 is the last, where added tags stand."""

    @model_validator(mode="after")
    def _rows_without_decay(self) -> ParameterGroup:
        if self.rows and self.decay:
            raise ValueError("rows: the others would decay too; set decay: 0, or leave it out")
        return self


class StageRates(Settings):
    """Rates and groups of a stage of the mixture; what is left out is the run's."""

    lr: Rate | None = None
    groups: tuple[ParameterGroup, ...] | None = None


class Spikes(Settings):
    """Rule for a step whose loss or gradient is not finite, or whose gradient is far longer than is usual."""

    action: Literal["stop", "skip"] = "stop"
    """`skip`: its samples are used up, the weights stay. Either way the step is told, with its samples' uids."""
    times: Annotated[float, Field(gt=1.0)] | None = None
    """A spike: a gradient norm of more than so many times the median of the steps before. Nothing: none is."""
    window: Annotated[int, Field(ge=8)] = 128
    """Steps of that median; before there are as many, no finite step is a spike."""
    most: Count = 8
    """Steps in a row that may be skipped; the next stops the run."""


class Optim(Settings):
    """AdamW with linear warm-up, then a schedule to a floor."""

    steps: Count = 1000
    lr: Rate = 5e-4
    """The rate after the warm-up; `mm1`: by MM1's law of the language model's size."""
    schedule: Literal["cosine", "linear", "constant", "staircase"] = "cosine"
    """`staircase`: LAVIS's cosine, one rate an epoch."""
    epoch_steps: Count | None = None
    """Steps of an epoch, of the staircase."""
    floor: Share = 0.0
    """The last learning rate, as a share of `lr`."""
    warmup: Annotated[int, Field(ge=0)] = 100
    warmup_from: Share = 0.0
    """Where the warm-up starts, as a share of `lr`."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    eps: Annotated[float, Field(gt=0.0)] = 1e-6
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    decay_convention: Literal["coupled", "independent"] = "coupled"
    """Whether a step shrinks weights by rate x decay (torch) or by the schedule's height x decay (AXLearn)."""
    groups: tuple[ParameterGroup, ...] = ()
    stages: Mapping[str, StageRates] = {}
    """Rates and groups of a stage of the mixture, by its name; the schedule's height goes on over all of them."""
    clip_norm: Annotated[float, Field(gt=0.0)] = 1.0
    """The longest gradient of a step, over all ranks, parts and parameters; a longer one is shortened."""
    spikes: Spikes = Spikes()
    accumulate: Count = 1
    """Parts a batch is cut into, one forward and backward each: less memory, the same samples a step."""
    precision: Literal["fp32", "bf16"] = "fp32"

    @field_validator("schedule", mode="before")
    @classmethod
    def _known_schedule(cls, value: object) -> object:
        if isinstance(value, str) and value not in SHAPES:
            raise ValueError(unknown_message("schedule", value, SHAPES))
        return value

    @model_validator(mode="after")
    def _whole_epochs(self) -> Optim:
        if (self.schedule == "staircase") != (self.epoch_steps is not None):
            raise ValueError("schedule: staircase and epoch_steps (steps of an epoch) go together")
        if self.epoch_steps is not None and self.warmup > self.epoch_steps:
            raise ValueError(
                f"warmup: a staircase warms up within its first epoch, of {self.epoch_steps} steps, not {self.warmup}"
            )
        return self

    def of_stage(self, name: str) -> Optim:
        """The settings in the stage of that name."""
        said = self.stages.get(name, StageRates())
        changed = {"lr": said.lr, "groups": said.groups}
        return self.model_copy(update={key: value for key, value in changed.items() if value is not None})


def learning_rate(step: int, optim: Optim) -> float:
    """The run's learning rate of step `step` (from 0)."""
    return peak_rate(optim) * height(step, optim)


def height(step: int, optim: Optim) -> float:
    """The share of its peak that every rate has at step `step` (from 0).

    Linear from `warmup_from` to 1 in `warmup` steps, of which the first stands one above the start (LAVIS: at it);
    then as the schedule falls, to `floor`.
    """
    if step < optim.warmup:
        return optim.warmup_from + (1 - optim.warmup_from) * (step + 1) / optim.warmup
    return optim.floor + (1 - optim.floor) * SHAPES[optim.schedule](step, optim)


def _constant(step: int, optim: Optim) -> float:
    return 1.0


def _linear(step: int, optim: Optim) -> float:
    return 1 - min(1.0, (step - optim.warmup) / max(1, optim.steps - optim.warmup))


def _cosine(step: int, optim: Optim) -> float:
    return (1 + math.cos(math.pi * (1 - _linear(step, optim)))) / 2


def _staircase(step: int, optim: Optim) -> float:
    """A cosine over whole epochs, the same within each (LAVIS's `linear_warmup_cosine_lr`)."""
    assert optim.epoch_steps is not None
    epochs = -(-optim.steps // optim.epoch_steps)
    return (1 + math.cos(math.pi * min(step // optim.epoch_steps, epochs) / epochs)) / 2


SHAPES: Mapping[str, Callable[[int, Optim], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
    "staircase": _staircase,
}
"""From 1 to 0 after the warm-up, by the schedule's name."""


def resolve_rate(optim: Optim, parameters: int | None) -> Optim:
    """Resolve all rates to numbers; `parameters` are the language model's. Raises ValueError where it must be known."""
    if optim.lr != "mm1" and all(stage.lr != "mm1" for stage in optim.stages.values()):
        return optim
    if parameters is None:
        raise ValueError("optim.lr: mm1 is a law of the language model's size, and this objective has none")
    law = law_rate(parameters)
    stages = {
        name: stage.model_copy(update={"lr": law}) if stage.lr == "mm1" else stage
        for name, stage in optim.stages.items()
    }
    return optim.model_copy(update={"lr": law if optim.lr == "mm1" else optim.lr, "stages": stages})


def peak_rate(optim: Optim) -> float:
    """The rate at the end of the warm-up."""
    assert optim.lr != "mm1"
    return optim.lr


def law_rate(parameters: int) -> float:
    """MM1's peak rate for a language model of so many parameters, embeddings aside (2403.09611, 3.3).

    exp(-0.4214 ln N - 0.5535), fitted on 9 million to 1.2 billion.
    """
    return math.exp(-0.4214 * math.log(parameters) - 0.5535)
