"""Sets of numbers as intervals (start, end), the end exclusive: addresses, or numbers of pages.

Python's ints have no last one, so nothing here can overflow, and nothing needs NumPy; for many
intervals there are arrays, in interval_arrays.py. What both call a union is ascending and disjoint,
and its intervals are as long as can be: those that overlap or touch are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

Interval: TypeAlias = tuple[int, int]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The union of intervals in any order, none of them empty.

    >>> union([(7, 9), (0, 3), (3, 5), (8, 10)])
    [(0, 5), (7, 10)]
    """
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def minus(intervals: Iterable[Interval], others: Iterable[Interval]) -> Iterator[Interval]:
    """What is in the first and not in the second, both of which are unions.

    >>> list(minus([(0, 5), (7, 10)], [(3, 8)]))
    [(0, 3), (8, 10)]
    """
    remaining = iter(others)
    other = next(remaining, None)
    for interval in intervals:
        start, end = interval
        while other is not None and other[0] < end:
            if start < other[0]:
                yield start, other[0]
            start = max(start, other[1])
            if other[1] > end:  # it may reach into the next one
                break
            other = next(remaining, None)
        if start < end:
            yield start, end


def size(intervals: Iterable[Interval]) -> int:
    """How many numbers there are in a union."""
    return sum(end - start for start, end in intervals)
