"""WriteTracker: which pages of a buffer of this process were written."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

from .. import _core
from ._layout import LayoutRow, Untracked
from ._page_size import page_size_at
from .probe import Probe, probed

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, SupportsIndex

    from typing_extensions import Buffer


class WriteTracker(_core._WriteTracker):
    """Tracks writes to a buffer of this process, whoever in it makes them: Linux 6.7 and later.

    Parameters
    ----------
    buffer : buffer
        Contiguous memory: an mmap, a bytearray, a NumPy array, ... It is held, so it can be neither
        closed nor resized, until the tracker is gone. It need not begin or end at a page: the
        pages at its edges are tracked whole, so they also report a neighbour's writes there.
    iova : int
        Where byte 0 of the buffer is, as guest memory is placed; iova + length may be 2**64.

    Notes
    -----
    Made from userfaultfd's asynchronous write protection and PAGEMAP_SCAN, which need no privilege.
    The first write to a page after `start`, and after each `collect` that reported it, takes some
    microseconds more. Nothing is armed before `start`; `stop`, the end of a `with` block, and
    losing the tracker leave the memory unprotected. A buffer that itself refers to its tracker
    forms a cycle that the collector cannot see: stop such a tracker yourself.

    Seen are writes through this process's own mapping of the buffer, by its instructions and by
    system calls such as read(2). Not seen are writes to shared memory by another process, or
    through another mapping of it, nor holes punched into it.

    Raises
    ------
    ValueError
        The buffer is empty, or iova + length is beyond 2**64.
    TypeError, BufferError
        Not a buffer, or not contiguous.

    Examples
    --------
    >>> import mmap
    >>> import iovabitmap as ib
    >>> from iovabitmap.sources import WriteTracker
    >>> memory = mmap.mmap(-1, 1 << 20)
    >>> bm = ib.IOVABitmap(0x1000_0000, len(memory))
    >>> with WriteTracker(memory, iova=0x1000_0000) as tracker:
    ...     memory[0x5000] = 1
    ...     tracker.collect(bm)
    1
    >>> [[hex(n) for n in row] for row in bm.ranges().tolist()]
    [['0x10005000', '0x1000']]
    """

    __slots__ = ("__weakref__",)

    def __new__(cls, buffer: Buffer, *, iova: SupportsIndex = 0) -> Self:
        return super().__new__(cls, buffer, iova, page_size_at(*cls._locate(buffer)))

    @classmethod
    def probe(cls) -> Probe:
        """Whether this machine can track writes: a round trip on memory of its own.

        Never raises. The reason says what is missing.
        """
        return probed(_round_trip)

    def layout(self) -> list[LayoutRow]:
        """Which memory the IOVA space stands for: one row, the buffer in this process."""
        return [LayoutRow(self.iova, self.length, self.address, os.getpid(), "buffer")]

    @property
    def untracked(self) -> list[Untracked]:
        """Memory that should be tracked, and is not: none."""
        return []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return (
            f"<WriteTracker {self.iova:#x}-{self.iova + self.length:#x} "
            f"granularity {self.granularity}, {'started' if self.started else 'stopped'}>"
        )


def _round_trip() -> Probe:
    """Writes pages of scratch memory, and looks whether just these are reported, twice.

    A kernel can accept every call and still see nothing, so the calls alone prove nothing.
    """
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 4 * page)
    memory[2 * page] = 1  # one page that is there before, others that are not
    with WriteTracker(memory) as tracker:
        for written in ([], [1], [1, 2], [3]):
            with _core.IOVABitmap(0, len(memory), page) as bm:
                for i in written:
                    memory[i * page] = 1
                tracker.collect(bm)
                seen = [i for i in range(4) if bm.test(i * page)]
            if seen != written:
                return Probe(False, f"the kernel saw {seen} where pages {written} were written")
    return Probe(True, "")
