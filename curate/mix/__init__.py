"""Mixtures: a manifest of weighted datasets, and the pure functions from a position to the sample that stands there."""

from curate.mix.manifest import Manifest, Source, build, folder_of, load, save
from curate.mix.schedule import MixtureError, locate, order, quantisation_error, shares

__all__ = [
    "Manifest",
    "MixtureError",
    "Source",
    "build",
    "folder_of",
    "load",
    "locate",
    "order",
    "quantisation_error",
    "save",
    "shares",
]
