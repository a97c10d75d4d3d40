"""What changed in the memory of running programs, seen without the tracker: by copies.

Nothing of the tracker's is used: mappings are read from /proc/PID/maps here, and contents from
/proc/PID/mem, while the processes stand still.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import iovabitmap as ib
from iovabitmap.sources import SnapshotDiff

if TYPE_CHECKING:
    from collections.abc import Iterator

ANYONE = 0  # instead of a process: memory that is shared, whoever wrote it

Page = tuple[int, int]  # process and address


@contextlib.contextmanager
def standing_still(first: int) -> Iterator[list[int]]:
    """A process and its children are stopped inside; gives all of them. The first is stopped
    before its children are asked for, so that it makes no more of them."""
    stopped: list[int] = []
    try:
        todo = [first]
        while todo:
            pid = todo.pop()
            with contextlib.suppress(ProcessLookupError):  # it has ended since its parent was read
                os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
            while state(pid) not in ("T", "Z", "X"):
                time.sleep(0)
            todo += children(pid)
        yield [pid for pid in stopped if state(pid) == "T"]
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):  # it had ended, and was waited for
                os.kill(pid, signal.SIGCONT)


def state(pid: int) -> str:
    """As in /proc/PID/stat; "X" if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    return stat.rpartition(")")[2].split()[0]


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


class Copies:
    """Copies of all writable memory of some processes, to be compared with later; made while they
    stand still, and compared so.

    Of shared memory, that which the first shares with its children. `pages` are all there are.
    """

    def __init__(self, pids: list[int], *, shared: bool) -> None:
        self._parts: dict[tuple[int, int, int], SnapshotDiff] = {}
        for pid in pids:
            for start, end, is_shared in writable(pid):
                # Children have what the first has at the same addresses. What is mapped later has
                # others in each process, and who wrote it may be gone.
                if not is_shared or (shared and pid == pids[0]):
                    who = ANYONE if is_shared else pid
                    self._parts[who, start, end] = self._copy(pid, start, end)
        self.pages = {
            (pid, page)
            for pid, start, end in self._parts
            for page in range(start, end, mmap.PAGESIZE)
        }

    def _copy(self, pid: int, start: int, end: int) -> SnapshotDiff:
        part = SnapshotDiff(f"/proc/{pid}/mem", iova=start, offset=start, length=end - start)
        part.start()
        return part

    def changed(self, pids: list[int]) -> set[Page]:
        """Pages that are not as they were, of what is still there."""
        there = {
            (ANYONE if is_shared else pid, start, end)
            for pid in pids
            for start, end, is_shared in writable(pid)
        }
        pages: set[Page] = set()
        for (pid, start, end), part in self._parts.items():
            if (pid, start, end) in there:
                with ib.IOVABitmap(part.iova, part.length) as bm:
                    part.collect(bm)
                    pages |= {(pid, page) for page in bm.pages().tolist()}
        return pages


def writable(pid: int) -> Iterator[tuple[int, int, bool]]:
    """Writable mappings of a process: start, end, and whether it is shared."""
    for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
        span, permissions = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        if permissions[1] == "w":
            yield start, end, permissions[3] == "s"
