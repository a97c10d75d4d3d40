"""Dirty memory as pieces: runs of pages of which each epoch dirtied all or none.

What is asked of each page of a series has one answer for all pages of a piece, so it is asked once
for each piece. If there are many runs for the pages of the range, each page is a piece. Else there
are at most twice as many pieces as runs, wherever in the addresses those lie: cost follows what was
dirty, never the range of addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from .._base.rows import merged
from .series import Block, Pages, Runs, Series

DENSE = 4  # pages for each run, up to which each page is a piece
HELD_RUNS = 1 << 22  # of a series that is then read once; a larger one may be read twice


class Pieces:
    """The pages of a series in pieces, ascending; and its runs as runs of pieces.

    Attributes
    ----------
    pages : array of uint64, or None
        How many pages each piece has; None: one each. A piece may be of pages never dirty.
    """

    def __init__(self, count: int, blocks: Iterable[Block], edges: Pages | None) -> None:
        self._count = count
        self._blocks = blocks
        self._edges = edges
        self.pages = None if edges is None else np.diff(edges)

    def __len__(self) -> int:
        return self._count

    def blocks(self) -> Iterator[Block]:
        """All runs, in which the first piece and the number of pieces stand for pages. Once."""
        for block in self._blocks:
            if self._edges is None:
                yield block
            else:
                first = np.searchsorted(self._edges, block.first)
                end = np.searchsorted(self._edges, block.first + block.pages)
                yield Block(block.epoch, first.astype(np.uint64), (end - first).astype(np.uint64))

    def sum(self, which: NDArray[np.bool_]) -> int:
        """How many pages some of the pieces have."""
        if self.pages is None:
            return int(np.count_nonzero(which))
        return int(self.pages[which].sum())

    def rows(self, which: NDArray[np.bool_]) -> Runs:
        """Some of the pieces as runs of pages, those that touch in one."""
        if self._edges is None or self.pages is None:
            ends = np.flatnonzero(np.diff(which, prepend=False, append=False)).reshape(-1, 2)
            return np.column_stack((ends[:, 0], ends[:, 1] - ends[:, 0])).astype(np.uint64)
        return merged(np.column_stack((self._edges[:-1][which], self.pages[which])))


def pieces_of(series: Series) -> Pieces:
    """The pieces of a series. Holds so many runs at most as HELD_RUNS or a quarter of the range's
    pages, whichever is less; a longer series whose pages are many more is read twice."""
    source = series.blocks()
    edges = _Edges()
    held: list[Block] = []
    count = 0
    for block in source:
        held.append(block)
        count += len(block.first)
        if series.npages <= DENSE * count:
            return Pieces(series.npages, chain(_emptied(held), source), None)
        if count > HELD_RUNS:
            for each in chain(_emptied(held), source):
                edges.add(each)
            return _between(edges.found(), series.blocks())
    for each in held:
        edges.add(each)
    return _between(edges.found(), held)


def _between(edges: Pages, blocks: Iterable[Block]) -> Pieces:
    return Pieces(max(len(edges) - 1, 0), blocks, edges)


def _emptied(held: list[Block]) -> Iterator[Block]:
    """The blocks, each of which is let go of when the next one is asked for."""
    held.reverse()
    while held:
        yield held.pop()


class _Edges:
    """Where runs start and end, ascending and each once."""

    def __init__(self) -> None:
        self._found = np.empty(0, np.uint64)
        self._waiting: list[Pages] = []
        self._count = 0

    def add(self, block: Block) -> None:
        self._waiting += [block.first, block.first + block.pages]
        self._count += 2 * len(block.first)
        if self._count > len(self._found):  # so each edge is sorted a few times only
            self.found()

    def found(self) -> Pages:
        self._found = np.unique(np.concatenate([self._found, *self._waiting]))
        self._waiting, self._count = [], 0
        return self._found
