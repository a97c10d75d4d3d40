"""One epoch of a log, and the layout of raw bitmaps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .blocks import Addresses, Epochs, join

if TYPE_CHECKING:
    from .._base.paths import StrPath
    from .._core import IOVABitmap


class Epoch:
    """One epoch of a log: when it was, and which ranges were dirty in it.

    Made by ``log[i]``; rows are read when asked for, from the log, which must still be open.

    Attributes
    ----------
    index : int
        Its number in the log, from 0.
    t_start_ns, t_end_ns : int
        Nanoseconds of the recording host's CLOCK_MONOTONIC.
    seconds : float
        How long it was.

    Examples
    --------
    >>> epoch = log[0]  # doctest: +SKIP
    >>> epoch.ranges.tolist()  # doctest: +SKIP
    [[4096, 8192]]
    """

    def __init__(self, log: Epochs, index: int, t_start_ns: int, t_end_ns: int) -> None:
        self._log = log
        self.index = index
        self.t_start_ns = t_start_ns
        self.t_end_ns = t_end_ns

    @property
    def seconds(self) -> float:
        """Length of the epoch in seconds."""
        return (self.t_end_ns - self.t_start_ns) / 1e9

    @property
    def ranges(self) -> Addresses:
        """The dirty runs, rows (iova, length) of uint64, ascending: shape (n, 2). LogError where
        the rows are damaged."""
        blocks = list(self._log._blocks(self.index, self.index + 1))
        return join(blocks).rows()

    @property
    def pages(self) -> int:
        """The number of dirty pages."""
        page = np.uint64(self._log.page_size)
        lengths = self.ranges[:, 1]
        return int((lengths // page + (lengths % page != 0)).sum())

    def bitmap(self) -> IOVABitmap:
        """A bitmap of the log's geometry in which these ranges are dirty."""
        return self._log.union(self.index, self.index + 1)

    def to_raw(self, path: StrPath) -> None:
        """Writes the bitmap as VFIO and KVM have it: 64-bit little-endian words, bit n of the
        bitmap in bit n % 64 of word n // 64, as many whole words as it takes. An existing file is
        replaced."""
        with self.bitmap() as bm, Path(path).open("wb") as file:
            write_words(bm, file)

    def __repr__(self) -> str:
        return f"<Epoch {self.index}: {self.seconds:g} s from {self.t_start_ns} ns>"


def write_words(bm: IOVABitmap, file: BinaryIO) -> None:
    """Writes a bitmap as whole 64-bit words."""
    bm.view().tofile(file)
    file.write(bytes(-bm.nbytes % 8))
