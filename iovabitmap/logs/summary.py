"""What a log says in short: totals, dirty pages over time, and a map of addresses by time.

Programs lay their memory out with gaps of terabytes. The map's axis therefore follows what was
ever dirty: a gap longer than a part of that is cut to that length, so that heap and stack are
beside each other and both can be seen, and no row of the map spans one of the longest gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ._blocks import parts, union

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._blocks import Addresses
    from .log import DirtyLog

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


@dataclass
class Summary:
    """A log in short. Arrays of one entry for each epoch, but for the map.

    Attributes
    ----------
    page_size : int
        Bytes of a page.
    union_pages : int
        Pages that were ever dirty.
    pages : array of int64
        Dirty pages of each epoch.
    t_start_ns, t_end_ns : arrays of int64
    columns : array of int64
        Where each column of the map begins, as an epoch, and the number of epochs.
    addresses : list of int
        The first address of each of the map's rows.
    density : array of float, shape (rows, columns)
        The part of a row's bytes that were dirty, as the mean of the column's epochs, 0 to 1.
    ever : array of uint64, shape (n, 2)
        The rows (iova, length) that were ever dirty, ascending.
    """

    page_size: int
    union_pages: int
    pages: npt.NDArray[np.int64]
    t_start_ns: npt.NDArray[np.int64]
    t_end_ns: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    addresses: list[int]
    density: Floats
    ever: Addresses


def summarize(
    log: DirtyLog,
    *,
    rows: int = 16,
    columns: int = 60,
    progress: Callable[[int], object] | None = None,
) -> Summary:
    """Reads a log twice, a block at a time, and tells what is in it: what was ever dirty says where
    the map's rows are.

    Parameters
    ----------
    rows, columns : int
        How many the map has: about so many rows, at most so many columns.
    progress : callable, optional
        Called with the number of epochs done.
    """
    ever = union(log._blocks(0, len(log)))
    axis, union_pages = Axis(ever), _pages(ever, log.page_size)
    count = len(log)
    columns = min(columns, count)
    begins = np.array([n * count // columns for n in range(columns + 1)] if columns else [0])
    edges = axis.edges(rows) if axis.size else np.zeros(1, np.uint64)
    cover = np.zeros((len(edges) - 1, columns))
    numbers = np.zeros((3, count), np.int64)

    for first, block in parts(log._blocks(0, len(log))):
        numbers[1:, first] = block.t_start_ns[0], block.t_end_ns[0]
        dirty = block.rows()
        numbers[0, first] += _pages(dirty, log.page_size)
        if axis.size:
            column = int(np.searchsorted(begins, first, side="right")) - 1
            cover[:, column] += axis.cover(dirty, edges)
        if progress is not None:
            progress(first + 1)

    with np.errstate(invalid="ignore", divide="ignore"):
        density = cover / np.diff(edges).astype(np.float64)[:, None] / np.diff(begins)
    return Summary(
        log.page_size,
        union_pages,
        numbers[0],
        numbers[1],
        numbers[2],
        begins,
        [axis.address(int(position)) for position in edges[:-1]],
        np.nan_to_num(density),
        ever,
    )


def _pages(rows: Addresses, page_size: int) -> int:
    page = np.uint64(page_size)
    return int((rows[:, 1] // page + (rows[:, 1] % page != 0)).sum())
