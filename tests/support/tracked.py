"""Memory of every kind that a write tracker may be given, and what the kernel says about it."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.sources import WriteTracker

from .memory import HOST_PAGE, address_of

_probe = WriteTracker.probe()
needs_tracker = pytest.mark.skipif(not _probe, reason=_probe.reason or "works")


def _anonymous(nbytes: int):
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _shared(nbytes: int):
    return mmap.mmap(-1, nbytes)


def _memfd(nbytes: int):
    fd = os.memfd_create("tracked")
    try:
        os.ftruncate(fd, nbytes)
        return mmap.mmap(fd, nbytes)
    finally:
        os.close(fd)


def _file(nbytes: int):
    with tempfile.TemporaryFile() as file:
        file.truncate(nbytes)
        return mmap.mmap(file.fileno(), nbytes)


def _private_file(nbytes: int):
    with tempfile.TemporaryFile() as file:
        file.truncate(nbytes)
        return mmap.mmap(file.fileno(), nbytes, flags=mmap.MAP_PRIVATE)


def _transparent_huge(nbytes: int):
    """Private memory that is made of huge pages before anybody tracks it."""
    memory = _anonymous(nbytes)
    memory.madvise(mmap.MADV_HUGEPAGE)
    np.frombuffer(memory, np.uint8)[::HOST_PAGE] = 1
    if smaps_kib(memory, "AnonHugePages") < nbytes // 2 // 1024:
        pytest.skip("the kernel gave no transparent huge pages")
    return memory


KINDS = {
    "anonymous": _anonymous,
    "shared": _shared,
    "memfd": _memfd,
    "file": _file,
    "private file": _private_file,
    "transparent huge pages": _transparent_huge,
    "bytearray": bytearray,
}


def smaps_kib(buffer, field: str) -> int:
    """The sum of a field of /proc/self/smaps over the mappings of a buffer, in KiB."""
    start = address_of(buffer)
    end = start + len(buffer)
    total, inside = 0, False
    with Path("/proc/self/smaps").open(encoding="utf-8") as smaps:
        for line in smaps:
            key, value = line.split()[:2]
            if not key.endswith(":"):
                first, last = (int(part, 16) for part in key.split("-"))
                inside = first < end and last > start
            elif inside and key == f"{field}:":
                total += int(value)
    return total


def pages_of(buffer) -> np.ndarray:
    """A page-aligned buffer as rows, one for each host page."""
    return np.frombuffer(buffer, np.uint8).reshape(-1, HOST_PAGE)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def collected(tracker: WriteTracker, page_size: int = HOST_PAGE) -> list[int]:
    """What one collect gives for the whole buffer, as numbers of pages."""
    with ib.IOVABitmap(tracker.iova, tracker.length, page_size) as bm:
        newly = tracker.collect(bm)
        dirty = np.flatnonzero(bm.to_mask())
        assert newly == dirty.size
        return dirty.tolist()
