"""Mixtures: a manifest of weighted datasets, and pure functions from positions to samples."""

from curate.mix.build import Built, Onto, build, compose, short, skip
from curate.mix.manifest import Manifest, Segment, Source, Stage, folder_of, json_schema, knows, load, read, save
from curate.mix.order import order
from curate.mix.places import SampleAt, uids_at
from curate.mix.plan import StageAt, choose, locate, mixture_position, positions_of, stage_at, stage_of, step_size
from curate.mix.schedule import MixtureError, quantisation_error, shares
from curate.mix.spec import MixtureSpec

__all__ = [
    "Built",
    "Manifest",
    "MixtureError",
    "MixtureSpec",
    "Onto",
    "SampleAt",
    "Segment",
    "Source",
    "Stage",
    "StageAt",
    "build",
    "choose",
    "compose",
    "folder_of",
    "json_schema",
    "knows",
    "load",
    "locate",
    "mixture_position",
    "order",
    "positions_of",
    "quantisation_error",
    "read",
    "save",
    "shares",
    "short",
    "skip",
    "stage_at",
    "stage_of",
    "step_size",
    "uids_at",
]
