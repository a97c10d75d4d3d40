"""Sets of addresses as arrays of rows (start, end), ascending and disjoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable

Rows: TypeAlias = npt.NDArray[np.uint64]


def rows_of(spans: Iterable[tuple[int, int]]) -> Rows:
    """Rows from pairs, in any order; those that touch or overlap become one."""
    merged: list[list[int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return np.array(merged, np.uint64).reshape(-1, 2)


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
