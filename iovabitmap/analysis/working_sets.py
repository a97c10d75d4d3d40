"""Working sets: how much memory a program works with, in three forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._base import html
from .._base.text import show_bandwidth, show_bytes, show_seconds
from .history import History, Hits
from .measured import curve_of, gap_bins, points_of, steps
from .pieces import pieces_of
from .precopy import plateau
from .rates import check_part, often
from .series import Source, as_series


@dataclass(frozen=True)
class WorkingSet:
    """Three answers to "how much memory does it work with", in bytes of whole pages.

    `union`: of all pages dirtied in the window. `hot`: of the pages dirty in at least `at_least` of
    its epochs. `plateau`: what a pre-copy over `bandwidth` bytes per second would have left again
    and again, however long it goes on (0: it would end; infinite: all memory, and it is not known
    how much that is).
    """

    union: int
    hot: int
    plateau: float
    at_least: float
    bandwidth: float
    seconds: float

    def __repr__(self) -> str:
        return (
            f"WorkingSet(union {show_bytes(self.union)}, hot {show_bytes(self.hot)}, plateau "
            f"{self._plateau_text()}, within {show_seconds(self.seconds)})"
        )

    def _plateau_text(self) -> str:
        return "all memory" if math.isinf(self.plateau) else show_bytes(self.plateau)

    @html.never_raising
    def _repr_html_(self) -> str:
        left = f"left by a pre-copy at {show_bandwidth(self.bandwidth)}"
        facts = [
            ("union", show_bytes(self.union)),
            (f"hot, dirty in {100 * self.at_least:.3g} % of epochs", show_bytes(self.hot)),
            (left, self._plateau_text()),
            ("within", show_seconds(self.seconds)),
        ]
        return html.piece(self, facts)


def working_set(
    tl: Source,
    *,
    at_least: float = 0.5,
    bandwidth: float = 1.25e9,
    memory_bytes: float | None = None,
    zero_bytes: float | None = None,
) -> WorkingSet:
    """The working set of the epochs in three forms: see `WorkingSet`.

    `bandwidth` is in bytes per second, 10 Gbit/s by default. `memory_bytes` and `zero_bytes`, as of
    `volume_curve`, bound the plateau.
    """
    series = as_series(tl)
    check_part(at_least)
    ks = steps(len(series))
    pieces = pieces_of(series)
    hits, history = Hits(pieces), History(pieces, gap_bins(ks, len(series)))
    for block in pieces.blocks():
        hits.add(block)
        history.add(block)
    curve = curve_of(series, points_of(series, ks, history), memory_bytes, zero_bytes)
    return WorkingSet(
        union=history.touched() * series.page_size,
        hot=pieces.sum(often(hits, at_least, len(series))) * series.page_size,
        plateau=plateau(curve, bandwidth=bandwidth),
        at_least=at_least,
        bandwidth=bandwidth,
        seconds=series.seconds,
    )
