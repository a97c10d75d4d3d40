"""any, all, count_ranges, find_dirty, find_clean, histogram and pages: what they answer, the parts
of a range that they take, and what they refuse.
"""

from __future__ import annotations

import errno

import numpy as np
import pytest

from support.driver import Pair
from support.expected import TOP
from support.memory import HOST_PAGE, Arena
from support.others import scribbling
from support.pins import FaultyPin, assert_pin_fails, bit_for_each_address, small_bitmap
from support.under_test import engine_only, ib

BASE, PAGE = 0x1800, 4096  # of small_bitmap(): 100 pages, the last a part of one
DIRTY = (0, 7, 8, 50, 51, 99)


def at(page: int) -> int:
    return BASE + page * PAGE


# --- what is inside ------------------------------------------------------------------------------

# Each question about a part of the range, and what it says of an empty one.
QUESTIONS = {
    "any": False,
    "all": True,
    "count": 0,
    "count_ranges": 0,
    "ranges": [],
    "pages": [],
    "iter_ranges": [],
    "read_and_clear": [],
}


def ask(bm, name, *args, **options):
    answer = getattr(bm, name)(*args, **options)
    if name == "iter_ranges":
        return [row for rows in answer for row in rows.tolist()]
    return answer.tolist() if isinstance(answer, np.ndarray) else answer


@pytest.mark.parametrize("name", QUESTIONS)
def test_parts_of_a_range(name):
    bm = small_bitmap()
    empty = QUESTIONS[name]
    for iova, length in ((BASE, 0), (bm.end, 0), (bm.end, None), (bm.iova + 77, 0)):
        assert ask(bm, name, iova, length) == empty
    assert ask(bm, name, 0, 0) == empty  # an empty range is nowhere
    assert ask(bm, name, iova=at(3), length=PAGE) == ask(bm, name, at(3), PAGE)
    assert ask(small_bitmap(), name) == ask(small_bitmap(), name, BASE, bm.length)
    assert ask(small_bitmap(), name, None, PAGE) == ask(small_bitmap(), name, BASE, PAGE)
    assert ask(small_bitmap(), name, at(9)) == ask(small_bitmap(), name, at(9), bm.end - at(9))


@pytest.mark.parametrize("name", QUESTIONS)
def test_outside_raises(name):
    bm = small_bitmap()
    before = bm.to_mask()
    for iova, length in (
        (BASE - 1, 1),
        (BASE - 1, 2),
        (bm.end, 1),
        (bm.end - 1, 2),
        (BASE, bm.length + 1),
        (0, TOP - 1),
        (at(1), TOP - 1),  # wraps
    ):
        with pytest.raises(ib.IOVARangeError) as caught:
            ask(bm, name, iova, length)
        assert (caught.value.iova, caught.value.length) == (iova, length)
    with pytest.raises(ib.IOVARangeError):
        ask(bm, name, bm.end + 1)
    assert np.array_equal(bm.to_mask(), before)


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_no_address(name):
    bm = small_bitmap()
    for bad in ("1", 1.0, b"1", [1]):
        for arguments in ((bad,), (BASE, bad)):
            with pytest.raises(TypeError):
                ask(bm, name, *arguments)
    for bad in (-1, TOP):
        for arguments in ((bad,), (BASE, bad)):
            with pytest.raises(ValueError) as caught:
                ask(bm, name, *arguments)
            assert not isinstance(caught.value, ib.IOVARangeError)
    with pytest.raises(TypeError):
        ask(bm, name, BASE, 1, 2)
    with pytest.raises(TypeError):
        ask(bm, name, start=BASE)


@pytest.mark.parametrize("name", [*QUESTIONS, "find_dirty", "find_clean", "histogram", "to_text"])
def test_freed(name):
    bm = small_bitmap()
    bm.free()
    arguments = (BASE,) if name.startswith("find") else (3,) if name == "histogram" else ()
    with pytest.raises(ValueError, match="freed"):
        ask(bm, name, *arguments)


def test_a_started_iterator_of_a_freed_bitmap():
    bm = small_bitmap()
    found = bm.iter_ranges(batch=1)
    assert next(found).tolist() == [[BASE, PAGE]]
    bm.free()
    with pytest.raises(ValueError, match="freed"):
        next(found)


@pytest.mark.parametrize("name, found", [("any", True), ("all", False)])
def test_no_more_is_read_than_the_answer_needs(name, found):
    memory = Arena(3 * HOST_PAGE, content=0 if found else 0xFF)
    bits = HOST_PAGE * 8
    pin = FaultyPin(bad=[memory.address + HOST_PAGE])
    bm = bit_for_each_address(memory.data, pin, window_pages=1)
    with pytest.raises(ib.PinError) as caught:
        getattr(bm, name)()
    assert (caught.value.iova, caught.value.length) == (bits, 2 * bits)
    memory.data[5] ^= 1
    assert getattr(bm, name)() is found
    pin.assert_balanced()


# --- answers -------------------------------------------------------------------------------------


def test_any_and_all():
    bm = small_bitmap()
    assert bm.any() is True and bm.all() is False
    assert bm.any(at(1), 6 * PAGE) is False
    assert bm.any(at(1), 6 * PAGE + 1) is True
    assert bm.any(at(9) - 1, 2) is True
    assert bm.all(at(7), 2 * PAGE) is True
    assert bm.all(at(7) - 1, 2) is False
    assert bm.all(at(7), 2 * PAGE + 1) is False
    assert bm.all(at(99)) is True
    bm.set(BASE, bm.length)
    assert bm.all() is True
    bm.clear(at(99), 1)
    assert bm.all() is False
    bm.reset()
    assert bm.any() is False


def test_pages_are_whole_where_ranges_are_cut():
    bm = small_bitmap()
    assert bm.pages().tolist() == [at(page) for page in DIRTY]
    assert bm.pages(at(7) + 5, PAGE).tolist() == [at(7), at(8)]
    assert bm.ranges(at(7) + 5, PAGE).tolist() == [[at(7) + 5, PAGE]]
    assert bm.pages(bm.end - 1).tolist() == [at(99)]
    assert bm.pages().dtype == np.uint64 and bm.pages().shape == (6,)
    assert bm.pages(at(1), 1).shape == (0,)


def test_count_ranges():
    bm = small_bitmap()
    assert bm.count_ranges() == 4
    assert bm.count_ranges(at(8), PAGE) == 1
    assert bm.count_ranges(at(8), 43 * PAGE) == 2
    assert bm.count_ranges(at(1), 6 * PAGE) == 0


def test_find():
    bm = small_bitmap()
    assert bm.find_dirty(BASE) == BASE
    assert bm.find_clean(BASE) == at(1)
    assert bm.find_dirty(at(1)) == at(7)
    assert bm.find_dirty(at(8) + 17) == at(8)  # the page's first address lies before start
    assert bm.find_clean(at(9) + 17) == at(9)
    assert bm.find_clean(at(50)) == at(52)
    assert bm.find_dirty(at(52)) == at(99)
    assert bm.find_clean(at(99)) is None
    assert bm.find_clean(bm.end - 1) is None
    assert bm.find_dirty(bm.end) is None and bm.find_clean(bm.end) is None
    assert bm.find_dirty(start=at(60)) == at(99) and bm.find_clean(start=at(60)) == at(60)
    bm.clear(at(99), 1)
    assert bm.find_dirty(at(52)) is None


@pytest.mark.parametrize("name", ["find_dirty", "find_clean"])
def test_find_refuses(name):
    bm = small_bitmap()
    find = getattr(bm, name)
    for start in (0, BASE - 1, bm.end + 1, TOP - 1):
        with pytest.raises(ib.IOVARangeError) as caught:
            find(start)
        assert caught.value.iova == start
    for start in ("1", 1.5, None):
        with pytest.raises(TypeError):
            find(start)
    for start in (-1, TOP):
        with pytest.raises(ValueError):
            find(start)
    with pytest.raises(TypeError):
        find()


@pytest.mark.parametrize("pgoff", [0, 3, 8, HOST_PAGE - 5])
def test_a_single_page_is_found_wherever_it_is(pgoff):
    """One dirty page in clean ones, one clean page in dirty ones, over several blocks of words."""
    nbits = 5 * 512 * 64 + 13
    arena = Arena((nbits + 7) // 8, pgoff)
    bm = ib.alloc(7, nbits, 1, arena.data)
    edges = [0, 1, 62, 63, 64, 65, 511, 512, 513, nbits - 14, nbits - 2, nbits - 1]
    edges += [512 * 64 * k + d for k in (1, 2, 4) for d in (-65, -64, -1, 0, 1, 63, 64)]
    for value, find in ((1, bm.find_dirty), (0, bm.find_clean)):
        arena.data[:] = 0xFF * (1 - value)
        for bit in edges:
            (bm.set if value else bm.clear)(7 + bit, 1)
            assert find(7) == find(7 + bit) == 7 + bit
            if bit + 1 < nbits:
                assert find(7 + bit + 1) is None
            assert bm.count() == (1 if value else nbits - 1)
            assert bm.any() and not bm.all()
            runs = 1 if value or bit in (0, nbits - 1) else 2
            assert bm.count_ranges() == runs == len(bm.ranges())
            (bm.clear if value else bm.set)(7 + bit, 1)
        assert find(7) is None
    arena.assert_guards()


# --- histogram -----------------------------------------------------------------------------------


def test_histogram_by_hand():
    bm = small_bitmap()
    assert bm.histogram(1).tolist() == [6]
    assert bm.histogram(2).tolist() == [3, 3]
    assert bm.histogram(bins=4).tolist() == [3, 0, 2, 1]
    assert bm.histogram(100).tolist() == bm.to_mask().astype(int).tolist()
    assert bm.histogram(3).dtype == np.int64


@pytest.mark.parametrize("nbits", [1, 63, 64, 65, 1000, 8191, 40_001])
def test_histogram_is_every_page_once(nbits):
    pair = Pair(0x123, nbits * PAGE - 5, PAGE, pgoff=5, window_pages=1, pin="fault")
    for bins in (1, 2, 3, 7, 64, 99, 100, 101, 1000, 12_345):
        pair.ask("histogram", bins)
    pair.finish()


@engine_only.size
def test_histogram_with_about_as_many_bins_as_pages():
    memory = np.zeros(2**20, np.uint8)
    bm = bit_for_each_address(memory, "none")
    bm.set(0, 1)
    bm.set(2**22, 2)
    bm.set(bm.end - 1, 1)
    for bins in (2**20 - 1, 2**23, 3 * 2**20 + 1):
        counts = bm.histogram(bins)
        wanted = {0: 1, bins - 1: 1}
        for bit in (2**22, 2**22 + 1):  # the last bin that begins at or before the bit
            bin_ = ((bit + 1) * bins - 1) // bm.nbits
            wanted[bin_] = wanted.get(bin_, 0) + 1
        assert {int(i): int(counts[i]) for i in np.flatnonzero(counts)} == wanted


def test_histogram_refuses():
    bm = small_bitmap()
    for bad in (0, -1, TOP):
        with pytest.raises(ValueError):
            bm.histogram(bad)
    for bad in (1.0, "1", None):
        with pytest.raises(TypeError):
            bm.histogram(bad)
    with pytest.raises(TypeError):
        bm.histogram()
    with pytest.raises((ValueError, MemoryError)):
        bm.histogram(TOP - 1)


# --- the edges of the address space and of the bitmap --------------------------------------------


def test_the_last_addresses():
    bm = ib.IOVABitmap(TOP - 10, 10, 4)
    bm.set(TOP - 1, 1)
    assert bm.find_dirty(TOP - 10) == bm.find_dirty(TOP - 1) == TOP - 2
    assert bm.find_clean(TOP - 1) is None
    assert bm.pages().tolist() == [TOP - 2]
    assert bm.ranges().tolist() == [[TOP - 2, 2]]
    assert bm.ranges(dirty=False).tolist() == [[TOP - 10, 8]]
    assert bm.all(TOP - 1) and bm.any(TOP - 1, 1)
    assert bm.read_and_clear().tolist() == [[TOP - 2, 2]] and not bm.any()
    halves = ib.IOVABitmap(1, TOP - 1, 2**63)
    halves.set(TOP - 1, 1)
    assert halves.find_dirty(1) == 1 + 2**63 and halves.histogram(2).tolist() == [0, 1]
    assert halves.ranges().tolist() == [[1 + 2**63, 2**63 - 1]]


@pytest.mark.parametrize("nbits", [1, 3, 7, 9, 63, 65, 127, 513])
def test_bits_that_stand_for_no_page_never_answer(nbits):
    arena = Arena((nbits + 7) // 8, 3, content=0xFF)
    bm = ib.alloc(0, nbits, 1, arena.data)
    bm.reset()
    assert not bm.any() and bm.find_dirty(0) is None and bm.count_ranges() == 0
    assert bm.pages().size == 0 and bm.histogram(nbits).sum() == 0 and bm.to_text() == ""
    bm.set(0, nbits)
    arena.data[-1] &= (1 << (nbits - 1) % 8 + 1) - 1  # now those bits are 0
    assert bm.all() and bm.find_clean(0) is None and bm.count_ranges() == 1
    assert bm.ranges(dirty=False).size == 0 and bm.histogram(1).tolist() == [nbits]


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_failing_pin_names_the_part_not_seen(name):
    """Questions that read on until the end say what they did not read; a harvest, all of it."""
    data = Arena(4 * HOST_PAGE, 0, content=0xFF).data
    pin = FaultyPin(bad=[data.ctypes.data + 2 * HOST_PAGE])
    bm = bit_for_each_address(data, pin, window_pages=1)
    bits = HOST_PAGE * 8
    if name == "any":
        data[: 2 * HOST_PAGE] = 0  # or it would need no more
    start = 100 if name == "read_and_clear" else 2 * bits
    assert_pin_fails(lambda: ask(bm, name, 100), errno.EFAULT, start, bm.end - start)
    before = bm.view().copy()
    assert_pin_fails(lambda: ask(bm, name, 100), errno.EFAULT, start, bm.end - start)
    assert np.array_equal(bm.view(), before)
    pin.assert_balanced()


# --- others meanwhile ----------------------------------------------------------------------------


@engine_only.threads
@pytest.mark.parametrize("dirty", [True, False])
def test_find_goes_on_where_a_word_changes_meanwhile(dirty):
    """A word is dirty at one moment and clean at the next; the last page is always as wanted."""
    words = np.full(1 << 13, 0 if dirty else TOP - 1, np.uint64)
    words[-1] ^= np.uint64(1 << 63)
    bm = ib.alloc(0, words.size * 64, 1, words)
    find = bm.find_dirty if dirty else bm.find_clean
    toggled = slice(500, 501)
    found = set()
    with scribbling(words[toggled], np.array([0, TOP - 1], np.uint64)):
        for _ in range(500_000):
            found.add(find(0))
    assert found <= {bm.nbits - 1, *range(500 * 64, 501 * 64)}
