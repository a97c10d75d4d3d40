"""`page_sizes` and `geometries`: where a bitmap may lie, and how its range is cut into pages."""

from __future__ import annotations

from typing import SupportsIndex

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from ..._base.geometry import Geometry
from ._arguments import MAX_PAGE_SIZE, TOP, bounds, page_size

SIMPLEST = 4096
# Addresses where arithmetic in 32 or 64 bits, signed or not, goes wrong; and None: anywhere.
LANDMARKS = (0, 2**31, 2**32, 2**63, TOP, None)
NEAR = 2  # pages between a range and its landmark


def nearest_first(low: int, high: int) -> list[int]:
    """The powers of two from low to high, from the nearest to the simplest one on."""
    simplest = SIMPLEST.bit_length()
    powers = [1 << shift for shift in range(64) if low <= 1 << shift <= high]
    return sorted(powers, key=lambda power: abs(power.bit_length() - simplest))


@st.composite
def page_sizes(
    draw: st.DrawFn,
    *,
    min_page_size: SupportsIndex = 1,
    max_page_size: SupportsIndex = MAX_PAGE_SIZE,
) -> int:
    """Page sizes: the powers of two from `min_page_size` to `max_page_size`, in bytes.

    Shrinks to 4096, or to the power of two nearest to it.

    >>> page_sizes(max_page_size=2**21)
    page_sizes(max_page_size=2097152)
    """
    low, high = bounds("page_size", min_page_size, max_page_size, 1, MAX_PAGE_SIZE)
    powers = nearest_first(low, high)
    if not powers:
        raise InvalidArgument(f"there is no power of two from {low} to {high}")
    return draw(st.just(powers[0]) | st.sampled_from(powers))


def _page_size(
    draw: st.DrawFn,
    given: SupportsIndex | st.SearchStrategy[int] | None,
    min_pages: int,
    aligned: bool | None,
) -> int:
    """A page size of which `min_pages` fit into the address space, aligned or not as asked."""
    smallest = 2 if aligned is False else 1  # with pages of one byte all is aligned
    largest = (TOP - 1) // min_pages if aligned else (TOP - 1) // max(min_pages - 1, 1)

    def fits(size: int) -> bool:
        return smallest <= size <= largest

    if given is None:
        return draw(page_sizes(min_page_size=smallest, max_page_size=min(largest, MAX_PAGE_SIZE)))
    if isinstance(given, st.SearchStrategy):
        return page_size(draw(given.filter(fits)))
    size = page_size(given)
    if not fits(size):
        raise InvalidArgument(
            f"{min_pages} pages of {size} bytes do not fit with aligned={aligned!r}"
        )
    return size


@st.composite
def geometries(
    draw: st.DrawFn,
    *,
    min_pages: SupportsIndex = 1,
    max_pages: SupportsIndex = 2**16,
    page_sizes: SupportsIndex | st.SearchStrategy[int] | None = None,
    aligned: bool | None = None,
) -> Geometry:
    """Geometries (iova, length, page_size) of `min_pages` to `max_pages` pages.

    The ranges lie near 0, 2**31, 2**32, 2**63 and 2**64 (below, across, above, and ending exactly
    there), or anywhere. `page_sizes` is one page size or a strategy of them, by default all that
    allow `min_pages`. `aligned=True` draws bases and lengths that are multiples of the page size,
    `aligned=False` those where the base or the end is none, None both sorts.

    Shrinks to `min_pages` pages of 4096 bytes from 0, aligned.

    >>> from hypothesis import find
    >>> find(geometries(), lambda geometry: True)
    Geometry(iova=0x0, length=0x1000, page_size=4096)
    """
    fewest, most = bounds("pages", min_pages, max_pages, 1, TOP - 1)
    if aligned not in (None, True, False):
        raise InvalidArgument(f"aligned must be None, True or False, not {aligned!r}")
    size = _page_size(draw, page_sizes, fewest, aligned)
    sorts = [(False, False)] * 2 if aligned is not False else []
    if aligned is not True and size > 1:
        sorts += [(False, True), (True, False), (True, True)]
    odd_base, odd_length = draw(st.sampled_from(sorts))
    # As many pages as the address space has; odd lengths may end in a part of a page.
    most = max(fewest, min(most, (TOP - 1) // size + (odd_length and (TOP - 1) % size > 0)))
    pages = draw(_numbers_of_pages(fewest, most))
    missing = draw(st.integers(1, size - 1)) if odd_length else 0
    length = min(pages * size - missing, TOP - 1)
    base = _base(draw, length, size)
    if odd_base:
        base = _moved(base, draw(st.integers(1, size - 1)), TOP - length)
    return Geometry(base, length, size)


def _numbers_of_pages(fewest: int, most: int) -> st.SearchStrategy[int]:
    """Any number, few pages often, and about as many as fill words of 64 bits."""
    numbers = st.integers(fewest, min(most, fewest + 8)) | st.integers(fewest, most)
    low, high = max(fewest, 60), min(most, 70)
    # Not where it is one number only: that would take fewer choices, and so count as simpler.
    return numbers | st.integers(low, high) if low < high else numbers


def _base(draw: st.DrawFn, length: int, size: int) -> int:
    """A multiple of the page size, or the highest base where a landmark of 2**64 was drawn."""
    highest = TOP - length
    landmark = draw(st.sampled_from(LANDMARKS))
    if landmark is None:
        base = draw(st.integers(0, highest // size)) * size
    else:
        below = draw(st.integers(-NEAR, length // size + NEAR))  # pages before the landmark
        base = landmark - below * size
    if base >= highest and landmark == TOP:
        return highest
    base = min(max(base, 0), highest)
    return base - base % size


def _moved(base: int, distance: int, highest: int) -> int:
    """A base up to a page away, upwards where there is room."""
    if base + distance <= highest:
        return base + distance
    return base - distance if base >= distance else highest
