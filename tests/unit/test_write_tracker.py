"""WriteTracker is exact: the pages collected are the pages written, in memory of every kind."""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import iovabitmap as ib
from iovabitmap.sources import WriteTracker
from support.children import run_child
from support.memory import HOST_PAGE, address_of
from support.tracked import KINDS, collected, needs_tracker, pages_of, smaps_kib

pytestmark = needs_tracker

HUGE_PAGE = 2 << 20
NR_HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")


def available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


# --- exact, in every kind of memory ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_random_writes(kind):
    """Four rounds: memory that was never touched, then pages written before, and both."""
    npages = 4096
    memory = KINDS[kind]((npages + 1) * HOST_PAGE)
    skew = -address_of(memory) % HOST_PAGE  # a bytearray does not begin at a page
    buffer = memoryview(memory)[skew : skew + npages * HOST_PAGE]
    rows = pages_of(buffer)
    rng = np.random.default_rng(3)
    with WriteTracker(buffer, iova=0x7000_0000) as tracker:
        assert collected(tracker) == []
        for count in (100, 1000, 1, npages // 2):
            pages = rng.choice(npages, count, replace=False)
            rows[pages, rng.integers(0, HOST_PAGE, count)] += 1
            assert collected(tracker) == sorted(pages)
            assert collected(tracker) == []


@pytest.mark.parametrize("kind", ["anonymous", "memfd", "file", "transparent huge pages"])
@pytest.mark.parametrize("regions", [100, 100_000])
def test_regions(kind, regions):
    """Single pages, no two side by side: many results of the kernel's scan, over many calls."""
    npages = 2 * regions
    if available_bytes() < 3 * npages * HOST_PAGE:
        pytest.skip(f"needs {3 * npages * HOST_PAGE >> 20} MiB of free memory")
    memory = KINDS[kind](max(npages * HOST_PAGE, 4 * HUGE_PAGE))
    rows = pages_of(memory)
    with WriteTracker(memory) as tracker, ib.IOVABitmap(0, len(memory)) as bm:
        assert tracker.collect(bm) == 0
        for first in (1, 0):
            rows[first:npages:2, 7] = 1
            assert tracker.collect(bm) == regions
            ranges = bm.ranges()
            assert np.array_equal(ranges[:, 0], np.arange(first, npages, 2) * HOST_PAGE)
            assert (ranges[:, 1] == HOST_PAGE).all()
            bm.reset()
        assert tracker.collect(bm) == 0


@given(data=st.data())
def test_any_writes(data):
    """Random writes of any length, a bitmap of any part, against one boolean for each page."""
    npages = 24
    iova = data.draw(st.sampled_from([0, 12345, 2**64 - npages * HOST_PAGE]))
    memory = KINDS["anonymous"](npages * HOST_PAGE)
    expected = np.zeros(npages * HOST_PAGE, bool)  # bytes that wait to be collected
    with WriteTracker(memory, iova=iova) as tracker:
        for _ in range(data.draw(st.integers(1, 8))):
            for _ in range(data.draw(st.integers(0, 4))):
                at = data.draw(st.integers(0, len(memory) - 1))
                length = data.draw(st.integers(1, len(memory) - at))
                if data.draw(st.booleans()):
                    length = min(length, 3)
                memory[at : at + length] = b"x" * length
                expected[at - at % HOST_PAGE : -(-(at + length) // HOST_PAGE) * HOST_PAGE] = True
            start = data.draw(st.integers(0, len(memory) - 1))
            length = data.draw(st.integers(1, len(memory) - start))
            with ib.IOVABitmap(iova + start, length, 1) as bm:
                assert tracker.collect(bm) == np.count_nonzero(expected[start : start + length])
                assert np.array_equal(bm.to_mask(), expected[start : start + length])
            expected[start : start + length] = False


# --- edges and page sizes -------------------------------------------------------------------------


@pytest.mark.parametrize("iova", [0, 1 << 40, 2**64 - 20 * HOST_PAGE])
def test_unaligned_array(iova):
    """Large NumPy arrays begin some bytes behind a page's start."""
    whole = np.zeros(64 * HOST_PAGE, np.uint8)
    lead = -whole.ctypes.data % HOST_PAGE
    array = whole[lead + 16 : lead + 16 + 20 * HOST_PAGE].view(np.float64)
    with WriteTracker(array, iova=iova) as tracker, ib.IOVABitmap(iova, array.nbytes, 1) as bm:
        array[5 * HOST_PAGE // 8] = 1.5
        tracker.collect(bm)
        assert bm.ranges().tolist() == [[iova + 5 * HOST_PAGE - 16, HOST_PAGE]]
        bm.reset()
        array[0] = array[-1] = 1.5  # the edge pages, cut to the buffer
        tracker.collect(bm)
        assert bm.ranges().tolist() == [
            [iova, HOST_PAGE - 16],
            [iova + 20 * HOST_PAGE - 16, 16],
        ]
        bm.reset()
        whole[lead] = 1  # a neighbour in the first page: seen, and this is allowed
        tracker.collect(bm)
        assert bm.ranges().tolist() == [[iova, HOST_PAGE - 16]]
        bm.reset()
        whole[lead - 1] = whole[lead + 21 * HOST_PAGE] = 1  # pages that are not tracked
        assert tracker.collect(bm) == 0


def test_fortran_order_and_read_only_view():
    memory = KINDS["anonymous"](256 * HOST_PAGE)
    array = np.frombuffer(memory, np.float32).reshape(64, -1, order="F")
    view = array.view()
    view.flags.writeable = False
    with WriteTracker(view) as tracker:
        array[0, -1] = 1
        assert collected(tracker) == [255]


@pytest.mark.parametrize("page_size", [512, 65536, HUGE_PAGE, 1 << 40])
def test_other_page_sizes(page_size):
    memory = KINDS["anonymous"](4 * HUGE_PAGE)
    written = [0, 5, 17, 600, 2047]
    with WriteTracker(memory, iova=HUGE_PAGE) as tracker:
        for page in written:
            memory[page * HOST_PAGE] = 1
        expected = sorted(
            {
                byte // page_size
                for page in written
                for byte in range(page * HOST_PAGE, (page + 1) * HOST_PAGE, 512)
            }
        )
        assert collected(tracker, page_size) == expected


def test_last_page_of_the_address_space():
    memory = KINDS["anonymous"](4 * HOST_PAGE)
    iova = 2**64 - len(memory)
    with WriteTracker(memory, iova=iova) as tracker, ib.IOVABitmap(iova, len(memory)) as bm:
        memory[len(memory) - 1] = 1
        assert tracker.collect(bm) == 1
        assert bm.ranges().tolist() == [[2**64 - HOST_PAGE, HOST_PAGE]]
        assert tracker.layout()[0].iova == iova


# --- who writes -----------------------------------------------------------------------------------


def test_writes_by_the_kernel(tmp_path):
    """A system call's writes are seen as the program's own are."""
    path = tmp_path / "content"
    path.write_bytes(b"x" * 3 * HOST_PAGE)
    memory = KINDS["anonymous"](16 * HOST_PAGE)
    with WriteTracker(memory) as tracker, path.open("rb", buffering=0) as file:
        assert file.readinto(memoryview(memory)[5 * HOST_PAGE : 8 * HOST_PAGE]) == 3 * HOST_PAGE
        assert collected(tracker) == [5, 6, 7]
        os.preadv(file.fileno(), [memoryview(memory)[9 * HOST_PAGE :][:10]], 0)
        assert collected(tracker) == [9]


def test_reads_are_no_writes():
    memory = KINDS["file"](256 * HOST_PAGE)
    with WriteTracker(memory) as tracker:
        assert not pages_of(memory).any()
        assert collected(tracker) == []
        memory[7 * HOST_PAGE] = 1
        assert collected(tracker) == [7]


@pytest.mark.parametrize("kind", ["shared", "memfd", "file"])
def test_reclaimed_pages(kind):
    """The kernel may take pages out of the page tables, written or not: it is still known which."""
    memory = KINDS[kind](64 * HOST_PAGE)
    rows = pages_of(memory)
    rows[:, 0] = 1
    with WriteTracker(memory) as tracker:
        rows[[3, 10, 63], 5] = 2
        memory.flush()
        memory.madvise(21)  # MADV_PAGEOUT
        if smaps_kib(memory, "Rss") > 0:
            pytest.skip("the kernel kept the pages")
        assert collected(tracker) == [3, 10, 63]
        assert rows[:, 0].all()  # back again, by reading
        assert collected(tracker) == []


def test_writes_of_threads_while_collecting():
    """Every page is written once, by others, while this thread collects: each is seen once or more
    (a page may be written and collected in between), and none is missed."""
    npages = 20_000
    memory = KINDS["anonymous"](npages * HOST_PAGE)
    rows = pages_of(memory)
    order = np.random.default_rng(5).permutation(npages)
    done = threading.Event()

    def write():
        for part in np.array_split(order, 100):
            rows[part, 0] = 1
        done.set()

    thread = threading.Thread(target=write)
    with WriteTracker(memory) as tracker, ib.IOVABitmap(0, len(memory)) as bm:
        thread.start()
        while not done.is_set():
            tracker.collect(bm)
        thread.join()
        tracker.collect(bm)
        assert bm.count() == npages
        bm.reset()
        assert tracker.collect(bm) == 0


def test_needs_no_privilege():
    """As the user nobody, where root runs the tests."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else; without root every test here shows this")
    run_child(
        """
        from iovabitmap.sources import WriteTracker
        from support.nobody import become
        become()
        probe = WriteTracker.probe()
        assert probe.ok and probe.reason == "", probe
        """
    ).assert_lived("probe() as nobody")


# --- hugetlb --------------------------------------------------------------------------------------


@pytest.fixture
def hugetlb():
    """8 huge pages, from the pool that is there or one made for this test."""
    before = None
    try:
        before = int(NR_HUGEPAGES.read_text())
        NR_HUGEPAGES.write_text(str(before + 8))
    except OSError:
        pass
    try:
        try:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000  # MAP_HUGETLB
            yield mmap.mmap(-1, 8 * HUGE_PAGE, flags=flags)
        except OSError as error:
            pytest.skip(f"no hugetlb memory can be had: {error}")
    finally:
        if before is not None:
            with contextlib.suppress(OSError):
                NR_HUGEPAGES.write_text(str(before))


def test_hugetlb(hugetlb):
    """Tracked by the huge page, and said so."""
    assert WriteTracker(bytearray(100)).granularity == HOST_PAGE
    with WriteTracker(hugetlb) as tracker:
        assert tracker.granularity == HUGE_PAGE
        hugetlb[3 * HUGE_PAGE + 5] = 1
        hugetlb[7 * HUGE_PAGE] = 1
        with ib.IOVABitmap(0, len(hugetlb)) as bm:
            assert tracker.collect(bm) == 2 * HUGE_PAGE // HOST_PAGE
            assert bm.ranges().tolist() == [
                [3 * HUGE_PAGE, HUGE_PAGE],
                [7 * HUGE_PAGE, HUGE_PAGE],
            ]
        assert collected(tracker) == []


def test_part_of_hugetlb(hugetlb):
    """A buffer inside huge pages, and a bitmap inside the buffer: the rest waits."""
    buffer = memoryview(hugetlb)[HUGE_PAGE + 100 : 3 * HUGE_PAGE + 100]
    with WriteTracker(buffer) as tracker:
        hugetlb[2 * HUGE_PAGE] = 1
        with ib.IOVABitmap(HUGE_PAGE, 1000, 1) as bm:
            assert tracker.collect(bm) == 1000
        with ib.IOVABitmap(0, 2 * HUGE_PAGE, 1) as bm:
            assert tracker.collect(bm) == HUGE_PAGE - 1000
            assert bm.ranges().tolist() == [
                [HUGE_PAGE - 100, 100],
                [HUGE_PAGE + 1000, HUGE_PAGE - 1100],
            ]
