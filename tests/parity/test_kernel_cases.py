"""The cases that the kernel's own test suite checks, and those that its version fails.

Every even step is dirty, every odd one clean; nine sizes, three offsets of the bitmap in its page,
three orders. Then bitmaps just longer than a window, sets across the byte where it ends, bitmaps
flush to inaccessible memory, and page sizes at which 32-bit arithmetic breaks.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import pytest

from support.memory import HOST_PAGE, Arena, needs_mprotect
from support.pins import require
from support.under_test import engine_only, ib

KIB, MIB = 1 << 10, 1 << 20
BASE, PAGE_SIZE = 0x1000000, 2048


class Case(NamedTuple):
    name: str
    length: int
    nbits: int
    npte: int
    stride: int
    bits_set: int
    expected: bytes


HUGE = b"\xff" * 64 + b"\x00" * 64
CASES = [
    Case("8k", 8 * KIB, 4, 1, 2, 2, b"\x05"),
    Case("16k", 16 * KIB, 8, 1, 2, 4, b"\x55"),
    Case("64k", 64 * KIB, 32, 1, 2, 16, b"\x55" * 4),
    Case("128k", 128 * KIB, 64, 1, 2, 32, b"\x55" * 8),
    Case("320k", 320 * KIB, 160, 1, 2, 80, b"\x55" * 20),
    Case("64M", 64 * MIB, 32768, 1, 2, 16384, b"\x55" * 4096),
    Case("64M-huge", 64 * MIB, 32768, 512, 1024, 16384, HUGE * 32),
    Case("128M", 128 * MIB, 65536, 1, 2, 32768, b"\x55" * 8192),
    Case("128M-huge", 128 * MIB, 65536, 512, 1024, 32768, HUGE * 64),
]


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize("pgoff", [0, 2048, 4081])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_matrix(case, pgoff, order):
    assert ib.nbytes_for(case.length, PAGE_SIZE) == len(case.expected)
    arena = Arena(len(case.expected), pgoff % HOST_PAGE)
    bm = ib.alloc(BASE, case.length, PAGE_SIZE, arena.data)
    assert (bm.nbits, bm.nbytes) == (case.nbits, len(case.expected))
    steps = list(range(0, case.nbits, case.stride))
    if order == "descending":
        steps.reverse()
    elif order == "shuffled":
        random.Random(case.name).shuffle(steps)
    newly = 0
    for step, k in enumerate(steps):
        iova, length = BASE + k * PAGE_SIZE, case.npte * PAGE_SIZE
        if step % 2:
            newly += bm.test_and_set(iova, length)
        else:
            bm.set(iova, length)
            newly += case.npte
    assert arena.data.tobytes() == case.expected
    assert newly == bm.count() == case.bits_set
    piece = case.npte * PAGE_SIZE
    assert bm.ranges().tolist() == [[BASE + k * PAGE_SIZE, piece] for k in sorted(steps)]
    bm.free()
    arena.assert_guards()


# --- longer than a window ----------------------------------------------------------------------

LONGER = [(1, 16), (2, 1)]  # so many windows, and so many bytes: 2 MiB + 16, 4 MiB + 1
OFFSETS = [*range(9), 4081]


@pytest.fixture
def window_pages(implementation) -> int:
    """2 MiB, where a page has 4 KiB. The model would take minutes for so much."""
    return 512 if implementation == "engine" else 4


@pytest.mark.parametrize("pgoff", OFFSETS)
@pytest.mark.parametrize("windows, more", LONGER)
@pytest.mark.parametrize("pin", ["none", "populate"])
def test_one_set_over_the_whole_range(windows, more, pgoff, pin, window_pages):
    require(pin)
    nbytes = windows * window_pages * HOST_PAGE + more
    arena = Arena(nbytes, pgoff % HOST_PAGE)
    length = nbytes * 8 * PAGE_SIZE
    bm = ib.alloc(BASE, length, PAGE_SIZE, arena.data, pin=pin, window_pages=window_pages)
    assert bm.nbytes == nbytes
    bm.set(bm.iova, bm.length)
    assert (arena.data == 0xFF).all()
    assert bm.count() == nbytes * 8
    assert bm.ranges().tolist() == [[bm.iova, bm.length]]
    after_the_first = max(0, nbytes - (bm.window_pages * HOST_PAGE - arena.address % HOST_PAGE))
    taken = 1 + -(-after_the_first // (bm.window_pages * HOST_PAGE))
    assert bm.stats.moves == taken == len(list(bm.windows()))
    bm.free()
    arena.assert_guards()


@pytest.mark.parametrize("pgoff", OFFSETS)
@pytest.mark.parametrize("windows, more", LONGER)
def test_sets_of_twenty_pages_across_the_end_of_a_window(windows, more, pgoff, window_pages):
    nbytes = windows * window_pages * HOST_PAGE + more
    arena = Arena(nbytes, pgoff % HOST_PAGE)
    length = nbytes * 8 * PAGE_SIZE
    bm = ib.alloc(BASE, length, PAGE_SIZE, arena.data, window_pages=window_pages)
    ends = [w.base_index for w in bm.windows()][1:]
    assert ends
    for end in ends:
        for first in range(end * 8 - 21, end * 8 + 2):
            if first + 20 > bm.nbits:
                continue
            bm.set(BASE + first * PAGE_SIZE, 20 * PAGE_SIZE)
            near = np.unpackbits(arena.data[end - 8 : end + 8], bitorder="little")
            marked = np.flatnonzero(near) + (end - 8) * 8
            assert marked.tolist() == list(range(first, first + 20))
            assert bm.count() == 20
            assert bm.ranges().tolist() == [[BASE + first * PAGE_SIZE, 20 * PAGE_SIZE]]
            bm.clear(BASE + first * PAGE_SIZE, 20 * PAGE_SIZE)
            assert not arena.data[end - 8 : end + 8].any()
    assert not arena.data.any()
    arena.assert_guards()


# --- flush to inaccessible memory --------------------------------------------------------------


@needs_mprotect
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("side", ["right after", "right before"])
def test_exactly_nbytes_flush_to_an_inaccessible_page(region, case, side):
    """`test_guard_pages.py` does this in a child for every operation and offset."""
    memory = region(3)
    nbytes = len(case.expected)
    data = memory.at_start(nbytes) if side == "right after" else memory.at_end(nbytes)
    bm = ib.alloc(BASE, case.length, PAGE_SIZE, data)
    bm.set(BASE, case.length)
    last = (1 << case.nbits % 8) - 1 if case.nbits % 8 else 0xFF
    assert bytes(data) == b"\xff" * (nbytes - 1) + bytes([last])
    assert bm.count() == case.nbits
    bm.reset()
    for k in range(0, case.nbits, case.stride):
        bm.set(BASE + k * PAGE_SIZE, case.npte * PAGE_SIZE)
    assert bytes(data) == case.expected


# --- page sizes at which 32 bits, or shifts by 64, break ---------------------------------------


@pytest.mark.parametrize("shift", [31, 32, 40, 61, 63])
@pytest.mark.parametrize("odd", [0, 1, 12345])
def test_large_page_sizes(shift, odd):
    page_size = 1 << shift
    nbits = min(20, (2**64 - 1 - odd) // page_size + 1)
    length = min(nbits * page_size, 2**64 - 1 - odd)
    arena = Arena(ib.nbytes_for(length, page_size), 4081 % HOST_PAGE)
    bm = ib.alloc(odd, length, page_size, arena.data)
    assert (bm.pgshift, bm.nbits, bm.end) == (shift, nbits, odd + length)
    for k in range(0, nbits, 2):
        bm.set(odd + k * page_size, 1)
    even = sum(1 << k for k in range(0, nbits, 2))
    assert int.from_bytes(arena.data.tobytes(), "little") == even
    for k in range(nbits):
        assert bm.test(min(odd + (k + 1) * page_size, bm.end) - 1) is (k % 2 == 0)
    assert bm.count() == (nbits + 1) // 2
    bm.set(bm.end - 1, 1)
    bm.set(odd, length)
    assert int.from_bytes(arena.data.tobytes(), "little") == (1 << nbits) - 1
    assert bm.ranges().tolist() == [[odd, length]]
    bm.clear(bm.end - 1, 1)
    assert bm.count() == nbits - 1
    arena.assert_guards()


@engine_only.size
def test_more_pages_than_32_bits_can_count():
    """Memory of its own, of which only the pages that are used are ever there."""
    page_size, nbits = 512, 2**33 + 77
    try:
        bm = ib.IOVABitmap(3, nbits * page_size - 5, page_size)
    except MemoryError:
        pytest.skip("there is no address space for a bitmap of 1 GiB")
    assert (bm.nbits, bm.nbytes) == (nbits, 2**30 + 10)
    for page in (0, 2**31 - 1, 2**32 + 5, 2**33 - 1, nbits - 1):
        start = 3 + page * page_size
        assert bm.test_and_set(start, 1) == 1 and bm.test(start + 100)
        assert bm.window.iova <= start < bm.window.iova + bm.window.length
        near = max(0, page - 200)
        low = 3 + near * page_size
        length = min(400 * page_size, bm.end - low)
        assert bm.count(low, length) == 1
        assert bm.ranges(low, length).tolist() == [[start, min(page_size, bm.end - start)]]
        byte = int(bm.view()[page // 8])
        assert byte == 1 << page % 8
        bm.clear(start, 1)
        assert bm.count(low, length) == 0
    last = list(bm.windows())[-1]
    assert last.iova + last.length == bm.end
