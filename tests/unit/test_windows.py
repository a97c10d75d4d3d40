"""Windows: their arithmetic, the present one, the statistics, and walks over them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from support.expected import TOP
from support.memory import HOST_PAGE, Arena
from support.pins import FaultyPin, RecordingPin
from support.under_test import ib

GIB = 1 << 30
needs_4k = pytest.mark.skipif(HOST_PAGE != 4096, reason="numbers of a host with 4 KiB pages")


def bitmap(npages=3.5, pgoff=0, window_pages=1, pin="none", page_size=4096, base=0x1000):
    """A bitmap of `npages` host pages of bytes, and its memory."""
    nbytes = int(npages * HOST_PAGE)
    arena = Arena(nbytes, pgoff)
    length = nbytes * 8 * page_size - 1
    bm = ib.alloc(base, length, page_size, arena.data, window_pages=window_pages, pin=pin)
    return bm, arena


def window_at(bm, arena, byte: int) -> tuple:
    """The window that begins at a byte of the bitmap, by the rule."""
    pgoff = (arena.address + byte) % HOST_PAGE
    npages = min(-(-(pgoff + bm.nbytes - byte) // HOST_PAGE), bm.window_pages)
    nbytes = min(bm.nbytes - byte, npages * HOST_PAGE - pgoff)
    start, stop = at(bm, byte), min(at(bm, byte + nbytes), bm.end)
    return start, stop - start, byte, pgoff, npages


def at(bm, byte: int) -> int:
    """The first address that a byte of the bitmap stands for."""
    return bm.iova + byte * 8 * bm.page_size


# --- arithmetic --------------------------------------------------------------------------------


@needs_4k
def test_a_range_of_124_gib_takes_two_windows():
    arena = Arena(124 * GIB // 4096 // 8, 0)
    bm = ib.alloc(4 * GIB, 124 * GIB, 4096, arena.data)
    first, second = bm.windows()
    assert first == (4 * GIB, 64 * GIB, 0, 0, 512)
    assert second == (68 * GIB, 60 * GIB, 2 << 20, 0, 480)
    calls = []
    bm.for_each(lambda bm, iova, length, _: calls.append((iova, iova + length)), by_window=True)
    assert calls == [(4 * GIB, 68 * GIB), (68 * GIB, 128 * GIB)]


@needs_4k
def test_no_page_too_many_where_the_bitmap_starts_inside_a_page():
    bm, _ = bitmap(npages=2, pgoff=8, window_pages=512)
    (window,) = bm.windows()
    assert window == (bm.iova, bm.length, 0, 8, 3)
    arena = Arena(2 * HOST_PAGE - 8, 8)
    bm = ib.alloc(0, arena.data.nbytes * 8, 1, arena.data)
    assert [w.npages for w in bm.windows()] == [2]


@pytest.mark.parametrize("pgoff", [0, 1, 8, 2048, 4081, 4095])
@pytest.mark.parametrize("window_pages", [1, 2, 3, 4, 512, 2**40])
@pytest.mark.parametrize("npages", [1 / HOST_PAGE, 0.5, 1, 1.5, 2, 3.5, 8])
def test_windows_by_the_rule(npages, window_pages, pgoff):
    bm, arena = bitmap(npages, pgoff % HOST_PAGE, window_pages)
    found = list(bm.windows())
    assert found == [window_at(bm, arena, window.base_index) for window in found]
    assert all(a.iova + a.length == b.iova for a, b in pairwise(found))
    assert found[0].iova == bm.iova and sum(w.length for w in found) == bm.length
    assert all(type(w) is ib.Window for w in found)


def test_windows_pins_nothing_and_is_an_iterator(recording_pin):
    bm, _ = bitmap(pin=recording_pin)
    iterator = bm.windows()
    assert iter(iterator) is iterator
    first = next(iterator)
    assert (first.iova, first.length, first.base_index, first.pgoff, first.npages) == first
    assert len(list(iterator)) == 3 and list(iterator) == []
    assert recording_pin.log == [] and bm.window is None and tuple(bm.stats) == (0,) * 5


def test_windows_at_the_end_of_the_address_space():
    for shift in (12, 32, 47):
        page_size = 1 << shift
        length = min(TOP - 5, page_size * 8 * 3 * HOST_PAGE)
        arena = Arena(ib.nbytes_for(length, page_size), 4000 % HOST_PAGE)
        bm = ib.alloc(TOP - length, length, page_size, arena.data, window_pages=1)
        last = list(bm.windows())[-1]
        assert last.iova + last.length == TOP
        bm.set(TOP - 1, 1)
        assert bm.window.iova + bm.window.length == TOP


def test_one_window_where_a_page_is_half_the_address_space():
    bm = ib.IOVABitmap(0, TOP - 1, 2**63)
    (window,) = bm.windows()
    assert (window.iova, window.length, window.base_index, window.npages) == (0, TOP - 1, 0, 1)


# --- the present window ------------------------------------------------------------------------


def test_the_first_mark_takes_a_window_at_its_byte():
    bm, arena = bitmap(pgoff=8)
    assert bm.window is None
    bm.set(at(bm, 100) + 3 * 4096, 1)
    assert bm.window == window_at(bm, arena, 100) and bm.window.pgoff == 108
    assert type(bm.window) is ib.Window and type(bm.stats) is ib.Stats
    assert tuple(bm.stats) == (1, 0, 1, 1, 1)
    stats = bm.stats
    assert stats == (
        stats.pins,
        stats.unpins,
        stats.pinned_pages,
        stats.peak_pinned_pages,
        stats.moves,
    )


@pytest.mark.parametrize("name", ["set", "clear", "test_and_set"])
def test_an_operation_inside_uses_it_and_one_outside_moves_it(name):
    bm, _ = bitmap(npages=8, window_pages=2)
    operation = getattr(bm, name)
    operation(at(bm, HOST_PAGE), 1)
    window = bm.window
    assert window.base_index == HOST_PAGE and bm.stats.moves == 1
    operation(at(bm, HOST_PAGE), window.length)  # all of it
    operation(at(bm, 3 * HOST_PAGE) - 1, 1)  # its last byte
    operation(at(bm, 2 * HOST_PAGE + 5), 1)
    assert bm.window == window and tuple(bm.stats) == (1, 0, 2, 2, 1)
    operation(at(bm, HOST_PAGE) - 1, 1)  # the byte before
    assert bm.window.base_index == HOST_PAGE - 1 and tuple(bm.stats) == (2, 1, 2, 2, 2)
    operation(at(bm, 3 * HOST_PAGE), 1)  # the byte after
    assert bm.window.base_index == 3 * HOST_PAGE and bm.stats.moves == 3


def test_one_that_crosses_windows_moves_only_then(recording_pin):
    bm, arena = bitmap(npages=5, window_pages=2, pgoff=8, pin=recording_pin)
    bm.set(at(bm, HOST_PAGE), 1)
    bm.set(at(bm, HOST_PAGE + 100), 8 * 4096 * 3 * HOST_PAGE)
    page = arena.address - 8
    assert recording_pin.log == [
        ("pin", page + HOST_PAGE, 2, 2),
        ("unpin", page + HOST_PAGE, 2),
        ("pin", page + 3 * HOST_PAGE, 2, 2),
    ]
    assert bm.stats.moves == len(recording_pin.pins)
    assert bm.window == window_at(bm, arena, 3 * HOST_PAGE - 8) and tuple(bm.stats) == (
        2,
        1,
        2,
        2,
        2,
    )


def test_backwards_each_set_moves_the_window():
    bm, _ = bitmap(npages=3, window_pages=512)
    for byte in (2 * HOST_PAGE, HOST_PAGE, 0):
        bm.set(at(bm, byte), 1)
        assert bm.window.base_index == byte
    assert bm.stats.moves == 3
    bm.set(at(bm, 2 * HOST_PAGE), 1)
    assert bm.stats.moves == 3


READS = {
    "test": lambda bm: bm.test(bm.end - 1),
    "count": lambda bm: bm.count(),
    "ranges": lambda bm: bm.ranges(),
    "to_mask": lambda bm: bm.to_mask(),
    "copy": lambda bm: bm.copy(),
    "reset": lambda bm: bm.reset(),
    "==": lambda bm: bm == ib.IOVABitmap(bm.iova, bm.length, bm.page_size),
}


@pytest.mark.parametrize("name", READS)
def test_other_operations_use_a_window_of_their_own(name, recording_pin):
    bm, _ = bitmap(window_pages=2, pin=recording_pin)
    READS[name](bm)
    assert bm.window is None and bm.stats.moves == 0
    assert bm.stats.pins == bm.stats.unpins == len(recording_pin.pins) > 0
    recording_pin.assert_balanced()
    bm.set(at(bm, HOST_PAGE), 1)
    window, before = bm.window, bm.stats
    READS[name](bm)
    assert bm.window == window and bm.stats.moves == 1
    assert bm.stats.pins > before.pins and bm.stats.pinned_pages == 2
    assert bm.stats.pins - bm.stats.unpins == 1
    assert bm.stats.peak_pinned_pages == (3 if name == "test" else 4)
    assert recording_pin.pinned_pages == 2 and not recording_pin.errors


def test_a_window_of_its_own_is_no_longer_than_needed(recording_pin):
    bm, arena = bitmap(npages=6, window_pages=4, pin=recording_pin)
    page = arena.address
    bm.test(at(bm, HOST_PAGE + 5))
    bm.count(at(bm, HOST_PAGE - 1), 8 * 4096 * 2)
    bm.count(at(bm, 7), 8 * 4096 * 5 * HOST_PAGE)
    assert recording_pin.pins == [
        (page + HOST_PAGE, 1, 1),
        (page, 2, 2),
        (page, 4, 4),
        (page + 4 * HOST_PAGE, 2, 2),
    ]
    assert bm.stats.peak_pinned_pages == 4


def test_for_each_without_windows_pins_nothing(recording_pin):
    bm, _ = bitmap(pin=recording_pin)
    assert bm.for_each(lambda *_: None) == 0
    assert recording_pin.log == [] and bm.window is None


def test_copies_keep_window_pages_and_start_without_a_window():
    bm, _ = bitmap(window_pages=3)
    bm.set(bm.iova, 1)
    twin = bm.copy()
    assert twin.window_pages == 3 and twin.window is None and tuple(twin.stats)[4] == 0


# --- short pins --------------------------------------------------------------------------------


def test_a_short_pin_makes_the_window_that_much_shorter():
    pin = FaultyPin([1])
    bm, arena = bitmap(npages=4, window_pages=4, pgoff=8, pin=pin)
    bm.set(bm.iova, 1)
    covered = HOST_PAGE - 8
    assert bm.window == (bm.iova, covered * 8 * 4096, 0, 8, 1)
    bm.set(at(bm, covered) - 1, 2)
    assert bm.window.base_index == covered and bm.window.npages == 4
    assert pin.pins == [(arena.address - 8, 4, 1), (arena.address - 8 + HOST_PAGE, 4, 4)]
    assert bm.count() == 3
    bm.free()
    pin.assert_balanced()


# --- more than one bitmap at once --------------------------------------------------------------


def test_two_bitmaps_have_windows_of_their_own():
    arena = Arena(2 * HOST_PAGE, 0)
    pins = RecordingPin(), RecordingPin()
    one, two = (
        ib.alloc(0, 2 * HOST_PAGE * 8, 1, arena.data, window_pages=1, pin=pin) for pin in pins
    )
    one.set(0, 1)
    two.set(8 * HOST_PAGE, 1)
    assert one.window.base_index == 0 and two.window.base_index == HOST_PAGE
    one.free()
    assert two.window.base_index == HOST_PAGE and two.count() == 2
    two.free()
    for pin in pins:
        pin.assert_balanced()
