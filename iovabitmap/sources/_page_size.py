"""The size of the pages that memory of this process is made of.

The kernel tracks huge pages of hugetlb memory as one, and only /proc/self/smaps tells which memory
that is. Transparent huge pages are split at the first write, so they do not count here.
"""

import mmap
import sys
from collections.abc import Iterable
from pathlib import Path

HUGE_PAGE_POOLS = Path("/sys/kernel/mm/hugepages")
SMAPS = Path("/proc/self/smaps")


def page_size_at(address: int, length: int) -> int:
    """The largest page size in bytes of the mappings of [address, address + length)."""
    if not sys.platform.startswith("linux"):
        return mmap.PAGESIZE
    try:
        # Reading smaps walks page tables, which takes long in a large process.
        if not _has_huge_pages():
            return mmap.PAGESIZE
        with SMAPS.open(encoding="utf-8", errors="replace") as lines:
            return max(_page_sizes(lines, address, address + length), default=mmap.PAGESIZE)
    except OSError:  # no /proc or /sys here
        return mmap.PAGESIZE


def _has_huge_pages() -> bool:
    """Whether this system has, or may get, a page for hugetlb memory."""
    return any(
        int((pool / name).read_text()) > 0
        for pool in HUGE_PAGE_POOLS.glob("hugepages-*")
        for name in ("nr_hugepages", "nr_overcommit_hugepages")
    )


def _page_sizes(lines: Iterable[str], start: int, end: int) -> Iterable[int]:
    """KernelPageSize, in bytes, of each mapping that overlaps [start, end).

    A mapping begins with a line such as "7f0000000000-7f0000200000 rw-p ...", then come lines such
    as "KernelPageSize:     4 kB", in ascending order of addresses.
    """
    overlaps = False
    for line in lines:
        key, *values = line.split(maxsplit=2)
        if not key.endswith(":"):
            first, _, last = key.partition("-")
            if int(first, 16) >= end:
                return
            overlaps = int(last, 16) > start
        elif overlaps and key == "KernelPageSize:":
            yield int(values[0]) * 1024
