"""Recording: epochs of a source into a log, and what there is to be said about a recording."""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._core import IOVABitmap, nbytes_for
from ..sources.protocol import Measured, OfProcesses

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..logs import LogWriter
    from ..sources import Source, Untracked
    from .schedule import Schedule

# The layout is kept up to date in 1 % of the time, be the program small, or of many processes.
DESCRIBE_RARELY = 99
MAX_LAYOUT_ROWS, MAX_UNTRACKED = 50_000, 1_000  # of a program that forks for days; notes are small
MEMORY_GROWTH = 1.01  # that is noted at once: each note writes the layout again
NOT_YET = "(yet)"  # of a process that was just started


@dataclass
class Tally:
    """What a recording came to, so far. Times in nanoseconds."""

    start_ns: int
    end_ns: int
    epochs: int = 0
    pages: int = 0
    last_pages: int = 0
    last_ns: int = 0
    last_look_ns: int = 0
    look_ns: int = 0
    look_max_ns: int = 0

    def add(self, pages: int, end_ns: int, took_ns: int) -> None:
        """An epoch that ended at `end_ns`, when a look began that took so long."""
        self.last_ns = end_ns - self.end_ns
        self.end_ns = end_ns
        self.epochs += 1
        self.pages += pages
        self.last_pages = pages
        self.look_ns += took_ns
        self.last_look_ns = took_ns
        self.look_max_ns = max(self.look_max_ns, took_ns)

    @property
    def seconds(self) -> float:
        """From the start to the last look."""
        return (self.end_ns - self.start_ns) / 1e9


class Recorder:
    """Puts what a source sees into a log, an epoch for each moment of a schedule.

    An epoch ends when its look begins. What is written during the look belongs to it or to the
    next, page by page. The layout and the account are noted as they change; for a source of this
    process only at the end, since to note them writes its memory.

    Attributes
    ----------
    tally : Tally
    schedule : Schedule
    bitmap : IOVABitmap
        What was dirty in the last epoch, until the next look.
    still_running : list of int
        At the end: tracked processes that go on.
    """

    def __init__(self, source: Source, log: LogWriter, schedule: Schedule) -> None:
        start = schedule.start_ns
        self.tally = Tally(start, start)
        self.schedule = schedule
        self._source, self._log = source, log
        geometry = log.geometry
        # Shared memory, which is not tracked by default: marking is not a write of this process.
        bits = mmap.mmap(-1, nbytes_for(geometry.length, geometry.page_size))
        self.bitmap = IOVABitmap(*geometry, bits)
        self._own = any(row.pid == os.getpid() for row in source.layout())
        self._untracked: dict[Untracked, None] = {}  # in the order in which they were seen
        self.still_running: list[int] = []
        self._describe_ns = start

    @property
    def untracked(self) -> list[Untracked]:
        """Processes and memory that were seen not to be tracked, at any time."""
        return list(self._untracked)

    @property
    def page_size(self) -> int:
        """Bytes that are told apart."""
        return self._log.geometry.page_size

    def run(
        self, over: Callable[[int], bool], stop_ns: int | None, told: Callable[[], object]
    ) -> None:
        """Records until it is over, or until a moment.

        `over` waits until a moment of CLOCK_MONOTONIC in nanoseconds, or less, and says whether it
        is over: then the last epoch is taken, which has what was written at the very end. `told` is
        called after each epoch.
        """
        ended = False
        while not ended and (stop_ns is None or self.tally.end_ns < stop_ns):
            ended = over(min(self.schedule.due_ns, stop_ns or self.schedule.due_ns))
            self.look()
            told()
        self._describe(final=True)

    def look(self) -> None:
        """An epoch."""
        if self.tally.last_pages:
            self.bitmap.reset()
        begin = time.monotonic_ns()
        pages = self._source.collect(self.bitmap)
        taken = time.monotonic_ns()
        self._log.append(self.bitmap, self.tally.end_ns, begin)
        self.tally.add(pages, begin, taken - begin)
        if taken >= self._describe_ns and not self._own:
            self._describe(final=False)
            done = time.monotonic_ns()
            self._describe_ns = done + DESCRIBE_RARELY * (done - taken)
        self.schedule.looked(time.monotonic_ns(), taken - begin)

    def _describe(self, final: bool) -> None:
        """Notes what the log's addresses stand for, and how it goes, where that is news."""
        for each in self._source.untracked:
            if (final or NOT_YET not in each.reason) and len(self._untracked) < MAX_UNTRACKED:
                self._untracked.setdefault(each)
        rows = self._source.layout()
        layout = [list(row) for row in rows[:MAX_LAYOUT_ROWS]]
        about: dict[str, Any] = {
            "layout_rows_left_out": len(rows) - len(layout),
            "untracked": [each._asdict() for each in self._untracked],
        }
        if final:
            if isinstance(self._source, OfProcesses):
                self.still_running = self._source.tracked
            about["still_running"] = self.still_running
            about["missed_intervals"] = self.schedule.missed
            about["looks_seconds"] = self.tally.look_ns / 1e9
        noted = self._log.notes
        news = {"layout": layout, "recording": about, "memory": self._memory(noted, final)}
        for name, value in news.items():
            if value is not None and value != noted.get(name):
                self._log.note(name, value)

    def _memory(self, noted: dict[str, Any], final: bool) -> dict[str, int] | None:
        """The note "memory": what the source says, or that of before if it is hardly more."""
        found = self._source.memory() if isinstance(self._source, Measured) else None
        before: dict[str, int] | None = noted.get("memory")
        if found is None:
            return before
        now = {name: value for name, value in found._asdict().items() if value is not None}
        if before is None or final:
            return now
        grown = any(value > MEMORY_GROWTH * before.get(name, 0) for name, value in now.items())
        return now if grown else before
