"""Runs every operation on bitmaps flush to inaccessible pages. A child process does this.

A line is printed before each step, so that after a signal the last one names the operation, the
offset and the backend. Arguments: backend, side ("start" or "end").
"""

from __future__ import annotations

import copy
import pickle
import sys

import iovabitmap as ib

from .memory import HOST_PAGE, Region

OPERATIONS = {
    "alloc": lambda bm: None,
    "set all": lambda bm: bm.set(bm.iova, bm.length),
    "set first": lambda bm: bm.set(bm.iova, 1),
    "set last": lambda bm: bm.set(bm.end - 1, 1),
    "set across": lambda bm: bm.set(bm.iova + bm.length // 3, bm.length // 2),
    "set clipped": lambda bm: bm.set(max(0, bm.iova - 70), bm.length + 140, clip=True),
    "test_and_set": lambda bm: bm.test_and_set(bm.iova, bm.length),
    "test first": lambda bm: bm.test(bm.iova),
    "test last": lambda bm: bm.test(bm.end - 1),
    "count": lambda bm: bm.count(),
    "count last": lambda bm: bm.count(bm.end - 1, 1),
    "count part": lambda bm: bm.count(bm.iova + bm.length // 3),
    "ranges": lambda bm: bm.ranges(),
    "ranges last": lambda bm: bm.ranges(bm.end - 1),
    "ranges part": lambda bm: bm.ranges(bm.iova + bm.length // 3),
    "to_mask": lambda bm: bm.to_mask(),
    "view": lambda bm: bm.view().sum(),
    "clear part": lambda bm: bm.clear(bm.iova + bm.length // 3, bm.length // 2),
    "ranges of two": lambda bm: bm.ranges(),
    "copy": lambda bm: bm.copy(),
    "copy.copy": copy.copy,
    "pickle": pickle.dumps,
    "equal": lambda bm: bm == bm.copy(),
    "for_each": lambda bm: bm.for_each(lambda *_: None),
    "for_each by window": lambda bm: bm.for_each(lambda *_: None, by_window=True),
    "windows": lambda bm: list(bm.windows()),
    "repr": repr,
    "clear last": lambda bm: bm.clear(bm.end - 1, 1),
    "reset": lambda bm: bm.reset(),
    "set last again": lambda bm: bm.set(bm.end - 1, 1),
    "clear all": lambda bm: bm.clear(bm.iova, bm.length),
    "free": lambda bm: bm.free(),
}


def odd_offsets(backend: str):
    """Every odd offset in a page; fewer where each window costs a system call."""
    return range(1, HOST_PAGE, 2 if backend == "none" else 62)


def run(backend: str, side: str) -> int:
    region = Region(3)
    for offset in odd_offsets(backend):
        for npages in (1, 3):
            # At "end" the bitmap begins at this offset and ends at the inaccessible page; at
            # "start" it begins right after one and ends at an odd distance from a page.
            nbytes = npages * HOST_PAGE - offset
            data = region.at_end(nbytes) if side == "end" else region.at_start(nbytes)
            bm = ib.alloc(
                0x1000, nbytes * 8 - offset % 8, 1, data, window_pages=1 + npages % 2, pin=backend
            )
            for name, operation in OPERATIONS.items():
                sys.stdout.write(f"{name}, {nbytes} bytes at {side}, pin={backend}\n")
                sys.stdout.flush()
                operation(bm)
    return 0
