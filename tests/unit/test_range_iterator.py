"""The iterator of iter_ranges: how far it reads, and how it goes on after failures and marks."""

from __future__ import annotations

import errno
from itertools import chain

import pytest

from support.driver import plain
from support.memory import HOST_PAGE, Arena
from support.pins import FaultyPin, RecordingPin, bit_for_each_address, small_bitmap
from support.under_test import ib

BASE, PAGE = 0x1800, 4096  # of small_bitmap()
BITS = HOST_PAGE * 8


def test_marks_behind_a_batch_that_was_not_full():
    """It had come to the end; one that was full goes on, and sees what was marked meanwhile."""
    bm = small_bitmap()
    bm.clear(BASE + 99 * PAGE, 1)
    short, full = bm.iter_ranges(batch=4), bm.iter_ranges(batch=3)
    assert len(next(short)) == len(next(full)) == 3
    bm.set(BASE + 60 * PAGE, PAGE)
    assert next(short, None) is None
    assert plain(next(full)) == [(BASE + 60 * PAGE, PAGE)]
    bm.set(BASE + 70 * PAGE, PAGE)
    assert next(full, None) is None, "this one was not full"


def test_an_iterator_at_its_end_stays_there():
    bm = ib.IOVABitmap(0, 100)
    found = bm.iter_ranges(batch=1)
    assert next(found, None) is None
    bm.set(5, 1)
    assert next(found, None) is None


def lines(pin, npages=4):
    """Of each host page the first bit and the last are dirty, so that runs go over their ends."""
    memory = Arena(npages * HOST_PAGE)
    memory.data[::HOST_PAGE] = 1
    memory.data[HOST_PAGE - 1 :: HOST_PAGE] = 0x80
    return bit_for_each_address(memory.data, pin, window_pages=1), memory


def test_an_iterator_goes_on_after_a_failure():
    """It is where it was: nothing is left out, and nothing comes twice."""
    pin = FaultyPin()
    bm, _ = lines(pin)
    wanted, rows = plain(bm.ranges()), []
    assert wanted == [(0, 1), *((n * BITS - 1, 2) for n in (1, 2, 3)), (4 * BITS - 1, 1)]
    found = bm.iter_ranges(batch=2)
    for outcomes in ([-errno.EFAULT], [None, -errno.EACCES], [], [None, -errno.EIO], [], [], []):
        pin.load(outcomes)
        start = sum(rows[-1]) if rows else 0
        if not outcomes or len(rows) == len(wanted):
            rows += plain(next(found, []))
            continue
        with pytest.raises(ib.PinError) as caught:
            next(found)
        at = start if len(outcomes) == 1 else (start // BITS + 1) * BITS
        assert (caught.value.errno, caught.value.iova) == (-outcomes[-1], at)
        assert caught.value.length == bm.length - at
    assert rows == wanted
    pin.assert_balanced()


def test_a_batch_reads_to_where_the_next_one_begins():
    """And not to the end of the range: the page behind can be bad."""
    pin = FaultyPin()
    bm, memory = lines(pin)
    for batch, bad_page in ((1, 1), (2, 2), (3, 3)):
        pin.load(bad=[memory.address + bad_page * HOST_PAGE])
        found = bm.iter_ranges(batch=batch)
        if batch > 1:  # (n * BITS - 1, 2) is seen with its second page, the next at its end
            assert len(next(found)) == batch
        else:
            assert plain(next(found)) == [(0, 1)]
        with pytest.raises(ib.PinError):
            next(found)
        pin.load()
        assert len(list(chain.from_iterable(found))) == 5 - batch
    pin.assert_balanced()


def test_a_batch_is_not_given_before_the_next_one_is_seen():
    """Its rows are all there, but whether it is the last one is not known."""
    memory = Arena(2 * HOST_PAGE)
    memory.data[0] = 1
    pin = FaultyPin(bad=[memory.address + HOST_PAGE])
    found = bit_for_each_address(memory.data, pin, window_pages=1).iter_ranges(batch=1)
    for _ in range(2):
        with pytest.raises(ib.PinError) as caught:
            next(found)
        assert (caught.value.iova, caught.value.length) == (BITS, BITS)
    pin.load()
    assert [plain(rows) for rows in found] == [[(0, 1)]]


def test_an_iterator_that_is_in_use():
    class Nested(RecordingPin):
        found = None

        def deliver(self, address, npages):
            if self.found is not None:
                with pytest.raises(ValueError, match="in use"):
                    next(self.found)
            return npages

    pin = Nested()
    bm, _ = lines(pin)
    pin.found = bm.iter_ranges(batch=3)
    assert [len(rows) for rows in pin.found] == [3, 2]


def test_freeing_while_an_iterator_reads():
    class Freeing(RecordingPin):
        bm = None

        def deliver(self, address, npages):
            self.bm.free()
            return npages

    pin = Freeing()
    pin.bm, _ = lines(pin)
    found = pin.bm.iter_ranges(batch=3)
    assert len(next(found)) == 3
    with pytest.raises(ValueError, match="freed"):
        next(found)
