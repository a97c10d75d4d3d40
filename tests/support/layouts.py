"""From a source's IOVA space back to the pages of processes."""

from __future__ import annotations

import iovabitmap as ib

from .memory import HOST_PAGE


def written(source) -> dict[tuple[int, int], str]:
    """One collect: (pid, address) of each page that was written, and what it is part of."""
    bm = ib.IOVABitmap(source.iova, source.length)
    newly = source.collect(bm)
    pages = bm.pages().tolist()
    assert newly == len(pages)
    rows = source.layout()
    found = {}
    for iova in pages:
        row = next(row for row in rows if row.iova <= iova < row.iova + row.length)
        found[row.pid, row.address + iova - row.iova] = row.name
    assert len(found) == len(pages)
    return found


def pages(address: int, *numbers: int) -> set[int]:
    return {address + number * HOST_PAGE for number in numbers}
