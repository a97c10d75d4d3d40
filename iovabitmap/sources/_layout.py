"""Where a source's IOVA space lies in memory, and what memory it does not see: rows."""

from __future__ import annotations

from typing import NamedTuple


class LayoutRow(NamedTuple):
    """One piece of a source's IOVA space, and the memory that it stands for.

    `iova` and `length` in bytes, `address` in the process `pid`, `name` of the piece.
    """

    iova: int
    length: int
    address: int
    pid: int
    name: str


class Untracked(NamedTuple):
    """Memory whose writes are not seen: the process, what it is, and why."""

    pid: int
    what: str
    reason: str


NO_ROOM = "no room left in the IOVA space"


def piece_name(name: str, start: int, end: int) -> str:
    """What a piece of memory that is not tracked is called."""
    return f"{name} at {start:#x}-{end:#x}"
