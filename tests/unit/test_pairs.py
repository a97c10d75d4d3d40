"""Operations on two bitmaps whose pins fail, or free one of the two: what the exception says, what
was done before it, and which pages are looked at.
"""

from __future__ import annotations

import errno
import operator

import pytest

from support.driver import plain
from support.memory import HOST_PAGE, Arena
from support.pins import AnsweringPin, FaultyPin, RecordingPin, bit_for_each_address
from support.under_test import ib

BITS = HOST_PAGE * 8

CHANGING = {
    "merge": lambda a, b: a.merge(b),
    "into": lambda a, b: b.read_and_clear(into=a),
    "&=": operator.iand,
    "|=": operator.ior,
    "^=": operator.ixor,
    "-=": operator.isub,
}
ASKING = {
    "==": operator.eq,
    "diff": lambda a, b: a.diff(b),
    "count_and": lambda a, b: a.count_and(b),
    "count_or": lambda a, b: a.count_or(b),
    "count_xor": lambda a, b: a.count_xor(b),
    "count_sub": lambda a, b: a.count_sub(b),
}
BOTH = CHANGING | ASKING

whose = pytest.mark.parametrize("whose", [0, 1])


def bitmap(pin="none", npages=3, content=0xFF):
    """One of a pair: all dirty, one host page a window."""
    return bit_for_each_address(
        Arena(npages * HOST_PAGE, content=content).data, pin, window_pages=1
    )


# --- what the exception says ---------------------------------------------------------------------


@whose
@pytest.mark.parametrize("name", BOTH)
def test_the_cause_is_what_the_pin_object_raised(name, whose):
    error = PermissionError(errno.EACCES, "not today")
    pins = ["none", "none"]
    pins[whose] = AnsweringPin(error)
    with pytest.raises(ib.PinError) as caught:
        BOTH[name](*map(bitmap, pins))
    assert caught.value.__cause__ is error and caught.value.errno == errno.EACCES
    assert (caught.value.iova, caught.value.length, caught.value.newly) == (0, 3 * BITS, 0)


def fails(call, iova, length, newly=0):
    with pytest.raises(ib.PinError) as caught:
        call()
    assert (caught.value.iova, caught.value.length) == (iova, length)
    assert caught.value.newly == newly


@pytest.mark.parametrize("name", ["merge", "into"])
def test_what_is_missing_begins_with_the_row_that_failed(name):
    """Pages there are of 16 addresses, and rows begin and end inside of them: the one that could
    not be marked counts, not the first of its window."""
    memory = Arena(2 * HOST_PAGE)
    pin = FaultyPin(bad=[memory.address + HOST_PAGE])
    there = ib.alloc(0, 32 * BITS, 16, memory.data, window_pages=1, pin=pin)
    here = ib.IOVABitmap(0, 32 * BITS, 1)
    for row in ((0, 1), (5, 3), (16 * BITS + 87, 2)):
        here.set(*row)
    end = 32 * BITS
    if name == "merge":
        fails(lambda: there.merge(here), 16 * BITS + 87, end - 16 * BITS - 87, 1)
        assert here.count() == 6
    else:
        fails(lambda: here.read_and_clear(into=there), 16 * BITS + 87, end - 16 * BITS - 87, 1)
        assert plain(here.ranges()) == [(16 * BITS + 87, 2)]
    assert plain(there.ranges(0, 16 * BITS)) == [(0, 16)]


@pytest.mark.parametrize("name", ["merge", "into"])
def test_rows_that_touch_in_the_other_are_not_one(name):
    """The last page there before the bad one is dirty, and so is the first of it: by two rows."""
    memory = Arena(2 * HOST_PAGE)
    pin = FaultyPin(bad=[memory.address + HOST_PAGE])
    there = ib.alloc(0, 32 * BITS, 16, memory.data, window_pages=1, pin=pin)
    here = ib.IOVABitmap(0, 32 * BITS, 1)
    here.set(16 * BITS - 9, 5)
    here.set(16 * BITS + 3, 40)
    end = 32 * BITS
    call = {
        "merge": lambda: there.merge(here),
        "into": lambda: here.read_and_clear(into=there),
    }[name]
    fails(call, 16 * BITS + 3, end - 16 * BITS - 3, 1)
    assert plain(here.ranges())[-1] == (16 * BITS + 3, 40)
    assert (here.count() == 45) is (name == "merge")


def test_a_row_that_fails_in_its_middle():
    memory = Arena(2 * HOST_PAGE)
    pin = FaultyPin(bad=[memory.address + HOST_PAGE])
    there = ib.alloc(0, 32 * BITS, 16, memory.data, window_pages=1, pin=pin)
    here = ib.IOVABitmap(0, 32 * BITS, 1)
    here.set(16 * BITS - 20, 40)
    fails(lambda: there.merge(here), 16 * BITS, 16 * BITS, 2)
    fails(lambda: here.read_and_clear(into=there), 16 * BITS, 16 * BITS)
    assert plain(here.ranges()) == [(16 * BITS, 20)]


@pytest.mark.parametrize("name", [name for name in ASKING if name != "=="])
def test_windows_of_both_are_walked_together(name):
    """The first page that cannot be had is named, whosever it is."""
    memories = [Arena(3 * HOST_PAGE, content=0xFF) for _ in range(2)]
    pins = [FaultyPin(), FaultyPin()]
    a, b = (
        bit_for_each_address(memory.data, pin, window_pages=1)
        for memory, pin in zip(memories, pins, strict=True)
    )
    for bad in ((1, 0), (0, 1), (2, 1), (1, 1), (2, 0)):
        for pin, memory, page in zip(pins, memories, bad, strict=True):
            pin.load(bad=[memory.address + page * HOST_PAGE])
        first = min(bad) * BITS
        fails(lambda: ASKING[name](a, b), first, 3 * BITS - first)
        fails(lambda: ASKING[name](b, a), first, 3 * BITS - first)


@pytest.mark.parametrize("name", ["appeared", "disappeared", "common"])
def test_ranges_of_a_diff_walk_both_together(name):
    pins = [FaultyPin(), FaultyPin()]
    a, b = map(bitmap, pins)
    ranges = getattr(a.diff(b), f"{name}_ranges")
    pins[0].load([None, -errno.EFAULT])
    pins[1].load([-errno.EFAULT])
    fails(ranges, 0, 3 * BITS)


# --- no more than is needed ----------------------------------------------------------------------


def test_merge_looks_at_no_more_than_both_have():
    """Of the other bitmap's four windows only the second is of addresses that are here."""
    memory = Arena(4 * HOST_PAGE, content=0xFF)
    bad = [memory.address + page * HOST_PAGE for page in (0, 2, 3)]
    other = bit_for_each_address(memory.data, FaultyPin(bad=bad), window_pages=1)
    bm = ib.IOVABitmap(BITS, BITS, 1)
    assert bm.merge(other) == BITS
    assert [entry[0] for entry in other.pin.log] == ["pin", "unpin"]


def test_what_merge_has_not_merged_ends_where_one_of_the_two_does():
    memory = Arena(4 * HOST_PAGE, content=0xFF)
    other = bit_for_each_address(
        memory.data, FaultyPin(bad=[memory.address + 2 * HOST_PAGE]), window_pages=1
    )
    bm = ib.IOVABitmap(BITS + 5, 2 * BITS, 1)
    fails(lambda: bm.merge(other), 2 * BITS, BITS + 5, BITS - 5)
    bm = ib.IOVABitmap(BITS + 5, 9 * BITS, 1)
    fails(lambda: bm.merge(other), 2 * BITS, 2 * BITS, BITS - 5)
    bm = ib.IOVABitmap(BITS + 5, 2 * BITS, 1, pin=FaultyPin([-errno.EFAULT]))
    fails(lambda: bm.merge(bitmap(npages=4)), BITS + 5, 2 * BITS)


def test_merge_of_what_has_no_address_here_pins_nothing():
    pins = [FaultyPin([-errno.EFAULT] * 9) for _ in range(2)]
    bm, other = ib.IOVABitmap(2**40, 4096, pin=pins[0]), bitmap(pins[1])
    assert bm.merge(other) == 0 and other.merge(bm) == 0
    assert pins[0].outcomes == pins[1].outcomes and len(pins[0].outcomes) == 9


def test_merge_of_itself_pins_nothing():
    bm = bitmap(FaultyPin([-errno.EFAULT]))
    assert bm.merge(bm) == 0 and len(bm.pin.outcomes) == 1


def test_diffs_are_equal_by_value():
    a, b, c = (ib.IOVABitmap(0, 16, 1) for _ in range(3))
    a.set(0, 4)
    first, again = a.diff(b), a.diff(b)
    assert first == again and hash(first) == hash(again)
    assert a.diff(c) != first and b.diff(a) != first and first != (4, 0, 0)
    b.set(0, 1)
    assert a.diff(b) != first
    assert len({first, again, a.diff(b)}) == 2
    with pytest.raises(TypeError):
        first < again  # noqa: B015


@whose
def test_comparing_ends_with_the_first_difference(whose):
    memory = Arena(3 * HOST_PAGE, content=0xFF)
    pin = FaultyPin(bad=[memory.address + HOST_PAGE])
    bm = bit_for_each_address(memory.data, pin, window_pages=1)
    other = bitmap(content=0xFF)
    a, b = (bm, other) if whose == 0 else (other, bm)
    fails(lambda: a == b, BITS, 2 * BITS)
    other.clear(BITS - 1, 1)
    assert a != b
    pin.assert_balanced()


# --- into a bitmap that does not cover -----------------------------------------------------------


@pytest.mark.parametrize("part", [(None, None), (0, 0x1000), (0x1000, 0), (0, 0), (0x3FFF, 1)])
@pytest.mark.parametrize("geometry", [(0, 0x2000), (0x1000, 0x3000), (0, 0x3FFF), (0x8000, 9)])
def test_into_must_cover_all_whatever_the_part(part, geometry):
    bm = ib.IOVABitmap(0, 0x4000, 0x4000)
    bm.set(0, 1)
    into = ib.IOVABitmap(*geometry, 1)
    with pytest.raises(ib.IOVARangeError) as caught:
        bm.read_and_clear(*part, into=into)
    assert (caught.value.iova, caught.value.length) == (0, 0x4000)
    assert bm.count() == 1 and not into.any()


# --- a pin object that raises, or frees ----------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 16])
def test_what_is_in_the_other_is_clean_here_whatever_is_raised(page_size):
    """The pin object of `into` raises for the second window, no OSError."""

    class Raising(RecordingPin):
        def deliver(self, address, npages):
            if self.log:
                raise LookupError("mine")
            return npages

    into = ib.alloc(0, 2 * BITS, 1, Arena(2 * HOST_PAGE).data, window_pages=1, pin=Raising())
    bm = ib.IOVABitmap(0, 2 * BITS, page_size)
    bm.set(0, 5)
    bm.set(BITS - 40, 80)
    with pytest.raises(LookupError, match="mine"):
        bm.read_and_clear(into=into)
    assert plain(bm.ranges()) == [(BITS, 48 if page_size > 1 else 40)]
    into.pin.assert_balanced()


@pytest.mark.parametrize("fails", [False, True])
def test_a_mark_made_while_another_takes_the_pages_stays(fails):
    """By the pin object of `into`, of a page that was taken and of one that was clean."""

    class Marking(RecordingPin):
        def deliver(self, address, npages):
            bm.set(3, 1)
            bm.set(20, 1)
            if fails:
                raise OSError(errno.EFAULT, "injected")
            return npages

    bm = ib.IOVABitmap(0, 100, 1)
    bm.set(2, 4)
    into = ib.IOVABitmap(0, 100, 1, pin=Marking())
    try:
        bm.read_and_clear(into=into)
    except ib.PinError as error:
        assert fails and (error.iova, error.length) == (2, 98)
    assert bm.to_text() == ("2-5,20" if fails else "3,20")
    assert into.view().tolist()[0] == (0 if fails else 0b111100)


class Freeing(RecordingPin):
    """Frees a bitmap whenever it is called."""

    victim = None

    def deliver(self, address, npages):
        self.victim.free()
        return npages


@whose
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("name", BOTH)
def test_freeing_one_of_the_two_meanwhile(name, whose, victim):
    """Both live until the operation ends, which is carried out; no other can be begun."""
    memories = [Arena(3 * HOST_PAGE, content=content) for content in (0x55, 0xF0)]
    pins = [Freeing(), RecordingPin()]
    pins = pins[::-1] if whose else pins
    pair = [
        bit_for_each_address(memory.data, pin, window_pages=1)
        for memory, pin in zip(memories, pins, strict=True)
    ]
    pins[whose].victim = pair[victim]
    result = BOTH[name](*pair)
    a, b = 0x55, 0xF0
    if name == "==":
        assert result is False
    elif name == "diff":
        counts = result.appeared, result.disappeared, result.common
        assert counts == tuple(3 * HOST_PAGE * n for n in (2, 2, 2))
    elif name in ASKING:
        assert result == 3 * HOST_PAGE * {"and": 2, "or": 6, "xor": 4, "sub": 2}[name[6:]]
    wanted = {"merge": a | b, "into": a | b, "&=": a & b, "|=": a | b, "^=": a ^ b, "-=": a & ~b}
    assert (memories[0].data == wanted.get(name, a)).all()
    assert (memories[1].data == (0 if name == "into" else b)).all()
    assert pair[victim].freed and not pair[1 - victim].freed
    with pytest.raises(ValueError, match="freed"):
        BOTH[name](*pair)
    for bm in pair:
        assert bm.stats.pins == bm.stats.unpins > 0
    for pin in pins:
        pin.assert_balanced()


@whose
@pytest.mark.parametrize("victim", [0, 1])
def test_freeing_one_of_the_two_while_a_third_is_made(whose, victim):
    pins = [Freeing(), RecordingPin()]
    pins = pins[::-1] if whose else pins
    pair = [bitmap(pin, content=content) for pin, content in zip(pins, (0x55, 0xF0), strict=True)]
    pins[whose].victim = pair[victim]
    assert (pair[0] | pair[1]).count() == 6 * 3 * HOST_PAGE
    assert pair[victim].freed and not pair[1 - victim].freed


def test_an_index_that_frees():
    """Numbers are read when the operation has begun."""

    class Start:
        def __index__(self):
            bm.free()
            return 0

    bm = bitmap()
    assert bm.count(Start()) == 3 * BITS and bm.freed
