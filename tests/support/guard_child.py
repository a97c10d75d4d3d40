"""Runs every operation on bitmaps flush to inaccessible pages. A child process does this.

A line is printed before each step, so that after a signal the last one names the operation, the
offset and the backend. Arguments: backend, side ("start" or "end").
"""

from __future__ import annotations

import copy
import operator
import pickle
import sys

import numpy as np

from .memory import HOST_PAGE, Region
from .under_test import ib

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
    "clean ranges": lambda bm: bm.ranges(dirty=False),
    "ranges out": lambda bm: bm.ranges(out=np.empty((bm.count_ranges(), 2), np.uint64)),
    "iter_ranges": lambda bm: list(bm.iter_ranges(batch=7)),
    "any, all": lambda bm: (bm.any(), bm.all(), bm.any(bm.end - 1), bm.all(bm.end - 1)),
    "find": lambda bm: (bm.find_dirty(bm.iova), bm.find_clean(bm.iova), bm.find_clean(bm.end - 1)),
    "pages part": lambda bm: bm.pages(bm.end - bm.length // 9),
    "histogram": lambda bm: bm.histogram(13),
    "to_text": lambda bm: bm.to_text(),
    "set_ranges": lambda bm: bm.set_ranges([(bm.end - 1, 9), (bm.iova - 5, 9)], clip=True),
    "clear_ranges": lambda bm: bm.clear_ranges([(bm.end - 70, 99), (bm.iova, 65)], clip=True),
    "set_pages": lambda bm: bm.set_pages([bm.end - 1, bm.iova]),
    "algebra": lambda bm: (bm & bm.copy(), bm.count_xor(bm.copy()), bm.diff(bm.copy())),
    "algebra in place": lambda bm: operator.ior(bm, bm.copy()),
    "merge": lambda bm: bm.merge(bm.copy()),
    "read_and_clear part": lambda bm: bm.read_and_clear(bm.end - bm.length // 9),
    "read_and_clear into": lambda bm: bm.read_and_clear(into=bm.copy()),
    "set all again": lambda bm: bm.set(bm.iova, bm.length),
    "read_and_clear": lambda bm: bm.read_and_clear(),
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
    """Every odd offset in a page; fewer for the model, or where a window costs a system call."""
    if ib.name == "model":
        return range(1, HOST_PAGE, 510)
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
