"""`iovabitmap.Geometry`, the value: what it adds to its three numbers."""

from __future__ import annotations

import pytest

import iovabitmap as ib


def test_it_is_what_a_bitmap_takes():
    geometry = ib.Geometry(0x1000, 5 * 4096 - 1, 4096)
    with ib.IOVABitmap(*geometry) as bm:
        assert (bm.iova, bm.length, bm.page_size) == geometry
        assert (bm.end, bm.nbits, bm.nbytes) == (geometry.end, geometry.npages, geometry.nbytes)


@pytest.mark.parametrize(
    "geometry, end, npages",
    [
        (ib.Geometry(2**64 - 4096, 4096, 4096), 2**64, 1),
        (ib.Geometry(5, 2**64 - 5, 1 << 60), 2**64, 16),
        (ib.Geometry(0, 1, 1), 1, 1),
    ],
)
def test_ends(geometry, end, npages):
    assert (geometry.end, geometry.npages) == (end, npages)


def test_it_shows_as_the_call_that_makes_it():
    geometry = ib.Geometry(0x1000, 0x10000, 4096)
    assert repr(geometry) == "Geometry(iova=0x1000, length=0x10000, page_size=4096)"
    assert eval(repr(geometry), {"Geometry": ib.Geometry}) == geometry == (0x1000, 0x10000, 4096)
