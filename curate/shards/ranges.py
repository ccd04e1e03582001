"""Merge wanted spans of a file into ranges to fetch: neighbours together, far ones apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Span = tuple[int, int]
"""Bytes of a file, from the first to before the second."""
Ranges = Callable[[list[Span]], list[bytes]]
"""Brings the bytes of each span, in the order asked for."""

GAP_BYTES = 1 << 18
"""A gap this small is fetched along: it takes less time than another request."""
MOST_BYTES = 1 << 25
"""No range grows beyond this by joining."""


def merge_spans(spans: Sequence[Span], gap: int = GAP_BYTES, most: int = MOST_BYTES) -> tuple[list[Span], list[int]]:
    """Merge spans: (ranges in file order, for each span the number of the range that holds it); gaps and sizes in
    bytes.
    """
    ranges: list[Span] = []
    places = [0] * len(spans)
    for number in sorted(range(len(spans)), key=lambda n: spans[n]):
        begin, end = spans[number]
        if ranges and begin - ranges[-1][1] <= gap and max(end, ranges[-1][1]) - ranges[-1][0] <= most:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((begin, end))
        places[number] = len(ranges) - 1
    return ranges, places
