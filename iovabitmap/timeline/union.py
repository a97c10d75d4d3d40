"""What was dirty in any of many rows, held as is smaller: as ranges, or as a bitmap."""

from __future__ import annotations

from .._base.geometry import Geometry
from .._core import IOVABitmap
from . import rows as of_rows
from .rows import Addresses, Rows

BITS = 64  # of a bitmap for each row: it then takes half of what the row does


class Union:
    """The union of rows that are added a block at a time.

    Takes time and memory by the number of rows, wherever they lie: a bitmap of all addresses stands
    for them if that takes less than they do.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._found = of_rows.none()
        self._waiting: list[Rows] = []
        self._added = self._count = 0
        self._bitmap: IOVABitmap | None = None

    def add(self, block: Rows) -> None:
        """Adds rows in any order."""
        if self._bitmap is not None:
            self._bitmap.set_ranges(block.ranges(), exclusive=True)
            return
        self._waiting.append(block)
        self._added += len(block.iova)
        self._count += len(block.iova)
        if self._geometry.npages <= BITS * self._added:
            self._bitmap = IOVABitmap(*self._geometry)
            for rows in (self._found, *self._waiting):
                self._bitmap.set_ranges(rows.ranges(), exclusive=True)
            self._found, self._waiting = of_rows.none(), []
        elif self._count > len(self._found.iova):  # so each row is sorted a few times only
            self._join()

    def _join(self) -> None:
        self._found = of_rows.joined(of_rows.join([self._found, *self._waiting]))
        self._waiting, self._count = [], 0

    def ranges(self) -> Addresses:
        """(iova, length) of shape (n, 2), ascending, joined if they touch."""
        if self._bitmap is not None:
            return self._bitmap.ranges()
        self._join()
        return self._found.ranges()

    def count(self) -> int:
        """How many pages it has."""
        if self._bitmap is not None:
            return self._bitmap.count()
        self._join()
        return of_rows.count(self._found, self._geometry.page_size, self._geometry.iova)
