"""Runs against sets; assert_ranges on bitmaps, arrays and lists."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import iovabitmap as ib
from iovabitmap._base.intervals import minus, union
from iovabitmap.testing import assert_ranges
from iovabitmap.testing._ranges import Pages, as_text, rows_of, runs_of

runs = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 9)).map(lambda row: (row[0], row[0] + row[1])),
    max_size=12,
)


def numbers(some):
    return {n for start, end in some for n in range(start, end)}


def assert_maximal(some):
    assert all(start < end for start, end in some)
    assert all(a[1] < b[0] for a, b in pairwise(some))


@given(runs, runs)
def test_union_and_minus_are_those_of_sets(a, b):
    a_runs, b_runs = union(a), union(b)
    assert numbers(a_runs) == numbers(a)
    assert_maximal(a_runs)
    rest = list(minus(a_runs, b_runs))
    assert numbers(rest) == numbers(a) - numbers(b)
    assert_maximal(union(rest))
    assert rest == sorted(rest)


@given(runs, st.sampled_from((1, 4, 16)), st.integers(0, 7))
def test_pages_touched_are_those_of_each_byte(rows, page_size, iova):
    pages = Pages(iova, 100, page_size)
    rows = [(iova + start, end - start) for start, end in rows]
    expected = {(a - iova) // page_size for start, n in rows for a in range(start, start + n)}
    touched = pages.touched(rows)
    assert numbers(touched) == expected
    assert_maximal(touched)


def test_pages_as_rows_are_cut_to_the_range():
    pages = Pages(0x1001, 0x2FFF, 4096)
    assert pages.rows([(0, 1), (2, 3)]) == [(0x1001, 0x1000), (0x3001, 0xFFF)]


def test_the_top_of_the_address_space():
    pages = Pages(2**64 - 0x1800, 0x1800, 4096)
    assert pages.touched([(2**64 - 1, 1)]) == [(1, 2)]
    assert pages.rows([(1, 2)]) == [(2**64 - 0x800, 0x800)]
    assert runs_of([(2**64 - 1, 1)]) == [(2**64 - 1, 2**64)]


def test_text_is_bounded():
    assert as_text([]) == ""
    assert as_text([(0, 23), (64, 65)]) == "0-22,64"
    assert as_text((n, n + 1) for n in range(0, 10**9, 2)) == "0,2,4,6,8,10,12,14,..."


# --- assert_ranges --------------------------------------------------------------------------------


def bitmap():
    bm = ib.IOVABitmap(0x10000, 0x100800)
    bm.set_ranges([(0x11000, 0x3000), (0x110000, 0x800)])
    return bm


@pytest.mark.parametrize(
    "expected",
    [
        "1-3,256",
        " 256 , 1-3",
        "1-2,3,256,2",
        [(0x11000, 0x3000), (0x110000, 0x800)],
        [(0x110000, 1), (0x13FFF, 1), (0x11800, 0x1000)],
        np.array([(0x11000, 0x3000), (0x110000, 0x800)], np.uint64),
    ],
)
def test_a_bitmap_as_expected(expected):
    assert_ranges(bitmap(), expected)
    assert_ranges(ib.IOVABitmap(0, 4096), "")
    assert_ranges(ib.IOVABitmap(0, 4096), [])


@pytest.mark.parametrize(
    "expected, lines",
    [
        ("1-3", ["missing: none", "too many: 1 page: 256, from iova 0x110000", "page 256"]),
        (
            "0-3,255-256",
            [
                "missing: 2 pages: 0,255, from iova 0x10000",
                "too many: none",
                "page 0 (iova 0x10000)",
            ],
        ),
        (
            [(0x12000, 0x3000)],
            [
                "missing: 1 page: 4, from iova 0x14000",
                "too many: 2 pages: 1,256, from iova 0x11000",
            ],
        ),
        ("", ["missing: none", "too many: 4 pages: 1-3,256, from iova 0x11000"]),
        ("1-3,256-257", ["missing: 1 page: 257, from iova 0x111000", "too many: none"]),
    ],
)
def test_a_bitmap_that_differs(expected, lines):
    with pytest.raises(AssertionError) as caught:
        assert_ranges(bitmap(), expected)
    text = str(caught.value)
    assert text.startswith("ranges are not as expected\n")
    for line in lines:
        assert line in text


def test_where_the_first_difference_is():
    data = np.zeros(5 * 4096, np.uint8)
    skew = -data.ctypes.data % 4096
    bm = ib.alloc(0, 9000 * 8, 1, data[skew + 4096 - 100 :][:9000], window_pages=1)
    bm.set(8 * 4200 + 3, 1)
    with pytest.raises(AssertionError) as caught:
        assert_ranges(bm, "")
    assert str(caught.value).splitlines()[-1].strip() == (
        "first difference: page 33603 (iova 0x8343), bit 3 of byte 4200, "
        "in window 2 (bytes 4196 to 8291)"
    )
    assert [w.base_index for w in bm.windows()] == [0, 100, 4196, 8292]


@given(runs, runs)
def test_rows_are_compared_by_addresses(a, b):
    as_rows = [(start, end - start) for start, end in a]
    expected = [(start, end - start) for start, end in b]
    missing, extra = numbers(b) - numbers(a), numbers(a) - numbers(b)
    if missing or extra:
        with pytest.raises(AssertionError) as caught:
            assert_ranges(as_rows, expected)
        for what, some in (("missing", missing), ("too many", extra)):
            line = f"{what}: {len(some)} bytes: {min(some):#x} + " if some else f"{what}: none"
            assert line in str(caught.value)
    else:
        assert_ranges(as_rows, expected)
        assert_ranges(np.array(as_rows, np.uint64).reshape(-1, 2), expected)


def test_rows_by_pages():
    assert_ranges([(0x1000, 0x3000), (0x100000, 1)], "1-3,256")
    assert_ranges(bitmap().ranges(), "1-3,256", iova=0x10000)
    assert_ranges(bitmap().ranges(), [(0x11001, 0x2FFF), (0x110003, 4)], iova=0x10000)
    with pytest.raises(AssertionError, match="too many: 2 pages: 5-6, from iova 0x2800"):
        assert_ranges([(0x2800, 0x1000)], "", page_size=2048)


@pytest.mark.parametrize("text", ["a", "1-", "-1", "1,", "1--2", "3-1", "1.5", "0x1"])
def test_bad_text(text):
    with pytest.raises(ValueError, match="expected"):
        assert_ranges(bitmap(), text)


def test_bad_arguments():
    with pytest.raises(TypeError, match="leave them out"):
        assert_ranges(bitmap(), "", page_size=4096)
    with pytest.raises(TypeError, match="x must be a bitmap"):
        assert_ranges(7, "")
    with pytest.raises(TypeError, match="expected must be a bitmap"):
        assert_ranges([], 7)
    with pytest.raises(ValueError, match="row 1 of x is negative"):
        rows_of([(1, 1), (1, -1)], "x")


def test_many_runs_are_counted_and_few_are_listed():
    bm = ib.IOVABitmap(0, 2**20, 1)
    bm.set_pages(np.arange(0, 2**20, 2, dtype=np.uint64))
    with pytest.raises(AssertionError) as caught:
        assert_ranges(bm, "1")
    assert "missing: 1 page: 1, " in str(caught.value)
    assert "too many: 524288 pages: 0,2,4,6,8,10,12,14,..., " in str(caught.value)
    assert len(str(caught.value)) < 400
