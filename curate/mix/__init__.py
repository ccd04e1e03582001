"""Mixtures: a manifest of weighted datasets, and pure functions from positions to samples."""

from curate.mix.build import Built, Onto, build, compose, short, skip
from curate.mix.manifest import Manifest, Segment, Source, Stage, json_schema, save
from curate.mix.mixture import Mixture, load, read
from curate.mix.order import order
from curate.mix.places import SampleAt, uids_at
from curate.mix.schedule import MixtureError, quantisation_error, shares
from curate.mix.spec import MixtureSpec
from curate.mix.stages import StageAt

__all__ = [
    "Built",
    "Manifest",
    "Mixture",
    "MixtureError",
    "MixtureSpec",
    "Onto",
    "SampleAt",
    "Segment",
    "Source",
    "Stage",
    "StageAt",
    "build",
    "compose",
    "json_schema",
    "load",
    "order",
    "quantisation_error",
    "read",
    "save",
    "shares",
    "short",
    "skip",
    "uids_at",
]
