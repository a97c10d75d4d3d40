"""The built-in backends: which there are, and `populate` on memory that is gone or protected.

`populate` must turn a truncated file, a hole and protected memory into a `PinError` where a plain
store would kill the process. `mlock` has a file of its own.
"""

from __future__ import annotations

import errno
import mmap
import os
import platform
import re
import tempfile

import numpy as np
import pytest

from support.children import run_child
from support.memory import HOST_PAGE, Arena, Region, needs_linux, needs_mprotect
from support.pins import PAGE_BITS, assert_pin_fails, bit_for_each_address, require
from support.under_test import ib


@pytest.fixture
def populate():
    require("populate")


class FileMapping:
    """A shared mapping of a file that can be truncated under it."""

    def __init__(self, file, npages: int) -> None:
        self.file = file
        self.truncate(npages)
        self.memory = mmap.mmap(file.fileno(), npages * HOST_PAGE)

    def truncate(self, npages: int) -> None:
        os.ftruncate(self.file.fileno(), npages * HOST_PAGE)


@pytest.fixture
def mapped():
    """Makes a `FileMapping` of so many pages."""
    with tempfile.TemporaryFile() as file:
        yield lambda npages: FileMapping(file, npages)


# --- which there are ---------------------------------------------------------------------------


@needs_linux
def test_linux_has_them_all():
    version = tuple(int(n) for n in re.findall(r"\d+", platform.release())[:2])
    if version < (5, 14):
        pytest.skip(f"Linux {platform.release()} has no MADV_POPULATE_WRITE")
    for name in ("none", "populate", "mlock"):
        bm = ib.IOVABitmap(0, 4096, pin=name)
        assert bm.pin == name


@pytest.mark.parametrize("name", ["none", "populate", "mlock"])
def test_a_backend_works_or_says_that_it_is_not_here(name):
    try:
        bm = ib.IOVABitmap(0, 4096, pin=name)
    except (OSError, ValueError, NotImplementedError) as error:
        assert name != "none" and name in str(error)
    else:
        assert bm.pin == name


# --- populate ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("populate")
class TestPopulate:
    def test_a_file_that_is_truncated_before_the_first_mark(self, mapped):
        mapping = mapped(4)
        bm = bit_for_each_address(mapping.memory, "populate")
        mapping.truncate(0)
        for call in (bm.set, bm.clear, bm.test_and_set, bm.count, bm.ranges):
            assert_pin_fails(lambda c=call: c(5, 100), errno.EFAULT, 5, 100)
        assert_pin_fails(lambda: bm.test(PAGE_BITS), errno.EFAULT, PAGE_BITS, 1)
        assert_pin_fails(bm.reset, errno.EFAULT, 0, bm.length)
        for call in (bm.to_mask, bm.copy, lambda: bm == ib.IOVABitmap(0, bm.length, 1)):
            with pytest.raises(ib.PinError):
                call()
        with pytest.raises(ib.PinError):
            bm.for_each(lambda *_: None, by_window=True)
        assert tuple(bm.stats) == (0, 0, 0, 0, 0) and bm.window is None

    def test_a_file_that_is_truncated_under_the_present_window(self, mapped):
        mapping = mapped(4)
        bm = bit_for_each_address(mapping.memory, "populate")
        bm.set(0, 3)
        stats, window = bm.stats, bm.window
        mapping.truncate(2)
        bm.set(PAGE_BITS, 5)
        assert_pin_fails(
            lambda: bm.set(2, 3 * PAGE_BITS),
            errno.EFAULT,
            2 * PAGE_BITS,
            PAGE_BITS + 2,
            newly=2 * PAGE_BITS - 3 - 5,
        )
        assert bm.count(0, 2 * PAGE_BITS) == 2 * PAGE_BITS
        assert_pin_fails(lambda: bm.clear(3 * PAGE_BITS, 9), errno.EFAULT, 3 * PAGE_BITS, 9)
        assert_pin_fails(lambda: bm.count(PAGE_BITS), errno.EFAULT, 2 * PAGE_BITS, 2 * PAGE_BITS)
        assert_pin_fails(lambda: bm.ranges(PAGE_BITS), errno.EFAULT, 2 * PAGE_BITS, 2 * PAGE_BITS)
        mapping.truncate(4)
        bm.set(2, 3 * PAGE_BITS)
        assert bm.count(2, 3 * PAGE_BITS) == 3 * PAGE_BITS
        bm.free()
        assert bm.stats.pins == bm.stats.unpins and stats.moves == 1 and window.npages == 4

    def test_populating_again_is_neither_a_pin_nor_a_move(self, mapped):
        mapping = mapped(3)
        bm = bit_for_each_address(mapping.memory, "populate")
        for _ in range(5):
            bm.set(0, bm.length)
            bm.clear(PAGE_BITS, PAGE_BITS)
        assert tuple(bm.stats) == (1, 0, 3, 3, 1)

    def test_pages_before_a_hole_are_delivered(self):
        memory = Region(6)
        bm = bit_for_each_address(memory.buffer(100, 6 * HOST_PAGE - 100), "populate")
        memory.punch(3)
        left = (3 * HOST_PAGE - 100) * 8
        assert_pin_fails(
            lambda: bm.set(7, bm.length - 7), errno.ENOMEM, left, bm.length - left, newly=left - 7
        )
        assert bm.count(0, left) == left - 7 and bm.window is None
        bm.set(0, 1)
        assert bm.window.npages == 3, "the window ends before the hole"
        bm.set((4 * HOST_PAGE - 100) * 8, 1)
        assert bm.window.npages == 2
        assert_pin_fails(lambda: bm.count(0), errno.ENOMEM, left, bm.length - left)
        assert_pin_fails(lambda: bm.ranges(0), errno.ENOMEM, left, bm.length - left)

    def test_protected_memory(self):
        memory = Region(5)
        bm = bit_for_each_address(memory.at_start(5 * HOST_PAGE), "populate")
        memory.protect(1, 2, Region.NO_ACCESS)
        left = PAGE_BITS
        assert_pin_fails(
            lambda: bm.test_and_set(3, bm.length - 3),
            errno.EINVAL,
            left,
            bm.length - left,
            newly=PAGE_BITS - 3,
        )
        assert_pin_fails(bm.count, errno.EINVAL, left, bm.length - left)
        memory.protect(1, 2, Region.READ_WRITE)
        assert bm.test_and_set(3, bm.length - 3) == 4 * PAGE_BITS
        memory.protect(1, 2, Region.NO_ACCESS)
        assert_pin_fails(lambda: bm.clear(3, 2 * PAGE_BITS), errno.EINVAL, left, PAGE_BITS + 3)
        memory.protect(1, 2, Region.READ_WRITE)
        assert bm.count() == bm.length - PAGE_BITS

    def test_reads_need_readable_memory_only(self):
        memory = Region(4)
        bm = bit_for_each_address(memory.at_start(4 * HOST_PAGE), "populate")
        bm.set(PAGE_BITS + 3, 2 * PAGE_BITS)
        memory.protect(0, 4, Region.READ_ONLY)
        assert bm.count() == 2 * PAGE_BITS
        assert bm.ranges().tolist() == [[PAGE_BITS + 3, 2 * PAGE_BITS]]
        assert bm.test(PAGE_BITS + 3) and bm.to_mask().sum() == 2 * PAGE_BITS
        assert bm.copy().count() == 2 * PAGE_BITS and bm == bm.copy()
        assert_pin_fails(lambda: bm.set(0, 1), errno.EINVAL, 0, 1, newly=0)
        assert_pin_fails(bm.reset, errno.EINVAL, 0, bm.length)
        with pytest.raises(ib.PinError):
            bm.for_each(lambda *_: None, by_window=True)

    def test_only_the_pages_that_are_touched_matter(self):
        """A window's later pages may be gone: that shortens it, and fails nothing else."""
        memory = Region(4)
        bm = bit_for_each_address(memory.at_start(4 * HOST_PAGE), "populate")
        memory.punch(2)
        bm.set(0, 2 * PAGE_BITS)
        assert bm.window.npages == 2 and bm.count(0, 2 * PAGE_BITS) == 2 * PAGE_BITS
        bm.set(3 * PAGE_BITS, 1)
        assert bm.test(3 * PAGE_BITS)
        bm.set(5, PAGE_BITS)

    def test_windows_of_one_page(self, mapped):
        mapping = mapped(5)
        bm = bit_for_each_address(mapping.memory, "populate", window_pages=1)
        bm.set(0, bm.length)
        mapping.truncate(3)
        assert_pin_fails(
            lambda: bm.test_and_set(0, bm.length), errno.EFAULT, 3 * PAGE_BITS, 2 * PAGE_BITS, 0
        )
        assert bm.count(0, 3 * PAGE_BITS) == 3 * PAGE_BITS

    def test_a_copy_of_what_is_still_there(self, mapped):
        mapping = mapped(2)
        bm = bit_for_each_address(mapping.memory, "populate")
        bm.set(9, 1)
        twin = bm.copy()
        mapping.truncate(0)
        assert twin.pin == "none" and twin.ranges().tolist() == [[9, 1]]
        assert re.match("[^\n]{1,300}$", repr(bm)), "repr shows what it can, and does not raise"

    def test_the_process_lives(self):
        """The same in a child: a store that was not checked first would kill it."""
        run_child(
            f"""
            import mmap, os, tempfile
            import iovabitmap as ib
            file = tempfile.TemporaryFile()
            file.truncate(8 * {HOST_PAGE})
            memory = mmap.mmap(file.fileno(), 8 * {HOST_PAGE})
            bm = ib.alloc(0, len(memory) * 8, 1, memory, pin="populate", window_pages=3)
            for size in (8, 5, 3, 1, 0):
                print("truncated to", size, flush=True)
                os.ftruncate(file.fileno(), size * {HOST_PAGE})
                for name in ("set", "clear", "test_and_set", "count", "ranges"):
                    try:
                        getattr(bm, name)(0, bm.length)
                        assert size == 8, name
                    except ib.PinError as error:
                        assert error.iova == size * {PAGE_BITS} and size < 8, (name, error.iova)
                repr(bm)
            """
        ).assert_lived("marking in a truncated file")


# --- all of them -------------------------------------------------------------------------------


@needs_mprotect
@pytest.mark.parametrize("pin", ["none", "populate", "mlock"])
def test_the_same_answers_and_the_same_account(pin):
    require(pin)
    arena = Arena(5 * HOST_PAGE + 3, 4081 % HOST_PAGE)
    bm = ib.alloc(5, arena.data.nbytes * 8 * 512 - 3, 512, arena.data, pin=pin, window_pages=2)
    assert bm.pin == pin
    bm.set(5, bm.length)
    assert bm.count() == bm.nbits
    bm.clear(5 + 512 * 1000, 512 * 100_000)
    assert bm.count() == bm.nbits - 100_000
    assert len(bm.ranges()) == 2 and np.count_nonzero(bm.to_mask()) == bm.nbits - 100_000
    assert bm.for_each(lambda *_: None, by_window=True) == 0
    pages = -(-(4081 % HOST_PAGE + arena.data.nbytes) // HOST_PAGE)
    assert bm.window.npages in (1, 2) and bm.stats.peak_pinned_pages <= 4 <= pages
    bm.free()
    assert bm.stats.pins == bm.stats.unpins and bm.stats.pinned_pages == 0
    arena.assert_guards()
