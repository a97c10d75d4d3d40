"""to_text, from_text and repr: bitmaps as people read them."""

from __future__ import annotations

import numpy as np
import pytest

from support.expected import TOP, Expected
from support.pins import RecordingPin, small_bitmap
from support.under_test import ib

GEOMETRY = (0x1800, 4096 * 100 - 100, 4096)


def from_text(text, nbits=100):
    return ib.IOVABitmap.from_text(text, 0, nbits, 1)


def test_to_text():
    bm = small_bitmap()
    assert bm.to_text() == "0,7-8,50-51,99"
    bm.set(bm.iova, bm.length)
    assert bm.to_text() == "0-99"
    bm.reset()
    assert bm.to_text() == ""


@pytest.mark.parametrize(
    "text", ["", "0", "99", "0-99", "0-22,64-97", "0-1,3", "63-64", "0,2,4,6-8,98-99"]
)
def test_there_and_back(text):
    bm = ib.IOVABitmap.from_text(text, *GEOMETRY)
    assert bm.to_text() == text
    assert (bm.iova, bm.length, bm.page_size) == GEOMETRY
    assert (bm.pin, bm.window, bm.freed) == ("none", None, False)


@pytest.mark.parametrize("nbits", [1, 64, 65, 5000, 70_001])
@pytest.mark.parametrize("density", [0.001, 0.1, 0.5, 1])
def test_random_content_there_and_back(nbits, density):
    bits = np.random.default_rng(nbits).random(nbits) < density
    bm = ib.alloc(0, nbits, 1, np.packbits(bits, bitorder="little"))
    text = bm.to_text()
    assert text == Expected(0, nbits, 1, bits=bits).text()
    assert from_text(text, nbits) == bm


def test_every_geometry():
    assert ib.IOVABitmap.from_text("1", TOP - 10, 10, 8).ranges().tolist() == [[TOP - 2, 2]]
    huge = ib.IOVABitmap.from_text(text="1", iova=0, length=TOP - 1, page_size=2**63)
    assert huge.to_text() == "1" and huge.find_dirty(0) == 2**63
    assert ib.IOVABitmap.from_text("3", 0, 0x4000).page_size == 4096


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("1, 3", "1,3"),
        ("1 ,3", "1,3"),
        (" 5-6 , 8 ", "5-6,8"),
        ("", ""),
        ("3,1", "1,3"),
        ("1,1", "1"),
        ("1-5,3-9", "1-9"),
        ("0-4,5-9", "0-9"),
        ("7-7", "7"),
        ("007-08", "7-8"),
        ("\t1\n,\r\n 3-4\t,\n5 \r\n", "1,3-5"),
        (" \t\r\n", ""),
        ("0" * 5000 + "7", "7"),
    ],
)
def test_other_ways_to_write_it(text, wanted):
    assert from_text(text).to_text() == wanted


@pytest.mark.parametrize(
    "text",
    [
        "a",
        ",",
        "1,",
        ",1",
        "1,,2",
        "-",
        "1-",
        "-1",
        "1--2",
        "1-2-3",
        "2-1",
        "+1",
        "1.0",
        "0x1",
        "1e1",
        "1_0",
        "1;2",
        "1 2",
        "1\t2",
        "1 -2",
        "1- 2",
        "1\v,2",
        "1\f",
        "\u20031",
        "1,\n",
        " ,",
        "1-2:1/2",
        "all",
        "\u0663",
        "1\0",
        "1\0,2",
        "\ud800",
        "100",
        "0-100",
        "5,100",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551617",
        "0-18446744073709551616",
        "1" * 5000,
    ],
)
def test_bad_texts(text):
    with pytest.raises(ValueError) as caught:
        from_text(text)
    assert not isinstance(caught.value, (ib.IOVARangeError, UnicodeDecodeError))
    assert len(str(caught.value)) < 500


def test_bad_geometries_and_types():
    for arguments in ((0, 0), (0, 4096, 3), (TOP - 1, 2), (-1, 5)):
        with pytest.raises(ValueError):
            ib.IOVABitmap.from_text("0", *arguments)
    for text in (5, None, b"0", ["0"]):
        with pytest.raises(TypeError):
            ib.IOVABitmap.from_text(text, 0, 4096)
    for arguments in (("0",), ("0", 0), ("0", 0, 4096.0), ("0", 0, 1, 1, 1)):
        with pytest.raises(TypeError):
            ib.IOVABitmap.from_text(*arguments)


def test_a_subclass_makes_its_own():
    class Mine(ib.IOVABitmap):
        pass

    bm = Mine.from_text("1", 0, 4096 * 3)
    assert type(bm) is Mine and bm.to_text() == "1"


# --- repr ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "0", "0-2,5", "0-15", ",".join(map(str, range(0, 32, 2)))])
def test_repr_of_a_short_one_can_be_evaluated(text):
    bm = ib.IOVABitmap.from_text(text, 0x1000, 32 * 4096 - 5, 4096)
    assert repr(bm) == f'IOVABitmap.from_text("{text}", 0x1000, 0x1fffb, 4096)'
    assert eval(repr(bm), {"IOVABitmap": ib.IOVABitmap}) == bm


def test_repr_has_at_most_sixteen_ranges():
    bm = ib.IOVABitmap.from_text(",".join(map(str, range(0, 34, 2))), 0x1000, 64 * 4096)
    assert repr(bm) == "<IOVABitmap 0x1000-0x41000 page size 4096, 8 bytes>"
    bm.clear(0x1000, 1)
    assert repr(bm).startswith('IOVABitmap.from_text("2,4,')


def test_repr_walks_at_most_64_kib():
    small = ib.IOVABitmap(0, 8 * 65536, 1)
    large = ib.IOVABitmap(0, 8 * 65536 + 1, 1)
    assert repr(small) == 'IOVABitmap.from_text("", 0x0, 0x80000, 1)'
    assert repr(large) == "<IOVABitmap 0x0-0x80001 page size 1, 65537 bytes>"


def test_repr_of_the_whole_address_space():
    bm = ib.IOVABitmap(1, TOP - 1, 2**63)
    assert eval(repr(bm), {"IOVABitmap": ib.IOVABitmap}) == bm


def test_repr_calls_no_pin_object():
    pin = RecordingPin()
    bm = small_bitmap(pin=pin)
    calls = len(pin.log)
    assert repr(bm) == "<IOVABitmap 0x1800-0x6579c page size 4096, 13 bytes>"
    assert len(pin.log) == calls


def test_repr_of_one_byte_that_is_freed():
    bm = ib.IOVABitmap(0, 8, 1)
    bm.free()
    assert repr(bm) == "<IOVABitmap 0x0-0x8 page size 1, 1 byte, freed>"


def test_repr_after_free():
    bm = small_bitmap()
    bm.free()
    assert repr(bm).startswith("<IOVABitmap 0x1800") and "freed" in repr(bm)
