"""ProcessTracker: which pages of this process were written, whatever memory they are."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from typing import TYPE_CHECKING

from .. import _core
from ..uapi import userfaultfd as uffd
from . import maps
from ._address_space import AddressSpace
from ._memory import MostMemory
from ._placement import Packed
from ._source import BaseSource
from .probe import Probe, probed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..timeline import Memory
    from ._address_space import History
    from ._layout import LayoutRow, Untracked

DEFAULT_LENGTH = 1 << 38


class ProcessTracker(BaseSource):
    """Tracks writes to all private writable memory of this process: Linux 6.7 and later.

    Heap, stacks of threads, data of libraries, anonymous memory and private mappings of files;
    mappings are found as they come, and are given a place in one IOVA space, which `layout()` maps
    back to addresses and names.

    Parameters
    ----------
    iova : int
        Where the IOVA space begins: a multiple of the page size.
    length : int
        Its size in bytes. Each 2 MiB of addresses that ever held such memory takes 2 MiB of it for
        good; what finds no room is listed by `untracked`.
    shared : bool
        Track shared writable mappings too: writes of this process through them.

    Notes
    -----
    The interpreter and the tracker itself run in this process and write its memory too. The
    tracker's own bitmap is not tracked; a bitmap given to `collect` is memory of the process like
    any other, unless it was made in shared memory: `IOVABitmap(..., data=mmap.mmap(-1, nbytes))`.

    Pages that a mapping brought with it are written if they are in memory at the first look after
    it was made, and are neither the page of zeros nor the file's own page.

    Raises
    ------
    ValueError
        iova or length do not fit.

    Examples
    --------
    >>> import mmap
    >>> import iovabitmap as ib
    >>> from iovabitmap.sources import ProcessTracker
    >>> with ProcessTracker() as tracker:
    ...     memory = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ...     memory[0x5000] = 1
    ...     bm = ib.IOVABitmap(tracker.iova, tracker.length)
    ...     tracker.collect(bm) > 0
    True
    """

    def __init__(
        self, *, iova: int = 0, length: int = DEFAULT_LENGTH, shared: bool = False
    ) -> None:
        super().__init__(iova, length)
        self._placement = Packed(iova, length, shared=shared)
        self._space: AddressSpace | None = None
        self._memory = MostMemory()
        self._ever: History = {}
        self._last_layout: list[LayoutRow] = []  # of the time before the last stop
        self._last_untracked: list[Untracked] = []

    @classmethod
    def probe(cls) -> Probe:
        """Whether this machine can: a round trip on memory of its own. Never raises."""
        return probed(_round_trip)

    def _start(self) -> None:
        fds: list[int] = []
        try:
            fds.append(uffd.open_descriptor())
            fds += (os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("pagemap", "maps"))
            three = fds[0], fds[1], fds[2]
            space = AddressSpace(0, os.getpid(), three, self._placement, self._ever)
            space.arm()
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        self._space = space

    def _stop(self, owner: bool) -> None:
        assert self._space is not None
        self._last_layout, self._last_untracked = self.layout(), self.untracked
        space, self._space = self._space, None
        if owner:
            self._memory.measure([space])
            space.disarm()
        else:
            self._ever = {}  # that of another process
            self._memory = MostMemory()
        self._memory.forget(space)
        space.close()

    def _find(self, pending: _core.IOVABitmap) -> None:
        assert self._space is not None
        self._space.find(pending)

    def layout(self) -> list[LayoutRow]:
        """Which memory the IOVA space stands for, ascending by iova.

        Rows of mappings that are gone stay; where something else came to the same addresses there
        are rows for both. The stacks of threads are named "[stack:ID]" where they could be found.
        After `stop` all is as it was last known.
        """
        with self._lock:
            if self._space is None:
                return list(self._last_layout)
            return sorted(named(self._space.rows(), _stack_pointers()))

    def memory(self) -> Memory | None:
        """How much memory is tracked: the most that was seen resident at once, and what was mapped
        then; None before `start`. It is measured now, and by `stop`."""
        with self._lock:
            if self._space is not None:
                self._memory.measure([self._space])
            return self._memory.found

    @property
    def untracked(self) -> list[Untracked]:
        """Memory that should be tracked, and is not, as of the last look, with the reason."""
        with self._lock:
            return list(self._last_untracked if self._space is None else self._space.untracked)


def named(rows: Iterable[LayoutRow], stacks: dict[int, int]) -> list[LayoutRow]:
    """Gives anonymous rows that hold a stack pointer the name of the thread."""
    return [_named(row, stacks) for row in rows]


def _named(row: LayoutRow, stacks: dict[int, int]) -> LayoutRow:
    if row.name == "anonymous":
        for thread, pointer in stacks.items():
            if row.address <= pointer < row.address + row.length:
                return row._replace(name=f"[stack:{thread}]")
    return row


def _stack_pointers() -> dict[int, int]:
    """Of this process's threads: those that wait tell it, and Python's have their own."""
    pointers = maps.thread_stacks("self")
    for thread in threading.enumerate():
        if thread.native_id is not None and thread.native_id != os.getpid() and thread.ident:
            pointers.setdefault(thread.native_id, thread.ident)  # glibc: at the stack's top
    return pointers


def _round_trip() -> Probe:
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 4 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    with ProcessTracker() as tracker:
        for written in ([], [1], [1, 2], [3]):
            with _core.IOVABitmap(tracker.iova, tracker.length) as bm:
                for i in written:
                    memory[i * page] = 1
                tracker.collect(bm)
                (iova,) = (
                    row.iova + address - row.address
                    for row in tracker.layout()
                    if row.address <= address < row.address + row.length
                )
                seen = [i for i in range(4) if bm.test(iova + i * page)]
            if seen != written:
                return Probe(False, f"the kernel saw {seen} where pages {written} were written")
    return Probe(True, "")
