"""Memory between inaccessible pages: a stray access ends in a signal and not in silence."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from typing import Any

HOST_PAGE = mmap.PAGESIZE
# Why this platform has none, or "".
UNSUPPORTED = (
    "inaccessible pages need mmap and mprotect of a POSIX libc" if sys.platform == "win32" else ""
)


def _libc() -> Any:
    if UNSUPPORTED:
        raise NotImplementedError(UNSUPPORTED)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


def _os_error(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")


def _unmap(libc: Any, pieces: list[tuple[int, int]]) -> None:
    for address, nbytes in pieces:
        libc.munmap(address, nbytes)


class GuardedMemory:
    """`npages` pages of private memory with an inaccessible page right before and right after.

    The buffers it gives hold it, and it is unmapped when the last of them is gone: what holds such
    a buffer can never be left with a dangling address. `address` is that of page 0.

    Raises `OSError` where the system refuses the memory, `NotImplementedError` on Windows.

    >>> memory = GuardedMemory(2)
    >>> len(memory.at_start(memory.nbytes)) == memory.nbytes
    True
    """

    READ_WRITE = 0 if UNSUPPORTED else mmap.PROT_READ | mmap.PROT_WRITE
    READ_ONLY = 0 if UNSUPPORTED else mmap.PROT_READ
    NO_ACCESS = 0

    def __init__(self, npages: int) -> None:
        self._libc = _libc()
        total = (npages + 2) * HOST_PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        start = self._libc.mmap(None, total, self.READ_WRITE, flags, -1, 0)
        if start in (None, ctypes.c_void_p(-1).value):
            raise _os_error(f"cannot map {total} bytes")
        self.npages = npages
        self.nbytes = npages * HOST_PAGE
        self.address: int = start + HOST_PAGE
        # What is still ours to unmap.
        self._pieces = [(start, total)]
        weakref.finalize(self, _unmap, self._libc, self._pieces)
        self.protect(-1, 1, self.NO_ACCESS)
        self.protect(npages, 1, self.NO_ACCESS)

    @classmethod
    def holding(cls, nbytes: int) -> GuardedMemory:
        """The fewest pages that hold `nbytes` bytes, 1 or more."""
        if nbytes < 1:
            raise ValueError(f"nbytes must be at least 1, not {nbytes}")
        return cls((nbytes - 1) // HOST_PAGE + 1)

    def protect(self, first_page: int, npages: int, protection: int) -> None:
        """Changes the protection of pages; page 0 is the first usable one, -1 the guard."""
        address = self.address + first_page * HOST_PAGE
        if self._libc.mprotect(address, npages * HOST_PAGE, protection) != 0:
            raise _os_error("mprotect")

    def buffer(self, offset: int, nbytes: int) -> Any:
        """A writable ctypes array over `nbytes` bytes from `offset`."""
        if offset < 0 or offset + nbytes > self.nbytes:
            raise ValueError(f"{offset} + {nbytes} is not inside {self.nbytes} bytes")
        array = (ctypes.c_ubyte * nbytes).from_address(self.address + offset)
        array.region = self  # type: ignore[attr-defined]  # keeps the mapping
        return array

    def at_start(self, nbytes: int) -> Any:
        """A buffer whose first byte is right after the inaccessible page."""
        return self.buffer(0, nbytes)

    def at_end(self, nbytes: int) -> Any:
        """A buffer whose last byte is right before the inaccessible page."""
        return self.buffer(self.nbytes - nbytes, nbytes)


class WatchedBuffer:
    """A buffer that ends at an inaccessible page; what lies before it is watched.

    Where `nbytes` is whole pages it also begins at an inaccessible page. Else the rest of its first
    page holds a pattern, and `check` tells which bytes of it were overwritten.
    """

    def __init__(self, nbytes: int) -> None:
        memory = GuardedMemory.holding(nbytes)
        self.nbytes = nbytes
        self.lead: Any = memory.buffer(0, memory.nbytes - nbytes)
        self._pattern = bytes((91 * i + 73) % 251 for i in range(len(self.lead)))
        self.lead[:] = self._pattern
        self.data = memoryview(memory.at_end(nbytes)).cast("B")

    def check(self) -> None:
        """Raises `AssertionError` where bytes before the buffer were written."""
        pairs = zip(self.lead, self._pattern, strict=True)
        changed = [i - len(self._pattern) for i, (now, then) in enumerate(pairs) if now != then]
        if changed:
            raise AssertionError(
                f"{len(changed)} bytes before a buffer of {self.nbytes} bytes were written, "
                f"at offsets {changed[0]} to {changed[-1]}"
            )
