"""Ranges as everybody writes them, runs as they are compared, and how differences read.

*Rows* are `(iova, length)`, in any order; *runs* are `(start, end)` with the end exclusive,
ascending, disjoint and as long as can be, of addresses or of page numbers. Python's ints have no
last address, so nothing here can overflow.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeAlias

from .._base.geometry import Geometry
from .._base.intervals import Interval, size, union

Row: TypeAlias = tuple[int, int]
Run: TypeAlias = Interval

SHOWN = 8  # runs that a message lists; the rest is counted


def rows_of(answer: Any, what: str = "the answer") -> list[Row]:
    """The rows of a bitmap, an (n, 2) array or an iterable of pairs, in the order given.

    Raises `TypeError` for anything else, and `ValueError` that names the row for one that is
    negative. Rows of length 0 are left out: they name no page.
    """
    if callable(getattr(answer, "ranges", None)):
        answer = answer.ranges()
    if hasattr(answer, "tolist"):
        shape = answer.shape
        if answer.size and (len(shape) != 2 or shape[1] != 2):
            raise TypeError(f"{what} must be of shape (n, 2), not {shape}")
        answer = answer.tolist()
    rows = []
    try:
        for i, row in enumerate(answer):
            iova, length = map(operator.index, row)
            if iova < 0 or length < 0:
                raise ValueError(f"row {i} of {what} is negative: {iova:#x} + {length:#x}")
            if length:
                rows.append((iova, length))
    except TypeError as error:
        raise TypeError(
            f"{what} must be a bitmap, an (n, 2) array or a list of (iova, length), "
            f"not {answer!r:.80}"
        ) from error
    return rows


def runs_of(rows: Iterable[Row]) -> list[Run]:
    """The addresses of rows, as runs."""
    return union((iova, iova + length) for iova, length in rows)


class Pages(Geometry):
    """The pages of a geometry: rows of addresses as runs of page numbers, and back."""

    __slots__ = ()

    def touched(self, rows: Iterable[Row]) -> list[Run]:
        """The pages that rows touch; rows that stick out give pages that do not exist."""
        return union(
            (
                (iova - self.iova) // self.page_size,
                (iova + length - 1 - self.iova) // self.page_size + 1,
            )
            for iova, length in rows
        )

    def rows(self, runs: Iterable[Run]) -> list[Row]:
        """The addresses of pages, cut to the range as those of `IOVABitmap.ranges` are."""
        rows = []
        for first, end in runs:
            start = first * self.page_size
            stop = min(end * self.page_size, self.length)
            rows.append((self.iova + start, stop - start))
        return rows

    def describe(self, what: str, runs: Iterable[Run], count: int | None = None) -> str:
        """One bounded line: how many pages, which, and from which address on.

        >>> Pages(0x10000, 0x100000, 4096).describe("missing", [(5, 8), (64, 65)])
        'missing: 4 pages: 5-7,64, from iova 0x15000'
        """
        runs = list(runs)
        count = size(runs) if count is None else count
        if count == 0:
            return f"{what}: none"
        where = self.iova + runs[0][0] * self.page_size
        return f"{what}: {_pages(count)}: {as_text(runs)}, from iova {where:#x}"

    def __str__(self) -> str:
        where = f"{self.iova:#x} + {self.length:#x}, page size {self.page_size:#x}"
        return f"{where}, {_pages(self.npages)}"


def _pages(count: int) -> str:
    return "1 page" if count == 1 else f"{count} pages"


def as_text(runs: Iterable[Run]) -> str:
    """Page numbers as the kernel lists them, `0-22,64-97`; of many runs the first few."""
    runs = iter(runs)
    shown = [
        f"{start}-{end - 1}" if end - start > 1 else f"{start}"
        for start, end in islice(runs, SHOWN)
    ]
    more = ",..." if next(runs, None) is not None else ""
    return ",".join(shown) + more
