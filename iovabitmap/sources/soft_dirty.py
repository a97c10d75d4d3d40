"""SoftDirty: which pages a process wrote, by the kernel's soft-dirty bits."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import _core
from .._base.interval_arrays import intersect, rows_of
from . import maps
from ._layout import NO_ROOM, LayoutRow, Untracked, piece_name
from ._placement import NoRoomError, Packed, Piece
from ._source import BaseSource
from .probe import Probe, probed
from .process_tracker import DEFAULT_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from .._base.interval_arrays import Rows
    from .maps import Mapping

_CLEAR_SOFT_DIRTY = b"4"
_ENTRY_NBYTES = 8
_SOFT_DIRTY, _FILE, _SWAPPED, _PRESENT = (np.uint64(1 << bit) for bit in (55, 61, 62, 63))
_STEP_PAGES = 1 << 16


class SoftDirty(BaseSource):
    """Tracks the private writable memory of a running process by soft-dirty bits: Linux 3.11.

    Parameters
    ----------
    pid : int
        The process. Its memory must be this user's to look at, as for a debugger.
    iova, length : int
        The IOVA space, as with `ProcessTracker`.
    freeze : bool, optional
        Stop the process (SIGSTOP) while its bits are read and cleared, which are two steps: what it
        writes between them would be lost. By default every process except this one, which cannot
        stop itself.

    Notes
    -----
    There is one set of soft-dirty bits for each process: who else clears them (CRIU, a second
    tracker) takes pages from this one.

    Memory of mappings that are new counts as written where it is populated and not the file's own
    page; pages of zeros that were only read count too, for the bits do not tell them apart.

    Raises
    ------
    ValueError
        iova or length do not fit, pid is not above 0, or this process shall freeze itself.
    """

    def __init__(
        self,
        pid: int,
        *,
        iova: int = 0,
        length: int = DEFAULT_LENGTH,
        freeze: bool | None = None,
    ) -> None:
        super().__init__(iova, length)
        if pid <= 0:
            raise ValueError(f"pid must be above 0, not {pid}")
        if freeze and pid == os.getpid():
            raise ValueError("freeze=True is for other processes: this one cannot stop itself")
        self.pid = pid
        self._placement = Packed(iova, length)
        self._freeze = pid != os.getpid() if freeze is None else freeze
        self._known = rows_of([])
        self._rows: dict[int, LayoutRow] = {}
        self._no_room: list[Mapping] = []

    @classmethod
    def probe(cls) -> Probe:
        """Whether this machine can: a round trip on memory of its own. Never raises.

        Writing to clear_refs succeeds also where soft-dirty bits are compiled out, and then every
        page reads as clean: only a page that is written, and seen, proves anything.
        """
        return probed(_round_trip)

    def _start(self) -> None:
        with self._frozen():
            self._known = rows_of((m.start, m.end) for m, _ in self._mappings())
            self._clear()

    def _stop(self, owner: bool) -> None:
        del owner

    def _find(self, pending: _core.IOVABitmap) -> None:
        with self._frozen(), Path(f"/proc/{self.pid}/pagemap").open("rb", buffering=0) as pagemap:
            mappings = self._mappings()
            for mapping, pieces in mappings:
                for start, entries in _entries(pagemap.fileno(), mapping):
                    self._mark(self._written(start, entries), pieces, pending)
            self._clear()
        self._known = rows_of((mapping.start, mapping.end) for mapping, _ in mappings)

    def _written(self, start: int, entries: npt.NDArray[np.uint64]) -> Rows:
        """Addresses of the pages from `start` on that were written."""
        dirty = (entries & _SOFT_DIRTY) != 0
        populated = (entries & (_PRESENT | _SWAPPED)) != 0
        certain = dirty & populated & ((entries & _FILE) == 0)
        # A new mapping is soft-dirty as a whole: of its other pages the bit says nothing.
        rows = intersect(_runs(start, dirty & ~certain), self._known)[0]
        return rows_of([*rows.tolist(), *_runs(start, certain).tolist()])

    def _mark(self, rows: Rows, pieces: list[Piece], pending: _core.IOVABitmap) -> None:
        places = np.array(pieces, np.uint64).reshape(-1, 3)
        inside, index = intersect(rows, places[:, :2])
        marks = np.empty_like(inside)
        marks[:, 0] = places[index, 2] + (inside[:, 0] - places[index, 0])
        marks[:, 1] = inside[:, 1] - inside[:, 0]
        pending.set_ranges(marks)

    def _mappings(self) -> list[tuple[Mapping, list[Piece]]]:
        """What is tracked now, and where it lies."""
        found = []
        self._no_room = []
        for mapping in maps.of_process(self.pid):
            if not self._placement.wants(mapping):
                continue
            try:
                pieces = self._placement.place(0, mapping)
            except NoRoomError:
                self._no_room.append(mapping)
                continue
            found.append((mapping, pieces))
            for start, end, iova in pieces:
                name = mapping.name or "anonymous"
                self._rows[iova] = LayoutRow(iova, end - start, start, self.pid, name)
        return found

    def _clear(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_bytes(_CLEAR_SOFT_DIRTY)

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[None]:
        """The process stands still inside, if it is to; one that was stopped already stays so."""
        if not self._freeze or _all_stopped(self.pid):
            yield
            return
        os.kill(self.pid, signal.SIGSTOP)
        try:
            while not _all_stopped(self.pid):
                os.sched_yield()  # it stops at once, or when it returns from the kernel
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def layout(self) -> list[LayoutRow]:
        """Which memory the IOVA space stands for, ascending by iova."""
        with self._lock:
            return sorted(self._rows.values())

    @property
    def untracked(self) -> list[Untracked]:
        """Mappings that found no room in the IOVA space, as of the last scan."""
        with self._lock:
            return [
                Untracked(
                    self.pid, piece_name(each.name or "anonymous", each.start, each.end), NO_ROOM
                )
                for each in self._no_room
            ]


def _entries(pagemap: int, mapping: Mapping) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
    """The pagemap entries of a mapping's pages, in parts, each with its first address."""
    step = _STEP_PAGES * mmap.PAGESIZE
    for start in range(mapping.start, mapping.end, step):
        npages = (min(start + step, mapping.end) - start) // mmap.PAGESIZE
        content = os.pread(pagemap, npages * _ENTRY_NBYTES, start // mmap.PAGESIZE * _ENTRY_NBYTES)
        yield start, np.frombuffer(content, np.uint64)


def _runs(start: int, pages: npt.NDArray[np.bool_]) -> Rows:
    """The true pages, counted from address `start`, as rows (start, end)."""
    edges = np.flatnonzero(np.diff(pages, prepend=False, append=False)).astype(np.uint64)
    return np.uint64(start) + edges.reshape(-1, 2) * np.uint64(mmap.PAGESIZE)


def _all_stopped(pid: int) -> bool:
    """Whether each thread is stopped, by a signal or a tracer. OSError where it is gone."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread ended
            state = (task / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            if state not in "TtZX":
                return False
    return True


def _round_trip() -> Probe:
    """Twice clear, write some pages and leave others, and look whether just these are seen."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 4 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for i in range(4):
        memory[i * page] = 1
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        for written in ([1], [], [0, 3]):
            Path("/proc/self/clear_refs").write_bytes(_CLEAR_SOFT_DIRTY)
            for i in written:
                memory[i * page] = 2
            content = os.pread(pagemap.fileno(), 4 * _ENTRY_NBYTES, address // page * _ENTRY_NBYTES)
            seen = np.flatnonzero(np.frombuffer(content, np.uint64) & _SOFT_DIRTY).tolist()
            if seen != written:
                return Probe(
                    False,
                    f"the kernel's soft-dirty bits show pages {seen} where {written} were written "
                    "(it is built without CONFIG_MEM_SOFT_DIRTY?)",
                )
    return Probe(True, "")
