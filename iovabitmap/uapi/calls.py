"""What the interfaces share: how a call is made, how input is refused, and memory for an answer.

A read of dirty bits makes the kernel forget them. So an answer never goes straight to the caller's
bitmap, whose memory may be a truncated file or too short for the words that the kernel writes: it
goes to memory of our own that is present before the call, and from there into the bitmap.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from typing import TYPE_CHECKING

from .. import _core

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from .._core import IOVABitmap

TOP = 1 << 64
U32 = 1 << 32

_PROT_NONE = 0
_NONE, _WRITE, _READ = 0, 1, 2


class RefusedError(OSError, ValueError):
    """Input that the kernel refuses, refused before the call; `errno` is the kernel's.

    Nothing was asked, so nothing was forgotten.
    """


def refuse(number: int, text: str) -> RefusedError:
    return RefusedError(number, text)


def io(kind: int, number: int) -> int:
    """The number of an ioctl whose argument's size is not part of it: C's _IO."""
    return (_NONE << 30) | (kind << 8) | number


def iow(kind: int, number: int, argument: type[ctypes.Structure]) -> int:
    """C's _IOW: the kernel reads the argument."""
    return (_WRITE << 30) | (ctypes.sizeof(argument) << 16) | (kind << 8) | number


def ior(kind: int, number: int, argument: type[ctypes.Structure]) -> int:
    """C's _IOR, by which Linux also calls some whose argument it reads."""
    return (_READ << 30) | (ctypes.sizeof(argument) << 16) | (kind << 8) | number


def iowr(kind: int, number: int, argument: type[ctypes.Structure]) -> int:
    """C's _IOWR: the kernel reads the argument and changes it."""
    return ((_WRITE | _READ) << 30) | (ctypes.sizeof(argument) << 16) | (kind << 8) | number


def call(fd: int, request: int, argument: ctypes.Structure | None = None) -> int:
    """One ioctl. The kernel may change `argument`; other threads run meanwhile.

    Raises OSError with the kernel's errno.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, "this system has no ioctl")
    result: int = fcntl.ioctl(fd, request, 0 if argument is None else argument)
    return result


def unsigned(value: int, name: str, limit: int = TOP) -> int:
    """`value`, if it is 0 to limit - 1: what would be cut off silently is an error."""
    if not 0 <= value < limit:
        raise ValueError(f"{name} must be 0 to {limit - 1:#x}, not {value}")
    return value


def check_end(iova: int, length: int, *, top_allowed: bool) -> None:
    """EOVERFLOW where a range ends beyond 2**64, or at it where the interface cannot say that."""
    unsigned(iova, "iova")
    unsigned(length, "length")
    limit = TOP if top_allowed else TOP - 1
    if iova + length > limit:
        raise refuse(
            errno.EOVERFLOW,
            f"range {iova:#x} (+{length:#x}) ends at {iova + length:#x}, "
            f"the last possible end is {limit:#x}",
        )


def check_aligned(value: int, name: str, page_size: int, what: str) -> None:
    if value % page_size != 0:
        raise refuse(errno.EINVAL, f"{name} {value:#x} is not a multiple of {page_size:#x}, {what}")


def check_power_of_two(page_size: int, smallest: int = 1) -> None:
    if page_size < smallest or page_size & (page_size - 1) != 0 or page_size >= TOP:
        raise refuse(
            errno.EINVAL,
            f"page_size must be a power of two and at least {smallest}, not {page_size}",
        )


def check_covers(bm: IOVABitmap, iova: int, length: int) -> None:
    """The bitmap can take the answer: else what the kernel forgot would be nowhere."""
    if bm.freed:
        raise ValueError("the bitmap is freed")
    if iova < bm.iova or iova + length > bm.end:
        error = _core.IOVARangeError(
            f"the bitmap {bm.iova:#x} (+{bm.length:#x}) does not cover {iova:#x} (+{length:#x})"
        )
        error.iova, error.length = iova, length
        raise error


def words_nbytes(npages: int) -> int:
    """Bytes of the 64-bit words that hold one bit for each page."""
    return (npages + 63) // 64 * 8


class Answer:
    """Zeroed memory for the bits of [iova, iova + length), whole 64-bit words of it.

    It is present before the kernel is asked, starts at a multiple of 8 bytes, and ends right before
    an inaccessible page: an interface that is not told the size, and writes more than was expected,
    fails instead of overwriting something.
    """

    def __init__(self, iova: int, length: int, page_size: int) -> None:
        npages = (length - 1) // page_size + 1
        self.nbytes = words_nbytes(npages)
        size = -(-self.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        memory = mmap.mmap(-1, size + mmap.PAGESIZE, flags=flags)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        _forbid(start + size, mmap.PAGESIZE)
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 0
        self.address = start + size - self.nbytes
        self.bitmap = _core.IOVABitmap(
            iova, length, page_size, memoryview(memory)[size - self.nbytes : size]
        )

    def deliver(self, bm: IOVABitmap) -> int:
        """Marks the answer in the caller's bitmap: how many of its pages were clean before.

        Where that fails the exception carries what was read as `harvested`, rows (iova, length):
        the kernel has forgotten it.
        """
        try:
            return bm.merge(self.bitmap)
        except Exception as error:
            error.harvested = self.bitmap.ranges()  # type: ignore[attr-defined]
            raise


def _forbid(address: int, nbytes: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), _PROT_NONE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
