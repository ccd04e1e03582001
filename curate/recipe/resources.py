"""Settings of a recipe, and of a step, on what models may take of a machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from curate.settings import Settings


class StepResources(Settings):
    """Device of a step with a model, and its share of it; unsaid, the recipe's `resources` hold, and then the op's."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU where there is one. cuda keeps the columns' names where the driver sees none."
    )
    memory_gb: float | None = Field(
        None,
        gt=0,
        description="What the model takes of a GPU's memory, weights and work. Unsaid: what the op says.",
    )
    gpu_fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of a GPU of a worker: .5 puts two on each. Unsaid: two where they fit.",
    )
    cpus: int | None = Field(
        None, ge=1, description="Threads of a worker that read and decode ahead. Unsaid: the CPUs, shared out."
    )
    batch: int | None = Field(
        None, ge=1, description="Rows of a call on a GPU, to begin with: halved when its memory runs out."
    )


class Resources(StepResources):
    """The same for all steps of a recipe, and the number of GPUs."""

    gpus: int | None = Field(None, ge=0, description="GPUs that the run may use, 0 for none. Unsaid: all there are.")

    @model_validator(mode="after")
    def _is_of_one_mind(self) -> Resources:
        if self.gpus == 0 and self.device == "cuda":
            raise ValueError("`device: cuda` and `gpus: 0` contradict each other")
        return self
