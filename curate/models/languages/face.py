"""The face that every causal language model has here, our own and those of `transformers`.

Shapes: B rows, T positions, D width, N tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

Between = Callable[[int, Tensor], Tensor]
"""From the number of the layer that comes next (0 to `depth`) and the stream x_BTD before it to the stream that goes
into it, by which cross-attention stands between layers; number `depth` comes after the last layer, before its norm."""


class Language(Protocol):
    """A causal language model: embeddings in, logits out.

    `depth`: its layers. `longest`: positions of a sequence at most. `trained`: which of its `parts` are, unless a stage
    says otherwise.
    """

    width: int
    depth: int
    longest: int
    trained: frozenset[str]

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that a stage may train, by name."""

    def embed(self, ids_BT: Tensor) -> Tensor:
        """x_BTD of ids."""

    def __call__(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        between: Between | None = None,
    ) -> Tensor:
        """y_BTD of the last layer, normed; `logits` turns it into scores.

        Without `segments_BT` a row is one sequence; with it, of the documents that it numbers from 1 (0 is padding),
        each of which sees itself alone (`curate.stream.packing`). Positions count from 0.
        """

    def logits(self, y_ND: Tensor) -> Tensor:
        """scores_NV."""

    def go_on(self, x_BTD: Tensor, seen: list[Any], between: Between | None = None) -> Tensor:
        """y_BTD of positions that follow those in `seen`: a list, empty at first, which grows by what is kept of them.

        The first call takes any number of positions, later ones a single one.
        """

    def size(self) -> int:
        """Parameters, embeddings aside: the N of MM1's law."""

    def extra_losses(self) -> Tensor | None:
        """The last forward's cost beside its predictions (the routers of a mixture of experts); None: nothing."""
