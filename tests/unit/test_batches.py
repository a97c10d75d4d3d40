"""set_ranges, clear_ranges and set_pages: every kind of array, rows that are bad, windows that are
taken once, and pins that fail.
"""

from __future__ import annotations

import array
import errno
import random

import numpy as np
import pytest

from support.driver import plain
from support.expected import TOP, Expected
from support.memory import HOST_PAGE, Arena
from support.pins import FaultyPin, RecordingPin, bit_for_each_address, require
from support.under_test import ib

BASE = 16  # so that addresses fit in a signed byte
ROWS = [(16, 3), (100, 1), (40, 0), (60, 10), (65, 1), (30, 30)]
PAGES = [100, 16, 17, 100, 60]
BITS = HOST_PAGE * 8  # of a host page


def bitmap(length=110, pin="none"):
    return ib.IOVABitmap(BASE, length, 1, pin=pin)


def marked(rows) -> list:
    model = Expected(BASE, 110, 1)
    model.mark(rows)
    return model.bits.tolist()


def check_rows(argument) -> None:
    """Marks ROWS, and clears them again in a full bitmap."""
    bm = bitmap()
    assert bm.set_ranges(argument() if callable(argument) else argument) is None
    assert bm.to_mask().tolist() == marked(ROWS)
    bm.set(BASE, 110)
    assert bm.clear_ranges(argument() if callable(argument) else argument) is None
    assert (~bm.to_mask()).tolist() == marked(ROWS)


# --- every kind of argument ----------------------------------------------------------------------

TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


@pytest.mark.parametrize("dtype", [order + name for name in TYPES for order in "<>"])
def test_integers_of_every_size_and_order(dtype):
    check_rows(np.array(ROWS, dtype))
    bm = bitmap()
    bm.set_pages(np.array(PAGES, dtype))
    assert bm.pages().tolist() == sorted(set(PAGES))


@pytest.mark.parametrize("dtype", ["u8", "i4", ">i2"])
def test_arrays_laid_out_in_any_way(dtype):
    rows = np.array(ROWS, dtype)
    wide = np.zeros((2 * len(rows), 6), dtype)
    wide[::2, 1:6:4] = rows
    check_rows(np.asfortranarray(rows))
    check_rows(wide[::2, 1:6:4])
    check_rows(rows[::-1])
    check_rows(rows[::-1, ::-1][:, ::-1])
    check_rows(np.ascontiguousarray(rows[:, ::-1])[:, ::-1])
    check_rows(np.concatenate((rows, rows)))
    check_rows(memoryview(rows))
    unaligned = np.zeros(rows.nbytes + 1, np.uint8)[1:]
    unaligned[:] = np.frombuffer(rows.tobytes(), np.uint8)
    check_rows(unaligned.view(dtype).reshape(rows.shape))
    pages = np.array(PAGES, dtype)
    for form in (pages[::-1], np.repeat(pages, 3)[::3], memoryview(pages), np.tile(pages, 2)):
        bm = bitmap()
        bm.set_pages(form)
        assert bm.pages().tolist() == sorted(set(PAGES))


def test_a_row_that_is_the_same_everywhere():
    bm = bitmap()
    bm.set_ranges(np.broadcast_to(np.array([20, 2], np.uint64), (1000, 2)))
    bm.set_pages(np.broadcast_to(np.uint64(50), 1000))
    assert plain(bm.ranges()) == [(20, 2), (50, 1)]


def test_read_only_memory_will_do():
    rows = np.array(ROWS, np.uint64)
    rows.flags.writeable = False
    check_rows(rows)
    bm = bitmap()
    bm.set_pages(bytes(PAGES))
    assert bm.pages().tolist() == sorted(set(PAGES))
    bm.clear(BASE, 110)
    bm.set_pages(array.array("Q", PAGES))
    assert bm.pages().tolist() == sorted(set(PAGES))


class Index:
    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


@pytest.mark.parametrize(
    "make",
    [
        lambda: ROWS,
        lambda: tuple(ROWS),
        lambda: [list(row) for row in ROWS],
        lambda: [np.array(row) for row in ROWS],
        lambda: iter(ROWS),
        lambda: (row for row in ROWS),
        lambda: (iter(row) for row in ROWS),
        lambda: [(Index(a), np.int16(b)) for a, b in ROWS],
        lambda: np.array(ROWS, object),
        lambda: dict(ROWS).items(),
    ],
)
def test_sequences_and_iterators(make):
    if isinstance(make(), type({}.items())):
        assert list(make()) == ROWS
    check_rows(make)


@pytest.mark.parametrize("form", [list, tuple, iter, set, lambda x: np.array(x, object)])
def test_sequences_of_pages(form):
    bm = bitmap()
    bm.set_pages(form(PAGES))
    assert bm.pages().tolist() == sorted(set(PAGES))
    bm.reset()
    bm.set_pages(iovas=range(20, 40, 5))
    assert bm.pages().tolist() == [20, 25, 30, 35]


@pytest.mark.parametrize("empty", [[], (), np.zeros((0, 2), np.uint64), np.zeros((0, 2), "i1")])
def test_empty(empty):
    bm = bitmap(pin=RecordingPin())
    bm.set_ranges(empty)
    bm.clear_ranges(empty)
    bm.set_ranges(iter(empty), clip=True)
    bm.set_pages([])
    bm.set_pages(np.zeros(0, np.uint64))
    bm.set_pages(b"")
    assert bm.pin.log == [] and bm.stats.pins == 0


@pytest.mark.parametrize("name", ["set_ranges", "clear_ranges"])
@pytest.mark.parametrize(
    "bad",
    [
        5,
        None,
        [16, 1],
        np.array(ROWS, float),
        np.array(ROWS, complex),
        np.array([["16", "1"]]),
        np.array(ROWS, "M8[s]"),
        [(16, 1.0)],
        [(16, "1")],
        [(16, None)],
        np.array([(16, 1.0)], object),
    ],
)
def test_what_holds_no_integers(name, bad):
    bm = bitmap()
    bm.set(60, 9)
    with pytest.raises(TypeError):
        getattr(bm, name)(bad)
    assert bm.count() == 9


@pytest.mark.parametrize("name", ["set_ranges", "clear_ranges"])
@pytest.mark.parametrize(
    "bad",
    [
        np.full((3, 3), 16),
        np.full((3, 1), 16),
        np.full(4, 16),
        np.full((2, 2, 2), 16),
        np.array(16),
        [(16, 1), (17,)],
        [(16, 1, 1)],
        [()],
    ],
)
def test_shapes_that_are_no_rows(name, bad):
    bm = bitmap()
    bm.set(60, 9)
    with pytest.raises((ValueError, TypeError)):
        getattr(bm, name)(bad)
    assert bm.count() == 9


@pytest.mark.parametrize("bad", [np.full((2, 2), 16), np.array(16), [[16]], np.ones(3), ["a"], 5])
def test_what_are_no_pages(bad):
    bm = bitmap()
    with pytest.raises((ValueError, TypeError)):
        bm.set_pages(bad)
    assert not bm.any()


# --- bad rows ------------------------------------------------------------------------------------

GOOD = (20, 2)
OUTSIDE = [(BASE - 1, 1), (BASE - 1, 2), (BASE + 110, 1), (BASE, 111), (TOP - 1, 1)]
WRAPS = [(TOP - 1, 2), (2, TOP - 1), (BASE + 1, TOP - BASE)]


def forms(rows):
    """The same rows in memory of their own, converted, and as objects."""
    yield np.array(rows, np.uint64)
    yield np.array(rows, ">u8")
    yield rows


@pytest.mark.parametrize("name", ["set_ranges", "clear_ranges"])
@pytest.mark.parametrize("number", [0, 1, 700])
def test_the_first_bad_row_is_named_and_nothing_recorded(name, number):
    for bad in OUTSIDE + WRAPS:
        for rows in forms([GOOD] * number + [bad, GOOD, (TOP - 1, 5)]):
            bm = bitmap(pin=RecordingPin())
            bm.set(21, 5)
            before, pins = bm.to_mask(), bm.stats.pins
            with pytest.raises(ib.IOVARangeError, match=rf"^row {number}: ") as caught:
                getattr(bm, name)(rows)
            assert (caught.value.iova, caught.value.length) == bad
            assert bm.stats.pins == pins
            assert np.array_equal(bm.to_mask(), before)


@pytest.mark.parametrize("number", [0, 1, 700])
def test_the_first_bad_page_is_named(number):
    for bad in (0, BASE - 1, BASE + 110, TOP - 1):
        pages = [20] * number + [bad, 20, TOP - 1]
        for form in (np.array(pages, np.uint64), np.array(pages, ">u8"), pages):
            bm = bitmap()
            with pytest.raises(ib.IOVARangeError, match=rf"^row {number}: ") as caught:
                bm.set_pages(form)
            assert (caught.value.iova, caught.value.length) == (bad, 1)
            assert not bm.any()


@pytest.mark.parametrize("name", ["set_ranges", "clear_ranges"])
@pytest.mark.parametrize("number", [0, 1, 700])
def test_numbers_that_are_no_unsigned_64_bit_number(name, number):
    rows = [GOOD] * number
    for bad in ((-1, 1), (20, -1), (TOP, 1), (20, TOP), (10**30, 1)):
        arguments = [[*rows, bad, GOOD], np.array([*rows, bad, GOOD], object)]
        if min(bad) < 0:
            arguments += [np.array([*rows, bad, GOOD], dtype) for dtype in ("i8", ">i8", "i2")]
        for argument in arguments:
            bm = bitmap()
            bm.set(21, 5)
            with pytest.raises(ValueError, match=rf"^row {number}: ") as caught:
                getattr(bm, name)(argument)
            assert not isinstance(caught.value, ib.IOVARangeError)
            assert bm.count() == 5


def test_pages_that_are_no_unsigned_64_bit_number():
    for bad in (-1, TOP, 10**30):
        arguments = [[20, 21, bad], np.array([20, 21, bad], object)]
        if bad < 0:
            arguments.append(np.array([20, 21, bad]))
        for argument in arguments:
            bm = bitmap()
            with pytest.raises(ValueError, match=r"^row 2: "):
                bm.set_pages(argument)
            assert not bm.any()


@pytest.mark.parametrize("bad", [(20, 1.5), (20, "1"), 7, (20,), (20, 1, 1)])
def test_a_row_of_a_sequence_that_is_none(bad):
    bm = bitmap()
    with pytest.raises((TypeError, ValueError), match=r"^row 2: "):
        bm.set_ranges([GOOD, GOOD, bad])
    assert not bm.any()


def test_an_exception_from_the_argument_propagates():
    def rows():
        yield GOOD
        raise KeyError("mine")

    for call in (lambda bm: bm.set_ranges(rows()), lambda bm: bm.set_pages(x[0] for x in rows())):
        bm = bitmap()
        with pytest.raises(KeyError, match="mine"):
            call(bm)
        assert not bm.any()


class Refusal(ValueError):
    """With more than a message."""


@pytest.mark.parametrize("refusal", [Refusal("mine", 5), TypeError("mine", 5), ArithmeticError(7)])
def test_an_exception_of_a_number_stays_what_it_is(refusal):
    """Where it came from is a note."""

    class Refuses:
        def __index__(self):
            raise refusal

    args, bm = refusal.args, bitmap()
    for call in (
        lambda: bm.set_pages([20, 21, Refuses()]),
        lambda: bm.set_ranges([GOOD, GOOD, (Refuses(), 1)]),
        lambda: bm.clear_ranges([GOOD, GOOD, (20, Refuses())]),
        lambda: bm.set_pages(np.array([20, 21, Refuses()], object)),
    ):
        with pytest.raises(type(refusal)) as caught:
            call()
        assert caught.value is refusal and refusal.args == args
        assert refusal.__notes__.pop() == "row 2" and not refusal.__notes__
    with pytest.raises(type(refusal)) as caught:  # of no array: no row
        bm.set(Refuses(), 1)
    assert caught.value is refusal and not refusal.__notes__
    assert not bm.any()


def test_an_exception_of_a_row_that_is_iterated():
    def row():
        yield 20
        raise LookupError("mine")

    bm = bitmap()
    with pytest.raises(LookupError) as caught:
        bm.set_ranges([GOOD, row()])
    assert caught.value.args == ("mine",)
    assert caught.value.__notes__ == ["row 1"]


def test_the_bitmap_freed_while_rows_are_read():
    bm = bitmap()

    def rows():
        yield GOOD
        bm.free()
        yield GOOD

    with pytest.raises(ValueError, match="freed"):
        bm.set_ranges(rows())
    with pytest.raises(ValueError, match="freed"):
        bm.clear_ranges([GOOD])
    with pytest.raises(ValueError, match="freed"):
        bm.set_pages([20])


def test_clip():
    for rows in forms([(0, 18), (120, 500), (0, 5), (126, 7), (TOP - 1, 1), (50, 2), (9, 0)]):
        bm = bitmap()
        bm.set_ranges(rows, clip=True)
        assert plain(bm.ranges()) == [(16, 2), (50, 2), (120, 6)]
        bm.set(BASE, 110)
        bm.clear_ranges(ranges=rows, clip=True)
        assert plain(bm.ranges(dirty=False)) == [(16, 2), (50, 2), (120, 6)]
        for bad in WRAPS:
            with pytest.raises(ib.IOVARangeError, match=r"^row 1: ") as caught:
                bm.set_ranges([(0, 200), bad], clip=True)
            assert (caught.value.iova, caught.value.length) == bad
            assert bm.count() == 100
    with pytest.raises(TypeError):
        bm.set_pages([20], clip=True)
    with pytest.raises(TypeError):
        bm.set_ranges([GOOD], True)


# --- windows and pins ----------------------------------------------------------------------------


@pytest.mark.parametrize("pin", ["none", "populate", "mlock", "object"])
def test_pins_are_the_windows_touched(pin):
    """32 windows of one host page, 3,000 rows in no order that touch 24 of them."""
    if pin == "mlock":
        require(pin)
    rng = random.Random(32)
    data = Arena(32 * HOST_PAGE).data
    bm = bit_for_each_address(data, RecordingPin() if pin == "object" else pin, window_pages=1)
    windows = rng.sample(range(32), 24)
    starts = [rng.choice(windows) * BITS + rng.randrange(BITS - 64) for _ in range(3000)]
    rows = [(start, rng.randint(1, 64)) for start in starts]
    model = Expected(0, bm.nbits, 1)
    model.mark(rows)
    for times, call in enumerate(
        (
            lambda: bm.set_ranges(np.array(rows, np.uint64)),
            lambda: bm.set_ranges(rows),
            lambda: bm.clear_ranges(np.array(rows)),
            lambda: bm.set_pages(np.array(starts, np.uint64)),
        ),
        1,
    ):
        call()
        taken = 1 if pin == "none" else 24  # one for all rows, where it costs nothing
        assert bm.stats.pins == bm.stats.unpins == taken * times
        assert bm.stats.moves == 0 and bm.window is None
        assert bm.stats.peak_pinned_pages == (32 if pin == "none" else 1)
        if times == 2:
            assert np.array_equal(bm.view(), np.packbits(model.bits, bitorder="little"))
    assert bm.count() == len(set(starts))


def test_the_caller_s_array_is_not_sorted():
    rows = np.array([(50, 3), (20, 2), (30, 1)], np.uint64)
    pages = np.array([50, 20, 30], np.uint64)
    before = rows.copy(), pages.copy()
    bm = bitmap(pin="populate")
    bm.set_ranges(rows)
    bm.set_pages(pages)
    assert np.array_equal(rows, before[0]) and np.array_equal(pages, before[1])


def test_the_present_window_stays():
    data = Arena(4 * HOST_PAGE).data
    bm = bit_for_each_address(data, RecordingPin(), window_pages=1)
    bm.set(BITS, 1)
    window, moves = bm.window, bm.stats.moves
    bm.set_ranges([(3 * BITS, 5), (0, 5)])
    bm.set_pages([2 * BITS])
    assert (bm.window, bm.stats.moves, bm.stats.pinned_pages) == (window, moves, 1)


@pytest.mark.parametrize("first, last", [(0, 0), (4095, 4095), (100, 3 * 4096 + 7)])
def test_what_a_failing_pin_leaves_ends_with_the_last_row(first, last):
    """Not with its page: as of one range."""
    for call in ("set_ranges", "clear_ranges", "set_pages"):
        bm = ib.IOVABitmap(0, 10 * 4096, 4096, pin=FaultyPin([-errno.EFAULT]))
        rows = [first, last] if call == "set_pages" else [(first, last - first + 1), (first, 1)]
        with pytest.raises(ib.PinError) as caught:
            getattr(bm, call)(rows)
        assert (caught.value.iova, caught.value.length) == (0, last + 1)


@pytest.mark.parametrize("bad_page", range(4))
@pytest.mark.parametrize("value", [True, False])
def test_a_failing_pin_says_from_where_on_nothing_was_done(bad_page, value):
    data = Arena(4 * HOST_PAGE, 0, content=0 if value else 0xFF).data
    pin = FaultyPin(bad=[data.ctypes.data + bad_page * HOST_PAGE])
    bm = bit_for_each_address(data, pin, window_pages=1)
    rows = [(page * BITS + 7, 9) for page in (2, 0, 3, 1)] + [(5, 1), (3 * BITS + 90, 5)]
    call = bm.set_ranges if value else bm.clear_ranges
    for _ in range(2):  # the same each time
        first = 5 if bad_page == 0 else bad_page * BITS + 7
        with pytest.raises(ib.PinError) as caught:
            call(rows)
        error = caught.value
        assert error.errno == errno.EFAULT
        assert (error.iova, error.iova + error.length) == (first, 3 * BITS + 95)
        done = Expected(0, bm.nbits, 1)
        done.mark([row for row in rows if row[0] < bad_page * BITS])
        assert np.array_equal(bm.view(), np.packbits(done.bits == value, bitorder="little"))
        assert not value or error.newly in (0, int(done.bits.sum()))
    pin.load()
    call(rows)
    done.mark(rows)
    assert np.array_equal(bm.view(), np.packbits(done.bits == value, bitorder="little"))
    bm.free()
    pin.assert_balanced()
