"""What an analysis works on: a Timeline, or what becomes one, as runs of page numbers.

Runs are rows (first page, pages) of uint64, in which no end of a run overflows; pages are counted
from the base of the range. They come a block at a time, and a series holds none of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._base.rows import Rows
from ..timeline import Memory, Timeline
from ..timeline.rows import page_numbers

if TYPE_CHECKING:
    from ..timeline.timeline import Source as OfTimeline

Source: TypeAlias = "Series | OfTimeline"
Runs: TypeAlias = Rows
Ints: TypeAlias = NDArray[np.int64]
Pages: TypeAlias = NDArray[np.uint64]

NS = 1e9  # nanoseconds in a second
ONE = np.uint64(1)


class Block(NamedTuple):
    """Runs of pages: arrays of one length, ascending by epoch and then by page."""

    epoch: Ints
    first: Pages
    pages: Pages


class Series:
    """Epochs of one geometry, in the order of time."""

    def __init__(self, tl: Timeline) -> None:
        self.timeline = tl
        self.geometry = tl.geometry
        self.page_size = tl.page_size

    @property
    def npages(self) -> int:
        return self.geometry.npages

    def __len__(self) -> int:
        return len(self.timeline)

    def blocks(self) -> Iterator[Block]:
        """All runs, in blocks of a bounded size; reads the Timeline."""
        for rows in self.timeline.blocks():
            first, last = page_numbers(rows, self.page_size, self.geometry.iova)
            last -= first
            last += ONE
            yield Block(rows.epoch, first, last)

    def times(self) -> tuple[Ints, Ints]:
        """Starts and ends; ValueError if they are unknown."""
        if not self.timeline.has_times:
            raise ValueError(
                "this needs times, which are unknown: give rows (bitmap, t_start_ns, t_end_ns)"
            )
        return self.timeline.times()

    def seconds_each(self) -> NDArray[np.float64]:
        """The length of each epoch; NaN if unknown."""
        if not self.timeline.has_times:
            return np.full(len(self), math.nan)
        starts, ends = self.times()
        return (ends - starts) / NS

    @property
    def seconds(self) -> float:
        """From the start of the first epoch to the end that is last."""
        starts, ends = self.times()
        return (int(ends.max()) - int(starts[0])) / NS

    def memory_of(
        self, memory_bytes: float | None, zero_bytes: float | None
    ) -> tuple[float | None, float]:
        """Bytes of all memory in whole pages, and of its zeros: each as given, or as the Timeline
        has it; None if neither says."""
        noted = self.timeline.memory or Memory()
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
    return Series(tl)
