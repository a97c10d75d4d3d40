"""Sources under `verify_dirty_log`: writers run without the GIL while the source is read."""

from __future__ import annotations

import mmap

import pytest

import iovabitmap as ib
from iovabitmap.sources import ProcessTracker, SnapshotDiff, WriteTracker
from support.memory import address_of

testing = pytest.importorskip("iovabitmap.testing", reason="this package has no testing kit")

NBYTES = 4 << 20


def of_buffer(memory, source):
    """A bitmap of the buffer, whose first byte is at the source's iova."""

    def collect() -> ib.IOVABitmap:
        bm = ib.IOVABitmap(0, NBYTES)
        source.collect(bm)
        return bm

    return collect


def of_process(memory, source):
    """Rows of what the process wrote, cut to the buffer."""
    start = address_of(memory)

    def collect() -> list[tuple[int, int]]:
        bm = ib.IOVABitmap(source.iova, source.length)
        source.collect(bm)
        found = []
        for row in source.layout():
            first, end = max(row.address, start), min(row.address + row.length, start + NBYTES)
            if first < end:
                dirty = bm.ranges(row.iova + first - row.address, end - first).tolist()
                found += [(iova - row.iova + row.address - start, n) for iova, n in dirty]
        return found

    return collect


@pytest.mark.parametrize(
    "make, rows",
    [
        (WriteTracker, of_buffer),
        (SnapshotDiff, of_buffer),
        (lambda memory: ProcessTracker(length=1 << 36), of_process),
    ],
    ids=["WriteTracker", "SnapshotDiff", "ProcessTracker"],
)
def test_verified(make, rows):
    memory = mmap.mmap(-1, NBYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    source = make(memory)
    if not source.probe():
        pytest.skip(source.probe().reason)
    with source:
        collect = rows(memory, source)
        collect()
        report = testing.verify_dirty_log(memory, collect, iterations=16, seed=11)
    assert report, report
