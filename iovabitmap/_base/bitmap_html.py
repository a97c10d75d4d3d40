"""What notebooks show of a bitmap, an `IOVABitmap` or its model. The C type asks for it here."""

from __future__ import annotations

from typing import Any

from .html import CELLS_ACROSS, Fact, grid, never_raising, piece
from .text import show_bytes, show_count

LOOK_BYTES = 16 << 20  # of a bitmap: a larger one is not walked to be shown
ROWS = 8


@never_raising
def shown(bm: Any) -> str:
    """An `IOVABitmap`, or its model: the geometry, and where it is dirty.

    A pin object is not called, and a large bitmap not walked.
    """
    facts: list[Fact] = [
        ("range", f"{bm.iova:#x} to {bm.end:#x}: {show_bytes(bm.length)}"),
        ("pages", f"{bm.nbits:,} of {show_bytes(bm.page_size)}"),
    ]
    if bm.freed:
        return piece(bm, [*facts, ("state", "freed")])
    if not isinstance(bm.pin, str) or bm.nbytes > LOOK_BYTES:
        return piece(bm, [*facts, ("dirty", f"not counted: {show_bytes(bm.nbytes)} of bitmap")])
    dirty = int(bm.count())
    ranges = show_count(int(bm.count_ranges()), "range")
    facts.append(("dirty", f"{show_count(dirty, 'page')} in {ranges}"))
    if not dirty:
        return piece(bm, facts)
    across = min(CELLS_ACROSS, bm.nbits)
    rows = min(ROWS, -(-bm.nbits // across))
    cells = across * rows
    sizes = [(n + 1) * bm.nbits // cells - n * bm.nbits // cells for n in range(cells)]
    parts = [
        int(pages) / max(size, 1) for pages, size in zip(bm.histogram(cells), sizes, strict=True)
    ]
    lines = [parts[n : n + across] for n in range(0, cells, across)]
    return piece(bm, facts, grid(lines, "dirty pages: addresses from left to right, then down"))
