"""Working sets: how much memory a program works with, in three forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._base import html
from .._base.text import show_bandwidth, show_bytes, show_seconds
from .measured import volume_curve
from .precopy import plateau
from .rates import hot_runs, union_runs
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
    return WorkingSet(
        union=int(union_runs(series)[:, 1].sum()) * series.page_size,
        hot=int(hot_runs(series, at_least)[:, 1].sum()) * series.page_size,
        plateau=plateau(
            volume_curve(series, memory_bytes=memory_bytes, zero_bytes=zero_bytes),
            bandwidth=bandwidth,
        ),
        at_least=at_least,
        bandwidth=bandwidth,
        seconds=series.seconds,
    )
