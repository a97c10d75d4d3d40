"""When memory was dirty before: what needs the history of each page, in one pass over a series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._core import _add_history, _add_hits
from .pieces import Pieces
from .series import Block

AT_ONCE = 1 << 18  # pieces


class Hits:
    """In how many epochs each piece was dirty.

    Attributes
    ----------
    found : array of int32
        That number of each piece.
    """

    def __init__(self, pieces: Pieces) -> None:
        self.found = np.zeros(len(pieces), np.int32)

    def add(self, block: Block) -> None:
        """Adds runs of pieces; those of one epoch do not overlap."""
        _add_hits((block.first.data, block.pages.data), self.found.data)


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
        n, pages = self._epochs, self._pieces.pages
        counts = np.zeros(n + 1, np.int64)
        for start in range(0, len(self._last), AT_ONCE):
            begin = self._last[start : start + AT_ONCE] + 1
            if pages is None:
                counts += np.bincount(begin, minlength=n + 1)
            else:
                np.add.at(counts, begin, pages[start : start + AT_ONCE].astype(np.int64))
        counts[0] = 0  # those that were never dirty
        epochs = np.arange(n + 1)
        bins = self._bins[n - epochs]
        self.begins[epochs, bins] += counts
        np.add.at(self.ends[n], bins, counts)

    def touched(self) -> int:
        """Pages that were ever dirty."""
        return int(self.newly.sum())
