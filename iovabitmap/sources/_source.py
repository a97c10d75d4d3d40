"""What all sources of more than one buffer share: one life, and one rule for what was found.

A look at the kernel makes it forget, so what was found is marked in `_pending`, a bitmap of the
source's own, before anything else is done. `collect` hands over from there, and only what a bitmap
took is taken away.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from .. import _core

if TYPE_CHECKING:
    from types import TracebackType
    from typing import ClassVar, Self

    import numpy as np
    import numpy.typing as npt

    from ._layout import LayoutRow, Untracked
    from .probe import Probe


class BaseSource(ABC):
    """A source of dirty pages: made, started, collected from, stopped.

    Attributes
    ----------
    iova, length : int
        The range that its pages lie in, in bytes.
    granularity : int
        Bytes that one write is seen as.
    """

    # Forks between the process that imported this and this one. Not the process id: a child in a
    # PID namespace of its own may have its parent's.
    _generation: ClassVar[int] = 0

    def __init__(self, iova: int, length: int, granularity: int = mmap.PAGESIZE) -> None:
        if length <= 0 or not 0 <= iova <= (1 << 64) - length:
            raise ValueError(
                f"iova {iova:#x} and length {length:#x} must be a range of at least 1 byte that "
                "ends at 2**64 or before"
            )
        self.iova = iova
        self.length = length
        self.granularity = granularity
        self._owner: int | None = None  # generation of the process that started it
        self._pending: _core.IOVABitmap | None = None
        self._lock = threading.RLock()

    # --- what each kind does ---

    @classmethod
    @abstractmethod
    def probe(cls) -> Probe:
        """Whether this machine can. Never raises."""

    @abstractmethod
    def _start(self) -> None:
        """From here on writes are seen. On failure nothing is left behind."""

    @abstractmethod
    def _stop(self, owner: bool) -> None:
        """Ends it; where not `owner`, this process only has copies of descriptors."""

    @abstractmethod
    def _find(self, pending: _core.IOVABitmap) -> None:
        """Marks what was written since the last time. What it cannot say counts as written."""

    @abstractmethod
    def layout(self) -> list[LayoutRow]:
        """Which memory the IOVA space stands for, ascending by iova; after `stop` as last known."""

    @property
    def untracked(self) -> list[Untracked]:
        """What should be tracked, and is not, with the reason; after `stop` as last known."""
        return []

    # --- the life ---

    @property
    def started(self) -> bool:
        """True between `start()` and `stop()`, in this process."""
        return self._owner == BaseSource._generation

    def start(self) -> None:
        """Begins; from here on writes are seen. Does nothing where it is started.

        Raises
        ------
        OSError
            What the system lacks. Nothing was begun.
        """
        with self._lock:
            if self.started:
                return
            if self._owner is not None:  # descriptors that came through fork()
                self._stop(owner=False)
                self._owner, self._pending = None, None
            if self._pending is None:
                self._pending = self._new_pending()
            self._start()
            self._owner = BaseSource._generation

    def stop(self) -> None:
        """Ends it. Does nothing where it is stopped. Writes not collected are forgotten, but for
        those that a bitmap could not take."""
        with self._lock:
            if self._owner is not None:
                self._stop(owner=self.started)
                self._owner = None

    def _new_pending(self) -> _core.IOVABitmap:
        # Shared memory: private memory is what some sources track, and this is not to be tracked.
        nbytes = _core.nbytes_for(self.length, self.granularity)
        return _core.IOVABitmap(self.iova, self.length, self.granularity, mmap.mmap(-1, nbytes))

    def collect(self, bm: _core.IOVABitmap) -> int:
        """Marks in `bm` the pages written since they were last collected, as far as it covers them.

        Pages outside of the bitmap wait, and so does all of a page that it covers in part: that
        part is marked each time. No write is lost: what an error kept from being marked comes with
        the next collect.

        Returns
        -------
        int
            Pages of the bitmap that were clean before.

        Raises
        ------
        RuntimeError
            Not started.
        ValueError
            The bitmap is freed. Nothing was looked at.
        PinError
            The bitmap's memory could not be pinned. The next collect has what it has not.
        OSError
            The system's. What could not be looked at counts as written at the next collect.
            ChildProcessError in a forked child, where the source is not started.
        """
        if not isinstance(bm, _core.IOVABitmap):
            raise TypeError(f"bm must be an IOVABitmap, not {type(bm)}")
        with self._lock:
            self._check_started()
            if bm.freed:
                raise ValueError("the bitmap is freed")
            pending = self._pending
            assert pending is not None
            self._find(pending)
            return deliver(pending, bm)

    def _check_started(self) -> None:
        if self._owner is None:
            raise RuntimeError(f"the {type(self).__name__} is not started")
        if not self.started:
            raise ChildProcessError(
                errno.ECHILD,
                f"the {type(self).__name__} was started by the parent of this process; "
                "start() begins anew",
            )

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
            f"<{type(self).__name__} {self.iova:#x}-{self.iova + self.length:#x} "
            f"granularity {self.granularity}, {'started' if self.started else 'stopped'}>"
        )


def deliver(pending: _core.IOVABitmap, bm: _core.IOVABitmap) -> int:
    """Moves marks to where `bm` covers them: how many of its pages were clean before."""
    first, end = max(pending.iova, bm.iova), min(pending.end, bm.end)
    if first >= end:
        return 0
    rows = pending.ranges(first, end - first)
    if not len(rows):
        return 0
    start = int(rows[0, 0])  # counted is no more than what may change
    length = int(rows[-1, 0]) + int(rows[-1, 1]) - start
    before = bm.count(start, length)
    bm.set_ranges(rows)
    newly = bm.count(start, length) - before
    pending.clear_ranges(_whole_pages(rows, pending))
    return newly


def _whole_pages(rows: npt.NDArray[np.uint64], pending: _core.IOVABitmap) -> npt.NDArray[np.uint64]:
    """Rows without the pages at the ends that they hold only a part of."""
    page_size = pending.page_size
    whole = rows.copy()
    first = int(whole[0, 0])
    skip = -(first - pending.iova) % page_size
    if skip:
        skip = min(skip, int(whole[0, 1]))
        whole[0] = first + skip, int(whole[0, 1]) - skip
    last, length = (int(value) for value in whole[-1])
    if last + length != pending.end:
        whole[-1, 1] = max(0, length - (last + length - pending.iova) % page_size)
    kept: npt.NDArray[np.uint64] = whole[whole[:, 1] != 0]
    return kept


def _count_fork() -> None:
    BaseSource._generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)
