"""Recording: epochs of a source into a log, and what there is to be said about a recording."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._core import IOVABitmap

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..logs import LogWriter
    from ..sources import CommandTracker, Untracked
    from .running import Life
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
        self.look_max_ns = max(self.look_max_ns, took_ns)

    @property
    def seconds(self) -> float:
        """From the start to the last look."""
        return (self.end_ns - self.start_ns) / 1e9


class Recorder:
    """Puts what a tracked program writes into a log, an epoch for each moment of a schedule.

    An epoch ends when its look begins. What is written during the look belongs to it or to the
    next, page by page.
    """

    def __init__(self, tracker: CommandTracker, log: LogWriter, schedule: Schedule) -> None:
        start = schedule.start_ns
        self.tally = Tally(start, start)
        self.schedule = schedule
        self._tracker, self._log = tracker, log
        self._bm = IOVABitmap(*log.geometry)
        self._untracked: dict[Untracked, None] = {}  # in the order in which they were seen
        self.still_running: list[int] = []  # at its end: processes that go on
        self._describe_ns = start

    @property
    def untracked(self) -> list[Untracked]:
        """Processes and memory that were seen not to be tracked, at any time."""
        return list(self._untracked)

    @property
    def page_size(self) -> int:
        """Bytes that are told apart."""
        return self._log.geometry.page_size

    def run(self, life: Life, stop_ns: int | None, told: Callable[[], object]) -> None:
        """Records until the program has ended, or until a moment.

        `told` is called after each epoch. What the program writes at its very end is in the last
        epoch.
        """
        ended = False
        while not ended and (stop_ns is None or self.tally.end_ns < stop_ns):
            ended = life.over(min(self.schedule.due_ns, stop_ns or self.schedule.due_ns))
            self.look()
            told()
        self._describe(final=True)

    def look(self) -> None:
        """An epoch."""
        begin = time.monotonic_ns()
        pages = self._tracker.collect(self._bm)
        taken = time.monotonic_ns()
        self._log.append(self._bm, self.tally.end_ns, begin)
        if pages:
            self._bm.reset()
        self.tally.add(pages, begin, taken - begin)
        if taken >= self._describe_ns:
            self._describe(final=False)
            done = time.monotonic_ns()
            self._describe_ns = done + DESCRIBE_RARELY * (done - taken)
        self.schedule.looked(time.monotonic_ns())

    def _describe(self, final: bool) -> None:
        """Notes what the log's addresses stand for, and how it goes, where that is news."""
        for each in self._tracker.untracked:
            if (final or NOT_YET not in each.reason) and len(self._untracked) < MAX_UNTRACKED:
                self._untracked.setdefault(each)
        rows = self._tracker.layout()
        layout = [list(row) for row in rows[:MAX_LAYOUT_ROWS]]
        about: dict[str, Any] = {
            "layout_rows_left_out": len(rows) - len(layout),
            "untracked": [each._asdict() for each in self._untracked],
        }
        if final:
            self.still_running = self._tracker.tracked
            about["still_running"] = self.still_running
            about["missed_intervals"] = self.schedule.missed
            about["looks_seconds"] = self.tally.look_ns / 1e9
        noted = self._log.notes
        news = {"layout": layout, "recording": about, "memory": self._memory(noted, final)}
        for name, value in news.items():
            if value != noted.get(name):
                self._log.note(name, value)

    def _memory(self, noted: dict[str, Any], final: bool) -> dict[str, int] | None:
        """The note "memory": what the tracker says, or that of before if it is hardly more."""
        found = self._tracker.memory()
        before: dict[str, int] | None = noted.get("memory")
        if found is None:
            return before
        now = {name: value for name, value in found._asdict().items() if value is not None}
        if before is None or final:
            return now
        grown = any(value > MEMORY_GROWTH * before.get(name, 0) for name, value in now.items())
        return now if grown else before
