"""The axis of addresses that were ever dirty.

Programs lay their memory out with gaps of terabytes. The axis therefore follows what was ever
dirty: a gap longer than a part of that is cut to that length, so that heap and stack are beside
each other and both can be seen, and no row of a map spans one of the longest gaps.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .blocks import Addresses

LONGEST_GAP = 16  # a gap takes at most one in so many parts of what was ever dirty
AREAS = 8  # at most, apart from each other by the longest gaps

Floats = npt.NDArray[np.float64]


class Axis:
    """Addresses that were ever dirty, close together: position 0 to `size`, in bytes.

    Parameters
    ----------
    union : array of shape (n, 2)
        All rows that were ever dirty, ascending; those asked for later lie in them.
    """

    def __init__(self, union: Addresses) -> None:
        self.starts, lengths = union.T if len(union) else np.zeros((2, 0), np.uint64)
        gaps = np.zeros(len(union), np.uint64)
        gaps[1:] = self.starts[1:] - self.starts[:-1] - lengths[:-1]
        limit = np.uint64(max(int(lengths.sum()) // LONGEST_GAP, 1))
        long = np.flatnonzero(gaps > limit)
        areas = np.sort(long[np.argsort(gaps[long], kind="stable")[::-1][: AREAS - 1]])
        np.minimum(gaps, limit, out=gaps)
        gaps[areas] = 0
        self.positions = np.cumsum(gaps + lengths) - lengths
        self.size = int(self.positions[-1] + lengths[-1]) if len(union) else 0
        self.borders = [0, *self.positions[areas].tolist(), self.size]

    def position(self, addresses: Addresses) -> Addresses:
        """Where addresses of dirty bytes are on the axis."""
        run = np.searchsorted(self.starts, addresses, side="right") - 1
        found: Addresses = self.positions[run] + (addresses - self.starts[run])
        return found

    def address(self, position: int) -> int:
        """The address at a position; in a gap, one that belongs to it."""
        run = max(int(np.searchsorted(self.positions, position, side="right")) - 1, 0)
        return int(self.starts[run]) + position - int(self.positions[run])

    def edges(self, bins: int) -> Addresses:
        """Where about `bins` parts begin, and the end of the last one: equal parts in each area,
        of which each has one at least."""
        found = []
        for start, end in pairwise(self.borders):
            parts = max(round(bins * (end - start) / self.size), 1)
            found += [start + n * (end - start) // parts for n in range(parts)]
        return np.array([*found, self.size], np.uint64)

    def cover(self, rows: Addresses, edges: Addresses) -> Floats:
        """How many bytes of ascending rows are in each part between the edges."""
        if not len(rows):
            return np.zeros(len(edges) - 1)
        start = self.position(rows[:, 0])
        total = np.concatenate(([0], np.cumsum(rows[:, 1], dtype=np.float64)))
        row = np.searchsorted(start, edges, side="right")  # rows that begin before each edge
        last = np.maximum(row - 1, 0)
        inside = np.minimum(edges - np.minimum(start[last], edges), rows[last, 1])
        before = np.where(row > 0, total[last] + inside.astype(np.float64), 0)
        return np.diff(before)
