"""fork() while a bitmap is held, its pages are pinned, a tracker is active, or other threads work.

Both sides keep right answers, and neither waits for a thread that only the other side has.
"""

from __future__ import annotations

import os
import textwrap

import pytest

from support.children import Result, run_child
from support.memory import needs_linux
from support.pins import require
from support.tracked import needs_tracker

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

SETUP = """
import ctypes, mmap, os, signal, threading, warnings
import numpy as np
import iovabitmap as ib

warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: threads and fork
HOST, PAGE = mmap.PAGESIZE, 4096

def in_child(work):
    \"\"\"Runs `work` in a forked child; it must end by itself, and well.\"\"\"
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # only against one that hangs
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"the child ended with {status}"

class Pin:
    held = 0
    def pin(self, address, npages):
        self.held += npages
        return npages
    def unpin(self, address, npages):
        self.held -= npages
"""


def forked(source: str, *arguments: str) -> Result:
    return run_child(SETUP + textwrap.dedent(source), *arguments)


@pytest.mark.parametrize("pin", ["none", "populate", "mlock", "object"])
@pytest.mark.parametrize("kind", ["private", "shared"])
def test_a_bitmap_with_a_window(pin, kind):
    """The child's marks are its own in private memory, and everybody's in shared memory."""
    require("none" if pin == "object" else pin)
    forked(
        """
    name, kind = sys.argv[1:]
    flags = mmap.MAP_PRIVATE if kind == "private" else mmap.MAP_SHARED
    memory = mmap.mmap(-1, 8 * HOST, flags=flags | mmap.MAP_ANONYMOUS)
    pin = Pin() if name == "object" else name
    bm = ib.alloc(0, 8 * HOST * 8 * PAGE, PAGE, memory, pin=pin, window_pages=2)
    bm.set(0, PAGE)
    rows = iter(bm.iter_ranges(batch=1))
    other = bm.copy()
    diff = bm.diff(other)

    def work():
        assert bm.window.npages == 2 and bm.count() == 1
        bm.set(bm.length - 1, 1)
        assert bm.count() == 2 and [r.tolist() for r in rows] == [
            [[0, PAGE]], [[bm.length - PAGE, PAGE]]
        ]
        assert diff.appeared_ranges().tolist() == [[bm.length - PAGE, PAGE]]
        assert bm.read_and_clear().shape == (2, 2) and not bm.any()
        bm.set(5 * PAGE, 1)
        bm.free()
        assert bm.stats.pins == bm.stats.unpins and bm.stats.pinned_pages == 0
        assert name != "object" or pin.held == 0
        memory.close()

    in_child(work)
    assert bm.pages().tolist() == ([0] if kind == "private" else [5 * PAGE])
    assert bm.window.base_index == 0 and bm.window.npages == 2
    in_child(bm.free)
    bm.free()
    assert bm.stats.pins == bm.stats.unpins
    """,
        pin,
        kind,
    ).assert_lived("fork with a window")


@needs_linux
def test_while_another_thread_locks_pages():
    """The list of locked pages has a lock: a child must not inherit it closed."""
    require("mlock")
    forked(
        """
    memory = np.zeros(15 * HOST, np.uint8)
    bm = ib.alloc(0, memory.size * 8 * PAGE, PAGE, memory, pin="mlock", window_pages=1)
    stop = threading.Event()

    def lock_and_unlock():
        while not stop.is_set():
            bm.count()

    threads = [threading.Thread(target=lock_and_unlock) for _ in range(2)]
    for thread in threads:
        thread.start()
    mine = ib.alloc(0, 8 * HOST * PAGE, PAGE, bytearray(HOST), pin="mlock")

    def work():
        mine.set(0, 1)
        assert mine.count() == 1
        mine.free()

    try:
        for _ in range(60):
            in_child(work)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    bm.free()
    assert bm.stats.pins == bm.stats.unpins
    """
    ).assert_lived("fork while pages are locked")


def test_while_another_thread_works_on_the_bitmap():
    """The child has the bitmap, but not the thread: it may use it and free it."""
    forked(
        """
    memory = np.zeros(1 << 24, np.uint8)
    memory[::8] = 0x81
    bm = ib.alloc(0, memory.size * 8 * PAGE, PAGE, memory)
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            assert bm.count() == memory.size // 4

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()

    def work():
        assert bm.count() == memory.size // 4
        bm.set(PAGE, 1)
        assert bm.count() == memory.size // 4 + 1
        assert len(bm.ranges(0, 8 * PAGE)) == 2
        bm.free()
        assert bm.freed

    try:
        for _ in range(20):
            in_child(work)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert bm.count() == memory.size // 4
    """
    ).assert_lived("fork while another thread works")


def test_while_other_threads_mark():
    """A thread that the child does not have may have been about to mark: the child marks all the
    same, in the present window too, and waits for nobody."""
    forked(
        """
    memory = np.zeros(1 << 24, np.uint8)
    bm = ib.alloc(0, memory.size * 8 * PAGE, PAGE, memory)
    stop = threading.Event()

    def mark():
        while not stop.is_set():
            bm.set(0, bm.length)
            bm.set(0, 1)

    bm.set(0, bm.length)
    threads = [threading.Thread(target=mark) for _ in range(3)]
    for thread in threads:
        thread.start()

    def work():
        bm.set(PAGE, 1)
        bm.set(0, bm.length)
        bm.clear(0, PAGE)
        assert bm.window.npages > 0
        assert bm.for_each(lambda *_: None, by_window=True) == 0
        bm.validate()
        assert bm.count() == memory.size * 8 - 1
        bm.set(0, PAGE)
        bm.free()
        assert bm.freed

    try:
        for _ in range(20):
            in_child(work)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    """
    ).assert_lived("fork while others mark")


@needs_linux
def test_a_child_with_its_parents_number():
    """Both are the first process of a PID namespace: a number does not tell them apart."""
    result = forked(
        """
    NEWPID = 0x20000000
    libc = ctypes.CDLL(None, use_errno=True)

    def first_of_a_namespace(work):
        if libc.unshare(NEWPID) != 0:
            print("skipped:", os.strerror(ctypes.get_errno()), flush=True)
            os._exit(0)
        in_child(work)

    class Waits(Pin):
        def pin(self, address, npages):
            entered.set()
            goes_on.wait()
            return super().pin(address, npages)

    entered, goes_on = threading.Event(), threading.Event()

    def parent():
        assert os.getpid() == 1
        bm = ib.IOVABitmap(0, 8 * PAGE, PAGE, pin=Waits())
        thread = threading.Thread(target=bm.count)
        thread.start()
        entered.wait()

        def child():
            assert os.getpid() == 1
            signal.alarm(60)  # ends it, if it waits for the thread that it does not have
            bm.free()
            assert bm.freed

        try:
            first_of_a_namespace(child)
        finally:
            goes_on.set()
            thread.join()

    first_of_a_namespace(parent)
    """
    )
    result.assert_lived("a child with its parent's number")
    if result.stdout.startswith("skipped:"):
        pytest.skip(result.stdout.strip())


@needs_tracker
def test_while_another_thread_collects():
    """What the child inherits of a tracker in use is unusable and says so; a new one works."""
    forked(
        """
    from iovabitmap.sources import WriteTracker
    memory = mmap.mmap(-1, 4096 * HOST, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages = np.frombuffer(memory, np.uint8).reshape(-1, HOST)
    tracker = WriteTracker(memory)
    tracker.start()
    bm = ib.IOVABitmap(0, len(memory))
    written, stop = set(), threading.Event()

    def collect():
        while not stop.is_set():
            tracker.collect(bm)

    thread = threading.Thread(target=collect)
    thread.start()

    def work():
        pages[7, 0] = 1
        try:
            tracker.collect(ib.IOVABitmap(0, len(memory)))
        except (RuntimeError, ChildProcessError):
            pass
        else:
            raise AssertionError("collected what only the parent sees")
        own = WriteTracker(memory)
        mine = ib.IOVABitmap(0, len(memory))
        with own:
            pages[9, 0] = 1
            assert own.collect(mine) == 1 and mine.test(9 * HOST)

    try:
        for n in range(20):
            pages[3 * n, 0] = 1
            written.add(3 * n * HOST)
            in_child(work)
    finally:
        stop.set()
        thread.join()
    tracker.collect(bm)
    tracker.stop()
    assert set(bm.pages().tolist()) == written
    """
    ).assert_lived("fork while a tracker collects")


@pytest.mark.parametrize("pin", ["none", "mlock", "object"])
def test_a_child_that_ends_like_any_program(pin):
    """Its interpreter shuts down, with all that it inherited."""
    require("none" if pin == "object" else pin)
    result = forked(
        """
    pin = Pin() if sys.argv[1] == "object" else sys.argv[1]
    bm = ib.alloc(0, HOST * 8 * PAGE, PAGE, bytearray(HOST), pin=pin)
    bm.set(0, 1)
    circle = [bm, bm.iter_ranges(), bm.diff(bm), bm.view()]
    circle.append(circle)
    pid = os.fork()
    if pid == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert bm.count() == 1
    """,
        pin,
    )
    result.assert_lived("a child that exits")
    assert result.stderr == ""
