"""A Timeline in short: totals, dirty pages over time, and a map of addresses by time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .._core import _add_map
from . import rows as of_rows
from .axis import Axis, Floats
from .rows import Ints, Times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


class Counted(Protocol):
    """What a summary is made of: a `Timeline`."""

    def __len__(self) -> int: ...
    @property
    def iova(self) -> int: ...
    @property
    def page_size(self) -> int: ...
    @property
    def has_times(self) -> bool: ...
    def times(self) -> Times: ...
    def blocks(self) -> Iterator[of_rows.Rows]: ...
    def union_ranges(self) -> of_rows.Addresses: ...


def summarize(
    tl: Counted, rows: int, columns: int, progress: Callable[[int], object] | None
) -> Summary:
    """Reads a Timeline twice, a block at a time: first for its axis."""
    union = tl.union_ranges()
    axis = Axis(union)
    count = len(tl)
    columns = min(columns, count)
    begins = np.array([n * count // columns for n in range(columns + 1)] if columns else [0])
    edges = axis.edges(rows) if axis.size else np.zeros(1, np.uint64)
    addresses = [axis.address(int(position)) for position in edges[:-1]]
    first = np.array(addresses, np.uint64)
    column_of = np.repeat(np.arange(len(begins) - 1, dtype=np.int32), np.diff(begins))
    counts = np.zeros(count, np.int64)
    cover = np.zeros((len(begins) - 1, len(addresses)))
    told = 0

    for block in tl.blocks():
        _add_map(
            tuple(np.ascontiguousarray(column).data for column in block),
            tl.iova,
            tl.page_size,
            first.data,
            column_of.data,
            counts.data,
            cover.data,
        )
        told = _tell(progress, told, int(block.epoch[-1]))
    _tell(progress, told, count)

    return Summary(
        tl.page_size,
        of_rows.count(of_rows.of(union), tl.page_size, tl.iova),
        counts,
        tl.times() if tl.has_times else None,
        begins,
        addresses,
        cover.T / np.diff(edges).astype(np.float64)[:, None] / np.diff(begins),
        union,
    )


def _tell(progress: Callable[[int], object] | None, told: int, done: int) -> int:
    """Tells of each epoch done, after those told of."""
    if progress is not None:
        for number in range(told, done):
            progress(number + 1)
    return done
