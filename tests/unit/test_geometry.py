"""Construction: geometry and its attributes, `nbytes_for`, and every way to ask for nonsense."""

from __future__ import annotations

import contextlib
import operator

import numpy as np
import pytest

from support.expected import TOP, Expected
from support.memory import HOST_PAGE, Arena
from support.under_test import ib

GEOMETRIES = [
    (0, 1, 1),
    (0, 1, 4096),
    (0, 4096, 4096),
    (0, 4097, 4096),
    (1, 4096, 4096),
    (0x1000000, 64 << 20, 2048),
    (12345, 8 * 4096 * 3 + 1, 4096),
    (TOP - 1, 1, 1),
    (TOP - 1, 1, 2**63),
    (TOP - 4096 * 9, 4096 * 9, 4096),
    (0, TOP - 1, 2**48),
    (1, TOP - 1, 2**48),
    (0, TOP - 1, 2**63),
    (0, 2**63, 2**63),
    (0, 2**63 + 1, 2**63),
    (2**63, 2**63, 2**61),
    (7, 2**40 + 5, 2**31),
    (7, 2**40 + 5, 2**32),
]


class Index:
    """Not an int, but usable as one."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


# --- attributes --------------------------------------------------------------------------------


@pytest.mark.parametrize("iova, length, page_size", GEOMETRIES)
def test_attributes(iova, length, page_size):
    model = Expected(iova, length, page_size)
    arena = Arena(model.nbytes, 3)
    for bm in (
        ib.alloc(iova, length, page_size, arena.data),
        ib.IOVABitmap(iova, length, page_size),
    ):
        assert (bm.iova, bm.length, bm.end) == (iova, length, iova + length)
        assert (bm.page_size, 1 << bm.pgshift) == (page_size, page_size)
        assert (bm.nbits, bm.nbytes) == (model.nbits, model.nbytes)
        assert bm.window_pages == HOST_PAGE // np.dtype(np.uintp).itemsize
        assert bm.pin == "none" and bm.freed is False and bm.window is None
        for name in ("iova", "length", "end", "page_size", "pgshift", "nbits", "nbytes"):
            assert type(getattr(bm, name)) is int
        assert tuple(bm.stats) == (0, 0, 0, 0, 0)


def test_the_end_may_be_two_to_the_64():
    bm = ib.IOVABitmap(TOP - 4096, 4096)
    assert bm.end == 2**64
    bm.set(TOP - 1, 1)
    assert bm.ranges().tolist() == [[TOP - 4096, 4096]]


def test_the_geometry_cannot_be_changed():
    bm = ib.IOVABitmap(0x1000, 0x10000)
    for name in (
        "iova",
        "length",
        "end",
        "page_size",
        "pgshift",
        "nbits",
        "nbytes",
        "window_pages",
        "pin",
        "freed",
        "window",
        "stats",
    ):
        with pytest.raises(AttributeError):
            setattr(bm, name, 1)
        with pytest.raises(AttributeError):
            delattr(bm, name)


def test_every_page_size_has_a_bitmap():
    for shift in range(64):
        bm = ib.IOVABitmap(5, 2**shift if shift < 63 else 2**63, 1 << shift)
        assert (bm.pgshift, bm.nbits, bm.nbytes) == (shift, 1, 1)


def test_memory_of_its_own_is_zeroed():
    bm = ib.IOVABitmap(0, 4096 * 8 * 10000 + 1)
    assert bm.page_size == 4096
    assert bm.nbytes == 10001 and not bm.view().any()
    assert ib.IOVABitmap(0, 100, data=None).count() == 0


def test_the_type_takes_the_callers_memory_too():
    data = bytearray(2)
    bm = ib.IOVABitmap(0, 4096 * 9, 4096, data)
    bm.set(8 * 4096, 1)
    assert data == b"\x00\x01"
    ib.IOVABitmap(0, 4096 * 9, data=data).set(0, 1)
    assert data == b"\x01\x01"


def test_calling_init_again_changes_nothing():
    bm = ib.IOVABitmap(0x1000, 0x10000)
    with contextlib.suppress(TypeError):
        bm.__init__(0, 1 << 30, 1)
    assert (bm.iova, bm.length, bm.page_size, bm.nbytes) == (0x1000, 0x10000, 4096, 2)


def test_every_argument_by_its_name():
    data = bytearray(64)
    bm = ib.alloc(data=data, page_size=2048, length=65536, iova=4096, pin="none", window_pages=7)
    assert (bm.iova, bm.length, bm.page_size, bm.window_pages) == (4096, 65536, 2048, 7)
    bm = ib.IOVABitmap(iova=0, length=1, page_size=1, data=None, window_pages=3, pin="none")
    assert bm.window_pages == 3
    assert ib.nbytes_for(length=4097, page_size=4096) == 1


@pytest.mark.parametrize(
    "arguments, named",
    [
        ((), {}),
        ((0,), {}),
        ((0, 4096, 4096), {}),
        ((0, 4096, 4096, bytearray(1), 1), {}),
        ((0, 4096, 4096, bytearray(1)), {"unknown": 1}),
        ((0, 4096, 4096, bytearray(1)), {"iova": 1}),
    ],
)
def test_wrong_arguments_of_alloc(arguments, named):
    with pytest.raises(TypeError):
        ib.alloc(*arguments, **named)


def test_alloc_touches_no_byte_and_pins_nothing(recording_pin):
    arena = Arena(100, 5, content=None)
    bm = ib.alloc(0, 800, 1, arena.data, pin=recording_pin)
    assert bm.pin is recording_pin
    assert (arena.data == arena.initial).all() and recording_pin.log == []
    bm.free()
    assert recording_pin.log == []
    arena.assert_guards()


# --- nbytes_for --------------------------------------------------------------------------------


@pytest.mark.parametrize("iova, length, page_size", GEOMETRIES)
def test_nbytes_for(iova, length, page_size):
    assert ib.nbytes_for(length, page_size) == Expected(0, length, page_size).nbytes


def test_nbytes_for_at_the_edges():
    for shift in range(64):
        page_size = 1 << shift
        assert ib.nbytes_for(0, page_size) == 0
        for nbits in (1, 7, 8, 9, 64, 65):
            length = nbits * page_size
            if length < TOP:
                assert ib.nbytes_for(length, page_size) == (nbits + 7) // 8
            if 0 < length - 1 < TOP:
                expected = ((length - 2) // page_size + 1 + 7) // 8
                assert ib.nbytes_for(length - 1, page_size) == expected
        assert ib.nbytes_for(TOP - 1, page_size) == ((TOP - 2) // page_size + 1 + 7) // 8
    assert ib.nbytes_for(TOP - 1, 1) == 2**61


BAD_PAGE_SIZES = [0, -1, -4096, 3, 12288, 4095, 4097, 2**63 + 1, 2**63 * 2 - 1, 2**64, 2**65]


@pytest.mark.parametrize("page_size", BAD_PAGE_SIZES)
def test_bad_page_sizes(page_size):
    with pytest.raises(ValueError):
        ib.nbytes_for(4096, page_size)
    with pytest.raises(ValueError):
        ib.alloc(0, 4096, page_size, bytearray(4096))
    with pytest.raises(ValueError):
        ib.IOVABitmap(0, 4096, page_size)


# --- ranges that cannot be ---------------------------------------------------------------------


def test_length_zero():
    with pytest.raises(ValueError):
        ib.alloc(0, 0, 4096, bytearray(64))
    with pytest.raises(ValueError):
        ib.IOVABitmap(0, 0)


@pytest.mark.parametrize(
    "iova, length", [(TOP - 1, 2), (2, TOP - 1), (TOP - 4096, 4097), (TOP - 1, TOP - 1)]
)
def test_ranges_that_end_beyond_two_to_the_64(iova, length):
    with pytest.raises(ValueError):
        ib.alloc(iova, length, 2**63, bytearray(64))


@pytest.mark.parametrize(
    "iova, length", [(TOP - 1, 1), (1, TOP - 1), (TOP - 4096, 4096), (2**63, 2**63)]
)
def test_ranges_that_end_at_two_to_the_64(iova, length):
    assert ib.alloc(iova, length, 2**62, bytearray(64)).end == TOP


def test_a_buffer_that_is_too_short_names_both_sizes():
    for have, length, need in ((512, 4096 * 8 * 513, "513"), (0, 4096, "1"), (2, 4096 * 17, "3")):
        with pytest.raises(ValueError) as caught:
            ib.alloc(0, length, 4096, bytearray(have))
        words = str(caught.value).replace(",", " ").replace(".", " ").split()
        assert need in words and str(have) in words, str(caught.value)
    ib.alloc(0, 4096 * 8 * 512, 4096, bytearray(512))
    ib.alloc(0, 4096 * 8 * 511, 4096, bytearray(512))


def test_more_memory_than_there_is():
    with pytest.raises(MemoryError):
        ib.IOVABitmap(0, TOP - 1, 1)


# --- integers ----------------------------------------------------------------------------------

NOT_INTEGERS = [1.0, "1", b"1", [], object(), 1j, np.float64(4096), np.array([1, 2])]
TOO_SMALL_OR_LARGE = [-1, -(2**63), -(2**64), 2**64, 2**64 + 4096, 2**200]


def calls(value):
    """Every place where an address, a length or a page size is given."""
    bm = ib.IOVABitmap(0, 1 << 20)
    yield lambda: ib.nbytes_for(value, 4096)
    yield lambda: ib.nbytes_for(4096, value)
    yield lambda: ib.alloc(value, 4096, 4096, bytearray(8))
    yield lambda: ib.alloc(0, value, 4096, bytearray(8))
    yield lambda: ib.alloc(0, 4096, value, bytearray(8))
    yield lambda: ib.IOVABitmap(value, 4096)
    yield lambda: ib.IOVABitmap(0, value)
    yield lambda: ib.IOVABitmap(0, 4096, value)
    yield lambda: bm.test(value)
    for name in ("set", "clear", "test_and_set", "count", "ranges"):
        method = getattr(bm, name)
        yield lambda method=method: method(value, 0)
        yield lambda method=method: method(value, 1)
        yield lambda method=method: method(0, value)
    yield lambda: bm.set(value, 1, clip=True)
    yield lambda: bm.set(0, value, clip=True)
    yield lambda: bm.clear(value, 1, clip=True)
    yield lambda: bm.clear(0, value, clip=True)


@pytest.mark.parametrize("value", NOT_INTEGERS, ids=lambda value: type(value).__name__)
def test_what_is_no_int(value):
    for call in calls(value):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("name", ["set", "clear", "test_and_set"])
def test_none_is_no_address(name):
    method = getattr(ib.IOVABitmap(0, 1 << 20), name)
    for arguments in ((None, 1), (0, None)):
        with pytest.raises(TypeError):
            method(*arguments)


@pytest.mark.parametrize("value", TOO_SMALL_OR_LARGE, ids=hex)
def test_what_is_no_unsigned_64_bit_number(value):
    for call in calls(value):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("make", [Index, np.uint64, np.int32, np.uint16, operator.index])
def test_what_can_be_used_as_an_int(make):
    bm = ib.alloc(make(4096), make(8192), make(1024), bytearray(1))
    bm.set(make(4096 + 1024), make(1))
    assert bm.test(make(4096 + 2047)) is True
    assert bm.count(make(4096), make(8192)) == 1
    assert ib.nbytes_for(make(8192), make(1024)) == 1


def test_an_index_that_raises():
    class Broken:
        def __index__(self):
            raise KeyError("mine")

    for call in calls(Broken()):
        with pytest.raises(KeyError, match="mine"):
            call()


@pytest.mark.parametrize("window_pages", [0, -1, -(2**63)])
def test_bad_window_pages(window_pages):
    with pytest.raises(ValueError):
        ib.alloc(0, 4096, 4096, bytearray(8), window_pages=window_pages)


@pytest.mark.parametrize("window_pages", [1.0, "1", []])
def test_window_pages_that_are_no_int(window_pages):
    with pytest.raises(TypeError):
        ib.alloc(0, 4096, 4096, bytearray(8), window_pages=window_pages)


@pytest.mark.parametrize("window_pages", [1, 2, 511, 513, 2**31, 2**32 + 1, 2**52, 2**62])
def test_any_window_pages_from_one(window_pages):
    bm = ib.IOVABitmap(0, 4096 * 8 * 10000, window_pages=window_pages)
    assert bm.window_pages == window_pages
    bm.set(bm.iova, bm.length)
    assert bm.count() == bm.nbits
    assert sum(w.length for w in bm.windows()) == bm.length


@pytest.mark.parametrize("pin", ["", "NONE", "nonsense", "none ", "populat", "mlock\0"])
def test_an_unknown_backend(pin):
    with pytest.raises(ValueError):
        ib.alloc(0, 4096, 4096, bytearray(8), pin=pin)
