"""What notebooks show of a Timeline: its facts, a map and the rate."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from .._base import html
from .._base.text import show_bytes, show_count, show_seconds
from .summary import summarize

if TYPE_CHECKING:
    from .readable import Readable

SCAN_EPOCHS = 20_000  # a longer Timeline is not read to be shown
ROWS = 12


def facts(tl: Readable) -> list[tuple[str, str]]:
    """Its size, as names and values."""
    end = tl.geometry.end
    return [
        ("epochs", f"{len(tl):,}"),
        ("range", f"{tl.iova:#x} to {end:#x}, pages of {show_bytes(tl.page_size)}"),
    ]


def pictures(tl: Readable) -> list[str]:
    """A map of the Timeline and the rate below it, with what they are of; none if nothing is dirty
    or there are very many epochs."""
    if not 0 < len(tl) <= SCAN_EPOCHS:
        return []
    summary = summarize(tl, ROWS, html.CELLS_ACROSS, None)
    size = show_bytes(summary.union_count * tl.page_size)
    ever = f"ever dirty: {show_count(summary.union_count, 'page')}, {size}"
    if tl.has_times:
        ever += f", in {show_seconds(tl.seconds)}"
    if not summary.union_count:
        return [f"<div>{ever}</div>"]
    sums = [float(summary.counts[a:b].mean()) for a, b in pairwise(summary.columns)]
    return [
        f"<div>{ever}</div>",
        html.grid(summary.density[::-1].tolist(), "dirty pages: address, going up, over epochs"),
        html.bars(sums, f"dirty pages in an epoch: at most {max(sums):,.0f}"),
    ]
