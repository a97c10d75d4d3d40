"""WriteTracker loses no write: what waits for which bitmap, and what an error leaves for later."""

from __future__ import annotations

import errno

import pytest

import iovabitmap as ib
from iovabitmap.sources import WriteTracker
from support.children import run_child
from support.memory import HOST_PAGE
from support.pins import AnsweringPin, FaultyPin
from support.tracked import KINDS, collected, needs_tracker

pytestmark = needs_tracker

NPAGES = 16


@pytest.fixture
def memory():
    return KINDS["anonymous"](NPAGES * HOST_PAGE)


def write(memory, *pages: int) -> None:
    for page in pages:
        memory[page * HOST_PAGE] = 1


# --- which bitmap gets what -----------------------------------------------------------------------


def test_bitmaps_of_parts(memory):
    """Each gets what it covers, and the page that two of them share goes to both."""
    base = 0x5000_0000
    cut = 5 * HOST_PAGE + 100
    with WriteTracker(memory, iova=base) as tracker:
        left = ib.IOVABitmap(base - HOST_PAGE, cut + HOST_PAGE, 1)
        right = ib.IOVABitmap(base + cut, 20 * HOST_PAGE, 1)  # ends behind the buffer
        write(memory, 2, 5, 9)
        assert tracker.collect(left) == HOST_PAGE + 100
        assert tracker.collect(left) == 0
        write(memory, 5)
        assert tracker.collect(right) == HOST_PAGE - 100 + HOST_PAGE
        assert left.ranges().tolist() == [
            [base + 2 * HOST_PAGE, HOST_PAGE],
            [base + cut - 100, 100],
        ]
        assert right.ranges().tolist() == [
            [base + cut, HOST_PAGE - 100],
            [base + 9 * HOST_PAGE, HOST_PAGE],
        ]
        left.reset()
        assert tracker.collect(left) == 100  # the second write to page 5, kept for it
        assert tracker.collect(right) == 0


@pytest.mark.parametrize("iova", [0, 2**40, 2**64 - 4096])
def test_no_overlap(memory, iova):
    with WriteTracker(memory, iova=2**32) as tracker, ib.IOVABitmap(iova, 4096) as bm:
        write(memory, 0, NPAGES - 1)
        assert tracker.collect(bm) == 0
        assert bm.count() == 0
        with ib.IOVABitmap(2**32 + len(memory), 4096) as behind:
            assert tracker.collect(behind) == 0
        assert collected(tracker) == [0, NPAGES - 1]


def test_marks_add_up_and_newly_counts(memory):
    with WriteTracker(memory) as tracker, ib.IOVABitmap(0, len(memory)) as bm:
        bm.set(HOST_PAGE, 1)
        write(memory, 1, 2)
        assert tracker.collect(bm) == 1
        assert bm.count() == 2


# --- errors keep what was written -----------------------------------------------------------------


def test_a_bad_bitmap_is_refused_before_the_scan(memory):
    with WriteTracker(memory) as tracker:
        write(memory, 3)
        freed = ib.IOVABitmap(0, len(memory))
        freed.free()
        with pytest.raises(ValueError, match="freed"):
            tracker.collect(freed)
        for wrong in (None, bytearray(10), object()):
            with pytest.raises(TypeError, match="IOVABitmap"):
                tracker.collect(wrong)
        assert collected(tracker) == [3]


def test_pin_error(memory):
    """All before its iova is marked; the rest comes with the next collect."""
    pin = FaultyPin([None, -errno.ENOMEM])
    with (
        WriteTracker(memory, iova=1000) as tracker,
        ib.IOVABitmap(1000, len(memory), 1, window_pages=1, pin=pin) as bm,
    ):
        write(memory, 1, 3, 14)  # a page of the bitmap holds the bits of eight of the memory
        with pytest.raises(ib.PinError) as raised:
            tracker.collect(bm)
        error = raised.value
        assert (error.errno, error.newly) == (errno.ENOMEM, 2 * HOST_PAGE)
        assert error.iova + error.length == 1000 + len(memory)
        assert 1000 + 4 * HOST_PAGE <= error.iova <= 1000 + 14 * HOST_PAGE
        write(memory, 0, 14)
        assert tracker.collect(bm) == 2 * HOST_PAGE
        assert bm.count() == 4 * HOST_PAGE
        assert tracker.collect(bm) == 0


def test_what_a_bitmap_could_not_take_goes_to_another(memory):
    with WriteTracker(memory) as tracker:
        write(memory, *range(1, NPAGES, 2))
        bm = ib.IOVABitmap(0, len(memory), pin=FaultyPin([-errno.EFAULT]))
        with pytest.raises(ib.PinError) as raised:
            tracker.collect(bm)
        # All before iova is answered: page 0 is clean.
        assert (raised.value.iova, raised.value.newly) == (HOST_PAGE, 0)
        tracker.stop()
        tracker.start()
        assert collected(tracker) == list(range(1, NPAGES, 2))
        assert collected(tracker) == []


@pytest.mark.parametrize("exception", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_any_exception_of_a_pin(memory, exception):
    with WriteTracker(memory) as tracker:
        write(memory, 4)
        with (
            pytest.raises(exception),
            ib.IOVABitmap(0, len(memory), pin=AnsweringPin(exception())) as bm,
        ):
            tracker.collect(bm)
        assert collected(tracker) == [4]


def test_a_pin_that_comes_back(memory):
    """A pin object that uses the tracker it is called from is refused, and nothing is lost."""
    refused = []

    class Pin:
        def pin(self, address, npages):
            for call in (tracker.stop, tracker.start, lambda: tracker.collect(other)):
                with pytest.raises(RuntimeError, match="in use"):
                    call()
                refused.append(call)
            return npages

        def unpin(self, address, npages):
            pass

    with WriteTracker(memory) as tracker, ib.IOVABitmap(0, len(memory)) as other:
        write(memory, 4)
        with ib.IOVABitmap(0, len(memory), pin=Pin()) as bm:
            assert tracker.collect(bm) == 1
            assert len(refused) == 3
        write(memory, 5)
        assert tracker.collect(other) == 1


def test_a_pin_that_frees_the_bitmap(memory):
    class Pin:
        def pin(self, address, npages):
            bm.free()
            return npages

        def unpin(self, address, npages):
            pass

    content = bytearray(2)
    with WriteTracker(memory) as tracker:
        write(memory, 4)
        bm = ib.alloc(0, len(memory), HOST_PAGE, content, pin=Pin())
        assert tracker.collect(bm) == 1
        assert content[0] == 1 << 4
        assert bm.freed
        content.append(1)  # and is given back


def test_memory_mapped_anew():
    """The kernel cannot tell any more: what was not scanned counts as written."""
    run_child(
        """
        import ctypes, mmap
        import iovabitmap as ib
        from iovabitmap.sources import WriteTracker
        page = mmap.PAGESIZE
        memory = mmap.mmap(-1, 16 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        libc = ctypes.CDLL(None)
        c_int, c_long = ctypes.c_int, ctypes.c_long
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, c_int, c_int, c_int, c_long]
        with WriteTracker(memory) as tracker, ib.IOVABitmap(0, len(memory)) as bm:
            flags = 0x10 | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # MAP_FIXED
            libc.mmap(tracker.address + 8 * page, page, 3, flags, -1, 0)
            try:
                tracker.collect(bm)
                raise SystemExit("no error")
            except PermissionError as error:
                assert "mapped anew" in str(error), error
            tracker.stop()
            tracker.start()
            assert tracker.collect(bm) == 16
            assert tracker.collect(bm) == 0
        """
    ).assert_lived("a buffer mapped anew")


def test_a_signal_at_any_moment():
    """What a handler raises may end a collect while another thread works on the bitmap: the next
    collect has what the kernel told that one."""
    run_child(
        """
        import mmap, random, signal, threading
        import iovabitmap as ib
        from iovabitmap.sources import WriteTracker

        class Alarm(Exception):
            pass

        def ring(*_):
            raise Alarm

        signal.signal(signal.SIGALRM, ring)
        page, npages = mmap.PAGESIZE, 3000
        memory = mmap.mmap(-1, npages * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        size = len(memory)
        bm = ib.IOVABitmap(0, page << 30)
        done = False

        def work():
            while not done:
                bm.set(size, page << 29)

        thread = threading.Thread(target=work)
        thread.start()
        generator = random.Random(1)
        interrupted = 0
        try:
            with WriteTracker(memory) as tracker:
                for _ in range(50):
                    for at in range(0, size, 2 * page):
                        memory[at] = 1
                    try:
                        signal.setitimer(signal.ITIMER_REAL, generator.uniform(0.0001, 0.02))
                        tracker.collect(bm)
                        signal.setitimer(signal.ITIMER_REAL, 0)
                    except Alarm:
                        interrupted += 1
                    tracker.collect(bm)
                    assert bm.count(0, size) == npages // 2, bm.count(0, size)
                    bm.clear(0, size)
        finally:
            done = True
            thread.join()
        print("interrupted", interrupted)
        """
    ).assert_lived("collects that signals end")
