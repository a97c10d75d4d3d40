"""ProcessTracker: memory of this process that comes and goes, threads, and what is not tracked."""

from __future__ import annotations

import errno
import mmap
import os
import threading

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.sources import Probe, ProcessTracker, WriteTracker
from support.children import run_child
from support.layouts import pages, written
from support.memory import HOST_PAGE, address_of
from support.tracked import KINDS, open_descriptors

_probe = ProcessTracker.probe()
pytestmark = pytest.mark.skipif(not _probe, reason=_probe.reason or "works")

PRIVATE = ["anonymous", "private file"]


def private(nbytes: int, kind: str = "anonymous"):
    return KINDS[kind](nbytes)


def seen_in(tracker: ProcessTracker, buffer) -> set[int]:
    """The pages of a buffer that one collect gives."""
    start = address_of(buffer)
    end = start + len(buffer)
    return {address for (_, address) in written(tracker) if start <= address < end}


# --- what is tracked ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PRIVATE)
def test_memory_from_before_and_after_the_start(kind):
    before = private(64 * HOST_PAGE, kind)
    before[3 * HOST_PAGE] = 1
    with ProcessTracker() as tracker:
        assert seen_in(tracker, before) == set()
        before[5 * HOST_PAGE] = 1
        assert seen_in(tracker, before) == pages(address_of(before), 5)
        after = private(64 * HOST_PAGE, kind)
        after[7 * HOST_PAGE] = 1
        assert after[9 * HOST_PAGE] == 0  # read, not written
        assert seen_in(tracker, after) == pages(address_of(after), 7)
        after[9 * HOST_PAGE] = 1
        assert seen_in(tracker, after) == pages(address_of(after), 9)


@pytest.mark.parametrize("kind", ["shared", "memfd", "file"])
@pytest.mark.parametrize("shared", [False, True])
def test_shared_memory_where_asked_for(kind, shared):
    memory = KINDS[kind](64 * HOST_PAGE)
    with ProcessTracker(shared=shared) as tracker:
        memory[5 * HOST_PAGE] = 1
        assert seen_in(tracker, memory) == (pages(address_of(memory), 5) if shared else set())


def test_a_large_mapping_of_single_pages():
    """Thousands of results of the kernel's scan, over many calls, in one new mapping."""
    npages = 100_000
    memory = private(npages * HOST_PAGE)
    rows = np.frombuffer(memory, np.uint8).reshape(-1, HOST_PAGE)
    with ProcessTracker() as tracker:
        for first in (1, 0):
            rows[first::2, 7] = 1
            bm = ib.IOVABitmap(tracker.iova, tracker.length)
            tracker.collect(bm)
            (row,) = (
                r
                for r in tracker.layout()
                if r.address <= rows.ctypes.data + 4 * 2**20 < r.address + r.length
            )
            start = max(row.address, rows.ctypes.data)
            length = min(row.address + row.length, rows.ctypes.data + rows.nbytes) - start
            assert length > 300 << 20
            inside = bm.ranges(row.iova + start - row.address, length)
            assert (inside[:, 1] == HOST_PAGE).all()
            base = row.iova + rows.ctypes.data - row.address  # of the first page; maybe elsewhere
            numbers = [(iova - base) // HOST_PAGE for iova in inside[:, 0].tolist()]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers) * 2, 2))
            assert numbers[0] % 2 == first
            assert abs(len(numbers) - length // HOST_PAGE // 2) <= 1


def test_threads_and_their_stacks():
    """A thread's stack is named; writes of every thread are seen."""
    memory = private(64 * HOST_PAGE)
    go, done, end = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        go.wait()
        memory[11 * HOST_PAGE] = 1
        done.set()
        end.wait()

    thread = threading.Thread(target=work)
    with ProcessTracker() as tracker:
        thread.start()
        try:
            go.set()
            done.wait()
            assert seen_in(tracker, memory) == pages(address_of(memory), 11)
            names = {row.name for row in tracker.layout()}
            assert f"[stack:{thread.native_id}]" in names
            assert "[stack]" in names
        finally:
            end.set()
            thread.join()


def test_writes_of_threads_while_collecting():
    npages = 5000
    memory = private(npages * HOST_PAGE)
    rows = np.frombuffer(memory, np.uint8).reshape(-1, HOST_PAGE)
    order = np.random.default_rng(5).permutation(npages)
    done = threading.Event()

    def write() -> None:
        for part in np.array_split(order, 50):
            rows[part, 0] = 1
        done.set()

    thread = threading.Thread(target=write)
    seen: set[int] = set()
    with ProcessTracker() as tracker:
        thread.start()
        while not done.is_set():
            seen |= seen_in(tracker, memory)
        thread.join()
        seen |= seen_in(tracker, memory)
        assert seen == pages(address_of(memory), *range(npages))
        assert seen_in(tracker, memory) == set()


def test_mappings_that_come_and_go_while_collecting():
    """Another thread maps and unmaps all the time: nothing of it disturbs, nor stays behind."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            memory = private(50 * HOST_PAGE)
            memory[7 * HOST_PAGE] = 1
            memory.close()

    memory = private(64 * HOST_PAGE)
    thread = threading.Thread(target=churn)
    with ProcessTracker() as tracker:
        thread.start()
        try:
            for page in range(20):
                memory[page * HOST_PAGE] = 1
                bm = ib.IOVABitmap(tracker.iova, tracker.length)
                tracker.collect(bm)
                row = next(
                    r for r in tracker.layout() if 0 <= address_of(memory) - r.address < r.length
                )
                iova = row.iova + address_of(memory) - row.address
                assert bm.pages(iova, len(memory)).tolist() == [iova + page * HOST_PAGE]
        finally:
            stop.set()
            thread.join()


# --- what is not ----------------------------------------------------------------------------------


def test_its_own_bitmap_is_not_tracked():
    with ProcessTracker() as tracker:
        bits = tracker._pending.view()
        start, end = bits.ctypes.data, bits.ctypes.data + bits.nbytes
        for _ in range(3):
            assert not any(start <= address < end for (_, address) in written(tracker))


def test_a_bitmap_in_shared_memory_is_not_tracked():
    with ProcessTracker() as tracker:
        data = mmap.mmap(-1, ib.nbytes_for(tracker.length, HOST_PAGE))
        start, end = address_of(data), address_of(data) + len(data)
        bm = ib.IOVABitmap(tracker.iova, tracker.length, data=data)
        for _ in range(3):
            bm.reset()
            tracker.collect(bm)
        assert not any(start <= row.address < end for row in tracker.layout())


def test_memory_that_another_tracker_has():
    """It is theirs; the rest is tracked, and what is not is said."""
    theirs, ours = private(64 * HOST_PAGE), private(64 * HOST_PAGE)
    with WriteTracker(theirs) as other, ProcessTracker() as tracker:
        theirs[5 * HOST_PAGE] = 1
        ours[6 * HOST_PAGE] = 1
        found = written(tracker)
        assert pages(address_of(ours), 6) <= {address for (_, address) in found}
        assert not pages(address_of(theirs), 5) & {address for (_, address) in found}
        # A sanitizer's own memory is too large to be tracked.
        (missing,) = (each for each in tracker.untracked if "no room" not in each.reason)
        assert missing.pid == os.getpid() and "another userfaultfd" in missing.reason
        with ib.IOVABitmap(0, len(theirs)) as bm:
            assert other.collect(bm) == 1


def test_after_stop_nothing_is_protected():
    before = open_descriptors()
    memory = private(64 * HOST_PAGE)
    tracker = ProcessTracker()
    with tracker:
        assert open_descriptors() == before + 3
        memory[0] = 1
    assert open_descriptors() == before
    with WriteTracker(memory) as other, ib.IOVABitmap(0, len(memory)) as bm:  # free to be taken
        memory[5 * HOST_PAGE] = 1
        assert other.collect(bm) == 1


def test_a_failed_start_leaves_nothing(monkeypatch):
    before = open_descriptors()

    def fail(fd: int) -> None:
        raise OSError(errno.EINVAL, "no such feature")

    with monkeypatch.context() as patch:
        patch.setattr("iovabitmap.uapi.userfaultfd.enable", fail)
        with pytest.raises(OSError, match="no such feature"):
            ProcessTracker().start()
        assert ProcessTracker.probe() == Probe(False, "no such feature")
    assert open_descriptors() == before


def test_a_scan_that_fails(monkeypatch):
    """All of what it should have looked at counts as written."""
    memory = private(64 * HOST_PAGE)
    with ProcessTracker() as tracker:
        seen_in(tracker, memory)

        def fail(*arguments, **options):
            raise OSError(errno.EFAULT, "injected")

        with monkeypatch.context() as patch:
            patch.setattr("iovabitmap.uapi.pagemap.call", fail)
            with pytest.raises(OSError, match="injected"):
                tracker.collect(ib.IOVABitmap(tracker.iova, tracker.length))
        assert seen_in(tracker, memory) == pages(address_of(memory), *range(64))
        assert seen_in(tracker, memory) == set()


def test_in_a_real_child():
    """The child of fork has nothing of its parent's tracker, and may start anew."""
    run_child(
        """
        import mmap, os
        import iovabitmap as ib
        from iovabitmap.sources import ProcessTracker
        memory = mmap.mmap(-1, 64 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        tracker = ProcessTracker()
        tracker.start()
        memory[0] = 1
        getpid, parent = os.getpid, os.getpid()
        os.getpid = lambda: parent  # as in two PID namespaces
        if os.fork() == 0:
            bm = ib.IOVABitmap(tracker.iova, tracker.length)
            try:
                tracker.collect(bm)
            except ChildProcessError:
                os.getpid = getpid
                tracker.start()
                memory[4096] = 1
                os._exit(0 if tracker.collect(bm) > 0 else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        bm = ib.IOVABitmap(tracker.iova, tracker.length)
        assert tracker.started and tracker.collect(bm) > 0
        """
    ).assert_lived("a forked child")
