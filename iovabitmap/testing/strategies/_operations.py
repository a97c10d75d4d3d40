"""`operations`: calls of a bitmap's methods as values, and what runs them."""

from __future__ import annotations

from typing import Any, TypeAlias

from hypothesis import strategies as st

from ..._base.geometry import Geometry
from ._arguments import GeometryLike, Row, geometry_of
from ._ranges import iova_ranges, range_lists

Operation: TypeAlias = tuple[Any, ...]  # (name of a method, its arguments...)

MARKS = ("set", "clear", "test_and_set", "read_and_clear")
QUESTIONS = ("count", "ranges", "any", "all", "count_ranges", "pages")
OF_ONE_RANGE = (*MARKS, *QUESTIONS)
OF_ONE_ADDRESS = ("test", "find_dirty", "find_clean")
OF_RANGES = ("set_ranges", "clear_ranges")
OF_NOTHING = ("reset", "to_text")
OPERATIONS = (*OF_ONE_RANGE, *OF_ONE_ADDRESS, *OF_RANGES, "set_pages", "histogram", *OF_NOTHING)


def _arguments(
    name: str, geometry: Geometry, row: Row, outside: bool
) -> st.SearchStrategy[Operation]:
    """Those of a method; `row` where it takes a range."""
    if name in OF_ONE_RANGE:
        return st.just(row)
    if name in OF_ONE_ADDRESS:
        return st.just(row[:1])
    if name in OF_RANGES:
        return st.tuples(range_lists(geometry, max_size=8, outside=outside))
    if name == "set_pages":
        addresses = iova_ranges(geometry, outside=outside).map(lambda row: row[0])
        return st.tuples(st.lists(addresses, max_size=8))
    if name == "histogram":
        return st.tuples(st.integers(1, 64))
    return st.just(())


@st.composite
def operations(draw: st.DrawFn, geometry: GeometryLike, *, outside: bool = False) -> Operation:
    """Operations: tuples of a method's name and its arguments, for a bitmap of that geometry.

    They mark, clear, harvest and ask, and every engine of bitmaps has them: run one by
    `apply_operation`, or as `getattr(bitmap, name)(*arguments)`. With `outside` some raise
    `IOVARangeError`.

    Shrinks to `("set", iova, length)` of the first page.

    >>> from hypothesis import find
    >>> find(operations(Geometry(0, 2**20, 4096)), lambda operation: True)
    ('set', 0, 4096)
    """
    where = geometry_of(draw, geometry)
    name = draw(st.sampled_from(OPERATIONS))
    # A range for each, used or not: what draws less than "set" would count as simpler.
    row = draw(iova_ranges(where, outside=outside))
    return (name, *draw(_arguments(name, where, row, outside)))


def apply_operation(bitmap: Any, operation: Operation) -> Any:
    """Runs an operation on a bitmap, and gives its answer without NumPy: rows are tuples in lists.

    So the answers of an `IOVABitmap`, of a `ModelBitmap` and of one's own can be compared.

    >>> from iovabitmap import IOVABitmap
    >>> bm = IOVABitmap(0, 0x10000)
    >>> apply_operation(bm, ("set", 0x1800, 0x1000))
    >>> apply_operation(bm, ("ranges", 0, 0x10000))
    [(4096, 8192)]
    """
    name, *arguments = operation
    answer = getattr(bitmap, name)(*arguments)
    if not hasattr(answer, "tolist"):
        return answer
    found = answer.tolist()
    return [tuple(row) for row in found] if answer.ndim == 2 else found
