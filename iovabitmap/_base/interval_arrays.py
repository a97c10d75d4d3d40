"""Sets of addresses or pages as arrays, for many intervals; intervals.py says what a union is.

*Rows* are (start, end) of shape (n, 2), ascending and disjoint, the end exclusive. `union` works on
the first and the last number of each interval, both inclusive, so that one may end with the last
number of its type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import intervals

if TYPE_CHECKING:
    from collections.abc import Iterable

Rows: TypeAlias = npt.NDArray[np.uint64]
Array: TypeAlias = npt.NDArray[Any]  # of int64 or uint64; the answer has the type of the argument
Indices: TypeAlias = npt.NDArray[np.intp]


def rows_of(spans: Iterable[tuple[int, int]]) -> Rows:
    """Rows from pairs, in any order; those that touch or overlap become one."""
    return np.array(intervals.union(spans), np.uint64).reshape(-1, 2)


def union(first: Array, last: Array) -> tuple[Array, Array]:
    """The union of the intervals first <= n <= last, which come in any order: the same two arrays,
    ascending.

    >>> first, last = union(np.array([7, 0, 3]), np.array([9, 2, 4]))
    >>> first.tolist(), last.tolist()
    ([0, 7], [4, 9])
    """
    if not len(first):
        return first, last
    if (first[1:] < first[:-1]).any():
        order = np.argsort(first, kind="stable")
        first, last = first[order], last[order]
    reached = np.maximum.accumulate(last)
    begins, ends = _begins_and_ends(_apart(first, reached))
    return first[begins], reached[ends]


def union_by_group(group: Array, first: Array, last: Array) -> tuple[Array, Array, Array]:
    """A union for each group of intervals: the same three arrays, ascending by group.

    `group` has the number of each interval's group, of int64.
    """
    if not len(first):
        return group, first, last
    same = group[1:] == group[:-1]
    if ((group[1:] < group[:-1]) | (same & (first[1:] < first[:-1]))).any():
        order = np.lexsort((first, group))
        group, first, last = group[order], first[order], last[order]
        same = group[1:] == group[:-1]
    # The furthest end of the group so far: ranks are small enough to be keyed by the group.
    order = np.argsort(last, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    furthest = np.maximum.accumulate(group * len(order) + rank) % len(order)
    reached = last[order[furthest]]
    begins, ends = _begins_and_ends(_apart(first, reached) | ~same)
    return group[begins], first[begins], reached[ends]


def _apart(first: Array, reached: Array) -> npt.NDArray[np.bool_]:
    """Whether each interval but the first one begins beyond, and not right behind, what was reached
    before it. The difference wraps only where it does not count."""
    found: npt.NDArray[np.bool_] = (first[1:] > reached[:-1]) & (first[1:] - reached[:-1] > 1)
    return found


def _begins_and_ends(apart: npt.NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """The index of the first and of the last interval of each that they make together."""
    begins = np.flatnonzero(np.append(True, apart))
    return begins, np.append(begins[1:], len(apart) + 1) - 1


def intersect(rows: Rows, others: Rows) -> tuple[Rows, npt.NDArray[np.intp]]:
    """What both hold, and for each row of it the index of the row of `others` that holds it."""
    first = np.searchsorted(others[:, 1], rows[:, 0], side="right")
    last = np.searchsorted(others[:, 0], rows[:, 1], side="left")
    counts = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(rows)), counts)
    begins = np.cumsum(counts) - counts
    index = np.arange(len(which)) - np.repeat(begins, counts) + first[which]
    both = np.empty((len(which), 2), np.uint64)
    both[:, 0] = np.maximum(rows[which, 0], others[index, 0])
    both[:, 1] = np.minimum(rows[which, 1], others[index, 1])
    return both, index


def subtract(rows: Rows, others: Rows) -> Rows:
    """What `rows` hold and `others` do not."""
    gaps = np.empty((len(others) + 1, 2), np.uint64)
    gaps[0, 0], gaps[-1, 1] = 0, np.iinfo(np.uint64).max
    gaps[1:, 0], gaps[:-1, 1] = others[:, 1], others[:, 0]
    return intersect(rows, gaps[gaps[:, 0] < gaps[:, 1]])[0]
