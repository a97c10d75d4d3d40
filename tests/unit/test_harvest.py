"""read_and_clear, merge and rescale: what a harvest takes, where it goes, and that nothing is lost
when pins fail or others mark meanwhile.
"""

from __future__ import annotations

import errno
import threading

import numpy as np
import pytest

from support.driver import plain
from support.expected import TOP, Expected
from support.memory import HOST_PAGE, Arena
from support.pins import FaultyPin, RecordingPin, bit_for_each_address, small_bitmap
from support.under_test import engine_only, ib

BASE, PAGE = 0x1800, 4096  # of small_bitmap()
BITS = HOST_PAGE * 8


# --- rows ----------------------------------------------------------------------------------------


def test_rows_are_those_of_ranges_and_the_pages_are_clean():
    bm = small_bitmap()
    wanted = bm.ranges()
    rows = bm.read_and_clear()
    assert rows.dtype == np.uint64 and np.array_equal(rows, wanted)
    assert not bm.any()
    assert bm.read_and_clear().shape == (0, 2)
    bm.set(BASE + PAGE, 1)
    assert plain(bm.read_and_clear()) == [(BASE + PAGE, PAGE)]


def test_a_part_takes_the_pages_that_it_touches():
    bm = small_bitmap()
    assert plain(bm.read_and_clear(BASE + 8 * PAGE + 5, 42 * PAGE)) == [
        (BASE + 8 * PAGE + 5, PAGE - 5),
        (BASE + 50 * PAGE, 5),
    ]
    assert [(p - BASE) // PAGE for p in bm.pages().tolist()] == [0, 7, 51, 99]
    assert plain(bm.read_and_clear(length=8 * PAGE, iova=BASE)) == [
        (BASE, PAGE),
        (BASE + 7 * PAGE, PAGE),
    ]
    assert plain(bm.read_and_clear(BASE + 52 * PAGE)) == [(BASE + 99 * PAGE, PAGE - 100)]
    assert bm.count() == 1


@pytest.mark.parametrize("pgoff", [0, 1, 7, 8, 4089 % HOST_PAGE])
def test_neighbours_of_a_part_stay(pgoff):
    """All bits are ones; a part of any length is taken, and not one bit or byte beside it."""
    arena = Arena(40, pgoff, content=0xFF)
    bm = ib.alloc(0, 40 * 8 - 3, 1, arena.data)
    for first in (0, 1, 7, 8, 9, 63, 64, 65, 100):
        for length in (1, 2, 6, 7, 8, 9, 15, 56, 57, 63, 64, 65, 128, 129, 200):
            arena.data[:] = 0xFF
            assert plain(bm.read_and_clear(first, length)) == [(first, length)]
            bits = np.unpackbits(arena.data, bitorder="little")
            assert not bits[first : first + length].any()
            assert bits.sum() == 320 - length
    arena.data[:] = 0xFF
    assert plain(bm.read_and_clear()) == [(0, 317)]
    assert arena.data.tolist() == [0] * 39 + [0xE0]
    arena.assert_guards()


def test_the_present_window_stays_and_pins_balance():
    data = Arena(4 * HOST_PAGE, content=0xFF).data
    bm = bit_for_each_address(data, RecordingPin(), window_pages=1)
    bm.set(BITS, 1)
    window = bm.window
    assert plain(bm.read_and_clear(5)) == [(5, 4 * BITS - 5)]
    assert bm.window == window and bm.stats.pins == 5 and bm.stats.pinned_pages == 1
    bm.free()
    bm.pin.assert_balanced()


# --- into another bitmap -------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 512, 4096, 8192, 2**20])
@pytest.mark.parametrize("below, above", [(0, 0), (1, 77), (0x1800, 4096)])
def test_into_any_bitmap_that_covers_this_one(page_size, below, above):
    bm = small_bitmap()
    start, end = bm.iova - below, bm.end + above
    arena = Arena(ib.nbytes_for(end - start, page_size), 3, content=None)
    into = ib.alloc(start, end - start, page_size, arena.data, window_pages=1)
    expected = Expected(start, end - start, page_size, bits=into.to_mask())
    for rows in (plain(bm.ranges()), [(bm.end - 1, 1)]):
        bm.set_ranges(rows)
        bm.read_and_clear(rows[0][0], into=into)
        expected.mark(rows)
        assert np.array_equal(arena.data, expected.memory(arena.initial))
        assert not bm.any()
    arena.assert_guards()


def test_into_keeps_what_a_part_leaves():
    bm = small_bitmap()
    into = ib.IOVABitmap(bm.iova, bm.length, PAGE)
    bm.read_and_clear(BASE + 8 * PAGE, 43 * PAGE, into=into)
    assert [(p - BASE) // PAGE for p in bm.pages().tolist()] == [0, 7, 51, 99]
    assert [(p - BASE) // PAGE for p in into.pages().tolist()] == [8, 50]


@pytest.mark.parametrize("seed", range(12))
def test_into_takes_pages_whole_where_a_part_cuts_them(seed):
    """All of a page is clean afterwards, so all of it is marked, whatever the part."""
    rng = np.random.default_rng(seed)
    page_size, start = 1 << int(rng.integers(5)), int(rng.integers(100))
    length = int(rng.integers(1, 1000))
    bm = ib.IOVABitmap(start, length, page_size)
    bm.view()[:] = rng.integers(0, 256, bm.nbytes, np.uint8)
    before = bm.to_mask()[: bm.nbits]
    other_size = 1 << int(rng.integers(6))
    base = start - int(rng.integers(start + 1))
    into = ib.IOVABitmap(base, start + length - base + int(rng.integers(50)), other_size)
    first = start + int(rng.integers(length))
    last = int(rng.integers(first, start + length))

    assert bm.read_and_clear(first, last + 1 - first, into=into) is None

    pages = np.arange(bm.nbits)
    taken = (pages >= (first - start) // page_size) & (pages <= (last - start) // page_size)
    assert np.array_equal(bm.to_mask()[: bm.nbits], before & ~taken)
    addresses = np.repeat(before & taken, page_size)[:length].nonzero()[0] + start
    assert sorted(set((addresses - base) // other_size)) == into.to_mask().nonzero()[0].tolist()


def test_into_must_cover():
    for iova, length in (
        (BASE, 100 * PAGE - 101),
        (BASE + 1, 200 * PAGE),
        (0, BASE),
        (TOP - PAGE, PAGE),
    ):
        bm, into = small_bitmap(), ib.IOVABitmap(iova, length)
        with pytest.raises(ib.IOVARangeError):
            bm.read_and_clear(into=into)
        assert bm == small_bitmap() and not into.any()


def test_into_refuses():
    bm = small_bitmap()
    with pytest.raises(ValueError):
        bm.read_and_clear(into=bm)
    freed = bm.copy()
    freed.free()
    with pytest.raises(ValueError, match="freed"):
        bm.read_and_clear(into=freed)
    for bad in (5, "bm", bm.view(), ib.IOVABitmap):
        with pytest.raises(TypeError):
            bm.read_and_clear(into=bad)
    with pytest.raises(TypeError):
        bm.read_and_clear(None, None, bm.copy())
    assert bm == small_bitmap()
    assert plain(bm.read_and_clear(into=None)) == plain(small_bitmap().ranges())


# --- pins that fail ------------------------------------------------------------------------------


def filled(npages, seed, **options):
    """A bitmap of random content over pages of its own, its pin object, and its first page."""
    data = Arena(npages * HOST_PAGE, seed=seed, content=None).data
    pin = FaultyPin()
    bm = bit_for_each_address(data, pin, **options)
    return bm, pin, data.ctypes.data


def rows_marked(rows, bm) -> np.ndarray:
    model = Expected(bm.iova, bm.length, bm.page_size)
    model.mark(plain(rows))
    return model.bits


@pytest.mark.parametrize("bad_page", range(5))
def test_what_was_taken_is_put_back(bad_page):
    """One page can't be had: everything is as before, and the whole range is named."""
    bm, pin, address = filled(5, 1, window_pages=2)
    before = bm.view().copy()
    pin.load(bad=[address + bad_page * HOST_PAGE])
    for _ in range(2):
        with pytest.raises(ib.PinError) as caught:
            bm.read_and_clear(9, 5 * BITS - 19)
        error = caught.value
        assert (error.errno, error.iova, error.length) == (errno.EFAULT, 9, 5 * BITS - 19)
        assert getattr(error, "harvested", None) is None
        assert isinstance(error.__cause__, OSError)
        assert np.array_equal(bm.view(), before)
    pin.load()
    wanted = plain(bm.ranges())
    assert plain(bm.read_and_clear()) == wanted
    bm.free()
    pin.assert_balanced()


@pytest.mark.parametrize("delivered", [1, 2, 3])
@pytest.mark.parametrize("failures", [1, 2, 4])
def test_what_cannot_be_put_back_is_in_the_exception(delivered, failures):
    """After some windows pins fail, for putting back too."""
    bm, pin, _ = filled(5, delivered, window_pages=1)
    before = bm.to_mask()
    pin.load([None] * delivered + [-errno.ENOMEM] * failures)
    with pytest.raises(ib.PinError) as caught:
        bm.read_and_clear()
    error = caught.value
    assert (error.errno, error.iova, error.length) == (errno.ENOMEM, 0, bm.length)
    pin.load()
    left = bm.to_mask()
    rows = getattr(error, "harvested", None)
    if failures == 1:
        assert rows is None and np.array_equal(left, before)
        return
    assert rows.dtype == np.uint64 and len(rows) > 0
    harvested = rows_marked(rows, bm)
    assert not left[: delivered * BITS].any() and not harvested[delivered * BITS :].any()
    assert np.array_equal(left | harvested, before)
    bm.set_ranges(rows)
    assert np.array_equal(bm.to_mask(), before)


@pytest.mark.parametrize("times", [1, 100])
def test_any_other_exception_propagates_and_nothing_is_lost(times):
    class Interrupted(RecordingPin):
        left = times

        def deliver(self, address, npages):
            if len(self.log) >= 4 and self.left > 0:  # the third pin, and those that put back
                self.left -= 1
                raise KeyboardInterrupt
            return npages

    pin = Interrupted()
    bm = bit_for_each_address(Arena(4 * HOST_PAGE, content=None).data, pin, window_pages=1)
    before = bm.view().copy()
    with pytest.raises(KeyboardInterrupt) as caught:
        bm.read_and_clear()
    pin.left = 0
    rows = getattr(caught.value, "harvested", None)
    assert (rows is None) is (times == 1)
    if rows is not None:
        assert bm.count() < np.unpackbits(before).sum()
        bm.set_ranges(rows)
    assert np.array_equal(bm.view(), before)
    bm.free()
    pin.assert_balanced()


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("whose", ["source", "into", "both"])
def test_nothing_is_lost_on_the_way_into_another(seed, whose):
    """Whatever fails: each page is in the other bitmap or still here, and nothing is made up."""
    rng = np.random.default_rng(seed)
    bm, pin, _ = filled(4, seed, window_pages=int(rng.integers(1, 3)))
    bm.view()[:] &= rng.integers(0, 256, bm.nbytes, np.uint8)
    page_size = int(rng.choice((1, 2, 64)))
    into_pin = FaultyPin()
    memory = Arena(ib.nbytes_for(bm.length, page_size), int(rng.integers(HOST_PAGE)))
    into = ib.alloc(0, bm.length, page_size, memory.data, window_pages=1, pin=into_pin)
    before = bm.to_mask()
    for faulty in [pin] * (whose != "into") + [into_pin] * (whose != "source"):
        faulty.load(rng.choice([None, None, 1, -errno.EFAULT], 12).tolist())
    for _ in range(100):
        error = None
        try:
            assert bm.read_and_clear(into=into) is None
        except ib.PinError as caught:
            error = caught
        planned = list(pin.outcomes), list(into_pin.outcomes)
        pin.load()
        into_pin.load()
        here, there = bm.to_mask(), into.to_mask()
        moved = here[: bm.nbits] | np.repeat(there, page_size)[: bm.nbits]
        assert not (before & ~moved).any(), "lost"
        assert not (here & ~before).any(), "made up here"
        dirty = before.reshape(-1, page_size).any(axis=1)
        assert not (there & ~dirty).any(), "made up there"
        if error is None:
            break
        assert error.errno == errno.EFAULT and error.length > 0
        pin.load(planned[0])
        into_pin.load(planned[1])
    assert not bm.any() and np.array_equal(there, dirty)
    bm.free()
    into.free()
    pin.assert_balanced()
    into_pin.assert_balanced()
    memory.assert_guards()


@pytest.mark.parametrize("windows", [0, 1, 2, 3])
def test_what_is_missing_is_of_the_range_though_pages_are_marked_whole(windows):
    """A page of the source is two windows of the other; the part ends in the second one's first
    addresses, and a pin may fail behind them."""
    bm = ib.IOVABitmap(0, 6 * BITS, 2 * BITS)
    bm.set(0, bm.length)
    pin = FaultyPin([None] * windows + [-errno.EFAULT])
    memory = Arena(6 * HOST_PAGE)
    into = ib.alloc(0, bm.length, 1, memory.data, window_pages=1, pin=pin)
    with pytest.raises(ib.PinError) as caught:
        bm.read_and_clear(1, 2 * BITS + 4, into=into)
    here = windows // 2 * 2 * BITS  # from the page on that could not be marked whole
    assert (caught.value.iova, caught.value.length) == (max(here, 1), 2 * BITS + 5 - max(here, 1))
    assert caught.value.newly == windows * BITS
    assert plain(into.ranges()) == ([(0, windows * BITS)] if windows else [])
    assert plain(bm.ranges()) == [(here, 6 * BITS - here)]
    into.free()
    pin.assert_balanced()


def test_into_another_whose_pins_never_come():
    bm, _, _ = filled(3, 3, window_pages=1)
    into = ib.IOVABitmap(0, bm.length, 1, pin=FaultyPin([-errno.EACCES] * 100))
    before = bm.view().copy()
    with pytest.raises(ib.PinError) as caught:
        bm.read_and_clear(into=into)
    assert caught.value.errno == errno.EACCES
    assert np.array_equal(bm.view(), before)


# --- others meanwhile ----------------------------------------------------------------------------


@engine_only.threads
@pytest.mark.parametrize("pgoff", [0, 3])
@pytest.mark.parametrize("target", ["rows", "into"])
def test_every_mark_is_in_one_harvest_or_left(target, pgoff):
    """Each page is marked once, by one of two threads, while a third one harvests."""
    nbytes = 4 * HOST_PAGE
    arena = Arena(nbytes, pgoff)
    nbits = nbytes * 8 - 3
    harvested = ib.alloc(0, nbits, 1, arena.data)
    into = ib.IOVABitmap(0, nbits, 1)
    order = np.random.default_rng(7).permutation(nbits).astype(np.uint64)
    for _ in range(12):
        started = threading.Barrier(3)
        done = []

        def mark(mine, started=started, done=done):
            bm = ib.alloc(0, nbits, 1, arena.data)
            started.wait()
            for part in np.array_split(mine, 4):
                bm.set_pages(part)
            done.append(1)

        threads = [threading.Thread(target=mark, args=(order[n::2],)) for n in range(2)]
        for thread in threads:
            thread.start()
        rows = []
        started.wait()
        while True:
            last = len(done) == 2
            if target == "rows":
                rows.append(harvested.read_and_clear())
            else:
                harvested.read_and_clear(into=into)
            if last:
                break
        for thread in threads:
            thread.join()
        assert not harvested.any()
        if target == "rows":
            times = np.zeros(nbits + 1, np.int64)
            for some in rows:
                start, length = some[:, 0].astype(np.int64), some[:, 1].astype(np.int64)
                assert (start[1:] > start[:-1] + length[:-1]).all() and (length > 0).all()
                np.add.at(times, start, 1)
                np.add.at(times, start + length, -1)
            assert (np.cumsum(times)[:nbits] == 1).all()
        else:
            assert into.all()
            into.reset()
    arena.assert_guards()


@engine_only.threads
def test_into_while_another_marks_the_target():
    """Marks in the target are not lost while a harvest arrives in the same words."""
    nbits = 1 << 17
    a, b = ib.IOVABitmap(0, nbits, 1), ib.IOVABitmap(0, nbits, 1)
    odd = np.arange(1, nbits, 2, dtype=np.uint64)
    for _ in range(10):
        b.reset()
        a.set_pages(odd - np.uint64(1))
        thread = threading.Thread(target=b.set_pages, args=(odd,))
        thread.start()
        a.read_and_clear(into=b)
        thread.join()
        assert b.all() and not a.any()


# --- merge and rescale ---------------------------------------------------------------------------


def test_merge_marks_what_dirty_pages_overlap():
    bm = ib.IOVABitmap(0x1000, 0x4000, 0x1000)
    other = ib.IOVABitmap(0x800, 0x10000, 0x800)
    other.set(0x2F00, 1)  # 0x2800 to 0x2fff
    other.set(0x4000, 0x1000)
    assert bm.merge(other) == 2
    assert plain(bm.ranges()) == [(0x2000, 0x1000), (0x4000, 0x1000)]
    assert bm.merge(other=other) == 0
    other.set(0x800, 1)  # ends where bm begins
    other.set(0x5000, 0x5000)  # begins where it ends
    assert bm.merge(other) == 0
    assert bm.merge(bm) == 0 and bm.count() == 2
    assert bm.merge(ib.IOVABitmap(2**40, 2**20)) == 0


def test_merge_counts_new_pages_only():
    bm, other = small_bitmap(), small_bitmap()
    other.set(BASE, 3 * PAGE)
    assert bm.merge(other) == 2
    assert bm == other


@pytest.mark.parametrize("page_size", [1, 2048, 4096, 8192, 2**20, 2**63])
def test_rescale(page_size):
    bm = small_bitmap()
    model = Expected(bm.iova, bm.length, page_size)
    model.mark(plain(bm.ranges()))
    new = bm.rescale(page_size)
    assert (new.iova, new.length, new.page_size) == (bm.iova, bm.length, page_size)
    assert new.to_mask().tolist() == model.bits.tolist()
    assert new.pin == "none" and new.window is None and new.window_pages == bm.window_pages
    new.reset()
    assert bm == small_bitmap()
    assert small_bitmap().rescale(4096) == small_bitmap()


def test_merge_and_rescale_refuse():
    bm = small_bitmap()
    for bad in (5, None, bm.view()):
        with pytest.raises(TypeError):
            bm.merge(bad)
    for bad in (0, 3, 2**64, -1):
        with pytest.raises(ValueError):
            bm.rescale(bad)
    with pytest.raises(TypeError):
        bm.rescale(4096.0)
    freed = bm.copy()
    freed.free()
    for call in (lambda: freed.merge(bm), lambda: bm.merge(freed), lambda: freed.rescale(1)):
        with pytest.raises(ValueError, match="freed"):
            call()


@pytest.mark.parametrize("whose", ["here", "other"])
def test_merge_with_failing_pins_can_be_repeated(whose):
    """What comes before PinError.iova is merged, and the same call completes it."""
    other, other_pin, _ = filled(4, 5, window_pages=1)
    data = Arena(4 * HOST_PAGE).data
    pin = FaultyPin()
    bm = bit_for_each_address(data, pin, window_pages=1)
    wanted = other.to_mask()
    (pin if whose == "here" else other_pin).load([None, -errno.EFAULT])
    with pytest.raises(ib.PinError) as caught:
        bm.merge(other)
    stop = caught.value.iova
    assert 0 < stop < bm.nbits and caught.value.length > 0
    assert np.array_equal(bm.to_mask()[:stop], wanted[:stop])
    assert not (bm.to_mask() & ~wanted).any()
    first = bm.count()
    assert bm.merge(other) == wanted.sum() - first
    assert np.array_equal(bm.to_mask(), wanted)
