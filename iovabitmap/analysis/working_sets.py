"""Working sets: how much memory a program works with, in three forms."""

from __future__ import annotations

from dataclasses import dataclass

from .._base import html
from .._base.text import show_bandwidth, show_bytes, show_seconds
from .curves import volume_curve
from .precopy import plateau
from .rates import hot_runs, rows_of, union_runs
from .series import Source, as_series


@dataclass(frozen=True)
class WorkingSet:
    """Three answers to "how much memory does it work with", in bytes.

    `union`: of all pages dirtied in the window. `hot`: of the pages dirty in at least `at_least` of
    its epochs. `plateau`: what a pre-copy over `bandwidth` bytes per second would have left again
    and again, however long it goes on (0: it would end).
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
            f"{show_bytes(self.plateau)}, within {show_seconds(self.seconds)})"
        )

    @html.never_raising
    def _repr_html_(self) -> str:
        left = f"left by a pre-copy at {show_bandwidth(self.bandwidth)}"
        facts = [
            ("union", show_bytes(self.union)),
            (f"hot, dirty in {100 * self.at_least:.3g} % of epochs", show_bytes(self.hot)),
            (left, show_bytes(self.plateau)),
            ("within", show_seconds(self.seconds)),
        ]
        return html.piece(self, facts)


def working_set(
    log: Source,
    i: int | None = None,
    j: int | None = None,
    *,
    at_least: float = 0.5,
    bandwidth: float = 1.25e9,
) -> WorkingSet:
    """The working set of the epochs i <= n < j in three forms: see `WorkingSet`.

    `bandwidth` is in bytes per second, 10 Gbit/s by default.
    """
    series = as_series(log, i, j)
    return WorkingSet(
        union=int(rows_of(union_runs(series), series)[:, 1].sum()),
        hot=int(rows_of(hot_runs(series, at_least), series)[:, 1].sum()),
        plateau=plateau(volume_curve(series), bandwidth=bandwidth),
        at_least=at_least,
        bandwidth=bandwidth,
        seconds=series.seconds,
    )
