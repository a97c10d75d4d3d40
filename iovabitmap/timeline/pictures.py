"""What a notebook shows of epochs: a map and the rate, if reading them is quick."""

from __future__ import annotations

from itertools import pairwise

from .._base import html
from .._base.text import show_bytes, show_count, show_seconds
from .blocks import Epochs
from .summary import summarize

LOOK_ROWS, LOOK_EPOCHS = 1 << 19, 20_000  # of more, none is read to be shown
ROWS = 12


def pictures(epochs: Epochs) -> list[str]:
    """A map of epochs and the rate below it, with what they are of; nothing where reading them
    takes long, or nothing is dirty."""
    if epochs._nrows is None or epochs._nrows > LOOK_ROWS or not 0 < len(epochs) <= LOOK_EPOCHS:
        return []
    summary = summarize(epochs, rows=ROWS, columns=html.CELLS_ACROSS)
    seconds = float(summary.t_end_ns[-1] - summary.t_start_ns[0]) / 1e9
    size = show_bytes(summary.union_pages * epochs.page_size)
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
