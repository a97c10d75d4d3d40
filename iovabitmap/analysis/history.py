"""When memory was dirty before: what needs the history of each page, in one pass over a series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._core import _add_history
from .pieces import Pieces
from .series import Block


class Hits:
    """In how many epochs each piece was dirty."""

    def __init__(self, pieces: Pieces) -> None:
        self._change = np.zeros(len(pieces) + 1, np.int32)

    def add(self, block: Block) -> None:
        """Adds runs of pieces; those of one epoch do not overlap."""
        np.add.at(self._change, block.first, 1)
        np.subtract.at(self._change, block.first + block.pages, 1)

    def found(self) -> NDArray[np.int32]:
        """The number of each piece; ends the counting."""
        return np.cumsum(self._change[:-1], dtype=np.int32, out=self._change[:-1])


class History:
    """How long memory was clean between the epochs in which it was dirty.

    A gap of a piece is a row of epochs in which it was clean: between two in which it was dirty,
    before the first or after the last. It has length 0 between neighbours. Counts are pages.

    Parameters
    ----------
    pieces : Pieces
    bins : array of int32, shape (epochs + 1,)
        The bin, from 0, of each length that a gap may have.

    Attributes
    ----------
    newly : array of int64, shape (epochs,)
        Pages dirty for the first time.
    ends : array of int64, shape (epochs + 1, bins)
        Of the gaps that end before this epoch; the last ones with the series, after `finish`.
    begins : array of int64, shape (epochs + 1, bins)
        Of the gaps that begin with this epoch.
    """

    def __init__(self, pieces: Pieces, bins: NDArray[np.int32]) -> None:
        self._pieces, self._bins = pieces, bins
        shape = len(bins), int(bins.max()) + 1
        self._epochs = len(bins) - 1
        self._last = np.full(len(pieces), -1, np.int32)
        self.newly = np.zeros(self._epochs, np.int64)
        self.ends, self.begins = np.zeros(shape, np.int64), np.zeros(shape, np.int64)

    def add(self, block: Block) -> None:
        """Adds runs of pieces, ascending by epoch."""
        n = self._epochs
        pages = self._pieces.pages
        _add_history(
            (block.epoch.data, block.first.data, block.pages.data),
            self._last.data,
            None if pages is None else pages.data,
            self._bins[:n].data,
            self.newly.data,
            self.ends[:n].data,
            self.begins[:n].data,
        )

    def finish(self) -> None:
        """Counts the gaps that last to the end of the series."""
        touched = np.flatnonzero(self._last >= 0)
        begin = self._last[touched] + 1
        pages = None if self._pieces.pages is None else self._pieces.pages[touched]
        counts = np.bincount(begin, pages, self._epochs + 1).astype(np.int64)
        bins = self._bins[self._epochs - np.arange(self._epochs + 1)]
        self.begins[np.arange(self._epochs + 1), bins] += counts
        np.add.at(self.ends[self._epochs], bins, counts)

    def touched(self) -> int:
        """Pages that were ever dirty."""
        return int(self.newly.sum())
