"""What an analysis works on: a Timeline, or what becomes one, as runs of page numbers.

Runs are rows (first page, pages) of uint64, in which no end of a run overflows; pages are counted
from the base of the range. A series holds all runs; each row of a Timeline is decoded once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._base.geometry import Geometry
from .._base.rows import Rows
from ..timeline import Memory, Timeline
from ..timeline import Rows as DirtyRows

if TYPE_CHECKING:
    from ..timeline.timeline import Source as OfTimeline

Source: TypeAlias = "Series | OfTimeline"
Runs: TypeAlias = Rows

NS = 1e9  # nanoseconds in a second
ONE = np.uint64(1)


@dataclass(frozen=True)
class Interval:
    """The runs of one epoch, ascending."""

    runs: Runs

    @property
    def pages(self) -> int:
        return int(self.runs[:, 1].sum())


class Series(Sequence[Interval]):
    """Epochs of one geometry, in the order of time."""

    def __init__(
        self,
        geometry: Geometry,
        epochs: list[Interval],
        times: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
        memory: Memory | None,
    ) -> None:
        self.geometry = geometry
        self.page_size = geometry.page_size
        self._epochs = epochs
        self._times = times
        self._memory = memory

    @property
    def npages(self) -> int:
        return self.geometry.npages

    def times(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Starts and ends; ValueError if they are unknown."""
        if self._times is None:
            raise ValueError(
                "this needs times, which are unknown: give rows (bitmap, t_start_ns, t_end_ns)"
            )
        return self._times

    def seconds_each(self) -> NDArray[np.float64]:
        """The length of each epoch; NaN if unknown."""
        if self._times is None:
            return np.full(len(self), math.nan)
        starts, ends = self._times
        return (ends - starts) / NS

    @property
    def seconds(self) -> float:
        """From the start of the first epoch to the end that is last."""
        starts, ends = self.times()
        return (int(ends.max()) - int(starts[0])) / NS

    def __len__(self) -> int:
        return len(self._epochs)

    def __getitem__(self, index: Any) -> Any:
        return self._epochs[index]

    def __iter__(self) -> Iterator[Interval]:
        return iter(self._epochs)

    def memory_of(
        self, memory_bytes: float | None, zero_bytes: float | None
    ) -> tuple[float | None, float]:
        """Bytes of all memory in whole pages, and of its zeros: each as given, or as the Timeline
        has it; None if neither says."""
        noted = self._memory or Memory()
        if memory_bytes is None:
            memory_bytes = noted.resident_bytes or noted.mapped_bytes
        if memory_bytes is not None and 0 < memory_bytes < math.inf:
            memory_bytes = -(-math.ceil(memory_bytes) // self.page_size) * self.page_size
        if zero_bytes is None:
            zero_bytes = min(noted.zero_bytes or 0, memory_bytes or 0)
        return memory_bytes, zero_bytes


def as_series(source: Source) -> Series:
    """A Timeline, or what `Timeline.of` makes one of.

    Raises
    ------
    ValueError
        Without any epoch, with times that go back, or with bitmaps of different geometries.
    """
    if isinstance(source, Series):
        return source
    tl = Timeline.of(source)
    if not len(tl):
        raise ValueError("no epoch: there is nothing to analyse")
    epochs = [Interval(page_runs(rows, tl.geometry)) for _, rows in tl.each()]
    return Series(tl.geometry, epochs, tl.times() if tl.has_times else None, tl.memory)


def page_runs(rows: DirtyRows, geometry: Geometry) -> Runs:
    """The pages of the rows of one epoch."""
    shift, base = np.uint64(geometry.page_size.bit_length() - 1), np.uint64(geometry.iova)
    first = (rows.iova - base) >> shift
    return np.column_stack((first, ((rows.last() - base) >> shift) - first + ONE))


def numbers_of(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each number of the runs (first, how many), ascending."""
    lengths = runs[:, 1]
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    pages: NDArray[np.int64] = np.repeat(runs[:, 0] - (ends - lengths), lengths)
    pages += np.arange(total)
    return pages
