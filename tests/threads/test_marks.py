"""Marks by many threads: none is lost, and each is found exactly once by who harvests."""

from __future__ import annotations

import threading
from itertools import chain

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap._core import _UNLOCK_BYTES
from support.memory import HOST_PAGE, Arena, address_of
from support.pins import RecordingPin, require
from support.threads import run, switching_often

NTHREADS = 4
NBITS = 8 * 8192 + 5
MARKS = 250_000  # of each thread


def shared_memory(nbits=NBITS, pgoff=0):
    """Memory with guards; and what makes a bitmap over it."""
    arena = Arena(ib.nbytes_for(nbits, 1), pgoff)
    return arena, lambda **options: ib.alloc(0, nbits, 1, arena.data, **options)


def each(work, bitmaps) -> list:
    """work(number, bitmap) by as many threads as there are bitmaps."""
    with switching_often():
        return run(*[lambda n=n, bm=bm: work(n, bm) for n, bm in enumerate(bitmaps)])


@pytest.mark.parametrize("one", [True, False], ids=["one bitmap", "a bitmap each"])
@pytest.mark.parametrize("call", ["set", "test_and_set", "set_ranges", "set_pages"])
def test_no_mark_is_lost(call, one):
    """Each thread has pages of its own, in the same words as the others'."""
    arena, make = shared_memory(pgoff=3)
    pages = np.random.default_rng(1).permutation(NBITS).astype(np.uint64)

    def work(number, bm):
        mine = np.sort(pages[number::NTHREADS]) if number % 2 else pages[number::NTHREADS]
        if call == "set_pages":
            bm.set_pages(mine)
        elif call == "set_ranges":
            bm.set_ranges(np.column_stack((mine, np.ones_like(mine))))
        else:
            mark = getattr(bm, call)
            return sum(mark(page, 1) or 0 for page in mine.tolist())
        return 0

    shared = make(window_pages=1)
    bitmaps = [shared if one else make(window_pages=1 + n) for n in range(NTHREADS)]
    for _ in range(2):
        shared.reset()
        newly = sum(each(work, bitmaps))
        assert shared.all() and newly == (NBITS if call == "test_and_set" else 0)
    for bm in bitmaps:
        bm.validate()
    arena.assert_guards()


@pytest.mark.parametrize("one", [True, False], ids=["one bitmap", "a bitmap each"])
def test_of_those_who_mark_the_same_page_one_counts_it(one):
    _, make = shared_memory()
    shared = make()
    bitmaps = [shared if one else make() for _ in range(NTHREADS)]
    generator = np.random.default_rng(2)
    ranges = [
        (first, min(length, NBITS - first))
        for first, length in zip(
            generator.integers(0, NBITS, 3000).tolist(),
            generator.integers(1, 200, 3000).tolist(),
            strict=True,
        )
    ]

    def work(number, bm):
        return sum(bm.test_and_set(*row) for row in ranges)

    assert sum(each(work, bitmaps)) == shared.count()


@pytest.mark.parametrize("into", [False, True], ids=["rows", "into another"])
@pytest.mark.parametrize("one", [True, False], ids=["one bitmap", "a bitmap each"])
def test_each_mark_is_harvested_exactly_once(one, into):
    """A page that test_and_set turned dirty is in one harvest: what all counted is what was found.
    `into` counts by the pages that were clean in it, and is emptied after each harvest."""
    arena, make = shared_memory(pgoff=HOST_PAGE - 5)
    marking = NTHREADS
    harvests = 0
    marked = threading.Lock()
    shared = make()
    bitmaps = [shared if one else make() for _ in range(NTHREADS + 1)]
    target = ib.IOVABitmap(0, NBITS, 1)

    def harvest(bm):
        if into:
            bm.read_and_clear(into=target)
            found = target.count()
            target.reset()
            return found
        rows = bm.read_and_clear()
        assert (rows[1:, 0] > rows[:-1].sum(axis=1)).all()
        return int(rows[:, 1].sum())

    def work(number, bm):
        nonlocal marking, harvests
        if number == NTHREADS:
            found = 0
            while marking:
                found += harvest(bm)
                harvests += 1
            return found + harvest(bm)
        generator = np.random.default_rng(number)
        newly = marks = 0
        while marks < MARKS or harvests < 20:
            first, length = generator.integers((0, 1), (NBITS - 9, 9), (5000, 2)).T.tolist()
            newly += sum(map(bm.test_and_set, first, length))
            marks += 5000
        with marked:
            marking -= 1
        return newly

    *newly, found = each(work, bitmaps)
    assert found == sum(newly) > NBITS // 2
    assert not shared.any()
    for bm in bitmaps:
        bm.validate()
    arena.assert_guards()


def test_answers_while_others_mark_are_well_formed():
    arena, make = shared_memory(pgoff=7)
    bitmaps = [make() for _ in range(NTHREADS)]
    marking = NTHREADS - 1
    marked = threading.Lock()

    def check_rows(rows, dirty_at_edges=False):
        assert (rows[:, 1] > 0).all() and (rows.sum(axis=1) <= NBITS).all()
        assert (rows[1:, 0] > rows[:-1].sum(axis=1)).all()

    def ask(bm):
        for dirty in (True, False):
            check_rows(bm.ranges(dirty=dirty))
            for rows in bm.iter_ranges(dirty=dirty, batch=100):
                assert 1 <= len(rows) <= 100
                check_rows(rows)
        pages = bm.pages()
        assert (pages[1:] > pages[:-1]).all()
        assert bm.histogram(9).sum() <= NBITS >= bm.count()
        found = bm.find_dirty(NBITS // 2)
        assert found is None or NBITS // 2 <= found < NBITS
        assert bm.to_mask().shape == (NBITS,)
        assert ib.IOVABitmap.from_text(bm.to_text(), 0, NBITS, 1).nbits == NBITS
        twin = bm.copy()
        assert 0 <= twin.count_and(bm) <= twin.count()
        bm.validate()

    def work(number, bm):
        nonlocal marking
        if number == 0:
            while marking:
                ask(bm)
            return
        generator = np.random.default_rng(number)
        for _ in range(300):
            rows = np.column_stack(
                (generator.integers(0, NBITS - 100, 50), generator.integers(1, 100, 50))
            )
            bm.set_ranges(rows)
            bm.clear_ranges(rows[::3])
            bm.set(int(rows[0, 0]), 1)
        with marked:
            marking -= 1

    each(work, bitmaps)
    arena.assert_guards()


# --- the present window -------------------------------------------------------------------------

LARGE = 64 * 8 * _UNLOCK_BYTES  # bits


@pytest.mark.parametrize("backend", ["none", "populate", "mlock", "object"])
def test_one_present_window_for_many(backend):
    """Large marks beside small ones and looks at the window: each moves the window, and each finds
    it where it needs it."""
    pin = RecordingPin() if backend == "object" else backend
    if backend != "object":
        require(backend)
    arena = Arena(LARGE // 8, 11)
    bm = ib.alloc(0, LARGE, 1, arena.data, pin=pin, window_pages=1)
    half = LARGE // 2

    rounds = 20 if backend == "object" else 100
    working = True

    def large(_):
        nonlocal working
        newly = 0
        for _ in range(rounds):
            newly += bm.test_and_set(0, half)
            bm.clear(0, half)
        bm.set(0, half)
        working = False
        return newly

    def small_bits(number):
        return range(half + number, LARGE, 4096 // 64 * 61)

    def small(number):
        while working:
            for bit in small_bits(number):
                bm.set(bit, 1)
        return 0

    def look(_):
        while working:
            window = bm.window
            if window is not None:
                assert window == expected_window(window)
            bm.validate()
            assert bm.for_each(lambda *_: None, by_window=True) == 0
        return 0

    def expected_window(window):
        """The window of one page that begins there."""
        pgoff = (address_of(arena.data) + window.base_index) % HOST_PAGE
        nbytes = min(bm.nbytes - window.base_index, HOST_PAGE - pgoff)
        return (window.base_index * 8, nbytes * 8, window.base_index, pgoff, 1)

    works = [large, small, look, small]
    with switching_often():
        newly, *_ = run(*[lambda n=n, work=work: work(n) for n, work in enumerate(works)])
    assert newly == rounds * half
    assert bm.all(0, half)
    expected = {*small_bits(1), *small_bits(3)}
    assert set(bm.pages(half).tolist()) == expected
    bm.validate()
    bm.free()
    stats = bm.stats
    assert stats.pins == stats.unpins and stats.pinned_pages == 0
    if backend == "object":
        pin.assert_balanced()
    arena.assert_guards()


def test_iterators_give_each_row_once():
    """Of an iterator that threads share; who comes while another is within it is told so."""
    nbits = 1 << 18
    bm = ib.IOVABitmap(0, nbits, 1)
    bm.set_pages(np.arange(0, nbits, 2))
    rows, windows = bm.iter_ranges(batch=1000), bm.windows()

    def work(_):
        mine, seen = [], []
        while True:
            try:
                batch = next(rows)
            except ValueError as error:
                assert "in use" in str(error)
                continue
            except StopIteration:
                break
            mine += batch[:, 0].tolist()
        seen += windows
        return mine, seen

    with switching_often():
        answers = run(*[lambda: work(0)] * NTHREADS)
    found_rows, found_windows = (
        list(chain.from_iterable(each)) for each in zip(*answers, strict=True)
    )
    assert sorted(found_rows) == list(range(0, nbits, 2))
    assert sorted(found_windows) == list(bm.windows())


def test_the_first_array_asked_for_by_many():
    """NumPy is imported with the first array, by whoever is first; in modules that are new."""
    with switching_often():
        answers = run(*[lambda: ib.IOVABitmap(0, 80, 1).ranges()] * NTHREADS)
    assert all(isinstance(rows, np.ndarray) and rows.shape == (0, 2) for rows in answers)
