"""Operators between bitmaps, counts without a result, and differences."""

from __future__ import annotations

import errno
import operator

import numpy as np
import pytest

from support.driver import plain
from support.expected import TOP, Expected
from support.memory import HOST_PAGE, Arena
from support.pins import FaultyPin, RecordingPin, bit_for_each_address, small_bitmap
from support.under_test import ib

# name: (new bitmap, in place, what it means)
OPERATIONS = {
    "and": (operator.and_, operator.iand, lambda a, b: a & b),
    "or": (operator.or_, operator.ior, lambda a, b: a | b),
    "xor": (operator.xor, operator.ixor, lambda a, b: a ^ b),
    "sub": (operator.sub, operator.isub, lambda a, b: a & ~b),
}
BASE, PAGE = 0x1800, 4096  # of small_bitmap()
BITS = HOST_PAGE * 8

each_operation = pytest.mark.parametrize("name", OPERATIONS)


def pair(nbits=1003, pgoffs=(0, 3), seed=1, **options):
    """Two bitmaps of random content, in the bits that stand for no page too, and their memory."""
    arenas = [Arena((nbits + 7) // 8, pgoff, content=None, seed=seed + pgoff) for pgoff in pgoffs]
    return [ib.alloc(5, nbits, 1, arena.data, **options) for arena in arenas], arenas


# --- results -------------------------------------------------------------------------------------


@each_operation
@pytest.mark.parametrize("nbits", [1, 7, 8, 63, 64, 65, 511, 512, 1003, 3 * BITS + 5])
def test_new_bitmaps_and_counts(name, nbits):
    (a, b), arenas = pair(nbits)
    new, _, meaning = OPERATIONS[name]
    wanted = meaning(a.to_mask(), b.to_mask())
    made = new(a, b)
    assert np.array_equal(made.to_mask(), wanted)
    assert getattr(a, f"count_{name}")(b) == wanted.sum() == made.count()
    assert getattr(a, f"count_{name}")(other=b) == wanted.sum()
    for arena in arenas:
        assert np.array_equal(arena.data, arena.initial)


@each_operation
@pytest.mark.parametrize("pgoffs", [(0, 0), (0, 3), (7, 8), (4089 % HOST_PAGE, 1)])
def test_in_place(name, pgoffs):
    """The object stays the same, and so do bits that stand for no page and all other bytes."""
    for nbits in (1, 9, 64, 1003, 2 * BITS + 61):
        (a, b), (mine, other) = pair(nbits, pgoffs, window_pages=1)
        wanted = OPERATIONS[name][2](a.to_mask(), b.to_mask())
        model = Expected(5, nbits, 1, bits=wanted)
        c = a
        c = OPERATIONS[name][1](c, b)
        assert c is a
        assert np.array_equal(mine.data, model.memory(mine.initial))
        assert np.array_equal(other.data, other.initial)
        mine.assert_guards()
        other.assert_guards()


def test_a_new_bitmap_is_made_as_copy_makes_one():
    bm = small_bitmap(pin=RecordingPin(), window_pages=3)
    bm.set(BASE, 1)
    for new, _, _ in OPERATIONS.values():
        made = new(bm, small_bitmap())
        assert (made.iova, made.length, made.page_size) == (bm.iova, bm.length, bm.page_size)
        assert (made.pin, made.window, made.window_pages) == ("none", None, 3)
        made.set(BASE, bm.length)
        assert not np.shares_memory(made.view(), bm.view())
    assert bm == small_bitmap()


def test_the_same_bitmap_twice():
    bm = small_bitmap()
    assert bm & bm == bm and bm | bm == bm
    assert not (bm ^ bm).any() and not (bm - bm).any()
    assert (bm.count_and(bm), bm.count_or(bm), bm.count_xor(bm), bm.count_sub(bm)) == (6, 6, 0, 0)
    same = bm
    same &= same
    same |= same
    assert same is bm and bm == small_bitmap()
    same -= same
    assert same is bm and not bm.any()
    bm.set(BASE, 1)
    bm ^= bm
    assert not bm.any()
    diff = bm.diff(bm)
    assert (diff.appeared, diff.disappeared, diff.common) == (0, 0, 0)


def test_two_bitmaps_over_the_same_memory():
    memory = bytearray(b"\x0f" * 100)
    a, b = ib.alloc(0, 800, 1, memory), ib.alloc(0, 800, 1, memory)
    assert a.count_and(b) == 400 and a.count_xor(b) == 0
    a ^= b
    assert memory == bytes(100)


def test_the_present_window_stays():
    a = bit_for_each_address(Arena(3 * HOST_PAGE).data, RecordingPin(), window_pages=1)
    b = bit_for_each_address(Arena(3 * HOST_PAGE).data, RecordingPin(), window_pages=2)
    for bm in (a, b):
        bm.set(BITS, 2)
    before = a.window, b.window
    a |= b
    a.count_and(b)
    a.diff(b).common_ranges()
    assert (a.window, b.window) == before
    for bm in (a, b):
        assert bm.stats.moves == 1 and bm.stats.pinned_pages == bm.window.npages
        bm.free()
        bm.pin.assert_balanced()


# --- differences ---------------------------------------------------------------------------------


def test_diff():
    new, old = small_bitmap(), small_bitmap()
    old.clear(BASE + 8 * PAGE, PAGE)
    old.set(BASE + 60 * PAGE, 2 * PAGE)
    diff = new.diff(old)
    assert (diff.appeared, diff.disappeared, diff.common) == (1, 2, 5)
    assert plain(diff.appeared_ranges()) == [(BASE + 8 * PAGE, PAGE)]
    assert plain(diff.disappeared_ranges()) == [(BASE + 60 * PAGE, 2 * PAGE)]
    assert plain(diff.common_ranges()) == plain((new & old).ranges())
    assert plain(diff.common_ranges())[-1] == (BASE + 99 * PAGE, PAGE - 100)
    assert "appeared=1" in repr(diff) and "disappeared=2" in repr(diff)
    assert new.diff(old=old).common == 5
    with pytest.raises(AttributeError):
        diff.appeared = 3
    with pytest.raises(TypeError):
        type(diff)()


def test_ranges_of_a_diff_are_read_when_asked():
    new, old = small_bitmap(), small_bitmap()
    diff = new.diff(old)
    new.set(BASE + PAGE, 1)
    assert diff.appeared == 0
    assert plain(diff.appeared_ranges()) == [(BASE + PAGE, PAGE)]
    old.free()
    assert (diff.appeared, diff.common) == (0, 6)
    with pytest.raises(ValueError, match="freed"):
        diff.appeared_ranges()


def test_a_diff_keeps_its_bitmaps():
    diff = small_bitmap().diff(ib.IOVABitmap(BASE, 100 * PAGE - 100))
    assert len(diff.appeared_ranges()) == 4 and diff.disappeared_ranges().shape == (0, 2)


# --- what does not fit together ------------------------------------------------------------------


@pytest.mark.parametrize(
    "geometry",
    [
        (BASE + PAGE, 100 * PAGE - 100, PAGE),
        (BASE, 100 * PAGE, PAGE),  # as many pages
        (BASE, 100 * PAGE - 100, 2 * PAGE),
        (TOP - PAGE, PAGE, PAGE),
    ],
)
def test_geometries_must_be_the_same(geometry):
    bm, other = small_bitmap(), ib.IOVABitmap(*geometry)
    calls = [call for both in OPERATIONS.values() for call in both[:2]]
    calls += [getattr(ib.IOVABitmap, f"count_{name}") for name in OPERATIONS]
    for call in [*calls, ib.IOVABitmap.diff]:
        with pytest.raises(ValueError) as caught:
            call(bm, other)
        assert not isinstance(caught.value, ib.IOVARangeError)
    assert bm == small_bitmap()


def test_windows_and_pins_may_differ():
    a = small_bitmap(window_pages=1)
    assert (a & small_bitmap(window_pages=7, pin="populate")) == a


@pytest.mark.parametrize("other", [5, None, "bm", {1}, True, np.zeros(3), np.uint64(1)])
def test_other_types(other):
    bm = small_bitmap()
    for new, in_place, _ in OPERATIONS.values():
        for call in (new, in_place):
            with pytest.raises(TypeError):
                call(bm, other)
        with pytest.raises(TypeError):
            new(other, bm)
    for name in OPERATIONS:
        assert getattr(bm, f"__{name}__")(other) is NotImplemented
        assert getattr(bm, f"__i{name}__")(other) is NotImplemented
        with pytest.raises(TypeError):
            getattr(bm, f"count_{name}")(other)
    with pytest.raises(TypeError):
        bm.diff(other)
    assert bm == small_bitmap()


def test_others_may_implement_it():
    class Mine:
        def __ror__(self, bm):
            return "mine", bm

    bm = small_bitmap()
    assert bm | Mine() == ("mine", bm)
    with pytest.raises(TypeError):
        bm & Mine()


def test_no_other_arithmetic():
    bm = small_bitmap()
    for call in (operator.add, operator.mul, operator.lshift):
        with pytest.raises(TypeError):
            call(bm, bm)


def test_freed():
    for which in (0, 1):
        bitmaps = [small_bitmap(), small_bitmap()]
        bitmaps[which].free()
        calls = [call for both in OPERATIONS.values() for call in both[:2]]
        calls += [getattr(ib.IOVABitmap, f"count_{name}") for name in OPERATIONS]
        for call in [*calls, ib.IOVABitmap.diff]:
            with pytest.raises(ValueError, match="freed"):
                call(*bitmaps)


# --- pins that fail ------------------------------------------------------------------------------


@each_operation
@pytest.mark.parametrize("whose", [0, 1])
def test_a_failing_pin_in_place(name, whose):
    """All before PinError.iova is done, nothing behind it, in whichever of the two it was."""
    pins = [FaultyPin(), FaultyPin()]
    datas = [Arena(4 * HOST_PAGE, 0, content=None, seed=s).data for s in (1, 2)]
    a, b = (
        bit_for_each_address(data, pin, window_pages=n + 1)
        for n, (data, pin) in enumerate(zip(datas, pins, strict=True))
    )
    x, y = a.to_mask(), b.to_mask()
    pins[whose].load(bad=[datas[whose].ctypes.data + 2 * HOST_PAGE])
    with pytest.raises(ib.PinError) as caught:
        OPERATIONS[name][1](a, b)
    error = caught.value
    assert (error.errno, error.iova, error.length) == (errno.EFAULT, 2 * BITS, 2 * BITS)
    wanted = OPERATIONS[name][2](x, y)
    wanted[2 * BITS :] = x[2 * BITS :]
    for call in (
        lambda: OPERATIONS[name][0](a, b),
        lambda: getattr(a, f"count_{name}")(b),
        lambda: a.diff(b),
    ):
        with pytest.raises(ib.PinError) as caught:
            call()
        assert caught.value.errno == errno.EFAULT
    for pin in pins:
        pin.load()
    assert np.array_equal(a.to_mask(), wanted) and np.array_equal(b.to_mask(), y)
    for bm, pin in zip((a, b), pins, strict=True):
        bm.free()
        pin.assert_balanced()


def test_ranges_of_a_diff_when_a_pin_fails():
    pin = FaultyPin()
    a = bit_for_each_address(Arena(2 * HOST_PAGE, content=3).data, pin, window_pages=1)
    diff = a.diff(a.copy())
    pin.load([None, -errno.EACCES])
    with pytest.raises(ib.PinError):
        diff.common_ranges()
    assert diff.common_ranges().shape == (2 * HOST_PAGE, 2)
