"""What the strategies' arguments may be, and the `InvalidArgument` that says so when they are not.

Strategies are composites, whose bodies run when a value is drawn: an error raised here is deferred
until then.
"""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex, TypeAlias, TypeVar

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from ..._base.geometry import Geometry, HasGeometry

TOP = 2**64
MAX_PAGE_SIZE = 2**63

Row: TypeAlias = tuple[int, int]  # (iova, length), in bytes
T = TypeVar("T")


GeometryLike: TypeAlias = (
    HasGeometry
    | tuple[int, int, int]
    | st.SearchStrategy[Geometry]
    | st.SearchStrategy[HasGeometry]
    | st.SearchStrategy[tuple[int, int, int]]
)


def integer(name: str, value: SupportsIndex, low: int, high: int) -> int:
    """`value` as an int from low to high."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InvalidArgument(f"{name} must be an int, not {value!r}")
    number = operator.index(value)
    if not low <= number <= high:
        raise InvalidArgument(f"{name} must be {low:#x} to {high:#x}, not {number:#x}")
    return number


def bounds(
    name: str, minimum: SupportsIndex, maximum: SupportsIndex, low: int, high: int
) -> tuple[int, int]:
    """The bounds min_<name> and max_<name> as ints of which the first is not the larger."""
    first = integer(f"min_{name}", minimum, low, high)
    last = integer(f"max_{name}", maximum, low, high)
    if first > last:
        raise InvalidArgument(f"min_{name}={first} is larger than max_{name}={last}")
    return first, last


def page_size(value: SupportsIndex) -> int:
    """A power of two from 1 to 2**63."""
    number = integer("page_size", value, 1, MAX_PAGE_SIZE)
    if number.bit_count() != 1:
        raise InvalidArgument(f"page_size must be a power of two, not {number}")
    return number


def drawn(draw: st.DrawFn, value: T | st.SearchStrategy[T]) -> T:
    """`value`, or what it draws where it is a strategy."""
    return draw(value) if isinstance(value, st.SearchStrategy) else value


def geometry_of(draw: st.DrawFn, value: GeometryLike) -> Geometry:
    """The geometry that an argument names, checked."""
    found: Any = drawn(draw, value)
    if isinstance(found, tuple) and len(found) == 3:
        numbers = found
    else:
        try:
            numbers = (found.iova, found.length, found.page_size)
        except AttributeError:
            raise InvalidArgument(
                f"geometry must be a Geometry, a bitmap or a strategy of them, not {found!r}"
            ) from None
    iova = integer("iova", numbers[0], 0, TOP - 1)
    length = integer("length", numbers[1], 1, TOP - 1)
    if iova + length > TOP:
        raise InvalidArgument(f"the range {iova:#x} (+{length:#x}) ends beyond 2**64")
    return Geometry(iova, length, page_size(numbers[2]))
