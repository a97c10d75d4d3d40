"""Will it migrate? Rounds of a pre-copy, predicted from a curve or replayed from a log.

``V0 = memory; T_i = V_i / B; V_(i+1) = D(T_i)``: while a round is sent, memory becomes dirty, which
is the next round. When a round would take no longer than the downtime limit the guest is stopped,
and that round is the downtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._base import html
from .._base.optional import need
from .._base.text import show_bandwidth, show_bytes, show_seconds
from ..timeline.series import NS, Interval, Series, Source, as_series
from .curves import VolumeCurve
from .rates import union_runs

PAGE_HEADER = 8  # bytes that name a page, sent with each
ROUNDS_SHOWN = 12  # in a notebook: the first ones, and the last


@dataclass(frozen=True)
class Round:
    """One pass: what is sent, how long that takes, and what is dirty at its end.

    `nbytes` are those sent, headers included; `remaining` is memory, in bytes, 0 in the last round.
    """

    nbytes: float
    seconds: float
    remaining: float


@dataclass(frozen=True)
class Prediction:
    """The rounds of a pre-copy, the first copy (round 0) and the last one included.

    `converges` says whether it ends, `why` says it in words. `total_seconds` includes the last
    round, whose time is `downtime_seconds`; that is what stopping the guest now would take where it
    does not converge.
    """

    converges: bool
    why: str
    rounds: tuple[Round, ...]
    bandwidth: float
    downtime_limit: float

    @property
    def total_seconds(self) -> float:
        return sum(part.seconds for part in self.rounds)

    @property
    def downtime_seconds(self) -> float:
        if self.converges:
            return self.rounds[-1].seconds
        return self.rounds[-1].remaining / self.bandwidth

    @property
    def total_bytes(self) -> float:
        return sum(part.nbytes for part in self.rounds)

    def __repr__(self) -> str:
        return f"<Prediction {'converges' if self.converges else 'does not converge'}: {self.why}>"

    @html.never_raising
    def _repr_html_(self) -> str:
        facts = [
            ("converges", "yes" if self.converges else "no"),
            ("why", self.why),
            ("bandwidth", show_bandwidth(self.bandwidth)),
            ("downtime limit", show_seconds(self.downtime_limit)),
        ]
        numbered = list(enumerate(self.rounds))
        few = numbered
        if len(numbered) > ROUNDS_SHOWN:
            few = [*numbered[: ROUNDS_SHOWN - 1], numbered[-1]]
        rows = [
            (
                str(n),
                show_bytes(part.nbytes),
                show_seconds(part.seconds),
                show_bytes(part.remaining),
            )
            for n, part in few
        ]
        if len(few) < len(numbered):
            rows.insert(ROUNDS_SHOWN - 1, (f"{len(numbered) - len(few)} more", "", "", ""))
        head = ("round", "sent", "time", "dirty at its end")
        return html.piece(self, facts, html.table(head, rows))


Dirtied = Callable[[float], float]


def predict_precopy(
    curve: VolumeCurve,
    *,
    bandwidth: float,
    downtime_limit: float,
    page_header: float = PAGE_HEADER,
    give_up: float = 3600.0,
) -> Prediction:
    """The rounds of a pre-copy of memory that becomes dirty as `curve` says.

    Parameters
    ----------
    curve : VolumeCurve
        Measured, `VolumeCurve.constant` or `VolumeCurve.saturating`.
    bandwidth : float
        Bytes per second; 1 Gbit/s is ``10**9 / 8``.
    downtime_limit, give_up : float
        Seconds. It gives up when the total passes `give_up` after a round that did not stop.
    page_header : float
        Bytes sent with each page, and instead of a page of zeros (in round 0).

    Notes
    -----
    At a constant rate below the bandwidth, r = D/B, ``V_i = M * r**i``, of which
    ``ceil(ln(B * limit / M) / ln r)`` rounds are needed. With a working set W that is written again
    and again it converges if and only if ``W / B <= limit``, even where the rate is above the
    bandwidth.

    Examples
    --------
    >>> curve = VolumeCurve.constant(25e6, total=50 << 30)
    >>> found = predict_precopy(curve, bandwidth=100e6, downtime_limit=0.3, page_header=0)
    >>> len(found.rounds), round(found.total_seconds, 6)
    (7, 715.784192)
    """
    return _run(
        total=float(curve.total),
        zero=float(curve.zero),
        page_size=curve.page_size,
        dirtied=curve,
        bandwidth=bandwidth,
        downtime_limit=downtime_limit,
        page_header=page_header,
        give_up=give_up,
    )


def _run(
    *,
    total: float,
    zero: float,
    page_size: int,
    dirtied: Dirtied,
    bandwidth: float,
    downtime_limit: float,
    page_header: float,
    give_up: float,
    ends: Callable[[], str] = str,
) -> Prediction:
    """The rounds; `dirtied` says what becomes dirty in the next so many seconds, `ends` why no more
    can be known, or nothing."""
    if not bandwidth > 0 or not math.isfinite(bandwidth):
        raise ValueError(f"bandwidth must be above 0 bytes per second, not {bandwidth}")
    if not downtime_limit >= 0 or not page_header >= 0 or not give_up >= 0:
        raise ValueError(
            "downtime_limit, page_header and give_up must be 0 or more, "
            f"not {downtime_limit}, {page_header} and {give_up}"
        )
    per_byte = (page_size + page_header) / page_size
    nbytes = (total - zero) * per_byte + zero / page_size * page_header
    rounds: list[Round] = []
    spent = 0.0
    converges, why = True, ""
    while True:
        seconds = nbytes / bandwidth
        spent += seconds
        if seconds <= downtime_limit:
            rounds.append(Round(nbytes, seconds, 0.0))
            why = f"{len(rounds)} rounds, {show_seconds(spent)}, down {show_seconds(seconds)}"
            break
        remaining = float(dirtied(seconds))
        rounds.append(Round(nbytes, seconds, remaining))
        converges, why = False, ends()
        if why:
            break
        if spent > give_up:
            why = _stuck(rounds, bandwidth, downtime_limit, give_up)
            break
        converges = True
        nbytes = remaining * per_byte
    return Prediction(converges, why, tuple(rounds), bandwidth, downtime_limit)


def _stuck(rounds: Sequence[Round], bandwidth: float, limit: float, give_up: float) -> str:
    left = rounds[-1].remaining
    return (
        f"after {len(rounds)} rounds and {show_seconds(give_up)} {show_bytes(left)} are left, "
        f"which take {show_seconds(left / bandwidth)} of a limit of {show_seconds(limit)}"
    )


def plateau(curve: VolumeCurve, *, bandwidth: float, rounds: int = 1000) -> float:
    """Bytes that are left after each of many rounds, however long they go on; 0: ever fewer.

    The least volume V with ``V = D(V / bandwidth)`` that rounds from all memory come to.
    """
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be above 0 bytes per second, not {bandwidth}")
    volume = curve.cap
    for _ in range(rounds):
        left = curve(volume / bandwidth)
        if left >= volume * (1 - 1e-9):
            return float(min(left, volume))
        volume = left
    return 0.0 if volume < curve.page_size else float(volume)


def precopy_table(
    curve: VolumeCurve,
    bandwidths: Iterable[float],
    downtimes: Iterable[float],
    *,
    page_header: float = PAGE_HEADER,
    give_up: float = 3600.0,
) -> Any:
    """Total seconds for each bandwidth (rows, bytes per second) and downtime limit (columns,
    seconds); missing where it does not converge. It needs pandas."""
    downtimes = list(downtimes)
    rows = {}
    for bandwidth in bandwidths:
        found = [
            predict_precopy(
                curve,
                bandwidth=bandwidth,
                downtime_limit=limit,
                page_header=page_header,
                give_up=give_up,
            )
            for limit in downtimes
        ]
        rows[bandwidth] = [made.total_seconds if made.converges else math.nan for made in found]
    frame = need("pandas").DataFrame.from_dict(rows, orient="index", columns=downtimes, dtype=float)
    return frame.rename_axis(index="bandwidth", columns="downtime_limit")


def replay_precopy(
    log: Source,
    i: int | None = None,
    j: int | None = None,
    *,
    bandwidth: float,
    downtime_limit: float,
    page_header: float = PAGE_HEADER,
    give_up: float = 3600.0,
    zero: float = 0,
) -> Prediction:
    """The rounds of a pre-copy that had begun with epoch i, with the pages that really were dirty.

    What becomes dirty in a round is the union of the epochs within it; of an epoch that lies in it
    in part, that part of the pages that the others do not have. Where the log ends first it says
    so: `converges` is False, since nobody knows.

    Notes
    -----
    Record epochs shorter than the downtime limit. A round shorter than an epoch gets its part of
    the epoch's pages, as if each were written once in it; pages that are written all the time would
    be dirty again after any part, so the rounds are then smaller than real ones.
    """
    series = as_series(log, i, j)
    replay = _Replay(series)
    return _run(
        total=float(series.length),
        zero=zero,
        page_size=series.page_size,
        dirtied=replay,
        bandwidth=bandwidth,
        downtime_limit=downtime_limit,
        page_header=page_header,
        give_up=give_up,
        ends=replay.ends,
    )


class _Replay:
    """Bytes dirtied in one stretch of time after another."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self.now = float(series[0].t_start_ns)

    def ends(self) -> str:
        last = self.series[-1].t_end_ns
        if self.now <= last:
            return ""
        return (
            f"the log ends after {show_seconds(self.series.seconds)}, in the middle of a round "
            f"that lasts {show_seconds((self.now - last) * NS)} longer"
        )

    def __call__(self, seconds: float) -> float:
        begin, end = self.now, self.now + seconds / NS
        self.now = end
        within: list[Interval] = []
        partly: list[tuple[float, Interval]] = []
        for part, epoch in self._overlapping(begin, end):
            if part == 1:
                within.append(epoch)
            else:
                partly.append((part, epoch))
        known = union_runs(within)
        pages = float(known[:, 1].sum())
        for part, epoch in partly:
            both = union_runs([Interval(0, 1, known), epoch])
            pages += part * (int(both[:, 1].sum()) - int(known[:, 1].sum()))
        return pages * self.series.page_size

    def _overlapping(self, begin: float, end: float) -> Iterator[tuple[float, Interval]]:
        for epoch in self.series:
            common = min(end, epoch.t_end_ns) - max(begin, epoch.t_start_ns)
            if common > 0:
                yield min(1.0, common / (epoch.t_end_ns - epoch.t_start_ns)), epoch


def estimate_downtime(nbytes: float, bandwidth: float) -> float:
    """Seconds that `nbytes` take at `bandwidth` bytes per second.

    cloud-hypervisor estimates with the bandwidth of the round before; at 500 Mbit/s 31.25 MB are:

    >>> estimate_downtime(31.25e6, 62.5e6)
    0.5
    """
    if not bandwidth > 0 or not nbytes >= 0:
        raise ValueError(f"nbytes must be 0 or more, bandwidth above 0: {nbytes}, {bandwidth}")
    return nbytes / bandwidth


def stalled(
    records: Iterable[tuple[float, float]], *, timeout: float, margin: float = 0.04
) -> bool:
    """Whether a migration no longer gets on, by KubeVirt's test.

    `records` are (seconds, remaining bytes), the last one being now. It is stalled when that is at
    least ``min(those older than timeout) * (1 - margin)``; where none is that old it is not.
    """
    times, remaining = np.array([*records], np.float64).reshape(-1, 2).T
    if len(times) == 0:
        raise ValueError("no record")
    if not timeout >= 0 or not 0 <= margin < 1:
        raise ValueError(f"timeout must be 0 or more, margin 0 to 1: {timeout}, {margin}")
    old = remaining[times < times[-1] - timeout]
    return bool(len(old) and remaining[-1] >= old.min() * (1 - margin))


def smoothed(values: Iterable[float], *, factor: float = 0.4) -> list[float]:
    """Bandwidths smoothed as KubeVirt does: each is ``factor`` of its own and the rest of the one
    before."""
    if not 0 < factor <= 1:
        raise ValueError(f"factor must be above 0 and at most 1, not {factor}")
    found: list[float] = []
    for value in values:
        found.append(value if not found else factor * value + (1 - factor) * found[-1])
    return found
