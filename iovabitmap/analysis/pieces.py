"""Dirty memory as pieces: runs of pages of which each epoch dirtied all or none.

What is asked of each page of a series has one answer for all pages of a piece, so it is asked once
for each piece. There are at most twice as many pieces as runs, wherever in the addresses those lie:
cost follows what was dirty, never the range of addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._base.rows import merged
from .series import Runs, Series, numbers_of

Ints = NDArray[np.int64]

DENSE = 4  # pages for each run, up to which an array of all pages is cheaper than to sort the runs


@dataclass(frozen=True)
class Pieces:
    """The pages that were ever dirty, ascending, in pieces.

    Attributes
    ----------
    first : array of uint64
        The page at which each begins.
    pages : array of uint64
        How many pages each has.
    runs : list of arrays of int64, shape (n, 2)
        The dirty pieces of each epoch: rows (first piece, pieces), ascending and disjoint.
    """

    first: NDArray[np.uint64]
    pages: NDArray[np.uint64]
    runs: list[Ints]

    def __len__(self) -> int:
        return len(self.first)

    def dirty(self, epoch: int) -> Ints:
        """The numbers of the pieces that an epoch dirtied, ascending."""
        return numbers_of(self.runs[epoch])

    def sum(self, which: NDArray[np.bool_] | Ints | slice) -> int:
        """How many pages some of the pieces have."""
        return int(self.pages[which].sum())

    def rows(self, which: NDArray[np.bool_]) -> Runs:
        """Some of the pieces as runs of pages, those that touch in one."""
        return merged(np.stack([self.first[which], self.pages[which]], axis=1))


def pieces_of(series: Series) -> Pieces:
    """The pieces of a series, in a pass over the ends of all its runs."""
    every = np.concatenate([epoch.runs for epoch in series])
    edges, begin, end = _edges(every[:, 0], every[:, 0] + every[:, 1], series.npages)
    many = len(edges)
    depth = np.cumsum(np.bincount(begin, minlength=many) - np.bincount(end, minlength=many))
    dirty = depth[:-1] > 0 if many else np.empty(0, np.bool_)
    # A run lies in dirty pieces only: where it begins, and how many it has, are enough.
    number = np.concatenate(([0], np.cumsum(dirty)))
    rows = np.stack([number[begin], end - begin], axis=1) if many else np.empty((0, 2), np.int64)
    borders = np.cumsum([len(epoch.runs) for epoch in series])[:-1]
    return Pieces(
        first=edges[:-1][dirty], pages=np.diff(edges)[dirty], runs=np.split(rows, borders)
    )


def _edges(
    starts: NDArray[np.uint64], ends: NDArray[np.uint64], npages: int
) -> tuple[NDArray[np.uint64], Ints, Ints]:
    """Where runs start and end, ascending and each once, and for each run the numbers of both."""
    if npages <= DENSE * len(starts):  # fewer pages than rows take bytes: look up, and do not sort
        marked = np.zeros(npages + 1, np.bool_)
        marked[starts] = marked[ends] = True
        number = np.cumsum(marked, dtype=np.int32 if npages < 1 << 31 else np.int64) - 1
        found = [number[places].astype(np.int64) for places in (starts, ends)]
        return np.flatnonzero(marked).astype(np.uint64), found[0], found[1]
    edges, which = np.unique(np.concatenate([starts, ends]), return_inverse=True)
    which = which.astype(np.int64, copy=False)
    return edges, which[: len(starts)], which[len(starts) :]
