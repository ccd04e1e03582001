"""Choose the device and precision that a model runs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.models.clip import Precision, clip_precision

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Place:
    """A device and a precision."""

    device: torch.device
    dtype: torch.dtype


def place_of(precision: Precision) -> Place:
    """Take the GPU if there is one, and the precision that `auto` means there."""
    import torch

    dtype: torch.dtype = getattr(torch, clip_precision(precision))
    return Place(torch.device("cuda" if torch.cuda.is_available() else "cpu"), dtype)
