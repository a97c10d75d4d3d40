"""What notebooks show of a log: its facts, and a map and the rate if reading it is quick."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from .._base import html
from .._base.text import show_bytes, show_count, show_seconds
from .summary import summarize

if TYPE_CHECKING:
    from .log import DirtyLog

LOOK_ROWS, LOOK_EPOCHS = 1 << 19, 20_000  # of a log; a larger one is not read to be shown
ROWS = 12


@html.never_raising
def shown(log: DirtyLog) -> str:
    """A `DirtyLog`: what was recorded, and, where reading it is quick, a map and the rate."""
    facts = [("file", str(log.path)), ("epochs", f"{len(log):,}")]
    end = log.iova + log.length
    facts.append(("range", f"{log.iova:#x} to {end:#x}, pages of {show_bytes(log.page_size)}"))
    if log.source:
        facts.append(("source", log.source))
    if log.unfinished:
        facts.append(("unfinished", log.unfinished))
    if log._closed:
        return html.piece(log, [*facts, ("state", "closed")])
    return html.piece(log, facts, *pictures(log))


def pictures(log: DirtyLog) -> list[str]:
    """A map of the log and the rate below it, with what they are of; nothing where reading the log
    takes long, or nothing is dirty."""
    if log._nrows is None or log._nrows > LOOK_ROWS or not 0 < len(log) <= LOOK_EPOCHS:
        return []
    summary = summarize(log, rows=ROWS, columns=html.CELLS_ACROSS)
    seconds = float(summary.t_end_ns[-1] - summary.t_start_ns[0]) / 1e9
    size = show_bytes(summary.union_pages * log.page_size)
    pages = show_count(summary.union_pages, "page")
    ever = f"ever dirty: {pages}, {size}, in {show_seconds(seconds)}"
    if not summary.union_pages:
        return [f"<div>{ever}</div>"]
    sums = [float(summary.pages[a:b].mean()) for a, b in pairwise(summary.columns)]
    return [
        f"<div>{ever}</div>",
        html.grid(summary.density[::-1].tolist(), "dirty pages: address, going up, over epochs"),
        html.bars(sums, f"dirty pages in an epoch: at most {max(sums):,.0f}"),
    ]
