"""What a recorded program's memory is called, and how much of it was ever dirty.

A recording's note "layout" says what its addresses stand for: rows (iova, length, address, pid,
name). A log's notes may come from anywhere, so what is no such row is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .log import DirtyLog


class Memory(NamedTuple):
    """Memory of one name of one process: its bytes, and its pages that were ever dirty."""

    pid: int
    name: str
    nbytes: int
    pages: int


def by_memory(log: DirtyLog) -> list[Memory]:
    """The memory that a log's layout names and that was ever dirty, the most first; none where a
    log has no layout. Where one piece of the addresses had two names, it counts for both.

    Raises LogError for damaged rows.
    """
    rows = layout_of(log)
    if not rows:
        return []
    union = log.union()
    sums: dict[tuple[int, str], tuple[int, int]] = {}
    for iova, length, _, pid, name in rows:
        nbytes, pages = sums.get((pid, name), (0, 0))
        sums[pid, name] = nbytes + length, pages + union.count(iova, length)
    found = [Memory(pid, name, *numbers) for (pid, name), numbers in sums.items() if numbers[1]]
    return sorted(found, key=lambda each: (-each.pages, each.pid, each.name))


def layout_of(log: DirtyLog) -> list[tuple[int, int, int, int, str]]:
    """The rows of the log's layout that make sense: inside its range."""
    noted = log.notes.get("layout")
    rows = noted if isinstance(noted, list) else []
    return [tuple(row) for row in rows if _is_row(row, log.iova, log.iova + log.length)]


def _is_row(row: Any, first: int, end: int) -> bool:
    if not isinstance(row, list) or len(row) != 5 or not isinstance(row[4], str):
        return False
    if any(type(number) is not int for number in row[:4]):
        return False
    return bool(first <= row[0] < row[0] + row[1] <= end)
