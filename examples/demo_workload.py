"""The demonstration's workload: it computes in one piece of memory, and checks its own results.

Three phases over an array of integers, each known for how it writes:

sort     in place, by halves: partition at the median, then sort each half the same way. It writes
         all, then each half again, and so on, as fast as it can.
updates  increments at random places, nine of ten in a sixteenth of the array: a hot set.
sweep    one pass from the first element to the last: each page once.

The last two keep to a rate, so that there is something to watch on any machine. The last eighth of
the memory is a table of random numbers that the updates only read: no page of it becomes dirty.
"""

from __future__ import annotations

import mmap
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

PAGE = mmap.PAGESIZE
BLOCK_BYTES = 4 << 20  # sorted at once, and between two steps of the progress bar
UPDATE_INTERVALS = 14  # how many of the observer's intervals a paced phase lasts
SWEEP_INTERVALS = 12
UPDATE_BATCHES = 10  # in each interval


def anonymous_memory(nbytes: int) -> mmap.mmap:
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, nbytes)


class Workload:
    """`memory` is what it works in; call each of `phases` in order, in any one thread.

    `progress` is the part of the present phase that is done, 0 to 1. Set `stopped` to end it early.
    The observer adds one to `observed` after each look: the paced phases wait for it, so that a
    machine under load sees as many epochs as an idle one.
    """

    def __init__(self, nbytes: int, interval: float, seed: int = 1) -> None:
        self.memory = anonymous_memory(nbytes)
        everything: NDArray[np.int64] = np.frombuffer(self.memory, np.int64)
        table_size = everything.size // 8
        self.values, self.table = everything[:-table_size], everything[-table_size:]
        self.interval = interval
        self.random = np.random.default_rng(seed)
        self.progress = 0.0
        self.observed = 0
        self.stopped = False
        self.checks: list[str] = []
        self.phases: dict[str, Callable[[], None]] = {
            "sort": self.sort,
            "updates": self.updates,
            "sweep": self.sweep,
        }
        # Small enough that no sum of them overflows.
        everything[:] = self.random.integers(0, 1 << 31, everything.size)
        self.sum = int(self.values.sum())

    def sort(self) -> None:
        self._sort(self.values, 0.0, 1.0)
        if not self.stopped:
            self._check("the numbers are sorted", bool((self.values[:-1] <= self.values[1:]).all()))
            self._check_sum()

    def updates(self) -> None:
        pages = len(self.memory) // PAGE
        hot_start, hot_size = self.values.size * 5 // 8, self.values.size // 16
        batch = max(pages // 32, 1)
        for i in self._paced(UPDATE_INTERVALS * UPDATE_BATCHES, UPDATE_INTERVALS):
            drawn = self.table[np.arange(i * batch, (i + 1) * batch) % self.table.size]
            places = np.where(
                self.random.random(batch) < 0.9,
                hot_start + drawn % hot_size,
                drawn % self.values.size,
            )
            places = np.unique(places)  # an element that is twice in one batch is added to once
            self.values[places] += 1
            self.sum += places.size
        self._check_sum()

    def sweep(self) -> None:
        steps = SWEEP_INTERVALS * 10
        edges = [self.values.size * i // steps for i in range(steps + 1)]
        for i in self._paced(steps, SWEEP_INTERVALS):
            self.values[edges[i] : edges[i + 1]] *= 2
        self.sum *= 2
        self._check_sum()

    def _sort(self, part: NDArray[np.int64], begin: float, end: float) -> None:
        """Sorts `part`, which is the work between the fractions begin and end of the phase."""
        if self.stopped:
            return
        if part.nbytes <= BLOCK_BYTES:
            part.sort()
            self.progress = end
            return
        middle, half = part.size // 2, (begin + end) / 2
        part.partition(middle)
        self._sort(part[:middle], begin, half)
        self._sort(part[middle:], half, end)

    def _paced(self, steps: int, intervals: int) -> Iterator[int]:
        """0 to steps - 1, evenly over the observer's intervals, and never ahead of its looks."""
        start, observed = time.monotonic(), self.observed
        for i in range(steps):
            self.progress = i / steps
            due = start + i * intervals * self.interval / steps
            time.sleep(max(0.0, due - time.monotonic()))
            while self.observed - observed < i * intervals // steps and not self.stopped:
                time.sleep(0.001)
            if self.stopped:
                return
            yield i

    def _check_sum(self) -> None:
        if not self.stopped:
            self._check("the sum is right", int(self.values.sum()) == self.sum)

    def _check(self, what: str, holds: bool) -> None:
        if not holds:
            raise AssertionError(f"the workload computed something wrong: not {what}")
        self.checks.append(what)
