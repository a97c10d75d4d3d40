"""What one operation works on, made anew each time, and what must hold of it afterwards.

A `World` has the bitmap `bm` over memory that the test watches, and whatever else operations take:
a second bitmap of the same geometry, one of another page size, arrays of rows, a write tracker.
"""

from __future__ import annotations

import mmap

import numpy as np

import iovabitmap as ib
from iovabitmap.sources import WriteTracker

from .memory import HOST_PAGE

BASE = 0x1800
PAGE = 4096
TRACKED_PAGES = 16
TRACKS = bool(WriteTracker.probe())


class World:
    """`npages` host pages of bitmap, the last one a part of one, with runs of all sorts.

    `pin` and `window_pages` are those of `bm`; `sparse` leaves all but a few pages untouched;
    `memory` is zeroed memory to use.
    """

    def __init__(
        self, pin="none", *, npages=4, window_pages=1, sparse=False, tracks=False, memory=None
    ) -> None:
        nbytes = npages * HOST_PAGE - 1001
        self.nbits = nbytes * 8 - 3
        self.mapping = memory
        if memory is None:
            self.mapping = mmap.mmap(-1, npages * HOST_PAGE, flags=mmap.MAP_PRIVATE)
        self.memory = np.frombuffer(self.mapping, np.uint8)
        bits = self.memory[:nbytes]
        bits[nbytes - 1] = 0xE0  # behind the last page, and never to change
        for first in (0, 5, HOST_PAGE - 2, nbytes - 200):
            bits[first : first + 3] = 0x5B, 0xFF, 0x07
        if not sparse:
            bits[300 : nbytes - 300 : 7] = 0x91
        self.length = self.nbits * PAGE - 5
        geometry = (BASE, self.length, PAGE)
        self.bm = ib.alloc(*geometry, bits, pin=pin, window_pages=window_pages)
        self.other = ib.IOVABitmap(*geometry)
        self.into = ib.IOVABitmap(BASE - 0x800, self.length + 0x1000, 2048)
        middle = BASE + self.nbits // 2 * PAGE
        self.part = (BASE + 100 * PAGE + 7, self.length // 2)
        self.outside = (BASE + self.length - 1, 2)
        starts = np.array([middle, BASE, BASE + self.length - 9, middle + PAGE], np.uint64)
        self.rows = np.stack([starts, np.full(4, 9, np.uint64)], axis=1)
        self.addresses = starts
        for start, length in self.rows.tolist():
            self.other.set(start, 3 * length, clip=True)
        self.out = np.zeros((self.nbits // 2 + 1, 2), np.uint64) if not sparse else None
        self.tracked = self.tracker = None
        if tracks:
            self.tracked = mmap.mmap(-1, TRACKED_PAGES * HOST_PAGE, flags=mmap.MAP_PRIVATE)
            self.tracker = WriteTracker(self.tracked, iova=BASE)
            self.tracker.start()
            for page in (1, 2, 9):
                self.tracked[page * HOST_PAGE] = 1
        self.stats_then = self.other.stats, self.into.stats

    @property
    def content(self) -> np.ndarray:
        """All of the memory, that behind the bitmap too, without the engine."""
        return self.memory.copy()

    @property
    def moved(self) -> set[int]:
        """The pages that `into` has of the bitmap, as bits of it."""
        return {
            (address - BASE) // PAGE for address in self.into.pages().tolist() if address >= BASE
        }

    def close(self) -> None:
        """Frees all, and looks whether every pin was given back."""
        if self.tracker is not None:
            self.tracker.stop()
        for bm in (self.bm, self.other, self.into):
            bm.free()
            stats = bm.stats
            assert stats.pins == stats.unpins and stats.pinned_pages == 0, stats
        if hasattr(self.bm.pin, "assert_balanced"):
            self.bm.pin.assert_balanced()


def plain(result: object) -> object:
    """A result as a value that can be compared with that of another world."""
    if isinstance(result, np.ndarray):
        return result.tolist()
    if isinstance(result, ib.IOVABitmap):
        if result.freed:
            return "freed"
        return result.iova, result.length, result.page_size, result.view().tobytes()
    if isinstance(result, (list, tuple)):
        return [plain(item) for item in result]
    if isinstance(result, (bool, int, float, str, bytes, type(None))):
        return result
    return type(result).__name__


def assert_between(now: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    """Every bit is as it was, or as the whole operation would have made it."""
    strange = (now ^ before) & ~(before ^ after)
    where = np.flatnonzero(strange)
    assert where.size == 0, f"bits of bytes {where[:5]} are neither as before nor as after"
