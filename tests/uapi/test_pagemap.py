"""PAGEMAP_SCAN on memory of this process: what is found, and what is not lost by an error."""

from __future__ import annotations

import errno
import mmap
import os

import pytest

from iovabitmap.sources import ProcessTracker
from iovabitmap.uapi import pagemap as pm
from iovabitmap.uapi import userfaultfd as uffd
from support.memory import HOST_PAGE, address_of

_probe = ProcessTracker.probe()
pytestmark = pytest.mark.skipif(not _probe, reason=_probe.reason or "works")


def test_what_was_found_before_an_error_is_given():
    """A scan that fails has protected pages already: who asks would never hear of them again."""
    memory = mmap.mmap(-1, 64 * HOST_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start, written = address_of(memory), pm.PAGE_IS_WRITTEN
    pagemap, fd = os.open("/proc/self/pagemap", os.O_RDONLY), uffd.open_descriptor()
    try:
        uffd.enable(fd)
        uffd.register(fd, start, start + 32 * HOST_PAGE)

        def numbers(length: int, found: list, **how) -> None:
            for rows in pm.scan(
                pagemap, start, start + length * HOST_PAGE, returned=written, protect=True, **how
            ):
                found += ((rows[:, :2] - start) // HOST_PAGE).tolist()

        numbers(32, [], mask=written | pm.PAGE_IS_WPALLOWED)
        for page in (3, 4, 9, 40):
            memory[page * HOST_PAGE] = 1
        before: list = []
        with pytest.raises(OSError) as caught:
            numbers(64, before, mask=written, only_registered=True)
        assert caught.value.errno == errno.EPERM
        behind: list = []
        numbers(32, behind, mask=written | pm.PAGE_IS_WPALLOWED)
        assert before == [[3, 5], [9, 10]] and behind == []
    finally:
        os.close(pagemap)
        os.close(fd)
