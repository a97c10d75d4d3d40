"""Marking and clearing: which pages a range touches, what is inside, and what never changes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from support.expected import TOP
from support.memory import HOST_PAGE, Arena
from support.under_test import ib

BASE, PAGES = 0x100000, 20  # 20 pages: the last byte has four bits that stand for nothing
END = BASE + PAGES * 4096


def fresh(content=0, pages=PAGES, base=BASE, part=0):
    """A bitmap of 4 KiB pages over guarded memory; `part` bytes are missing from the last page."""
    arena = Arena((pages + 7) // 8, 4081 % HOST_PAGE, content=content)
    return ib.alloc(base, pages * 4096 - part, 4096, arena.data), arena


def pages(bm) -> list[int]:
    """The dirty pages, read from memory and not through the engine."""
    return np.flatnonzero(np.unpackbits(bm.view(), bitorder="little")).tolist()


def raises_out_of_range(call, iova, length):
    with pytest.raises(ib.IOVARangeError) as caught:
        call()
    assert (caught.value.iova, caught.value.length) == (iova, length)


# --- which pages -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "iova, length, expected",
    [
        (0x1800, 0x1000, [1, 2]),
        (0x800, 0x2000, [0, 1, 2]),
        (0, 1, [0]),
        (0xFFF, 1, [0]),
        (0x1000, 1, [1]),
        (0xFFF, 2, [0, 1]),
        (0, 0x1000, [0]),
        (0, 0x1001, [0, 1]),
        (0x1000, 0x1000, [1]),
        (0x7FFF, 1, [7]),
        (0x8000, 1, [8]),
        (0x7000, 0x2000, [7, 8]),
        (PAGES * 0x1000 - 1, 1, [PAGES - 1]),
        (0, PAGES * 0x1000, list(range(PAGES))),
    ],
)
@pytest.mark.parametrize("base", [0, BASE, 5, TOP - PAGES * 4096])
def test_pages_that_a_range_touches(base, iova, length, expected):
    bm, arena = fresh(base=base)
    assert bm.set(base + iova, length) is None
    assert pages(bm) == expected
    bm, arena = fresh(base=base)
    assert bm.test_and_set(base + iova, length) == len(expected)
    assert pages(bm) == expected
    bm.set(base, bm.length)
    assert bm.clear(base + iova, length) is None
    assert pages(bm) == [n for n in range(PAGES) if n not in expected]
    arena.assert_guards()


def test_bits_are_counted_from_the_base_and_not_from_zero():
    """A base that is no multiple of the page size is legal: bit 0 starts at the base."""
    bm = ib.alloc(0x1800, 0x4000, 0x1000, data := bytearray(1))
    bm.set(0x2000, 1)
    assert data == b"\x01"
    bm.set(0x2800, 1)
    assert data == b"\x03"
    assert bm.ranges().tolist() == [[0x1800, 0x2000]]


@pytest.mark.parametrize("first", range(20))
def test_every_range_of_twenty_pages(first):
    for last in range(first, 20):
        bm, arena = fresh()
        bm.set(BASE + first * 4096, (last - first + 1) * 4096)
        assert pages(bm) == list(range(first, last + 1))
        full, full_arena = fresh(content=0xFF)
        full.clear(BASE + first * 4096, (last - first + 1) * 4096)
        assert pages(full) == [n for n in range(24) if not first <= n <= last]
        arena.assert_guards()
        full_arena.assert_guards()


def test_long_runs_at_every_alignment():
    """Edge bytes, edge words, and the plain stores between them."""
    nbits = 8 * 200
    for pgoff in range(16):
        arena = Arena(200, pgoff)
        bm = ib.alloc(0, nbits, 1, arena.data)
        for first in [*range(17), 63, 64, 65, 127, 128, 129]:
            for length in (1, 7, 8, 9, 63, 64, 65, 120, 127, 128, 129, 500, 1023, 1024, 1025, 1400):
                arena.data[:] = 0
                bm.set(first, length)
                assert pages(bm) == list(range(first, first + length))
                arena.data[:] = 0xFF
                bm.clear(first, length)
                assert np.count_nonzero(np.unpackbits(arena.data)) == nbits - length
                assert bm.count(first, length) == 0
        arena.assert_guards()


def test_bits_are_only_ored_in():
    bm, _ = fresh(content=0b10100101)
    before = pages(bm)
    bm.set(BASE + 4096, 4096)
    assert pages(bm) == sorted({*before, 1})
    bm.set(BASE + 4096, 4096)
    assert pages(bm) == sorted({*before, 1})


def test_test_and_set_counts_clean_pages():
    bm, _ = fresh()
    assert bm.test_and_set(BASE, 4096 * 5) == 5
    assert bm.test_and_set(BASE, 4096 * 5) == 0
    assert bm.test_and_set(BASE + 4096 * 3, 4096 * 10) == 8
    assert bm.test_and_set(BASE, PAGES * 4096) == PAGES - 13
    assert type(bm.test_and_set(BASE, 1)) is int


# --- the last page, and what stands for nothing ------------------------------------------------


@pytest.mark.parametrize("content", [0x00, 0xFF, 0xA5])
@pytest.mark.parametrize("nbits", range(1, 18))
@pytest.mark.parametrize("part", [0, 1, 4095])
def test_bits_beyond_the_last_page_never_change_or_count(nbits, content, part):
    bm, arena = fresh(content=content, pages=nbits, part=part)
    assert bm.nbits == nbits
    tail = np.unpackbits(arena.initial, bitorder="little")[nbits:].tolist()

    def unchanged():
        arena.assert_guards()
        return np.unpackbits(arena.data, bitorder="little")[nbits:].tolist() == tail

    clean = nbits - bm.count()
    assert bm.test_and_set(BASE, bm.length) == clean and unchanged()
    assert bm.count() == nbits and bm.to_mask().all()
    assert bm.ranges().tolist() == [[BASE, bm.length]]
    bm.clear(bm.end - 1, 1)
    assert bm.count() == nbits - 1 and unchanged()
    bm.clear(BASE, bm.length)
    assert bm.count() == 0 and len(bm.ranges()) == 0 and unchanged()
    bm.set(BASE - 4096, 4096 * 30, clip=True)
    assert bm.count() == nbits and unchanged()
    bm.reset()
    assert bm.count() == 0 and not bm.to_mask().any() and unchanged()
    bm.clear(BASE - 4096, 4096 * 30, clip=True)
    assert unchanged()


def test_neighbouring_bytes_of_a_larger_buffer_are_never_written():
    data = bytearray(b"\xa5" * 64)
    bm = ib.alloc(0, 8 * 3 + 1, 1, memoryview(data)[30:])
    bm.set(0, 25)
    bm.reset()
    bm.set(0, 25)
    assert data == b"\xa5" * 30 + b"\xff\xff\xff\xa5" + b"\xa5" * 30
    assert bm.view().nbytes == 4


# --- empty ranges ------------------------------------------------------------------------------

ANYWHERE = [0, 1, BASE - 1, BASE, BASE + 5, END - 1, END, END + 1, 2**63, TOP - 1]


@pytest.mark.parametrize("iova", ANYWHERE)
@pytest.mark.parametrize("content", [0x00, 0xFF])
def test_length_zero_does_nothing(iova, content):
    bm, arena = fresh(content=content)
    bm.set(iova, 0)
    bm.clear(iova, 0)
    bm.set(iova, 0, clip=True)
    bm.clear(iova, 0, clip=True)
    assert bm.test_and_set(iova, 0) == 0
    assert bm.count(iova, 0) == 0
    assert bm.ranges(iova, 0).shape == (0, 2)
    assert (arena.data == arena.initial).all()
    assert bm.window is None and tuple(bm.stats) == (0, 0, 0, 0, 0)


# --- outside -----------------------------------------------------------------------------------

OUTSIDE = [  # (iova, length, pages that are inside)
    (END, 1, []),
    (END - 1, 2, [19]),
    (END + 5, 4096, []),
    (END + 3 * 4096, 1, []),  # a bit of the last byte that stands for no page
    (END, 4096 * 4, []),
    (BASE - 1, 1, []),
    (BASE - 1, 2, [0]),
    (0, 1, []),
    (0, BASE, []),
    (0, BASE + 1, [0]),
    (BASE - 4096, 4096 * 3, [0, 1]),
    (BASE, PAGES * 4096 + 1, list(range(PAGES))),
    (BASE - 1, PAGES * 4096 + 2, list(range(PAGES))),
    (0, TOP - 1, list(range(PAGES))),
    (BASE + 4096 * 18, TOP - (BASE + 4096 * 18), [18, 19]),
    (TOP - 1, 1, []),
]


@pytest.mark.parametrize("iova, length, inside", OUTSIDE)
@pytest.mark.parametrize("content", [0x00, 0xFF])
def test_outside_raises_and_does_nothing(iova, length, inside, content):
    bm, arena = fresh(content=content)
    for name in ("set", "clear", "test_and_set", "count", "ranges"):
        raises_out_of_range(lambda name=name: getattr(bm, name)(iova, length), iova, length)
    raises_out_of_range(lambda: bm.set(iova, length, clip=False), iova, length)
    assert (arena.data == arena.initial).all() and bm.window is None
    arena.assert_guards()


@pytest.mark.parametrize("iova, length, inside", OUTSIDE)
def test_clip_does_the_part_inside(iova, length, inside):
    bm, arena = fresh()
    bm.set(iova, length, clip=True)
    assert pages(bm) == inside
    full, full_arena = fresh(content=0xFF)
    full.clear(iova, length, clip=True)
    assert pages(full) == [n for n in range(24) if n not in inside]
    arena.assert_guards()
    full_arena.assert_guards()


def test_a_range_past_the_end_inside_the_last_page():
    """The last bit stands for a part of a page: beyond the end is outside, for all its bit."""
    bm, arena = fresh(part=4000)
    end = bm.end
    for iova, length in ((end, 1), (end + 100, 1), (end - 1, 2), (end + 3999, 1)):
        raises_out_of_range(lambda i=iova, n=length: bm.set(i, n), iova, length)
        raises_out_of_range(lambda i=iova, n=length: bm.count(i, n), iova, length)
    raises_out_of_range(lambda: bm.test(end), end, 1)
    bm.set(end, 1, clip=True)
    assert not arena.data.any()
    bm.set(end - 1, 2, clip=True)
    assert pages(bm) == [PAGES - 1]


@pytest.mark.parametrize(
    "iova, length",
    [(TOP - 1, 2), (2, TOP - 1), (BASE, TOP - 1), (TOP - 4096, 4097), (END, TOP - 1)],
)
@pytest.mark.parametrize("base", [BASE, TOP - PAGES * 4096])
def test_a_range_that_wraps(iova, length, base):
    bm, arena = fresh(base=base)
    for clip in (False, True):
        raises_out_of_range(lambda c=clip: bm.set(iova, length, clip=c), iova, length)
        raises_out_of_range(lambda c=clip: bm.clear(iova, length, clip=c), iova, length)
    raises_out_of_range(lambda: bm.test_and_set(iova, length), iova, length)
    raises_out_of_range(lambda: bm.count(iova, length), iova, length)
    raises_out_of_range(lambda: bm.ranges(iova, length), iova, length)
    text = f"range {iova:#x} (+{length:#x}) ends beyond 2**64"
    with pytest.raises(ib.IOVARangeError, match=f"^{re.escape(text)}$"):
        bm.set(iova, length)
    with pytest.raises(ib.IOVARangeError, match=f"^row 1: {re.escape(text)}$"):
        bm.set_ranges([(base, 1), (iova, length)])
    assert not arena.data.any()


def test_a_range_that_ends_at_two_to_the_64_is_no_wrap():
    bm, _ = fresh(base=TOP - PAGES * 4096)
    bm.set(TOP - 4096, 4096)
    bm.set(TOP - 1, 1)
    assert pages(bm) == [PAGES - 1]
    bm.set(0, TOP - 1, clip=True)
    assert bm.count() == PAGES
    bm.clear(1, TOP - 1, clip=True)
    assert bm.count() == 0


# --- arguments ---------------------------------------------------------------------------------


def test_every_argument_by_its_name():
    bm, _ = fresh()
    bm.set(length=4096, iova=BASE, clip=False)
    assert bm.test(iova=BASE)
    assert bm.test_and_set(length=4096 * 2, iova=BASE) == 1
    bm.clear(clip=True, iova=BASE - 1, length=2)
    assert bm.count(length=4096 * 2, iova=BASE) == 1
    assert bm.ranges(iova=BASE, length=4096 * 3).tolist() == [[BASE + 4096, 4096]]


@pytest.mark.parametrize(
    "name, arguments, named",
    [
        ("set", (BASE,), {}),
        ("set", (BASE, 1, True), {}),
        ("set", (BASE, 1), {"unknown": 1}),
        ("set", (BASE, 1), {"iova": 1}),
        ("set", (), {"length": 1}),
        ("clear", (BASE, 1, True), {}),
        ("test_and_set", (BASE, 1), {"clip": True}),
        ("test", (), {}),
        ("test", (BASE, 1), {}),
        ("count", (BASE, 1, 1), {}),
        ("count", (BASE,), {"clip": True}),
        ("reset", (1,), {}),
        ("free", (1,), {}),
        ("windows", (1,), {}),
        ("copy", (1,), {}),
    ],
)
def test_wrong_arguments(name, arguments, named):
    bm, arena = fresh()
    with pytest.raises(TypeError):
        getattr(bm, name)(*arguments, **named)
    assert not arena.data.any()


def test_clip_is_a_truth_value():
    bm, _ = fresh()
    bm.set(BASE - 1, 2, clip=1)
    assert pages(bm) == [0]
    raises_out_of_range(lambda: bm.set(BASE - 1, 2, clip=0), BASE - 1, 2)


def test_reset_clears_everything_and_keeps_the_present_window():
    arena = Arena(3 * HOST_PAGE, 8, content=0xFF)
    bm = ib.alloc(0, arena.data.nbytes * 8 - 3, 1, arena.data, window_pages=1)
    bm.set(5, 1)
    window, moves = bm.window, bm.stats.moves
    assert bm.reset() is None
    assert bm.count() == 0
    assert arena.data[-1] == 0b11100000 and not arena.data[:-1].any()
    assert (bm.window, bm.stats.moves) == (window, moves)
