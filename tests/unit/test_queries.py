"""Asking a bitmap: `test`, `count`, `ranges`, `to_mask` and `view`."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from support.expected import TOP, Expected
from support.memory import HOST_PAGE, Arena, address_of
from support.under_test import ib

BASE = 0x100800


def random_bitmap(nbits=100, page_size=4096, base=BASE, part=0, seed=1, density=0.5):
    """A bitmap and its model, both with the same random pages dirty."""
    arena = Arena((nbits + 7) // 8, 4081 % HOST_PAGE, content=None, seed=seed)
    bits = np.random.default_rng(seed).random(nbits) < density
    model = Expected(base, nbits * page_size - part, page_size, bits=bits)
    arena.data[:] = model.memory(arena.initial)
    return ib.alloc(base, model.length, page_size, arena.data), model, arena


# --- test --------------------------------------------------------------------------------------


def test_test_of_every_page():
    bm, model, _ = random_bitmap(part=1000)
    for n, dirty in enumerate(model.bits.tolist()):
        start = BASE + n * 4096
        for iova in (start, start + 1, min(start + 4095, bm.end - 1)):
            assert bm.test(iova) is dirty


@pytest.mark.parametrize("iova", [0, BASE - 1, BASE + 100 * 4096 - 5, BASE + 2**40, TOP - 1])
def test_test_outside(iova):
    bm, _, _ = random_bitmap(part=5)
    with pytest.raises(ib.IOVARangeError) as caught:
        bm.test(iova)
    assert (caught.value.iova, caught.value.length) == (iova, 1)


# --- count -------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbits", [1, 7, 8, 9, 63, 64, 65, 100, 128, 1000, 4097])
def test_count(nbits):
    bm, model, _ = random_bitmap(nbits, part=1 if nbits > 1 else 0)
    assert bm.count() == model.bits.sum()
    assert type(bm.count()) is int
    for first in range(min(nbits, 70)):
        iova = BASE + first * 4096
        assert bm.count(iova) == model.bits[first:].sum()
        assert bm.count(BASE, first * 4096) == model.bits[:first].sum()
        assert bm.count(iova, 1) == model.bits[first]
        if first * 4096 < bm.length:
            assert bm.count(None, first * 4096 + 1) == model.bits[: first + 1].sum()


def test_a_length_left_out_means_to_the_end_and_an_iova_left_out_from_the_base():
    bm, model, _ = random_bitmap(part=123)
    for iova, length in ((None, None), (BASE + 5, None), (None, 5000), (bm.end - 1, None)):
        assert bm.count(iova, length) == model.count(iova, length)
        assert bm.ranges(iova, length).tolist() == [list(row) for row in model.rows(iova, length)]
    assert bm.count(length=4097) == model.count(BASE, 4097)
    assert bm.count(iova=bm.end) == 0 and bm.ranges(iova=bm.end).shape == (0, 2)


@pytest.mark.parametrize("name", ["count", "ranges"])
@pytest.mark.parametrize("iova", [0, BASE - 1, BASE + 100 * 4096 + 1, TOP - 1])
def test_to_the_end_from_outside(name, iova):
    bm, _, _ = random_bitmap()
    with pytest.raises(ib.IOVARangeError) as caught:
        getattr(bm, name)(iova)
    assert caught.value.iova == iova


@pytest.mark.parametrize("name", ["count", "find_dirty", "ranges", "read_and_clear"])
def test_all_addresses_from_0_on_are_named_with_their_number(name):
    bm = ib.IOVABitmap(2**62, TOP - 2**62, 2**62)
    with pytest.raises(
        ib.IOVARangeError, match=r"range 0x0 \(\+0x10{16}\) is not inside"
    ) as caught:
        getattr(bm, name)(0)
    assert (caught.value.iova, caught.value.length) == (0, TOP)


def test_to_the_end_where_the_end_is_two_to_the_64():
    bm = ib.IOVABitmap(TOP - 4096 * 10, 4096 * 10)
    bm.set(TOP - 1, 1)
    assert bm.count(TOP - 1) == bm.count(TOP - 4096) == bm.count() == 1
    assert bm.ranges(TOP - 1).tolist() == [[TOP - 1, 1]]


# --- ranges ------------------------------------------------------------------------------------


def test_an_empty_answer_has_the_same_shape():
    rows = ib.IOVABitmap(0, 1 << 30).ranges()
    assert rows.shape == (0, 2) and rows.dtype == np.uint64 and rows.dtype.isnative


def test_rows_are_a_fresh_array():
    bm, model, _ = random_bitmap()
    rows = bm.ranges()
    assert rows.dtype == np.uint64 and rows.dtype.isnative and rows.shape == (len(model.rows()), 2)
    assert rows.flags.writeable and rows.flags.c_contiguous
    kept = rows.copy()
    bm.reset()
    assert (rows == kept).all() and bm.ranges().size == 0


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("nbits", [1, 8, 64, 65, 127, 1000, 5000])
def test_rows_are_maximal_ascending_and_complete(nbits, density):
    for seed in range(3):
        bm, model, arena = random_bitmap(nbits, seed=seed, density=density, part=1)
        assert bm.ranges().tolist() == [list(row) for row in model.rows()]
        arena.assert_guards()


def test_rows_are_cut_to_the_range_asked_for():
    """Also where that range starts or ends inside a page, and where the bitmap's does."""
    bm, _, _ = random_bitmap(20, part=100)
    bm.reset()
    bm.set(BASE, bm.length)
    assert bm.ranges().tolist() == [[BASE, 20 * 4096 - 100]]
    assert bm.ranges(BASE + 5).tolist() == [[BASE + 5, 20 * 4096 - 105]]
    assert bm.ranges(BASE + 5, 7).tolist() == [[BASE + 5, 7]]
    bm.clear(BASE + 4096, 4096)
    assert bm.ranges(BASE + 5, 4096 * 2).tolist() == [[BASE + 5, 4091], [BASE + 8192, 5]]
    assert bm.ranges(BASE + 4096 + 7, 20).tolist() == []
    assert bm.ranges(bm.end - 1).tolist() == [[bm.end - 1, 1]]


@pytest.mark.parametrize("part", [0, 1, 4095])
def test_rows_of_any_part(part):
    bm, model, _ = random_bitmap(70, part=part)
    rng = np.random.default_rng(part)
    for _ in range(400):
        start, end = sorted(rng.integers(BASE, bm.end, 2).tolist())
        expected = [list(row) for row in model.rows(start, end - start)]
        assert bm.ranges(start, end - start).tolist() == expected
        assert bm.count(start, end - start) == model.count(start, end - start)


@pytest.mark.parametrize("shift", [0, 12, 31, 32, 40, 60, 61, 62, 63])
def test_rows_at_the_top_of_the_address_space(shift):
    page_size = 1 << shift
    nbits = min(20, TOP // page_size)
    length = min(nbits * page_size, TOP - 1)
    bm = ib.IOVABitmap(TOP - length, length, page_size)
    bm.set(TOP - 1, 1)
    low = TOP - length + (bm.nbits - 1) * page_size
    assert bm.ranges().tolist() == [[low, TOP - low]]
    bm.set(bm.iova, length)
    assert bm.ranges().tolist() == [[TOP - length, length]]


def test_runs_across_words_and_windows():
    nbits = 8 * (3 * HOST_PAGE + 17)
    arena = Arena(nbits // 8, 4081 % HOST_PAGE)
    bm = ib.alloc(0, nbits, 1, arena.data, window_pages=1)
    for first in (0, 1, 63, 64, 8 * (HOST_PAGE - 4081 % HOST_PAGE) - 3, 8 * HOST_PAGE - 1):
        for length in (1, 2, 63, 64, 65, 8 * HOST_PAGE, 8 * HOST_PAGE + 129):
            bm.reset()
            bm.set(first, length)
            assert bm.ranges().tolist() == [[first, length]]
            assert bm.count() == length


# --- to_mask -----------------------------------------------------------------------------------


@pytest.mark.parametrize("nbits", [1, 7, 8, 9, 64, 100, 4097])
def test_to_mask_is_a_copy(nbits):
    bm, model, arena = random_bitmap(nbits)
    mask = bm.to_mask()
    assert mask.dtype == np.bool_ and mask.shape == (nbits,)
    assert (mask == model.bits).all()
    mask[:] = ~mask
    assert bm.count() == model.bits.sum()
    bm.reset()
    assert (mask == ~model.bits).all()
    arena.assert_guards()


# --- view --------------------------------------------------------------------------------------


def test_view_is_the_memory_itself():
    data = bytearray(100)
    bm = ib.alloc(0, 4096 * 9, 4096, data)
    view = bm.view()
    assert view.dtype == np.uint8 and view.shape == (2,) and view.flags.writeable
    assert address_of(view) == address_of(data)
    view[1] = 1
    assert bm.test(8 * 4096)
    bm.set(0, 1)
    assert view.tolist() == [1, 1] and data[:3] == b"\x01\x01\x00"
    assert bm.view("u1").tolist() == bm.view(dtype="u1").tolist() == [1, 1]


def test_view_as_words():
    words = np.zeros(4, np.uint64)
    bm = ib.alloc(0, 4096 * 192, 4096, words)
    view = bm.view("u8")
    assert view.dtype == np.uint64 and view.shape == (3,) and view.flags.writeable
    view[1] = 1 << 5
    assert words.tolist() == [0, 1 << 5, 0, 0]
    if np.little_endian:
        assert bm.ranges().tolist() == [[4096 * 69, 4096]]


def test_view_as_words_needs_the_size_and_the_alignment():
    for nbits, pgoff in ((65, 0), (8, 0), (56, 0), (64, 1), (64, 4), (128, 4081 % HOST_PAGE)):
        arena = Arena((nbits + 7) // 8, pgoff)
        bm = ib.alloc(0, nbits, 1, arena.data)
        with pytest.raises(ValueError, match=r"u8|size|bytes|align"):
            bm.view("u8")
        assert bm.view("u1").size == bm.nbytes
    arena = Arena(8, 8)
    assert ib.alloc(0, 64, 1, arena.data).view("u8").shape == (1,)


@pytest.mark.parametrize("dtype", ["u2", "f8", "", "U1", "u1\0", "u1,", "bool", None, 1, "i1"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises((ValueError, TypeError)):
        ib.IOVABitmap(0, 64, 1).view(dtype)


def test_view_outlives_free():
    data = bytearray(8)
    bm = ib.alloc(0, 64, 1, data)
    view = bm.view()
    bm.set(0, 3)
    bm.free()
    view[1] = 7
    assert data[:2] == b"\x07\x07"
    with pytest.raises(BufferError):
        data.append(0)
    del view
    gc.collect()
    data.append(0)


def test_view_outlives_the_bitmap_that_owned_the_memory():
    view = ib.IOVABitmap(0, 1 << 20, 1).view()
    gc.collect()
    view[:] = 0xA5
    assert view.size == 1 << 17 and (view == 0xA5).all()
    words = ib.IOVABitmap(0, 1 << 20, 1).view("u8")
    gc.collect()
    words[:] = 1
    assert words.sum() == 1 << 14


# --- no implicit export ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [np.asarray, np.array, np.ascontiguousarray, lambda bm: np.asarray(bm, dtype=bool)],
    ids=["asarray", "array", "ascontiguousarray", "asarray as bool"],
)
def test_numpy_does_not_guess_what_is_meant(convert):
    bm = ib.IOVABitmap(0, 1 << 20)
    with pytest.raises(TypeError) as caught:
        convert(bm)
    assert "view" in str(caught.value) and "to_mask" in str(caught.value)


@pytest.mark.parametrize("export", [memoryview, bytes, bytearray, np.frombuffer])
def test_there_is_no_buffer_export(export):
    with pytest.raises((TypeError, ValueError)):
        export(ib.IOVABitmap(0, 64, 1))


def test_the_end_of_the_address_space_is_an_empty_range():
    bm = ib.IOVABitmap(2**64 - 4096 * 3, 4096 * 3)
    bm.set(2**64 - 1, 1)
    assert bm.end == 2**64
    assert bm.count(bm.end) == 0 and bm.ranges(bm.end).shape == (0, 2)
    assert bm.find_dirty(bm.end) is None and bm.find_clean(start=bm.end) is None
    for bad in (2**64 + 1, -1):
        with pytest.raises(ValueError, match="must be 0 to"):
            bm.count(bad)
    below = ib.IOVABitmap(0, 4096)
    with pytest.raises(ValueError, match="must be 0 to"):
        below.find_dirty(2**64)


def test_the_message_of_a_very_large_int_is_short_and_names_the_argument():
    bm = ib.IOVABitmap(0, 4096)
    for value in (10**100, 10**5000, -(10**5000)):
        with pytest.raises(ValueError, match=r"^iova must be 0 to") as info:
            bm.set(value, 1)
        assert len(str(info.value)) < 120
