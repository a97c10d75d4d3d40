"""ranges and iter_ranges: clean and dirty runs, a caller's array for the rows, batches, and runs
that end where the engine's words and blocks do.
"""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest

from support.driver import Pair, plain
from support.expected import Expected
from support.memory import HOST_PAGE, Arena
from support.others import scribbling
from support.pins import small_bitmap
from support.under_test import engine_only, ib

BASE, PAGE = 0x1800, 4096  # of small_bitmap()
BLOCK = 512 * 64  # bits that are worked on at once, in the smallest of the engine's blocks


def rows_of(count: int, fill: int = 7) -> np.ndarray:
    return np.full((count, 2), fill, np.uint64)


# --- clean and dirty -----------------------------------------------------------------------------


def test_clean_rows_are_what_dirty_rows_leave():
    bm = small_bitmap()
    dirty, clean = plain(bm.ranges()), plain(bm.ranges(dirty=False))
    both = sorted(dirty + clean)
    assert both[0][0] == BASE and both[-1][0] + both[-1][1] == bm.end
    assert all(a[0] + a[1] == b[0] for a, b in pairwise(both))
    assert clean == [
        (BASE + PAGE, 6 * PAGE),
        (BASE + 9 * PAGE, 41 * PAGE),
        (BASE + 52 * PAGE, 47 * PAGE),
    ]
    assert plain(bm.ranges(BASE + 8 * PAGE + 5, PAGE, dirty=False)) == [(BASE + 9 * PAGE, 5)]
    assert bm.ranges(dirty=True).tolist() == bm.ranges().tolist()


def test_the_last_row_is_cut_where_the_last_page_is():
    bm = small_bitmap(part=100)
    assert bm.ranges()[-1].tolist() == [BASE + 99 * PAGE, PAGE - 100]
    bm.clear(BASE + 99 * PAGE, 1)
    assert bm.ranges(dirty=False)[-1].tolist() == [BASE + 52 * PAGE, 48 * PAGE - 100]


@pytest.mark.parametrize("pgoff", [0, 1, 8, 4089 % HOST_PAGE])
@pytest.mark.parametrize("edge", [64, 128, 512, 8 * 64, BLOCK, 2 * BLOCK, 8 * HOST_PAGE])
def test_runs_that_end_where_words_and_blocks_do(edge, pgoff):
    """Runs that begin, end, or go on at an edge, and what each asks of a caller's array."""
    nbits = 2 * edge + 70
    arena = Arena((nbits + 7) // 8, pgoff)
    bm = ib.alloc(0, nbits, 1, arena.data, window_pages=1)
    for first in (edge - 1, edge, edge + 1, 0):
        for stop in (edge, edge + 1, 2 * edge - 1, 2 * edge, 2 * edge + 1, nbits):
            if stop <= first:
                continue
            bm.reset()
            bm.set(first, stop - first)
            assert plain(bm.ranges()) == [(first, stop - first)]
            out = rows_of(1)
            assert plain(bm.ranges(out=out)) == [(first, stop - first)]
            around = [(0, first), (stop, nbits - stop)]
            assert plain(bm.ranges(dirty=False)) == [row for row in around if row[1]]
            assert plain(bm.ranges(first, stop - first)) == [(first, stop - first)]
            assert bm.ranges(first, stop - first, dirty=False).size == 0
            assert plain(next(bm.iter_ranges(batch=1))) == [(first, stop - first)]
    arena.assert_guards()


@pytest.mark.parametrize("nbits", [64 * k + d for k in (1, 8, 512, 520) for d in (-1, 0, 1)])
def test_every_second_page(nbits):
    """The most rows there can be: one for every two pages."""
    arena = Arena((nbits + 7) // 8, 5, content=0x55)
    bm = ib.alloc(3, nbits, 1, arena.data)
    wanted = [(3 + bit, 1) for bit in range(0, nbits, 2)]
    assert plain(bm.ranges()) == wanted
    out = rows_of(len(wanted))
    assert plain(bm.ranges(out=out)) == wanted
    assert plain(bm.ranges(dirty=False)) == [(3 + bit, 1) for bit in range(1, nbits, 2)]
    found = np.concatenate(list(bm.iter_ranges(batch=100)))
    assert plain(found) == wanted
    with pytest.raises(ValueError, match=rf"\b{len(wanted)}\b"):
        bm.ranges(out=out[:-1])


# --- a caller's array ----------------------------------------------------------------------------


def test_out_is_filled_and_its_filled_part_returned():
    bm = small_bitmap()
    wanted = bm.ranges()
    out = rows_of(9)
    found = bm.ranges(out=out)
    assert found.shape == (4, 2) and found.dtype == np.uint64
    assert np.shares_memory(found, out) and found.ctypes.data == out.ctypes.data
    assert np.array_equal(found, wanted) and np.array_equal(out[:4], wanted)
    found = bm.ranges(BASE + PAGE, 6 * PAGE, out=out)
    assert found.shape == (0, 2)
    assert plain(bm.ranges(dirty=False, out=out)) == plain(bm.ranges(dirty=False))
    assert bm.ranges(out=rows_of(4)).shape == (4, 2)


def test_nothing_behind_the_array_is_written():
    rng = np.random.default_rng(3)
    for nbits in (100, 4000, 3 * BLOCK + 5):
        model = Expected(0, nbits, 1, bits=rng.random(nbits) < 0.3)
        bm = ib.alloc(0, nbits, 1, np.packbits(model.bits, bitorder="little"))
        wanted = model.rows()
        for spare in (0, 1, 2, 5, 33, 200):
            memory = rows_of(len(wanted) + 2 * 300, 0xA5A5)
            out = memory[300 : 300 + len(wanted) + spare]
            assert plain(bm.ranges(out=out)) == wanted
            assert (memory[:300] == 0xA5A5).all()
            assert (memory[300 + len(wanted) + spare :] == 0xA5A5).all()


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_too_few_rows_name_the_number_needed(missing):
    bm = small_bitmap()
    memory = rows_of(4)
    with pytest.raises(ValueError, match=r"\b4\b") as caught:
        bm.ranges(out=memory[: 4 - missing])
    assert not isinstance(caught.value, ib.IOVARangeError)
    assert (memory[4 - missing :] == 7).all()
    with pytest.raises(ValueError, match=r"\b3\b"):
        bm.ranges(dirty=False, out=memory[:1])


def test_the_number_needed_for_many():
    """As many as will do, whatever comes before and behind the rows that fit."""
    rng = np.random.default_rng(5)
    for nbits in (1000, BLOCK - 3, 4 * BLOCK + 17):
        for density in (0.001, 0.1, 0.5, 0.999):
            model = Expected(9, nbits * PAGE, PAGE, bits=rng.random(nbits) < density)
            bm = ib.alloc(9, nbits * PAGE, PAGE, np.packbits(model.bits, bitorder="little"))
            wanted = model.rows()
            for have in {0, 1, len(wanted) // 2, len(wanted) - 1} - {-1, len(wanted)}:
                with pytest.raises(ValueError, match=rf"\b{len(wanted)}\b"):
                    bm.ranges(out=rows_of(have))
            assert plain(bm.ranges(out=rows_of(len(wanted)))) == wanted


def test_an_empty_array_will_do_for_no_rows():
    bm = ib.IOVABitmap(0, 1 << 20)
    assert bm.ranges(out=rows_of(0)).shape == (0, 2)
    bm.set(0, 1)
    with pytest.raises(ValueError, match=r"\b1\b"):
        bm.ranges(out=rows_of(0))


def read_only() -> np.ndarray:
    array = rows_of(9)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.zeros((9, 2), np.int64),
        lambda: np.zeros((9, 2), np.uint32),
        lambda: np.zeros((9, 2), np.float64),
        lambda: np.zeros((9, 2), ">u8"),
        lambda: np.zeros((9, 3), np.uint64),
        lambda: np.zeros((9, 1), np.uint64),
        lambda: np.zeros(18, np.uint64),
        lambda: np.zeros((9, 2, 1), np.uint64),
        lambda: rows_of(18)[::2],
        lambda: np.asfortranarray(rows_of(9)),
        lambda: bytearray(9 * 16),
        read_only,
    ],
)
def test_arrays_that_will_not_do(make):
    bm, out = small_bitmap(), make()
    before = bytes(out)
    with pytest.raises((ValueError, BufferError)):
        bm.ranges(out=out)
    assert bytes(out) == before


@pytest.mark.parametrize("out", [5, "rows", [[0, 0]], object()])
def test_what_is_no_array(out):
    with pytest.raises(TypeError):
        small_bitmap().ranges(out=out)


def test_the_bitmap_itself_is_checked_first():
    """Neither a bad range nor a freed bitmap touches the array."""
    bm, out = small_bitmap(), rows_of(9)
    with pytest.raises(ib.IOVARangeError):
        bm.ranges(0, 1, out=out)
    bm.free()
    with pytest.raises(ValueError, match="freed"):
        bm.ranges(out=out)
    assert (out == 7).all()


def test_rows_outlive_the_bitmap():
    bm = small_bitmap()
    rows, wanted = bm.ranges(), small_bitmap().ranges().tolist()
    del bm
    rows[0, 0] += np.uint64(1)  # writable, and nobody else's
    rows[0, 0] -= np.uint64(1)
    assert rows.tolist() == wanted


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 65536])
@pytest.mark.parametrize("dirty", [True, False])
def test_batches_are_full_and_add_up(batch, dirty):
    bm = small_bitmap()
    found = list(bm.iter_ranges(dirty=dirty, batch=batch))
    assert all(len(rows) == batch for rows in found[:-1])
    assert np.array_equal(np.concatenate(found), bm.ranges(dirty=dirty))
    assert all(rows.dtype == np.uint64 and rows.ndim == 2 for rows in found)


@engine_only.pair
@pytest.mark.parametrize("batch", [1, 3, 512, 1000])
@pytest.mark.parametrize("backend", ["none", "fault"])
def test_a_run_is_never_split(batch, backend):
    """Runs of all lengths, over windows and blocks, in batches that end anywhere."""
    rng = np.random.default_rng(batch)
    nbytes = 3 * HOST_PAGE
    pair = Pair(0x77, nbytes * 8 * PAGE - 7, PAGE, pgoff=77, window_pages=1, pin=backend)
    lengths = rng.choice((1, 2, 63, 64, 65, 3000), 4000)
    bits = np.repeat(np.arange(lengths.size) % 2 == 0, lengths)
    pair.fill(bits[: pair.model.nbits])
    pair.iter_ranges(batch=batch)
    pair.iter_ranges(batch=batch, dirty=False)
    pair.iter_ranges(0x77 + 5 * PAGE + 9, 50_000 * PAGE, batch=batch)
    pair.finish()


def test_nothing_to_iterate_over():
    bm = ib.IOVABitmap(0, 1 << 20)
    assert list(bm.iter_ranges()) == []
    bm.set(0, 1 << 20)
    assert list(bm.iter_ranges(dirty=False)) == []
    assert [rows.tolist() for rows in bm.iter_ranges(batch=1)] == [[[0, 1 << 20]]]


def test_batches_are_arrays_of_their_own():
    bm = small_bitmap()
    first, second = list(bm.iter_ranges(batch=2))
    assert not np.shares_memory(first, second)
    first[:] = 0
    assert np.array_equal(second, bm.ranges()[2:])


def test_an_iterator():
    bm = small_bitmap()
    found = bm.iter_ranges(BASE, PAGE * 60, dirty=False, batch=1)
    assert iter(found) is found
    assert len(list(found)) == 3
    assert next(found, "done") == "done"


@pytest.mark.parametrize("bad", [0, -1, sys.maxsize // 16 + 1, 2**60, 2**64])
def test_batches_of_bad_sizes(bad):
    with pytest.raises(ValueError, match=r"^batch must be"):
        list(small_bitmap().iter_ranges(batch=bad))


def test_the_largest_batch():
    (rows,) = small_bitmap().iter_ranges(batch=sys.maxsize // 16)
    assert np.array_equal(rows, small_bitmap().ranges())


@pytest.mark.parametrize("bad", [1.0, "1", None])
def test_batches_that_are_no_int(bad):
    with pytest.raises(TypeError):
        list(small_bitmap().iter_ranges(batch=bad))


def test_keywords_only():
    bm = small_bitmap()
    for call in (bm.ranges, bm.iter_ranges):
        with pytest.raises(TypeError):
            call(None, None, True)
        with pytest.raises(TypeError):
            call(address=5)
    with pytest.raises(TypeError):
        bm.iter_ranges(out=rows_of(9))
    assert bm.ranges(iova=BASE, length=PAGE, dirty=True, out=rows_of(1)).tolist() == [[BASE, PAGE]]


# --- others meanwhile ----------------------------------------------------------------------------


@engine_only.threads
@pytest.mark.parametrize("pgoff", [0, 3])
def test_rows_stay_well_formed_while_others_write(pgoff):
    rng = np.random.default_rng(1)
    memory = np.zeros(4096, np.uint64)
    data = memory.view(np.uint8)[pgoff:]
    bm = ib.alloc(0, data.size * 8 - 5, 1, data)
    out = rows_of(bm.nbits)
    values = rng.integers(0, 2**63, 61, np.uint64) * np.uint64(3)

    def check(rows):
        start, length = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        end = start + length
        assert (length > 0).all() and (start[1:] > end[:-1]).all()
        assert end.size == 0 or (start[0] >= 0 and end[-1] <= bm.nbits)

    with scribbling(memory[64:2048], values):
        for _ in range(60):
            check(bm.ranges())
            check(bm.ranges(dirty=False))
            check(bm.ranges(out=out))
            check(np.concatenate([rows_of(0), *bm.iter_ranges(batch=5000)]))
            check(bm.read_and_clear())
            pages = bm.pages().astype(np.int64)
            assert (np.diff(pages) > 0).all() and (pages < bm.nbits).all()
            assert 0 <= bm.count() <= bm.nbits and 0 <= bm.count_ranges() <= bm.nbits
