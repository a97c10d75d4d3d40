"""A log held against a second source: each page that changed in an interval must be in the log.

The log may hold more: pages that were written and hold what they held before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import iovabitmap as ib

from .second_source import ANYONE, Copies, Page, standing_still

if TYPE_CHECKING:
    from pathlib import Path

    from .programs import Program


class Interval(NamedTuple):
    """What the second source saw: from when to when (CLOCK_MONOTONIC), which pages it looked at,
    and which of them changed."""

    start_ns: int
    end_ns: int
    pages: set[Page]
    changed: set[Page]


class Verdict(NamedTuple):
    """Numbers of pages: looked at, changed, those the log has of the former, and of the latter
    those that it has not."""

    pages: int
    changed: int
    logged: int
    missing: int

    @property
    def by_chance(self) -> float:
        """The part of changed pages that a log of just as many pages, taken at random, would not
        have: what the verdict is worth."""
        return 1 - self.logged / self.pages

    @property
    def holds(self) -> bool:
        """Each page that changed is in the log; and not because nearly everything is."""
        return self.changed > 0 and self.missing == 0 and self.by_chance > 0.05


def watch(program: Program, pid: int) -> Interval:
    """Puts a load on the program, between two moments at which it stands still."""
    with standing_still(pid) as pids:
        copies = Copies(pids, shared="--shared" in program.options)
        start = time.monotonic_ns()
    program.load()
    with standing_still(pid) as pids:
        end = time.monotonic_ns()
        return Interval(start, end, copies.pages, copies.changed(pids))


def verify(path: Path, seen: Interval) -> Verdict:
    """Holds a closed log against what was seen while it was recorded."""
    with ib.DirtyLog.open(path) as log:
        ends = [epoch.t_end_ns for epoch in log]
        # A look goes on after its epoch's end: it may hold the first pages of the interval.
        first = max(sum(end < seen.start_ns for end in ends) - 1, 0)
        last = sum(end < seen.end_ns for end in ends)
        if last == len(ends):
            raise ValueError(f"{path} ends before the interval does")
        layout = log.notes["layout"]
        logged = pages_of(log.union(first, last + 1), layout) & seen.pages
    return Verdict(len(seen.pages), len(seen.changed), len(logged), len(seen.changed - logged))


def pages_of(bm: ib.IOVABitmap, layout: list[Any]) -> set[Page]:
    """The pages of a bitmap, as addresses of processes; and each as anyone's."""
    found: set[Page] = set()
    for iova, length, address, pid, _ in layout:
        pages = [address + page - iova for page in bm.pages(iova, length).tolist()]
        found |= {(pid, page) for page in pages}
        found |= {(ANYONE, page) for page in pages}
    return found
