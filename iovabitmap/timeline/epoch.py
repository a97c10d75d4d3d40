"""One epoch of a Timeline, and the layout of raw bitmaps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .._base.paths import StrPath
from . import rows
from .rows import Addresses

if TYPE_CHECKING:
    from .._core import IOVABitmap
    from .readable import Readable


class Epoch:
    """One epoch: when it was, and which ranges were dirty in it.

    Made by ``tl[i]``. Rows are read when asked for: an epoch of a log needs the log to be open.

    Attributes
    ----------
    index : int
        Its number in the Timeline that it was taken from, from 0.

    Examples
    --------
    >>> import iovabitmap as ib
    >>> bm = ib.IOVABitmap.from_text("0-2,5", 0x1000, 0x10000, 4096)
    >>> epoch = ib.Timeline.of([(bm, 0, 500_000_000)])[0]
    >>> epoch.seconds, epoch.count()
    (0.5, 4)
    >>> epoch.ranges().tolist()
    [[4096, 12288], [24576, 4096]]
    """

    def __init__(self, timeline: Readable, index: int) -> None:
        self._timeline = timeline
        self.index = index

    @property
    def t_start_ns(self) -> int | None:
        """Its start, in nanoseconds of the recording host's CLOCK_MONOTONIC; None if unknown."""
        return self._time(0)

    @property
    def t_end_ns(self) -> int | None:
        """Its end, in nanoseconds as `t_start_ns`; None if unknown."""
        return self._time(1)

    def _time(self, which: int) -> int | None:
        tl = self._timeline
        return int(tl.times()[which][self.index]) if tl.has_times else None

    @property
    def seconds(self) -> float | None:
        """Its length in seconds; None if unknown."""
        start, end = self.t_start_ns, self.t_end_ns
        return None if start is None or end is None else (end - start) / 1e9

    def _rows(self) -> rows.Rows:
        return rows.join(self._timeline._blocks(self.index, self.index + 1))

    def ranges(self) -> Addresses:
        """The dirty ranges, rows (iova, length) of uint64, ascending: shape (n, 2)."""
        return self._rows().ranges()

    def count(self) -> int:
        """The number of dirty pages."""
        tl = self._timeline
        return rows.count(self._rows(), tl.page_size, tl.iova)

    def bitmap(self) -> IOVABitmap:
        """A bitmap of the Timeline's geometry in which these ranges are dirty."""
        return self._timeline._union(self.index, self.index + 1)

    def to_raw(self, path: StrPath) -> None:
        """Writes the bitmap as VFIO and KVM have it: 64-bit little-endian words, bit n of the
        bitmap in bit n % 64 of word n // 64, as many whole words as it takes. An existing file is
        replaced."""
        with self.bitmap() as bm, Path(path).open("wb") as file:
            write_words(bm, file)

    def __repr__(self) -> str:
        try:
            seconds = self.seconds
        except ValueError:  # of a log that is closed, or damaged
            seconds = None
        when = "" if seconds is None else f": {seconds:g} s from {self.t_start_ns} ns"
        return f"<Epoch {self.index}{when}>"


def write_words(bm: IOVABitmap, file: BinaryIO) -> None:
    """Writes a bitmap as whole 64-bit words."""
    bm.view().tofile(file)
    file.write(bytes(-bm.nbytes % 8))
