"""The backend "mlock": what is locked, what is unlocked again, and what is beyond the limit.

The system does not count locks, so the engine must: bitmaps with common pages, and the windows of
one operation inside another's, must not unlock each other's. The kernel's own account of locked
memory is what is compared.
"""

from __future__ import annotations

import errno

import pytest

from support.children import run_child
from support.memory import HOST_PAGE, Region, locked_kib, needs_linux
from support.pins import PAGE_BITS, assert_pin_fails, bit_for_each_address, require
from support.under_test import ib  # noqa: F401 - for both implementations

PAGE_KIB = HOST_PAGE // 1024


@pytest.fixture
def mlock():
    """Skips where locks can't be seen. The system's call is tried, not the engine's."""
    require("mlock")
    probe, before = Region(1), locked_kib()
    if not probe.lock() or locked_kib() == before:
        pytest.skip("mlock does nothing here: a sanitizer's runtime replaces it")


@needs_linux
@pytest.mark.usefixtures("mlock")
class TestMlock:
    def test_the_window_is_locked_and_released(self):
        before = locked_kib()
        bm = bit_for_each_address(Region(4).at_start(4 * HOST_PAGE), "mlock")
        assert locked_kib() == before, "alloc pins nothing"
        bm.set(0, 1)
        assert locked_kib() == before + 4 * PAGE_KIB
        bm.set(0, bm.length)
        bm.count()
        bm.ranges(3, 17)
        assert locked_kib() == before + 4 * PAGE_KIB, "a window of its own unlocks nothing else"
        bm.free()
        assert locked_kib() == before

    def test_moving_unlocks_what_it_leaves(self):
        before = locked_kib()
        bm = bit_for_each_address(Region(6).at_start(6 * HOST_PAGE), "mlock", window_pages=2)
        for page in (0, 4, 2, 5, 0):
            bm.set(page * PAGE_BITS, 1)
            assert locked_kib() == before + bm.window.npages * PAGE_KIB
        bm.free()
        assert locked_kib() == before

    @pytest.mark.parametrize("freed_first", [0, 1, 2])
    def test_bitmaps_with_common_pages_do_not_unlock_each_others(self, freed_first):
        before = locked_kib()
        memory = Region(6)
        spans = [(0, 4), (2, 6), (1, 3)]
        bms = [
            bit_for_each_address(memory.buffer(low * HOST_PAGE, (high - low) * HOST_PAGE), "mlock")
            for low, high in spans
        ]
        for bm in bms:
            bm.set(0, 1)
        assert locked_kib() == before + 6 * PAGE_KIB
        while bms:
            n = freed_first % len(bms)
            bms.pop(n).free()
            del spans[n]
            left = {page for low, high in spans for page in range(low, high)}
            assert locked_kib() == before + len(left) * PAGE_KIB
        assert locked_kib() == before

    def test_two_bitmaps_inside_one_page(self):
        before = locked_kib()
        memory = Region(1)
        one = bit_for_each_address(memory.buffer(0, 100), "mlock")
        two = bit_for_each_address(memory.buffer(3000, 100), "mlock")
        one.set(0, 1)
        two.set(0, 1)
        one.free()
        assert locked_kib() == before + PAGE_KIB
        two.count()
        assert locked_kib() == before + PAGE_KIB
        del two
        assert locked_kib() == before

    def test_a_walk_and_its_callbacks(self):
        before = locked_kib()
        bm = bit_for_each_address(Region(3).at_start(3 * HOST_PAGE), "mlock", window_pages=1)

        def visit(bm, iova, length, opaque):
            bm.count()
            bm.set(iova, length)
            assert locked_kib() == before + PAGE_KIB

        bm.for_each(visit, by_window=True)
        bm.free()
        assert locked_kib() == before

    def test_a_hole(self):
        before = locked_kib()
        memory = Region(5)
        bm = bit_for_each_address(memory.at_start(5 * HOST_PAGE), "mlock")
        memory.punch(2)
        assert_pin_fails(
            lambda: bm.set(3, bm.length - 3),
            errno.ENOMEM,
            2 * PAGE_BITS,
            3 * PAGE_BITS,
            newly=2 * PAGE_BITS - 3,
        )
        assert bm.window is None and locked_kib() == before, "nothing stays locked"
        bm.set(0, 1)
        assert bm.window.npages == 2 and locked_kib() == before + 2 * PAGE_KIB
        bm.free()
        assert locked_kib() == before

    def test_protected_pages(self):
        """The system marks all pages as locked before it finds that one cannot be had."""
        before = locked_kib()
        memory = Region(6)
        bm = bit_for_each_address(memory.at_start(6 * HOST_PAGE), "mlock")
        memory.protect(2, 1, Region.NO_ACCESS)
        left = 2 * PAGE_BITS
        assert_pin_fails(
            lambda: bm.set(3, bm.length - 3), errno.ENOMEM, left, bm.length - left, left - 3
        )
        assert bm.window is None and locked_kib() == before, "nothing stays locked"
        assert_pin_fails(bm.count, errno.ENOMEM, left, bm.length - left)
        assert locked_kib() == before
        bm.set(0, 1)
        assert bm.window.npages == 2 and locked_kib() == before + 2 * PAGE_KIB
        other = bit_for_each_address(memory.buffer(4 * HOST_PAGE, HOST_PAGE), "mlock")
        other.set(0, 1)
        bm.free()
        bm = bit_for_each_address(memory.at_start(6 * HOST_PAGE), "mlock")
        bm.set(0, 1)
        bm.free()
        assert locked_kib() == before + PAGE_KIB, "another bitmap's pages stay locked"
        other.free()
        assert locked_kib() == before

    def test_beyond_the_limit(self):
        """In a child, because its limit and its rights can't be had back."""
        run_child(
            f"""
            import errno, resource
            import numpy as np
            import iovabitmap as ib
            from support.nobody import become

            HOST, BITS = {HOST_PAGE}, {PAGE_BITS}
            LIMITS = (errno.ENOMEM, errno.EAGAIN)

            def locked():
                with open("/proc/self/status") as status:
                    return next(int(l.split()[1]) for l in status if l.startswith("VmLck")) * 1024

            def fails(call, iova, length, newly=None):
                try:
                    call()
                except ib.PinError as error:
                    assert error.errno in LIMITS, error
                    assert (error.iova, error.length) == (iova, length), (error.iova, error.length)
                    assert newly is None or error.newly == newly, error.newly
                else:
                    raise AssertionError("was not refused")

            raw = np.zeros(40 * HOST, np.uint8)
            raw = raw[-raw.ctypes.data % HOST:][: 32 * HOST]
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 * HOST, 8 * HOST))
            become()
            start = locked()

            def bitmap(first, last, window_pages):
                data = raw[first * HOST : last * HOST]
                return ib.alloc(0, data.size * 8, 1, data, pin="mlock", window_pages=window_pages)

            print("within the limit", flush=True)
            one = bitmap(0, 16, 8)
            one.set(0, one.length)
            assert locked() - start == 8 * HOST and one.stats.moves == 2

            print("a second window does not fit", flush=True)
            two = bitmap(16, 32, 8)
            fails(lambda: two.set(5, 100), 5, 100, 0)
            fails(lambda: two.count(7, 9), 7, 9)
            assert two.stats.pins == two.stats.unpins == 0 and two.window is None
            assert locked() - start == 8 * HOST

            print("there is room for a part of it", flush=True)
            one.free()
            assert locked() == start
            half = bitmap(0, 5, 8)
            half.set(0, 1)
            assert locked() - start == 5 * HOST
            two.set(0, 1)
            assert two.window.npages == 3, two.window
            assert locked() - start == 8 * HOST
            two.set(0, two.length)
            two.free()
            half.free()
            assert locked() == start

            print("windows longer than the limit get shorter", flush=True)
            long = bitmap(0, 32, 512)
            long.set(0, long.length)
            assert locked() - start <= 8 * HOST
            assert np.count_nonzero(raw != 255) == 0
            long.free()
            assert locked() == start

            print("no limit at all to work with", flush=True)
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (HOST // 2, HOST // 2))
            none = bitmap(0, 4, 8)
            fails(lambda: none.set(3, 2 * BITS), 3, 2 * BITS, 0)
            assert none.stats.pins == 0
            """
        ).assert_lived("locking beyond RLIMIT_MEMLOCK")
