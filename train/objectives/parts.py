"""The parts of a loss: sums and counts, so that it does not depend on how a batch was cut."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

Parts = Mapping[str, list[nn.Parameter]]
"""What a stage may train, by name."""
