"""Epochs that are kept in memory: what was dirty in bitmaps when they were handed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._base.geometry import Geometry
from .._base.times import nanoseconds
from .rows import Rows, Times, join, of

if TYPE_CHECKING:
    from .._core import IOVABitmap


class Bitmaps:
    """A Store of bitmaps, or of rows (bitmap, t_start_ns, t_end_ns)."""

    def __init__(self, items: Iterable[IOVABitmap | tuple[IOVABitmap, int, int]]) -> None:
        self._epochs: list[Rows] = []
        times: list[tuple[int, int]] = []
        for number, item in enumerate(items):
            bm, *when = item if isinstance(item, tuple | list) and item else (item,)
            if not hasattr(bm, "iter_ranges"):
                raise TypeError(
                    f"epoch {number} must be a bitmap, or (bitmap, t_start_ns, t_end_ns), "
                    f"not {item!r:.80}"
                )
            self._add(number, bm)
            if when:
                times.append(_checked(number, when, times))
            if times and len(times) != number + 1:
                raise ValueError(f"epoch {number} has {'' if when else 'no '}times, others differ")
        if not self._epochs:
            raise ValueError("no epoch: without a bitmap, the geometry is unknown")
        self._times = None
        if times:
            starts, ends = np.array(times, np.int64).T
            self._times = starts, ends

    def _add(self, number: int, bm: IOVABitmap) -> None:
        geometry = Geometry(bm.iova, bm.length, bm.page_size)
        if number == 0:
            self.geometry = geometry
        elif geometry != self.geometry:
            raise ValueError(f"epoch {number} has the {geometry}, the first one {self.geometry}")
        self._epochs.append(of(np.asarray(bm.ranges(), np.uint64).reshape(-1, 2), number))

    def __len__(self) -> int:
        return len(self._epochs)

    def rows(self, i: int, j: int) -> Iterator[Rows]:
        if i < j:
            yield join(self._epochs[i:j])

    def times(self) -> Times | None:
        return self._times

    def error(self, problem: str) -> Exception:
        return MemoryError(problem)


def _checked(number: int, when: list[Any], before: list[tuple[int, int]]) -> tuple[int, int]:
    if len(when) != 2:
        raise ValueError(
            f"epoch {number}: (bitmap, t_start_ns, t_end_ns), not {len(when) + 1} items"
        )
    start, end = nanoseconds("t_start_ns", when[0]), nanoseconds("t_end_ns", when[1])
    if not (-(2**63) <= start < 2**63 and -(2**63) <= end < 2**63):
        raise ValueError(
            f"epoch {number} is from {start} to {end} ns: times must be from {-(2**63)} to "
            f"{2**63 - 1}"
        )
    if end < start:
        raise ValueError(f"epoch {number} ends at {end} ns, before its start at {start} ns")
    if before and start < before[-1][0]:
        raise ValueError(
            f"epoch {number} starts at {start} ns, before the last one's start at {before[-1][0]}"
        )
    return start, end
