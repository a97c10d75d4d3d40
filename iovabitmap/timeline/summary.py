"""A Timeline in short: totals, dirty pages over time, and a map of addresses by time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import rows as of_rows
from .axis import Axis, Floats
from .rows import Ints, Times

if TYPE_CHECKING:
    from collections.abc import Callable

    from .readable import Readable


@dataclass(frozen=True, eq=False)
class Summary:
    """A Timeline in short. Arrays of one entry for each epoch, except the map.

    Attributes
    ----------
    page_size : int
        Bytes of a page.
    union_count : int
        Pages that were ever dirty.
    counts : array of int64
        Dirty pages of each epoch.
    times : (array, array) of int64, or None
        Start and end of each epoch in nanoseconds; None if unknown.
    columns : array of int64
        The epoch that each column of the map begins with, and the number of epochs.
    addresses : list of int
        The first address of each of the map's rows.
    density : array of float, shape (rows, columns)
        The part of a row's bytes that were dirty, as the mean of the column's epochs, 0 to 1.
    ever : array of uint64, shape (n, 2)
        The ranges (iova, length) that were ever dirty, ascending.
    """

    page_size: int
    union_count: int
    counts: Ints
    times: Times | None
    columns: Ints
    addresses: list[int]
    density: Floats
    ever: of_rows.Addresses


def summarize(
    tl: Readable, rows: int, columns: int, progress: Callable[[int], object] | None
) -> Summary:
    """Reads a Timeline twice, a block at a time: first for its axis."""
    union = tl.union_ranges()
    axis = Axis(union)
    count = len(tl)
    columns = min(columns, count)
    begins = np.array([n * count // columns for n in range(columns + 1)] if columns else [0])
    edges = axis.edges(rows) if axis.size else np.zeros(1, np.uint64)
    addresses = [axis.address(int(position)) for position in edges[:-1]]
    map_ = _Map(addresses, begins)
    counts = np.zeros(count, np.int64)
    told = 0

    for block in tl.blocks():
        starts = of_rows.begins(block)
        epochs = block.epoch[starts]
        pages = of_rows.counts(block, tl.page_size, tl.iova)
        counts[epochs] += np.add.reduceat(pages, starts).astype(np.int64)
        map_.add(block, starts)
        told = _tell(progress, told, int(epochs[-1]))
    _tell(progress, told, count)

    return Summary(
        tl.page_size,
        of_rows.count(of_rows.of(union), tl.page_size, tl.iova),
        counts,
        tl.times() if tl.has_times else None,
        begins,
        addresses,
        map_.cover.T / np.diff(edges).astype(np.float64)[:, None] / np.diff(begins),
        union,
    )


def _tell(progress: Callable[[int], object] | None, told: int, done: int) -> int:
    """Tells of each epoch done, after those told of."""
    if progress is not None:
        for number in range(told, done):
            progress(number + 1)
    return done


class _Map:
    """How many bytes were dirty, by column of epochs and by part of the addresses."""

    def __init__(self, addresses: list[int], begins: Ints) -> None:
        """`addresses` are the first ones of the parts."""
        self.first = np.array(addresses, np.uint64)
        ends = np.append(self.first[1:], np.uint64(0))  # 2**64, which wraps
        self.last = (ends - of_rows.ONE)[: len(addresses)]
        lengths = self.last - self.first + of_rows.ONE  # one of 2**64 wraps, as its end does
        self.areas = of_rows.Rows(np.zeros(len(addresses), np.int64), self.first, lengths)
        self.column = np.repeat(np.arange(len(begins) - 1), np.diff(begins))  # of each epoch
        self.cover = np.zeros((len(begins) - 1, len(addresses)))

    def add(self, block: of_rows.Rows, starts: Ints) -> None:
        """Adds rows; `starts` are the first ones of each epoch."""
        part = self._part(block.iova)
        column = self.column[block.epoch[starts]]
        low, high = int(column[0]), int(column[-1]) + 1
        column = np.repeat(column - low, np.diff(np.append(starts, len(part))))
        length = block.length
        crossing = np.flatnonzero(block.last() > self.last[part])
        if len(crossing):
            whole = np.ones(len(part), np.bool_)
            whole[crossing] = False
            rows = of_rows.Rows(column[crossing], block.iova[crossing], length[crossing])
            pieces = of_rows.cut(rows, self.areas)
            part = np.concatenate((part[whole], self._part(pieces.iova)))
            column = np.concatenate((column[whole], pieces.epoch))
            length = np.concatenate((length[whole], pieces.length))
        size = (high - low) * len(self.first)
        dirty = np.bincount(column * len(self.first) + part, length.astype(np.float64), size)
        self.cover[low:high] += dirty.reshape(high - low, -1)

    def _part(self, iova: of_rows.Addresses) -> Ints:
        return np.searchsorted(self.first[1:], iova, side="right")
