"""Buffers whose exporters leave fields out, or are wrong about them."""

from __future__ import annotations

import array
import contextlib
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.exporters import Exporter
from support.under_test import engine_only, ib

pytestmark = engine_only.buffers

ROWS = array.array("Q", [0, 1, 5, 2]).tobytes()  # rows (0, 1) and (5, 2)
U64 = {"itemsize": 8, "format": b"Q"}
REFUSED = (TypeError, ValueError, BufferError)


def bitmap(**options):
    return ib.IOVABitmap(0, 64, 1, **options)


def test_a_date_is_no_array():
    """NumPy's leave out strides, whatever they are asked for."""
    for scalar in (np.datetime64(5, "s"), np.timedelta64(5, "s")):
        for call in (bitmap().set_pages, bitmap().set_ranges, bitmap().clear_ranges):
            with pytest.raises(TypeError):
                call(scalar)
        with pytest.raises(REFUSED):
            ib.alloc(0, 64, 1, scalar)


@pytest.mark.parametrize("shape", [None, [4]])
def test_without_strides_items_are_in_c_order(shape):
    bm = bitmap()
    bm.set_pages(Exporter(ROWS, **U64, shape=shape))
    assert bm.pages().tolist() == [0, 1, 2, 5]
    bm.set_pages(Exporter(bytes([9, 11]), shape=shape and [2]))
    assert bm.pages().tolist() == [0, 1, 2, 5, 9, 11]


def test_rows_without_strides_and_without_a_shape():
    bm = bitmap()
    bm.set_ranges(Exporter(ROWS, **U64, ndim=2, shape=[2, 2]))
    assert bm.pages().tolist() == [0, 5, 6]
    with pytest.raises(ValueError, match="shape"):  # of one dimension, then
        bm.set_ranges(Exporter(ROWS, **U64, ndim=2, strides=[16, 8]))


def test_an_empty_buffer_without_anything():
    bm = bitmap()
    bm.set_pages(Exporter(b"", buf=None))
    bm.set_ranges(Exporter(b"", buf=None, ndim=2))
    assert not bm.any()


@pytest.mark.parametrize(
    "fields",
    [
        {"len": -1},
        {"len": 31, **U64, "shape": [4]},
        {"itemsize": 0},
        {"itemsize": -8},
        {"itemsize": 8, "format": None},
        {"itemsize": 3, "format": b"B"},
        {"buf": None},
        {"ndim": -1},
        {"ndim": 1000},
        {"ndim": 0},
        {"shape": [5], **U64},
        {"shape": [-4], **U64},
        {"shape": [0], **U64},
        {"shape": [3], **U64},
        {"shape": [sys.maxsize], **U64},
        {"shape": [4], "strides": [sys.maxsize], **U64},
        {"shape": [4], "strides": [-sys.maxsize - 1], **U64},
        {"shape": [4], "suboffsets": [0], **U64},
        {"ndim": 2, "shape": [2**62, 4], **U64},
    ],
    ids=str,
)
def test_fields_that_are_wrong(fields):
    bm = bitmap()
    for call in (bm.set_pages, bm.set_ranges, bm.clear_ranges):
        with pytest.raises(REFUSED):
            call(Exporter(ROWS, **fields))
    assert not bm.any()


@pytest.mark.parametrize(
    "fields",
    [
        {"len": -8},
        {"itemsize": 0},
        {"buf": None},
        {"readonly": 1},
        {"ndim": -1},
        {"shape": [32], "strides": [2]},
        {"shape": [32], "suboffsets": [0]},
    ],
    ids=str,
)
def test_memory_of_a_bitmap(fields):
    with pytest.raises(BufferError):
        ib.alloc(0, 64, 1, Exporter(ROWS, **fields))


def test_memory_without_shape_or_strides():
    for fields in ({}, {"shape": [32]}, {"strides": [1]}, {"format": None}):
        data = Exporter(ROWS, **fields)
        with ib.alloc(0, 256, 1, data) as bm:
            bm.set(2, 1)
        assert data.memory.raw[0] == 4, fields


@pytest.mark.parametrize(
    "fields",
    [
        {"ndim": 2, **U64},
        {"ndim": 2, "shape": [3, 2], **U64},
        {"ndim": 2, "shape": [2, 2], "strides": [8, 16], **U64},
        {"ndim": 2, "shape": [2, 2], "readonly": 1, **U64},
        {"ndim": 2, "shape": [2, 2], "len": -32, **U64},
        {"ndim": 2, "shape": [2, 2], "buf": None, **U64},
        {"ndim": 0, **U64},
    ],
    ids=str,
)
def test_rows_to_be_filled(fields):
    with pytest.raises(REFUSED):
        bitmap().ranges(out=Exporter(ROWS, **fields))


def test_other_places_that_take_memory():
    core = sys.modules["iovabitmap._core"]
    whole = bytearray(32)
    for bad in ({"len": -1}, {"buf": None}, {"itemsize": 0}, {"readonly": 1, "len": -1}):
        for memories in ((Exporter(ROWS, **bad), whole), (whole, Exporter(ROWS, **bad))):
            with pytest.raises(BufferError):
                core._changed_pages(memories[0], memories[1], 8, bytearray(4))
        with pytest.raises(BufferError):
            core._changed_pages(whole, bytearray(32), 8, Exporter(ROWS, **bad))
        with pytest.raises(BufferError):
            core._stamp(Exporter(ROWS, **bad), [0], 1, 0, bytearray(8))
        with pytest.raises(REFUSED):
            core._stamp(whole, Exporter(ROWS, **bad), 1, 0, bytearray(8))
        with pytest.raises(BufferError):
            core._WriteTracker(Exporter(ROWS, **bad), 0, 4096)


small = st.integers(-2, 5) | st.sampled_from([8, 16, 32, sys.maxsize, -sys.maxsize - 1])
lists = st.none() | st.lists(small, min_size=8, max_size=8)


@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            "len": st.integers(-1, 32),
            "itemsize": st.integers(-1, 9),
            "ndim": st.integers(-1, 8),
            "format": st.sampled_from(
                [None, b"", b"B", b"Q", b">q", b"@N", b"?", b"x", b"2Q", b"O"]
            ),
            "readonly": st.integers(0, 1),
            "shape": lists,
            "strides": st.none() | st.lists(st.integers(0, 1), min_size=8, max_size=8),
            "suboffsets": lists,
        },
    )
)
def test_any_fields(fields):
    """Strides alone cannot be checked: those here stay inside the memory."""
    for use in (
        lambda data: bitmap().set_pages(data),
        lambda data: bitmap().set_ranges(data),
        lambda data: bitmap().ranges(out=data),
        lambda data: ib.alloc(0, 64, 1, data).set(63, 1),
    ):
        with contextlib.suppress(REFUSED):
            use(Exporter(ROWS, **fields))
