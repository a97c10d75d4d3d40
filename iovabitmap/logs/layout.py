"""What a recorder noted of the memory behind a log's addresses.

The note "layout" has rows (iova, length, address, pid, name). The note "memory" says how much
memory there is: an object with `mapped_bytes`, `resident_bytes` and `zero_bytes`, each of which may
be missing. A log's notes may come from anywhere, so what makes no sense is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..timeline import Memory, Region

if TYPE_CHECKING:
    from .storage.meta import Meta


def regions(meta: Meta) -> list[Region]:
    """The rows of the log's layout that make sense: inside its range."""
    noted = meta.notes.get("layout")
    rows = noted if isinstance(noted, list) else []
    return [Region(*row) for row in rows if _is_row(row, meta.iova, meta.iova + meta.length)]


def _is_row(row: Any, first: int, end: int) -> bool:
    if not isinstance(row, list) or len(row) != 5 or not isinstance(row[4], str):
        return False
    if any(type(number) is not int for number in row[:4]):
        return False
    return bool(first <= row[0] < row[0] + row[1] <= end)


def memory(meta: Meta) -> Memory | None:
    """How much memory was recorded; None if that was not noted."""
    noted = meta.notes.get("memory")
    if not isinstance(noted, dict):
        return None
    found = Memory(*(_nbytes(noted.get(name)) for name in Memory._fields))
    return found if found.mapped_bytes or found.resident_bytes else None


def _nbytes(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= 2**64 else None
