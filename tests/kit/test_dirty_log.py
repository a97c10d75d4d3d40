"""verify_dirty_log passes what is right and names what is wrong.

A verifier that checks too little looks like one that works, so a right log is spoiled in every way
that we know, and each must be found.
"""

from __future__ import annotations

import mmap
import threading

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap import _core
from iovabitmap.sources import WriteTracker
from iovabitmap.testing import verify_dirty_log
from support.children import run_child
from support.memory import HOST_PAGE
from support.tracked import needs_tracker

NPAGES = 256
PAGE = 512  # of the snapshots, which know no pages of the host


class Snapshots:
    """A source that is right on any platform: compares memory with a copy, page by page.

    A page is copied once, then compared and kept: what is stored after that is in the next log.
    """

    def __init__(self, npages=NPAGES, page_size=PAGE):
        self.memory = bytearray(npages * page_size)
        self.now = np.frombuffer(self.memory, np.uint8).reshape(npages, page_size)
        self.kept = self.now.copy()
        self.page_size = page_size

    def take(self):
        """Numbers of the pages that changed."""
        seen = self.now.copy()
        changed = np.flatnonzero((seen != self.kept).any(axis=1))
        self.kept = seen
        return changed

    def rows(self, pages):
        return [(int(n) * self.page_size, self.page_size) for n in pages]

    def collect(self):
        return self.rows(self.take())

    def verify(self, collect=None, **options):
        return verify_dirty_log(
            self.memory, collect or self.collect, page_size=self.page_size, **options
        )


# --- what is right --------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("npages", [1, 7, 256])
def test_a_right_source(threads, npages):
    report = Snapshots(npages).verify(threads=threads, seed=5)
    assert report, report
    assert report.ok and report.missing == [] and report.extra == []
    assert (report.iteration, report.npages, report.threads, report.seed) == (
        32,
        npages,
        threads,
        5,
    )
    assert report.stores >= npages * threads and report.reads >= 65


@needs_tracker
@pytest.mark.parametrize("iova", [0, 2**64 - (1 << 20)])
def test_the_write_tracker(iova):
    memory = mmap.mmap(-1, 1 << 20)
    with WriteTracker(memory, iova=iova) as tracker:

        def collect():
            bm = ib.IOVABitmap(iova, len(memory))
            tracker.collect(bm)
            return bm

        report = verify_dirty_log(memory, collect, threads=3, iova=iova)
    assert report, report


def test_writers_run_while_the_interpreter_is_held():
    """PyDLL calls a C function with the GIL held. This one spins until a store by the writer lets
    it go on: a writer that needs the GIL would never make it."""
    run_child(
        """
        import ctypes, threading, time
        import numpy as np
        from iovabitmap import _core

        libc = ctypes.PyDLL(None)
        words = np.zeros(2, np.uint64)
        lock = ctypes.c_void_p(words.ctypes.data + 8)
        offsets = np.array([0, 8], np.uint64)
        for _ in range(50):
            words[:] = 0
            libc.pthread_spin_init(lock, 0)
            unlocked = int(words[1])
            libc.pthread_spin_lock(lock)
            assert words[1] != unlocked
            progress = np.zeros(1, np.uint64)
            thread = threading.Thread(target=_core._stamp, args=(
                words.data, offsets.data, unlocked, 2**28, progress.data))
            thread.start()
            while not progress[0]:
                time.sleep(0)
            print("waiting with the GIL held", flush=True)
            in_time = words[1] != unlocked
            libc.pthread_spin_lock(lock)
            thread.join()
            if in_time:
                break
        else:
            sys.exit("the second store never came while this thread ran")
        """
    ).assert_lived("storing without the GIL")


# --- the verifier's own mutations -----------------------------------------------------------------


def once(spoil):
    """Spoils one log only: the first of a later iteration that has something in it."""

    def spoil_once(source, rows):
        if rows and not source.spoiled and source.now.max() > 4:
            source.spoiled = True
            return spoil(source, rows)
        return rows

    return spoil_once


def drops_what_comes_during_the_harvest(source, rows):
    """Takes the copy to compare with anew, when a thread has stored into the memory since."""
    for _ in range(50):
        if (source.now != source.kept).any():
            break
    source.kept = source.now.copy()
    return rows


def gives_the_last_log(source, rows):
    answer, source.last = source.last, rows
    return answer


def gives_each_log_twice(source, rows):
    answer, source.last = source.last + rows, rows
    return answer


def shifted(pages):
    return lambda source, rows: [(max(iova + pages * PAGE, 0), size) for iova, size in rows]


# What it does to a log, and what the report must then name.
SPOILED = {
    "drops a page": (lambda source, rows: rows[1:], "missing"),
    "drops a page once": (once(lambda source, rows: rows[:-1]), "missing"),
    "drops the last page": (
        lambda source, rows: [row for row in rows if row[0] != (NPAGES - 1) * PAGE],
        "missing",
    ),
    "shifts by one page": (shifted(1), "missing, extra"),
    "shifts back by one page": (shifted(-1), "missing"),
    "shifts once": (once(shifted(1)), ""),
    "gives the last log": (gives_the_last_log, ""),  # which may have all pages of this one
    "gives each log twice": (gives_each_log_twice, "extra"),
    "gives every page": (lambda source, rows: source.rows(range(NPAGES)), "extra"),
    "gives one page too many": (lambda source, rows: [*rows, (7 * PAGE, 1)], "extra"),
    "gives nothing": (lambda source, rows: [], "missing"),
    "gives a page behind the memory": (
        lambda source, rows: [*rows, (NPAGES * PAGE, 1)],
        "extra",
    ),
    "forgets half of it": (lambda source, rows: rows[: len(rows) // 2], "missing"),
    "drops what comes during the harvest": (drops_what_comes_during_the_harvest, "missing"),
}


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_spoiled_log_is_found(how, seed):
    spoil, named = SPOILED[how]
    source = Snapshots()
    source.last, source.spoiled = [], False
    report = source.verify(lambda: spoil(source, source.collect()), seed=seed)
    assert not report and not report.ok
    assert report.missing or report.extra
    for what in filter(None, named.split(", ")):
        assert getattr(report, what)
    text = str(report)
    assert text.startswith(f"the log of iteration {report.iteration} is wrong\n")
    assert ("missing: " in text) is bool(report.missing)
    assert ("too many: " in text) is bool(report.extra)


def test_the_report_names_the_pages():
    source = Snapshots()
    report = source.verify(
        lambda: [row for row in source.collect() if row[0] // PAGE not in (3, 4, 200)], iova=0
    )
    assert report.iteration == 1
    assert report.missing == [(3 * PAGE, 2 * PAGE), (200 * PAGE, PAGE)]
    assert "missing: 3 pages: 3-4,200, from iova 0x600" in str(report)
    assert repr(report) == str(report)


def test_the_report_counts_from_the_iova():
    source = Snapshots()
    iova = 2**64 - NPAGES * PAGE

    def collect():
        return [(iova + start, size) for start, size in source.collect() if start != 255 * PAGE]

    report = source.verify(collect, iova=iova)
    assert report.missing == [(2**64 - PAGE, PAGE)]
    assert f"missing: 1 page: 255, from iova {2**64 - PAGE:#x}" in str(report)


def test_writes_meet_the_harvest():
    """With a harvest that does not end before a store was made, where one is still to come."""
    source = Snapshots()

    def collect():
        pages = source.take()
        for _ in range(50):
            if (source.now != source.kept).any():
                break
        return source.rows(pages)

    report = source.verify(collect, seed=4)
    assert report, report
    assert 0 < report.during <= report.stores


def test_the_seed_repeats_the_choice_of_pages():
    written = []
    for _ in range(2):
        source = Snapshots()
        assert source.verify(seed=11, iterations=9)
        written.append(source.memory)
    assert written[0] == written[1]
    other = Snapshots()
    assert other.verify(seed=12, iterations=9)
    assert other.memory != written[0]
    assert Snapshots().verify().seed != Snapshots().verify().seed


# --- arguments ------------------------------------------------------------------------------------


def test_what_collect_raises_is_raised():
    def collect():
        raise OSError("the device is gone")

    before = set(threading.enumerate())  # other tests' libraries leave some
    with pytest.raises(OSError, match="gone"):
        verify_dirty_log(bytearray(PAGE), collect, page_size=PAGE)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    "memory, options, error, match",
    [
        (bytearray(HOST_PAGE + 1), {}, ValueError, "whole pages"),
        (bytearray(0), {}, ValueError, "whole pages"),
        (bytes(HOST_PAGE), {}, ValueError, "read-only"),
        (memoryview(bytearray(64 + 4))[4:], {"page_size": 64}, ValueError, "multiple of 8"),
        (7, {}, TypeError, "bytes-like"),
        (bytearray(HOST_PAGE), {"threads": 0}, ValueError, "at least 1"),
        (bytearray(HOST_PAGE), {"iterations": 0}, ValueError, "at least 1"),
        (bytearray(48), {"page_size": 24}, ValueError, "page_size must be a power of two"),
        (bytearray(64), {"page_size": 16, "threads": 3}, ValueError, "at least 24 for 3 threads"),
    ],
)
def test_what_cannot_be_verified(memory, options, error, match):
    with pytest.raises(error, match=match):
        verify_dirty_log(memory, list, **options)


@pytest.mark.parametrize("answer", [None, 3, [1]])
def test_what_is_no_log(answer):
    with pytest.raises(TypeError, match=r"what collect\(\) gave must be a bitmap"):
        verify_dirty_log(bytearray(PAGE), lambda: answer, page_size=PAGE)


# --- the writer in C ------------------------------------------------------------------------------


def test_stamp_stores_in_order_and_counts():
    memory, progress = np.arange(8, dtype=np.uint64), np.zeros(2, np.uint64)
    _core._stamp(memory.data, [0, 24, 56], 2**64 - 1, 0, progress.data)
    assert memory.tolist() == [2**64 - 1, 1, 2, 2**64 - 1, 4, 5, 6, 2**64 - 1]
    assert progress.tolist() == [3, 0]


@pytest.mark.parametrize("offset", [4, 1, 64, 60, 2**64 - 8])
def test_stamp_stores_nothing_outside(offset):
    memory, progress = np.zeros(8, np.uint64), np.zeros(1, np.uint64)
    with pytest.raises(ValueError, match=f"offset {offset} is not 8 aligned bytes inside"):
        _core._stamp(memory.data, [0, offset], 1, 0, progress.data)
    assert not memory.any() and not progress.any()


def test_stamp_refuses_what_it_cannot_use():
    memory, progress = bytearray(64), bytearray(8)
    with pytest.raises(ValueError, match="progress must be 8 aligned bytes"):
        _core._stamp(memory, [0], 1, 0, bytearray(7))
    with pytest.raises(BufferError):
        _core._stamp(bytes(64), [0], 1, 0, progress)
    with pytest.raises(BufferError):
        _core._stamp(memory, [0], 1, 0, bytes(8))
    with pytest.raises(ValueError, match="value"):
        _core._stamp(memory, [0], -1, 0, progress)
    _core._stamp(memory, [], 1, 0, progress)
    assert not any(memory) and not any(progress)
