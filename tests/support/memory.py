"""Memory whose neighbourhood is watched: inaccessible pages, guard bytes, exact offsets in a page.

Two kinds. `Region` is mapped by hand between two inaccessible pages, so that a stray access is a
signal (use it in a child process where an engine at fault must not take the test run with it);
`Arena` is ordinary memory with a known pattern on both sides, so that a stray write is seen
afterwards, and works on every platform.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

HOST_PAGE = mmap.PAGESIZE

needs_mprotect = pytest.mark.skipif(
    sys.platform == "win32", reason="inaccessible pages need mmap and mprotect of a POSIX libc"
)
needs_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="checks a behaviour of the Linux kernel"
)


def address_of(buffer) -> int:
    """Where the first byte of a writable buffer is in memory."""
    return np.frombuffer(buffer, np.uint8).ctypes.data


def _libc():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.munmap.argtypes = libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what} failed")


def _unmap(libc, pieces: list[tuple[int, int]]) -> None:
    for address, nbytes in pieces:
        libc.munmap(address, nbytes)


class Region:
    """`npages` pages of private memory with an inaccessible page right before and right after.

    The buffers it gives hold it, and it is unmapped when the last of them is gone: a bitmap that
    holds such a buffer can never be left with a dangling address.
    """

    READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE if sys.platform != "win32" else 0
    READ_ONLY = mmap.PROT_READ if sys.platform != "win32" else 0
    NO_ACCESS = 0

    def __init__(self, npages: int) -> None:
        self._libc = _libc()
        total = (npages + 2) * HOST_PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        start = self._libc.mmap(None, total, self.READ_WRITE, flags, -1, 0)
        if start in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap failed")
        self.npages = npages
        self.nbytes = npages * HOST_PAGE
        self.address = start + HOST_PAGE
        # What is still ours to unmap: a hole is taken out of the list when it is made, because
        # its addresses may be given to somebody else from then on.
        self._pieces = [(start, total)]
        weakref.finalize(self, _unmap, self._libc, self._pieces)
        self.protect(-1, 1, self.NO_ACCESS)
        self.protect(npages, 1, self.NO_ACCESS)

    def protect(self, first_page: int, npages: int, protection: int) -> None:
        """Changes the protection of pages; page 0 is the first usable one, -1 the guard."""
        address = self.address + first_page * HOST_PAGE
        _checked(self._libc.mprotect(address, npages * HOST_PAGE, protection), "mprotect")

    def punch(self, page: int) -> None:
        """Unmaps one page: a hole in the address space. Once for each region."""
        ((start, total),) = self._pieces
        hole = self.address + page * HOST_PAGE
        after = hole + HOST_PAGE
        _checked(self._libc.munmap(hole, HOST_PAGE), "munmap")
        self._pieces[:] = [(start, hole - start), (after, start + total - after)]

    def buffer(self, offset: int, nbytes: int):
        """A writable buffer over `nbytes` bytes from `offset`."""
        assert offset >= 0 and offset + nbytes <= self.nbytes
        array = (ctypes.c_ubyte * nbytes).from_address(self.address + offset)
        array.region = self
        return array

    def lock(self) -> bool:
        """Asks the system itself to lock all of it in memory, past the engine."""
        return self._libc.mlock(self.address, self.nbytes) == 0

    def at_start(self, nbytes: int):
        """A buffer whose first byte is right after the inaccessible page."""
        return self.buffer(0, nbytes)

    def at_end(self, nbytes: int):
        """A buffer whose last byte is right before the inaccessible page."""
        return self.buffer(self.nbytes - nbytes, nbytes)


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
