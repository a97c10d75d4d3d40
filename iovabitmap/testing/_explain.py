"""Why two bitmaps, or ranges, are not the same: in a few lines, however large they are.

The left one is what was found, the right one what was expected. Bitmaps are walked from one dirty
page to the next in pieces, so neither clean stretches nor long answers cost anything; at most a few
runs are listed, and pytest shows eight lines of an explanation.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from .. import _core
from .._base.intervals import minus, union
from ._ranges import SHOWN, Pages, Run, as_text, rows_of, runs_of

CHUNK = 2**16  # pages looked at in one piece
BATCH = 2**12  # rows taken in one piece


class Difference(NamedTuple):
    """The first few runs of each side, and how many pages there are in all."""

    missing: list[Run]
    npages_missing: int
    extra: list[Run]
    npages_extra: int

    def __bool__(self) -> bool:
        return bool(self.npages_missing or self.npages_extra)

    @property
    def first(self) -> int:
        """The first page that is not as expected."""
        return min(run[0] for run in chain(self.missing[:1], self.extra[:1]))


# --- comparing -----------------------------------------------------------------------------------


def assert_ranges(
    x: Any, expected: Any, *, iova: int | None = None, page_size: int | None = None
) -> None:
    """Raises an `AssertionError` that explains itself unless `x` is just the ranges expected.

    Parameters
    ----------
    x : bitmap, (n, 2) array, or list of (iova, length)
        What was found, in any order.
    expected : str, or rows as above
        Text lists the numbers of pages, as `IOVABitmap.to_text` does: `"0-22,64-97"`.
    iova, page_size : int, optional
        Where page 0 begins and how long a page is, where `x` is no bitmap and pages are compared:
        0 and 4096 unless given.

    Notes
    -----
    A bitmap is compared by pages, and so is anything with expected text or where iova or page_size
    is given: rows stand for the pages that they touch. Otherwise addresses are compared, and it
    makes no difference how they are cut into rows.

    Raises
    ------
    TypeError, ValueError
        For what is no ranges or no such text, and for `iova` or `page_size` beside a bitmap.

    Examples
    --------
    >>> import iovabitmap as ib
    >>> from iovabitmap.testing import assert_ranges
    >>> bm = ib.IOVABitmap(0x10000, 0x100000)
    >>> bm.set(0x11000, 0x3000)
    >>> assert_ranges(bm, "1-3")
    >>> assert_ranges(bm, [(0x11000, 0x3000)])
    >>> assert_ranges(bm, "1-2,64")
    Traceback (most recent call last):
        ...
    AssertionError: ranges are not as expected
      missing: 1 page: 64, from iova 0x50000
      too many: 1 page: 3, from iova 0x13000
      first difference: page 3 (iova 0x13000), bit 3 of byte 0, in window 0 (bytes 0 to 31)
    """
    __tracebackhide__ = True
    if is_bitmap(x):
        if iova is not None or page_size is not None:
            raise TypeError("iova and page_size are those of the bitmap: leave them out")
        pages = Pages(x.iova, x.length, x.page_size)
        difference = _difference(
            lambda: _runs_of_bitmap(x, pages), _expected_pages(expected, pages)
        )
        lines = _content_lines(pages, difference) + _place_lines(x, pages, difference)
    elif isinstance(expected, str) or iova is not None or page_size is not None:
        pages = Pages(iova or 0, 2**64 - (iova or 0), 4096 if page_size is None else page_size)
        found = pages.touched(rows_of(x, "x"))
        difference = _difference(lambda: found, _expected_pages(expected, pages))
        lines = _content_lines(pages, difference)
    else:
        found = runs_of(rows_of(x, "x"))
        difference = _difference(lambda: found, runs_of(rows_of(expected, "expected")))
        lines = _address_lines(difference)
    if difference:
        raise AssertionError("\n  ".join(["ranges are not as expected", *lines]))


def compared(left: object, right: object) -> list[str]:
    """What pytest shows for `assert left == right`, of which one is a bitmap at least."""
    try:
        return _compared(left, right)
    except Exception as error:  # such as a pin that fails: the assertion must still be shown
        return ["two bitmaps are not equal", f"no explanation: {error!r}"]


def _compared(left: Any, right: Any) -> list[str]:
    if not (is_bitmap(left) and is_bitmap(right)):
        other = right if is_bitmap(left) else left
        return [
            f"a bitmap never equals a {type(other).__name__}",
            "compare with ranges by iovabitmap.testing.assert_ranges(bitmap, expected)",
        ]
    pages = Pages(left.iova, left.length, left.page_size)
    expected = Pages(right.iova, right.length, right.page_size)
    if pages != expected:
        return ["bitmaps of different geometries", *_geometry_lines(left, right)]
    difference = _bitmap_difference(_engine_of(left), _engine_of(right))
    if not difference:
        kinds = f"a {type(left).__name__} and a {type(right).__name__}"
        return [f"{kinds} of the same geometry and content: they never compare equal"]
    lines = _content_lines(pages, difference) + _place_lines(left, pages, difference)
    return [f"bitmaps of {pages}: not as expected", *lines]


def is_bitmap(x: object) -> bool:
    """Whether it is an `IOVABitmap`, or has the attributes that the questions here need."""
    return isinstance(x, _core.IOVABitmap) or all(
        hasattr(x, name) for name in ("iova", "length", "page_size", "ranges", "windows")
    )


# --- differences ---------------------------------------------------------------------------------


def _difference(found: Callable[[], Iterable[Run]], expected: list[Run]) -> Difference:
    missing = _first_and_count(minus(expected, found()))
    extra = _first_and_count(minus(found(), expected))
    return Difference(*missing, *extra)


def _first_and_count(runs: Iterable[Run]) -> tuple[list[Run], int]:
    """The first few runs, one more than are shown, and the size of all of them."""
    first: list[Run] = []
    count = 0
    for run in runs:
        count += run[1] - run[0]
        if len(first) <= SHOWN:
            first.append(run)
    return first, count


def _runs_of_bitmap(bitmap: Any, pages: Pages) -> Iterator[Run]:
    """Its dirty pages, as they come: never all at once."""
    for batch in bitmap.iter_ranges(batch=BATCH):
        yield from pages.touched(rows_of(batch))


def _expected_pages(expected: Any, pages: Pages) -> list[Run]:
    if isinstance(expected, str):
        return union(map(_run_of_text, expected.split(","))) if expected.strip() else []
    return pages.touched(rows_of(expected, "expected"))


def _run_of_text(text: str) -> Run:
    first, dash, last = text.strip().partition("-")
    if not (first.isdecimal() and (last.isdecimal() if dash else True)):
        raise ValueError(f"expected must be rows or a list such as '0-22,64': {text!r:.40} is not")
    run = int(first), int(last or first) + 1
    if run[0] >= run[1]:
        raise ValueError(f"expected: {text!r:.40} ends before it begins")
    return run


def _engine_of(bitmap: Any) -> _core.IOVABitmap:
    """An `IOVABitmap` as it is, another one copied."""
    if isinstance(bitmap, _core.IOVABitmap):
        return bitmap
    copy = _core.IOVABitmap(bitmap.iova, bitmap.length, bitmap.page_size)
    copy.set_ranges(rows_of(bitmap))
    return copy


def _bitmap_difference(found: _core.IOVABitmap, expected: _core.IOVABitmap) -> Difference:
    """Counted by the engine; walked only until enough runs are known to be shown."""
    npages = expected.count_sub(found), found.count_sub(expected)
    missing: list[Run] = []
    extra: list[Run] = []
    pages = Pages(found.iova, found.length, found.page_size)
    for rows_found, rows_expected in _chunks(found, expected):
        runs = pages.touched(rows_of(rows_found)), pages.touched(rows_of(rows_expected))
        missing = union(chain(missing, minus(runs[1], runs[0])))
        extra = union(chain(extra, minus(runs[0], runs[1])))
        if all(
            len(few) > SHOWN or sum(end - start for start, end in few) >= count
            for few, count in zip((missing, extra), npages, strict=True)
        ):
            break
    return Difference(missing[: SHOWN + 1], npages[0], extra[: SHOWN + 1], npages[1])


def _chunks(a: _core.IOVABitmap, b: _core.IOVABitmap) -> Iterator[tuple[Any, Any]]:
    """The dirty rows of both, piece by piece, where they differ."""
    import numpy as np

    at = a.iova
    while at < a.end:
        dirty = [found for found in (a.find_dirty(at), b.find_dirty(at)) if found is not None]
        if not dirty:
            return
        at = max(at, min(dirty))
        length = min(CHUNK * a.page_size, a.end - at)
        rows = a.ranges(at, length), b.ranges(at, length)
        if not np.array_equal(*rows):
            yield rows
        at += length


# --- lines ---------------------------------------------------------------------------------------


def _content_lines(pages: Pages, difference: Difference) -> list[str]:
    return [
        pages.describe("missing", difference.missing, difference.npages_missing),
        pages.describe("too many", difference.extra, difference.npages_extra),
    ]


def _address_lines(difference: Difference) -> list[str]:
    lines = []
    for what, runs, count in (
        ("missing", difference.missing, difference.npages_missing),
        ("too many", difference.extra, difference.npages_extra),
    ):
        rows = ", ".join(f"{start:#x} + {end - start:#x}" for start, end in runs[:SHOWN])
        more = ", ..." if len(runs) > SHOWN else ""
        lines.append(f"{what}: {count} bytes: {rows}{more}" if runs else f"{what}: none")
    return lines


def _place_lines(bitmap: Any, pages: Pages, difference: Difference) -> list[str]:
    """Where the first difference is in the bitmap's memory."""
    if not difference or not 0 <= difference.first < pages.npages:
        return []
    page = difference.first
    iova = pages.iova + page * pages.page_size
    number, first, last = _window_of(bitmap, page // 8, pages.nbytes)
    bit = f"bit {page % 8} of byte {page // 8}, in window {number} (bytes {first} to {last})"
    return [f"first difference: page {page} (iova {iova:#x}), {bit}"]


def _window_of(bitmap: Any, byte: int, nbytes: int) -> tuple[int, int, int]:
    """Number, first and last byte of the window with this byte, in an ascending walk."""
    window = next(iter(bitmap.windows()))
    whole = bitmap.window_pages * mmap.PAGESIZE
    end = window.npages * mmap.PAGESIZE - window.pgoff  # of the first, which may start in a page
    number = 0 if byte < end else 1 + (byte - end) // whole
    start = 0 if number == 0 else end + (number - 1) * whole
    return number, start, min(end + number * whole, nbytes) - 1


def _geometry_lines(found: Any, expected: Any) -> list[str]:
    lines = []
    for name in ("iova", "length", "page_size"):
        values = getattr(found, name), getattr(expected, name)
        if values[0] != values[1]:
            lines.append(f"{name.replace('_', ' ')}: {values[0]:#x}, expected {values[1]:#x}")
    for what, bitmap in (("found", found), ("expected", expected)):
        pages = Pages(bitmap.iova, bitmap.length, bitmap.page_size)
        runs = islice(_runs_of_bitmap(bitmap, pages), SHOWN + 1)
        dirty = as_text(runs) or "none"
        lines.append(f"{what}: {bitmap.count()} of {bitmap.nbits} pages dirty: {dirty}")
    return lines
