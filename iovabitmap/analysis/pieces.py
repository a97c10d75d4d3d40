"""Dirty memory as pieces: runs of pages of which each epoch dirtied all or none.

What is asked of each page of a series has one answer for all pages of a piece, so it is asked once
for each piece. There are at most twice as many pieces as runs, wherever in the addresses those lie:
cost follows what was dirty, never the range of addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._rows import merged
from .series import Runs, Series, numbers_of

Ints = NDArray[np.int64]


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
    """The pieces of a series. Sorts the ends of all its runs once."""
    runs = [epoch.runs for epoch in series]
    every = np.concatenate(runs)
    ends = every[:, 0] + every[:, 1]  # of pages: at most their number, which 64 bits hold
    edges = np.unique(np.concatenate([every[:, 0], ends]))
    begin, end = np.searchsorted(edges, every[:, 0]), np.searchsorted(edges, ends)
    many = len(edges)
    depth = np.cumsum(np.bincount(begin, minlength=many) - np.bincount(end, minlength=many))
    dirty = depth[:-1] > 0 if many else np.empty(0, np.bool_)
    # A run lies in dirty pieces only: where it begins, and how many it has, are enough.
    number = np.concatenate(([0], np.cumsum(dirty)))
    rows = np.stack([number[begin], end - begin], axis=1) if many else np.empty((0, 2), np.int64)
    borders = np.cumsum([len(each) for each in runs])[:-1]
    return Pieces(
        first=edges[:-1][dirty],
        pages=np.diff(edges)[dirty],
        runs=[each.astype(np.int64, copy=False) for each in np.split(rows, borders)],
    )
