"""Show images to a model in passes of one shape, so that what it says of a row hangs on that row alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from curate.models.devices import CPU, Device
from curate.models.pixels import Prepare

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_ROWS = 16
"""Images in every pass: a short one is padded, because the order of a sum, and so its last bits, may hang on the shape
of the batch."""


class Looks(Protocol):
    """A model that looks at images."""

    prepare: Prepare

    def look(self, images: Tensor, /) -> Tensor:
        """vectors_BNE of prepared images_BCHW."""


class Passes:
    """The passes of a model on a device; on an accelerator all calls of an op are of one shape, and a pass each."""

    def __init__(self, model: Looks, device: Device) -> None:
        self._model, self._rows = model, _ROWS if device.kind == CPU.kind else 0
        self._threads = ThreadPoolExecutor(device.threads)

    def __call__(self, images: Sequence[Image]) -> Iterator[tuple[slice, Tensor, int]]:
        """The rows of each pass, vectors_BNE of what it sees, and how many of those are copies of the last row."""
        import torch

        rows = self._rows or len(images)
        for start in range(0, len(images), rows):
            some = slice(start, start + rows)
            pixels = list(self._threads.map(self._model.prepare, images[some]))
            copies = rows - len(pixels)
            yield some, self._model.look(torch.stack(pixels + [pixels[-1]] * copies)), copies
