"""Which mappings of which processes were written, look by look: what `top` shows.

A program that is run for it, and a process that runs already where the kernel has soft-dirty bits,
are seen by their source. Else a process's memory is compared with copies: that misses rewrites of
equal content, and takes as much memory again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from iovabitmap._base.interval_arrays import intersect, rows_of, subtract
from iovabitmap._base.text import show_bytes
from iovabitmap._core import IOVABitmap
from iovabitmap.sources import SnapshotDiff, SoftDirty
from iovabitmap.sources.maps import Mapping, of_process

if TYPE_CHECKING:
    from iovabitmap.sources import CommandTracker


class Written(NamedTuple):
    """Memory of one name of one process: its bytes, and how many of its pages were written."""

    pid: int
    name: str
    nbytes: int
    pages: int


class Watch(Protocol):
    """Looks, again and again. `page_size` in bytes; `remarks` are what one must know about it."""

    page_size: int
    remarks: list[str]

    def look(self) -> list[Written]:
        """What was written since the last look. ProcessLookupError where the process is gone."""

    def close(self) -> None:
        """Ends it. Safe to repeat."""


class SourceWatch:
    """By a source with a layout, which is started."""

    def __init__(self, source: CommandTracker | SoftDirty) -> None:
        self._source = source
        self.page_size = source.granularity
        self.remarks: list[str] = []
        self._bm = IOVABitmap(source.iova, source.length, source.granularity)

    def look(self) -> list[Written]:
        if self._source.collect(self._bm) == 0:
            return []
        found = [
            Written(row.pid, row.name, row.length, self._bm.count(row.iova, row.length))
            for row in self._source.layout()
        ]
        self._bm.reset()
        return found

    def close(self) -> None:
        self._source.stop()


class CopyWatch:
    """By copies of a running process's private writable memory, of at most so many bytes in all:
    the smallest pieces first. A piece is what is new of a mapping, for one that grows is copied
    only as far as it grew."""

    def __init__(self, pid: int, most: int) -> None:
        self.page_size = os.sysconf("SC_PAGESIZE")
        self.remarks: list[str] = []
        self._pid, self._most = pid, most
        self._copies: dict[tuple[int, int], SnapshotDiff] = {}  # by start and end
        self._mappings: list[Mapping] = []
        self._copy_what_is_new()

    def look(self) -> list[Written]:
        found = []
        for span, copy in list(self._copies.items()):
            with IOVABitmap(0, copy.length, self.page_size) as bm:
                try:
                    pages = copy.collect(bm)
                except OSError:  # it went, in part or as a whole
                    del self._copies[span]
                    continue
            found.append(Written(self._pid, self._name(span[0]), copy.length, pages))
        self._copy_what_is_new()
        return found

    def _copy_what_is_new(self) -> None:
        """Copies what is new, and forgets what is gone."""
        try:
            everything = of_process(self._pid)
        except FileNotFoundError:
            everything = []
        self._mappings = [m for m in everything if m.writable and not m.shared]
        if not self._mappings:
            raise ProcessLookupError(f"process {self._pid} is gone")
        wanted = rows_of((m.start, m.end) for m in self._mappings)
        gone = subtract(rows_of(self._copies), wanted)
        for span in list(self._copies):
            if len(intersect(rows_of([span]), gone)[0]):
                del self._copies[span]
        new = sorted(subtract(wanted, rows_of(self._copies)).tolist(), key=lambda s: s[1] - s[0])
        left = [end - start for start, end in new if not self._copy(start, end)]
        self.remarks = ["by comparing copies: a rewrite of equal content is not seen"]
        if left:
            self.remarks.append(f"not looked at: {len(left)} mappings, {show_bytes(sum(left))}")

    def _copy(self, start: int, end: int) -> bool:
        """Whether there is room for it, and it can be read."""
        if end - start > self._most - sum(copy.length for copy in self._copies.values()):
            return False
        copy = SnapshotDiff(f"/proc/{self._pid}/mem", offset=start, length=end - start)
        try:
            copy.start()
        except OSError:  # gone again, or not to be read
            return False
        self._copies[start, end] = copy
        return True

    def _name(self, address: int) -> str:
        names = (m.name for m in self._mappings if m.start <= address < m.end)
        return next(names, "") or "anonymous"

    def close(self) -> None:
        self._copies.clear()


def watch_process(pid: int, most: int) -> Watch:
    """The best that can be had for a process that runs already; `most` bytes of copies."""
    if not Path(f"/proc/{pid}").exists():
        raise ProcessLookupError(f"there is no process {pid}")
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
    except PermissionError:
        why = "its memory may be looked at by its own user only, as a debugger's"
        raise PermissionError(f"process {pid}: {why}") from None
    if SoftDirty.probe():
        source = SoftDirty(pid)
        source.start()
        return SourceWatch(source)
    return CopyWatch(pid, most)


def by_name(found: list[Written]) -> list[Written]:
    """What was written, the most first: one entry for each process and name."""
    sums: dict[tuple[int, str], tuple[int, int]] = {}
    for pid, name, nbytes, pages in found:
        before = sums.get((pid, name), (0, 0))
        sums[pid, name] = before[0] + nbytes, before[1] + pages
    entries = [Written(pid, name, *numbers) for (pid, name), numbers in sums.items() if numbers[1]]
    return sorted(entries, key=lambda each: (-each.pages, each.pid, each.name))
