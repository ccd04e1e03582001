"""Parts of an objective: what a stage may train, by name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

Parts = Mapping[str, list[nn.Parameter]]
"""What a stage may train, by name."""
