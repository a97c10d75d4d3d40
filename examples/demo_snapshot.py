"""What the demonstration does where the kernel cannot track writes: compare memory with a copy.

It works everywhere, but reads all of the memory each time, needs as much again, and takes a page
for clean when what was written to it is what was there before.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import iovabitmap as ib

CHUNK_PAGES = 1024  # compared at once: what is read is still in the cache when it is compared


class Snapshot:
    """Has what the demonstration uses of WriteTracker. The buffer is whole pages."""

    def __init__(self, buffer: mmap.mmap) -> None:
        self.granularity = mmap.PAGESIZE
        self._pages = np.frombuffer(buffer, np.uint64).reshape(-1, mmap.PAGESIZE // 8)
        self._copy = self._pages[:0]

    def __enter__(self) -> Self:
        self._copy = self._pages.copy()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._copy = self._pages[:0]

    def collect(self, bm: ib.IOVABitmap) -> int:
        newly = 0
        for start in range(0, len(self._pages), CHUNK_PAGES):
            # Copied before it is compared: a write in between is in the next copy.
            now = self._pages[start : start + CHUNK_PAGES].copy()
            old = self._copy[start : start + CHUNK_PAGES]
            changed = np.flatnonzero((now != old).any(axis=1))
            old[:] = now
            for page in (start + changed).tolist():
                newly += bm.test_and_set(page * self.granularity, self.granularity)
        return newly
