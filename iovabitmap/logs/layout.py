"""What a recorder noted of the memory behind a log's addresses.

The note "layout" has rows (iova, length, address, pid, name). A log's notes may come from anywhere,
so what is not such a row is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..timeline import Region

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
