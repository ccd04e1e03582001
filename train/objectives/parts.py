"""Parts of an objective: what a stage may train, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

Parts = Mapping[str, list[nn.Parameter]]
"""What a stage may train, by name."""


class Parted(Protocol):
    """A network of named parts, as every objective is."""

    def parts(self) -> Parts:
        """Parameters of each part."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All parameters."""

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """All buffers."""

    def state_dict(self) -> dict[str, Any]:
        """All that is kept, by name."""

    def get_parameter(self, target: str) -> nn.Parameter:
        """The parameter of that name."""
