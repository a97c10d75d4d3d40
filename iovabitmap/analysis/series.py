"""What an analysis reads: a log, or any sequence of bitmaps with times, as one kind of object.

A series is a list of epochs of one geometry. Each is the pages that were dirtied between two times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._nanoseconds import nanoseconds
from .._rows import Rows, merged
from ..logs._blocks import by_epoch
from ..logs.memory import known_memory

if TYPE_CHECKING:
    from iovabitmap import IOVABitmap

Timed: TypeAlias = "tuple[IOVABitmap, int, int]"
Source: TypeAlias = "Series | Iterable[Timed] | Any"  # Any: a DirtyLog, which need not be loaded
Runs: TypeAlias = Rows  # (first page, pages); uint64, in which no end of a run overflows

Memory: TypeAlias = "tuple[int, int]"  # bytes of all, and of pages of zeros

NS = 1e9  # nanoseconds in a second


@dataclass(frozen=True)
class Interval:
    """One epoch: runs are rows (first page, pages), pages counted from the base, ascending."""

    t_start_ns: int
    t_end_ns: int
    runs: Runs

    @property
    def seconds(self) -> float:
        return (self.t_end_ns - self.t_start_ns) / NS

    @property
    def pages(self) -> int:
        return int(self.runs[:, 1].sum())


class Series(Sequence[Interval]):
    """Epochs of one geometry, in the order of time."""

    def __init__(
        self,
        iova: int,
        length: int,
        page_size: int,
        epochs: list[Interval],
        memory: Memory | None = None,
    ) -> None:
        self.iova = iova
        self.length = length
        self.page_size = page_size
        self._epochs = epochs
        self._memory = memory

    @property
    def npages(self) -> int:
        return (self.length - 1) // self.page_size + 1

    @property
    def seconds(self) -> float:
        """From the start of the first epoch to the end of the last one."""
        return (self[-1].t_end_ns - self[0].t_start_ns) / NS if self._epochs else 0.0

    def __len__(self) -> int:
        return len(self._epochs)

    def __getitem__(self, index: Any) -> Any:
        return self._epochs[index]

    def __iter__(self) -> Iterator[Interval]:
        return iter(self._epochs)

    def part(self, i: int | None = None, j: int | None = None) -> Series:
        """The epochs i <= n < j, as a slice takes them."""
        return Series(self.iova, self.length, self.page_size, self._epochs[i:j], self._memory)

    def memory_of(
        self, memory_bytes: float | None, zero_bytes: float | None
    ) -> tuple[float | None, float]:
        """Bytes of all memory in whole pages, and of its zeros: each as given, or as the log notes
        it; None if neither says."""
        noted, zeros = self._memory or (None, 0)
        memory_bytes = noted if memory_bytes is None else memory_bytes
        if memory_bytes is not None and 0 < memory_bytes < math.inf:
            memory_bytes = -(-math.ceil(memory_bytes) // self.page_size) * self.page_size
        return memory_bytes, zeros if zero_bytes is None else zero_bytes


def page_runs(ranges: Rows, iova: int, page_size: int) -> Runs:
    """Rows (iova, length) as rows (first page, pages). A row of length 0 says: clean."""
    ranges = ranges[ranges[:, 1] > 0]
    shift = np.uint64(page_size.bit_length() - 1)
    offset = ranges[:, 0] - np.uint64(iova)
    start = offset >> shift
    last = (offset + (ranges[:, 1] - np.uint64(1))) >> shift
    runs = np.stack([start, last - start + np.uint64(1)], axis=1)
    if len(runs) > 1 and (last[:-1] >= start[1:]).any():
        return merged(runs)
    return runs


def as_series(source: Source, i: int | None = None, j: int | None = None) -> Series:
    """A log or an iterable of (bitmap, t_start_ns, t_end_ns), or its epochs i <= n < j.

    Raises
    ------
    ValueError
        Without any epoch, with times that go back, or with bitmaps of different geometries.
    """
    if isinstance(source, Series):
        series = source
    elif hasattr(source, "_blocks"):
        series = _of_log(source, i, j)
        i = j = None
    else:
        series = _of_bitmaps(source)
    part = series.part(i, j)
    if len(part) == 0:
        raise ValueError(f"no epoch: {len(series)} of them, and i={i}, j={j}")
    _check_times(part)
    return part


def _of_log(log: Any, i: int | None, j: int | None) -> Series:
    """Decodes each of the rows once."""
    start, stop, _ = slice(i, j).indices(len(log))
    epochs = [
        Interval(t_start_ns, t_end_ns, page_runs(rows, log.iova, log.page_size))
        for t_start_ns, t_end_ns, rows in by_epoch(log._blocks(start, stop))
    ]
    return Series(log.iova, log.length, log.page_size, epochs, known_memory(log))


def _of_bitmaps(source: Iterable[Timed]) -> Series:
    geometry: tuple[int, int, int] | None = None
    epochs = []
    for number, (bm, t_start_ns, t_end_ns) in enumerate(source):
        found = (bm.iova, bm.length, bm.page_size)
        if geometry is not None and found != geometry:
            raise ValueError(f"epoch {number} has the geometry {found}, the first one {geometry}")
        geometry = found
        runs = page_runs(np.asarray(bm.ranges()).reshape(-1, 2), bm.iova, bm.page_size)
        start, end = nanoseconds("t_start_ns", t_start_ns), nanoseconds("t_end_ns", t_end_ns)
        epochs.append(Interval(start, end, runs))
    if geometry is None:
        raise ValueError("no epoch: the sequence is empty")
    return Series(*geometry, epochs)


def _check_times(series: Series) -> None:
    before = None
    for number, epoch in enumerate(series):
        if epoch.t_end_ns <= epoch.t_start_ns or (before is not None and epoch.t_start_ns < before):
            raise ValueError(
                f"epoch {number} is from {epoch.t_start_ns} to {epoch.t_end_ns} ns, "
                f"the one before ends at {before} ns"
            )
        before = epoch.t_end_ns


def numbers_of(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each number of the runs (first, how many), ascending."""
    lengths = runs[:, 1]
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    pages: NDArray[np.int64] = np.repeat(runs[:, 0] - (ends - lengths), lengths)
    pages += np.arange(total)
    return pages
