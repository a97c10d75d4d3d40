"""`iova_ranges` and `range_lists`: ranges of addresses inside a geometry, at its edges, outside."""

from __future__ import annotations

import mmap
from typing import SupportsIndex

from hypothesis import strategies as st

from ..._base.geometry import Geometry
from ._arguments import TOP, GeometryLike, Row, bounds, geometry_of

WORD = 64
WINDOW = 8 * mmap.PAGESIZE  # pages that one host page of bitmap stands for
A_FEW = 20
WHOLE = TOP  # more pages than there are: up to the end
MAX_ROWS = 64


@st.composite
def page_numbers(draw: st.DrawFn, nbits: int) -> int:
    """Numbers of pages, often the first or last, or one near the edge of a word or window.

    A composite: hypothesis shows what `builds` made as the call that made it, and takes every equal
    small int for the same.
    """
    # As many choices whatever nbits is, so that it can shrink beneath them.
    page = draw(st.integers(0, max(nbits - 1, 1)))
    unit = draw(st.sampled_from((1, WORD, WINDOW)))
    off = draw(st.sampled_from((0, -1)))
    unit = unit if unit <= nbits else 1
    return min(max((page + unit // 2) // unit * unit + off, 0), nbits - 1)


@st.composite
def _inside(draw: st.DrawFn, geometry: Geometry) -> Row:
    iova, length, size = geometry
    first = draw(page_numbers(geometry.npages))
    left = geometry.npages - first
    most = draw(st.sampled_from((1, min(A_FEW, left), left, WHOLE)))
    npages = draw(st.integers(1, min(most, left)))
    if most == WHOLE:
        npages = left
    start, stop = iova + first * size, min(iova + (first + npages) * size, iova + length)
    if draw(st.booleans()):  # inside a page, at either end
        stop -= draw(st.integers(0, min(size, stop - start) - 1))
        start += draw(st.integers(0, min(size, stop - start) - 1))
    return start, stop - start


@st.composite
def _outside(draw: st.DrawFn, geometry: Geometry) -> Row:
    """Not all inside, or empty: below, beyond, both, elsewhere; some wrap 2**64."""
    iova, length, size = geometry
    end = iova + length
    kind = draw(st.sampled_from(("empty", "beyond", "below", "around", "anywhere", "wraps")))
    some = st.integers(1, A_FEW * size)
    if kind == "empty":
        return draw(st.integers(0, TOP - 1)), 0
    if kind == "anywhere":
        return draw(st.integers(0, TOP - 1)), draw(st.integers(0, TOP - 1))
    if kind == "wraps":
        below = min(draw(some), TOP - 2)
        return TOP - below, min(below + draw(some), TOP - 1)
    start = iova - draw(some) if kind != "beyond" else end - draw(st.just(0) | some)
    stop = end + draw(some) if kind != "below" else iova + draw(st.just(0) | some)
    start = min(max(start, 0), TOP - 1)
    return start, min(max(stop - start, 1), TOP - 1)


@st.composite
def iova_ranges(draw: st.DrawFn, geometry: GeometryLike, *, outside: bool = False) -> Row:
    """Ranges (iova, length) in bytes, all inside the geometry and not empty.

    They begin and end anywhere: at pages, inside of them, at the geometry's own ends, and at pages
    whose bits lie where a word or a page of bitmap ends, so that they cross windows. With `outside`
    some are not: empty, below or beyond, sticking out at either end or both, anywhere at all, and
    beyond 2**64.

    Shrinks to the first page, or to as few and as low pages as will do, whole ones.

    >>> from hypothesis import find
    >>> find(iova_ranges(Geometry(0x1000, 2**20, 4096)), lambda row: True)
    (4096, 4096)
    """
    where = geometry_of(draw, geometry)
    inside = draw(_inside(where))  # first, and always: or else fewer choices lead outside
    return draw(_outside(where)) if outside and draw(st.booleans()) else inside


@st.composite
def range_lists(
    draw: st.DrawFn,
    geometry: GeometryLike,
    *,
    min_size: SupportsIndex = 0,
    max_size: SupportsIndex = MAX_ROWS,
    outside: bool = False,
) -> list[Row]:
    """Lists of `min_size` to `max_size` of the ranges that `iova_ranges` draws, in any order.

    They overlap, touch each other and come twice. Shrinks to few ranges, and each as there.

    >>> from hypothesis import find
    >>> find(range_lists(Geometry(0, 2**20, 4096)), lambda rows: len(rows) == 2)
    [(0, 4096), (0, 4096)]
    """
    where = geometry_of(draw, geometry)
    fewest, most = bounds("size", min_size, max_size, 0, TOP - 1)
    rows = iova_ranges(where, outside=outside)
    return draw(st.lists(rows, min_size=fewest, max_size=most))
