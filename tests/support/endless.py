"""Many GiB of address space over little memory: the same pages again and again, or hardly any.

An operation on it takes as long as on real memory of that size, and a machine with little can run
it. Linux only.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref

import numpy as np

from iovabitmap.testing._guarded import _libc

PIECE = 1 << 25


class Endless:
    """`nbytes`, a multiple of 32 MiB, all of which are the same 32 MiB: as an array, `bytes`."""

    def __init__(self, nbytes: int, fill: np.ndarray | int = 0) -> None:
        assert nbytes % PIECE == 0
        libc = _libc()
        fd = os.memfd_create("endless")
        os.ftruncate(fd, PIECE)
        access = mmap.PROT_READ | mmap.PROT_WRITE
        noreserve = 0x4000
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | noreserve
        start = libc.mmap(None, nbytes, access, flags, -1, 0)
        for at in range(start, start + nbytes, PIECE):
            fixed = 0x10
            assert libc.mmap(at, PIECE, access, mmap.MAP_SHARED | fixed, fd, 0) == at
        os.close(fd)
        buffer = (ctypes.c_ubyte * nbytes).from_address(start)
        buffer.owner = self
        weakref.finalize(self, libc.munmap, start, nbytes)
        self.bytes = np.frombuffer(buffer, np.uint8)
        self.piece = self.bytes[:PIECE]
        self.refill(fill)

    def refill(self, fill: np.ndarray | int) -> None:
        self.piece[:] = fill


def sparse(nbytes: int, every: int) -> np.ndarray:
    """Private memory with one byte, 1, at each multiple of `every`; the rest is never touched."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    found = np.frombuffer(memory, np.uint8)
    found[::every] = 1
    return found
