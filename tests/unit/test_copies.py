"""Copies by every way, what makes two bitmaps equal, and that they cannot be hashed."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from support.expected import TOP
from support.memory import HOST_PAGE, Arena, address_of
from support.pins import RecordingPin, small_bitmap
from support.under_test import ib

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
COPIES = {
    "copy": lambda bm: bm.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    **{
        f"pickle {n}": lambda bm, n=n: pickle.loads(pickle.dumps(bm, protocol=n)) for n in PROTOCOLS
    },
}
each_copy = pytest.mark.parametrize("how", COPIES)


# --- copies ------------------------------------------------------------------------------------


@each_copy
def test_copies_have_geometry_and_content_in_memory_of_their_own(how):
    pin = RecordingPin()
    bm = small_bitmap(pin, window_pages=3)
    twin = COPIES[how](bm)
    assert type(twin) is ib.IOVABitmap and twin is not bm and twin == bm
    for name in ("iova", "length", "end", "page_size", "nbits", "nbytes", "window_pages"):
        assert getattr(twin, name) == getattr(bm, name)
    assert twin.pin == "none" and twin.window is None and not twin.freed
    assert tuple(twin.stats)[2] == 0 and twin.stats.moves == 0
    assert (twin.ranges() == bm.ranges()).all()
    assert address_of(twin.view()) != address_of(bm.view())
    before = bm.ranges()
    twin.reset()
    assert (bm.ranges() == before).all() and twin.count() == 0 and twin != bm
    bm.free()
    twin.set(twin.iova, twin.length)
    assert twin.count() == 100
    pin.assert_balanced()


@each_copy
@pytest.mark.parametrize("content", [0x00, 0xFF])
def test_copies_of_odd_geometries(how, content):
    for iova, length, page_size in (
        (TOP - 1, 1, 1),
        (0, TOP - 1, 2**63),
        (TOP - 4096 * 13, 4096 * 13, 4096),
        (77, 4096 * 9 + 1, 4096),
    ):
        nbytes = ib.nbytes_for(length, page_size)
        bm = ib.alloc(iova, length, page_size, bytearray([content] * (nbytes + 3)))
        twin = COPIES[how](bm)
        assert twin == bm and twin.count() == bm.count() and twin.end == iova + length
        assert twin.view().size == nbytes


def test_a_pickle_with_content_of_another_size_is_refused():
    make, arguments = small_bitmap().__reduce_ex__(2)[:2]
    (at,) = [n for n, argument in enumerate(arguments) if isinstance(argument, bytes)]
    content = arguments[at]
    for forged in (b"", content[:-1], content + b"\0", content * 1000):
        with pytest.raises(ValueError):
            make(*arguments[:at], forged, *arguments[at + 1 :])
    assert make(*arguments) == small_bitmap()


def test_a_pickle_that_is_damaged_is_refused_or_harmless():
    """Whatever a forged state says, the memory is never overrun."""
    reduced = small_bitmap().__reduce_ex__(2)
    make, arguments = reduced[0], reduced[1]
    for n in range(len(arguments)):
        for value in (None, -1, 0, 2**64, 2**63, b"", b"\xff" * 3, "x"):
            changed = [*arguments[:n], value, *arguments[n + 1 :]]
            try:
                bm = make(*changed)
            except (TypeError, ValueError, BufferError, MemoryError, OverflowError):
                continue
            if isinstance(bm, ib.IOVABitmap) and bm.nbytes < 1 << 20:
                bm.count()


class Tagged(ib.IOVABitmap):
    """A subclass, with an attribute of its own."""


@each_copy
def test_subclasses(how):
    bm = Tagged(0x1800, 4096 * 100)
    bm.tag = "mine"
    bm.set(0x1800, 5000)
    twin = COPIES[how](bm)
    assert type(twin) is Tagged and twin == bm and twin.count() == 2
    if how != "copy":  # the method: of the bitmap alone
        assert twin.tag == "mine"
    twin.free()
    assert twin.freed and not bm.freed


# --- equality ----------------------------------------------------------------------------------


def test_equality_is_of_geometry_and_content():
    bm = small_bitmap()
    assert bm == bm and bm == small_bitmap() and (bm != small_bitmap()) is False
    assert bm == small_bitmap(RecordingPin(), window_pages=1), "not of how it is pinned"
    other = small_bitmap()
    other.set(other.iova + 4096 * 3, 1)
    assert bm != other and not bm == other  # noqa: SIM201
    full = {
        (0x1800, 4096 * 100, 4096),
        (0x1801, 4096 * 100, 4096),
        (0x1800, 4096 * 100 - 1, 4096),
        (0x1800, 4096 * 100, 8192),
        (0x1800, 4096 * 100, 2048),
    }
    bitmaps = [ib.IOVABitmap(*geometry) for geometry in full]
    for n, one in enumerate(bitmaps):
        for m, two in enumerate(bitmaps):
            assert (one == two) is (n == m)


@pytest.mark.parametrize("nbits", range(1, 18))
def test_bits_that_stand_for_no_page_do_not_count(nbits):
    one = ib.alloc(0, nbits, 1, bytearray(4))
    two = ib.alloc(0, nbits, 1, bytearray(b"\xff" * 4))
    assert one != two
    two.reset()
    assert one == two
    one.set(nbits - 1, 1)
    assert one != two
    two.set(nbits - 1, 1)
    assert one == two and one.copy() == two.copy()


def test_a_difference_anywhere_is_seen():
    nbits = 8 * (HOST_PAGE + 100) - 3
    one = ib.alloc(0, nbits, 1, Arena(HOST_PAGE + 100, 4081 % HOST_PAGE).data, window_pages=1)
    two = ib.alloc(0, nbits, 1, Arena(HOST_PAGE + 100, 3).data, window_pages=1)
    for bit in [*range(0, nbits, 997), nbits - 1]:
        one.set(bit, 1)
        assert one != two
        two.set(bit, 1)
        assert one == two


def test_other_types_are_just_not_equal():
    bm = small_bitmap()
    for other in (None, 5, "x", b"", object(), bm.to_mask, [bm]):
        assert (bm == other) is False and (bm != other) is True

    array = np.zeros(bm.nbits, bool)
    assert (bm == array) is False and (array == bm) is False

    class Anything:
        __hash__ = None

        def __eq__(self, other):
            return True

    assert bm == Anything()
    with pytest.raises(TypeError):
        bm < small_bitmap()  # noqa: B015


def test_bitmaps_are_not_hashable():
    with pytest.raises(TypeError):
        hash(small_bitmap())
    with pytest.raises(TypeError):
        {small_bitmap()}
