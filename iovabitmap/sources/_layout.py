"""Where a source's IOVA space lies in memory: rows, and their history."""

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
