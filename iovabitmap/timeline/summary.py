"""What a log says in short: totals, dirty pages over time, and a map of addresses by time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .axis import Axis, Floats

if TYPE_CHECKING:
    from collections.abc import Callable

    from .blocks import Addresses, Block, Epochs


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
    """

    page_size: int
    union_pages: int
    pages: npt.NDArray[np.int64]
    t_start_ns: npt.NDArray[np.int64]
    t_end_ns: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    addresses: list[int]
    density: Floats


def summarize(
    log: Epochs,
    *,
    rows: int = 16,
    columns: int = 60,
    progress: Callable[[int], object] | None = None,
) -> Summary:
    """Reads a log twice, a block at a time, and tells what is in it.

    Parameters
    ----------
    rows, columns : int
        How many the map has: about so many rows, at most so many columns.
    progress : callable, optional
        Called with the number of epochs done.
    """
    with log.union() as union:
        axis, union_pages = Axis(union.ranges()), union.count()
    count = len(log)
    columns = min(columns, count)
    begins = np.array([n * count // columns for n in range(columns + 1)] if columns else [0])
    edges = axis.edges(rows) if axis.size else np.zeros(1, np.uint64)
    cover = np.zeros((len(edges) - 1, columns))
    numbers = np.zeros((3, count), np.int64)

    for first, block in _epochs(log):
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
    )


def _epochs(log: Epochs) -> Any:
    """(epoch, rows of it in a block), ascending; an epoch may come in several blocks."""
    for block in log._blocks(0, len(log)):
        starts = np.flatnonzero(np.diff(block.epoch, prepend=-1)).tolist()
        for start, stop in pairwise([*starts, len(block.epoch)]):
            part: Block = block.part(start, stop)
            yield int(part.epoch[0]), part


def _pages(rows: Addresses, page_size: int) -> int:
    page = np.uint64(page_size)
    return int((rows[:, 1] // page + (rows[:, 1] % page != 0)).sum())
