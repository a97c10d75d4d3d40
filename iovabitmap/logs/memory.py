"""What a recorded program's memory is called, and how much of it was ever dirty.

A recording's note "layout" says what its addresses stand for: rows (iova, length, address, pid,
name); its note "memory" how much memory there is: an object with `resident_bytes`, `mapped_bytes`
and `zero_bytes`, each of which may be missing. A log's notes may come from anywhere, so what makes
no sense is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._rows import integer_rows, merged
from ._blocks import union

if TYPE_CHECKING:
    from ._blocks import Addresses
    from .log import DirtyLog


class Memory(NamedTuple):
    """Memory of one name of one process: its bytes, and its pages that were ever dirty."""

    pid: int
    name: str
    nbytes: int
    pages: int


def by_memory(log: DirtyLog, ever: Addresses | None = None) -> list[Memory]:
    """The memory that a log's layout names and that was ever dirty, the most first; none where a
    log has no layout. Where one piece of the addresses had two names, it counts for both.

    With `ever`, the rows that were ever dirty as a `Summary` has them, the log is not read.

    Raises LogError for damaged rows.
    """
    rows = layout_of(log)
    if not rows:
        return []
    dirty = union(log._blocks(0, len(log))) if ever is None else ever
    sums: dict[tuple[int, str], tuple[int, int]] = {}
    for iova, length, _, pid, name in rows:
        nbytes, pages = sums.get((pid, name), (0, 0))
        sums[pid, name] = nbytes + length, pages + _pages_within(dirty, iova, length, log)
    found = [Memory(pid, name, *numbers) for (pid, name), numbers in sums.items() if numbers[1]]
    return sorted(found, key=lambda each: (-each.pages, each.pid, each.name))


def known_memory(log: DirtyLog) -> tuple[int, int] | None:
    """Bytes of all memory that was recorded, and of its pages of zeros; None if that is not noted.

    What was in memory, where the log's note "memory" says so; else what was mapped; else all that
    the layout names, which also counts what was unmapped meanwhile.
    """
    noted = log.notes.get("memory")
    noted = noted if isinstance(noted, dict) else {}
    zero = _count(noted.get("zero_bytes")) or 0
    found = _count(noted.get("resident_bytes")) or _count(noted.get("mapped_bytes"))
    if found is None and (rows := layout_of(log)):
        found = int(merged(integer_rows([row[:2] for row in rows]))[:, 1].sum())
    return None if found is None else (found, min(zero, found))


def _count(value: Any) -> int | None:
    """A number of bytes above 0; None for anything else."""
    return value if type(value) is int and 0 < value <= 2**64 else None


def _pages_within(dirty: Addresses, iova: int, length: int, log: DirtyLog) -> int:
    """How many dirty pages a range of addresses touches."""
    last = iova + length - 1
    start = max(int(np.searchsorted(dirty[:, 0], np.uint64(iova), side="right")) - 1, 0)
    stop = int(np.searchsorted(dirty[:, 0], np.uint64(last), side="right"))
    pages = 0
    for first, size in dirty[start:stop].tolist():
        begin, end = max(first, iova) - log.iova, min(first + size - 1, last) - log.iova
        pages += max(end // log.page_size - begin // log.page_size + 1, 0)
    return pages


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
