"""Ask again by rule: in each wave what is still open, a bounded number of waves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
SOUND = "none"
"""The fault of what has none."""


def waves(slots: Sequence[T], is_open: Callable[[T], bool], tries: int) -> Iterator[tuple[int, list[T]]]:
    """The slots that are open in each wave, with the wave's number, until none is or `tries` waves were asked."""
    for wave in range(tries):
        if not (left := [slot for slot in slots if is_open(slot)]):
            return
        yield wave, left
