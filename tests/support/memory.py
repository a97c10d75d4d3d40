"""Memory whose neighbourhood is watched: inaccessible pages, guard bytes, exact offsets in a page.

Two kinds. `Region` lies between two inaccessible pages, so that a stray access is a signal (use it
in a child process where an engine at fault must not take the test run with it);
`Arena` is ordinary memory with a known pattern on both sides, so that a stray write is seen
afterwards, and works on every platform.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest

from iovabitmap.testing._guarded import HOST_PAGE, UNSUPPORTED, GuardedMemory

needs_mprotect = pytest.mark.skipif(bool(UNSUPPORTED), reason=UNSUPPORTED or "works")
needs_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="checks a behaviour of the Linux kernel"
)


def address_of(buffer) -> int:
    """Where the first byte of a writable buffer is in memory."""
    return np.frombuffer(buffer, np.uint8).ctypes.data


class Region(GuardedMemory):
    """Guarded memory whose pages can be unmapped, or locked past the engine."""

    def punch(self, page: int) -> None:
        """Unmaps one page: a hole in the address space. Once for each region."""
        ((start, total),) = self._pieces
        hole = self.address + page * HOST_PAGE
        after = hole + HOST_PAGE
        assert self._libc.munmap(hole, HOST_PAGE) == 0
        # Its addresses may be given to somebody else from now on.
        self._pieces[:] = [(start, hole - start), (after, start + total - after)]

    def lock(self) -> bool:
        """Asks the system itself to lock all of it in memory."""
        self._libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        return self._libc.mlock(self.address, self.nbytes) == 0


class Arena:
    """`nbytes` bytes at a chosen offset in a host page, with guard bytes on both sides.

    Guards and content come from a seeded generator, so no constant that a faulty engine happens to
    write looks untouched. `content` may be given as one byte value instead.
    """

    GUARD = 64

    def __init__(
        self, nbytes: int, pgoff: int = 0, *, content: int | None = 0, seed: int = 1
    ) -> None:
        generator = np.random.default_rng(seed)
        raw = np.empty(nbytes + 2 * self.GUARD + 2 * HOST_PAGE, np.uint8)
        raw[:] = generator.integers(0, 256, raw.size, np.uint8)
        lead = (pgoff - raw.ctypes.data - self.GUARD) % HOST_PAGE + self.GUARD
        self.raw = raw
        self.data = raw[lead : lead + nbytes]
        assert self.data.ctypes.data % HOST_PAGE == pgoff
        if content is not None:
            self.data[:] = content
        self._before = raw[:lead]
        self._after = raw[lead + nbytes :]
        self._expected = (self._before.copy(), self._after.copy())
        self.initial = self.data.copy()

    @property
    def address(self) -> int:
        return self.data.ctypes.data

    def assert_guards(self) -> None:
        """Neither a byte before the bitmap nor one after it has changed."""
        for name, now, before in (
            ("before", self._before, self._expected[0]),
            ("after", self._after, self._expected[1]),
        ):
            changed = np.flatnonzero(now != before)
            assert changed.size == 0, f"guard bytes {name} the bitmap changed: {changed[:8]}"


def locked_kib() -> int:
    """KiB of this process that are locked in memory, as the kernel counts them."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmLck:"):
            return int(line.split()[1])
    pytest.skip("/proc/self/status has no VmLck line")
