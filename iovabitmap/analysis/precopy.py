"""Will it migrate? Rounds of a pre-copy, predicted from a curve or replayed from a log.

``V0 = memory; T_i = V_i / B; V_(i+1) = D(T_i)``: while a round is sent, memory becomes dirty, which
is the next round. When a round would take no longer than the downtime limit the guest is stopped,
and that round is the downtime.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._base import html
from .._base.optional import need
from .._base.text import show_bandwidth, show_bytes, show_seconds
from ..timeline import Rows, Union
from ..timeline.rows import Addresses, count, of, shared
from .curves import VolumeCurve, check_memory
from .series import NS, Series, Source, as_series

PAGE_HEADER = 8  # bytes that name a page, sent with each
ROUNDS_SHOWN = 12  # in a notebook: the first ones, and the last
UNKNOWN_MEMORY = (
    "it is not known how much memory is to be sent: give memory_bytes (and zero_bytes, if some of "
    "it is zeros), in bytes. The range of addresses says nothing of it, and the log has no note "
    '"memory" or "layout"'
)


@dataclass(frozen=True)
class Round:
    """One pass: what is sent, how long that takes, and what is dirty at its end.

    `nbytes` are those sent, headers included; `remaining_bytes` is memory, 0 in the last round.
    """

    nbytes: float
    seconds: float
    remaining_bytes: float


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
        return self.rounds[-1].remaining_bytes / self.bandwidth

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
                show_bytes(part.remaining_bytes),
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
    max_total_seconds: float = 3600.0,
    memory_bytes: float | None = None,
    zero_bytes: float | None = None,
) -> Prediction:
    """The rounds of a pre-copy of memory that becomes dirty as `curve` says.

    Parameters
    ----------
    curve : VolumeCurve
        Measured, `VolumeCurve.constant` or `VolumeCurve.saturating`.
    bandwidth : float
        Bytes per second; 1 Gbit/s is ``10**9 / 8``.
    downtime_limit, max_total_seconds : float
        Seconds. It gives up when the total passes `max_total_seconds` after a round that did not
        stop.
    page_header : float
        Bytes sent with each page, and instead of a page of zeros (in round 0).
    memory_bytes, zero_bytes : int or float, optional
        Bytes of all memory, and of its pages of zeros; by default the curve's own.

    Raises
    ------
    ValueError
        For a curve that does not know how much memory there is, without `memory_bytes`; for
        arguments that are out of range.

    Notes
    -----
    At a constant rate below the bandwidth, r = D/B, ``V_i = M * r**i``, of which
    ``ceil(ln(B * limit / M) / ln r)`` rounds are needed. With a working set W that is written again
    and again it converges if and only if ``W / B <= limit``, even where the rate is above the
    bandwidth.

    Examples
    --------
    >>> curve = VolumeCurve.constant(25e6, total_bytes=50 << 30)
    >>> found = predict_precopy(curve, bandwidth=100e6, downtime_limit=0.3, page_header=0)
    >>> len(found.rounds), round(found.total_seconds, 6)
    (7, 715.784192)
    """
    if memory_bytes is not None or zero_bytes is not None:
        curve = VolumeCurve(
            curve.seconds,
            curve.nbytes,
            total_bytes=curve.total_bytes if memory_bytes is None else memory_bytes,
            zero_bytes=curve.zero_bytes if zero_bytes is None else zero_bytes,
            page_size=curve.page_size,
            spread=curve.spread,
        )
    return _run(
        memory_bytes=curve.total_bytes,
        zero_bytes=curve.zero_bytes,
        page_size=curve.page_size,
        dirtied=curve,
        bandwidth=bandwidth,
        downtime_limit=downtime_limit,
        page_header=page_header,
        max_total_seconds=max_total_seconds,
    )


def _run(
    *,
    memory_bytes: float | None,
    zero_bytes: float,
    page_size: int,
    dirtied: Dirtied,
    bandwidth: float,
    downtime_limit: float,
    page_header: float,
    max_total_seconds: float,
    ends: Callable[[], str] = str,
) -> Prediction:
    """The rounds; `dirtied` says what becomes dirty in the next so many seconds, `ends` why no more
    can be known, or nothing."""
    _check_bandwidth(bandwidth)
    if not downtime_limit >= 0 or not page_header >= 0 or not max_total_seconds >= 0:
        raise ValueError(
            "downtime_limit, page_header and max_total_seconds must be 0 or more, "
            f"not {downtime_limit}, {page_header} and {max_total_seconds}"
        )
    if memory_bytes is None:
        raise ValueError(UNKNOWN_MEMORY)
    check_memory(memory_bytes, zero_bytes, "memory_bytes")
    written = float(memory_bytes - zero_bytes)
    per_byte = (page_size + page_header) / page_size
    nbytes = written * per_byte + zero_bytes / page_size * page_header
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
        remaining = min(float(dirtied(seconds)), written)
        rounds.append(Round(nbytes, seconds, remaining))
        converges, why = False, ends()
        if why:
            break
        if spent > max_total_seconds:
            why = _stuck(rounds, bandwidth, downtime_limit, max_total_seconds)
            break
        converges = True
        nbytes = remaining * per_byte
    return Prediction(converges, why, tuple(rounds), bandwidth, downtime_limit)


def _stuck(
    rounds: Sequence[Round], bandwidth: float, limit: float, max_total_seconds: float
) -> str:
    left = rounds[-1].remaining_bytes
    return (
        f"after {len(rounds)} rounds and {show_seconds(max_total_seconds)} {show_bytes(left)} are "
        f"left, which take {show_seconds(left / bandwidth)} of a limit of {show_seconds(limit)}"
    )


def _check_bandwidth(bandwidth: float) -> None:
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth must be above 0 bytes per second, not {bandwidth}")


def plateau(curve: VolumeCurve, *, bandwidth: float) -> float:
    """Bytes that are left after each round in the end, however long rounds go on; 0: ever fewer.

    The largest volume V with ``V = D(V / bandwidth)``, to which rounds from all memory fall, and
    where they stay: found on the pieces of the curve, not by counting rounds. Less than a page is
    0. If the curve does not know how much memory there is, and rounds would grow, it is infinite.
    """
    _check_bandwidth(bandwidth)
    volume = curve.settles(bandwidth)
    return 0.0 if volume < curve.page_size else volume


def precopy_table(
    curve: VolumeCurve,
    bandwidths: Iterable[float],
    downtimes: Iterable[float],
    *,
    page_header: float = PAGE_HEADER,
    max_total_seconds: float = 3600.0,
    memory_bytes: float | None = None,
    zero_bytes: float | None = None,
) -> Any:
    """Total seconds for each bandwidth (rows, bytes per second) and downtime limit (columns,
    seconds); missing where it does not converge. Other arguments and errors are those of
    `predict_precopy`. It needs pandas."""
    downtimes = list(downtimes)
    rows = {}
    for bandwidth in bandwidths:
        found = [
            predict_precopy(
                curve,
                bandwidth=bandwidth,
                downtime_limit=limit,
                page_header=page_header,
                max_total_seconds=max_total_seconds,
                memory_bytes=memory_bytes,
                zero_bytes=zero_bytes,
            )
            for limit in downtimes
        ]
        rows[bandwidth] = [made.total_seconds if made.converges else math.nan for made in found]
    frame = need("pandas").DataFrame.from_dict(rows, orient="index", columns=downtimes, dtype=float)
    return frame.rename_axis(index="bandwidth", columns="downtime_limit")


def replay_precopy(
    tl: Source,
    *,
    bandwidth: float,
    downtime_limit: float,
    page_header: float = PAGE_HEADER,
    max_total_seconds: float = 3600.0,
    memory_bytes: float | None = None,
    zero_bytes: float | None = None,
) -> Prediction:
    """The rounds of a pre-copy that began with the first epoch, with the pages that really were
    dirty.

    `memory_bytes` and `zero_bytes` are bytes of all memory and of its pages of zeros, by default
    those that the log notes; ValueError if neither says how much memory there is. Other arguments
    are those of `predict_precopy`.

    What becomes dirty in a round is the union of the epochs within it; of an epoch that lies in it
    in part, that part of the pages that the others do not have. Where the log ends first it says
    so: `converges` is False, since nobody knows.

    Notes
    -----
    Record epochs shorter than the downtime limit. A round shorter than an epoch gets its part of
    the epoch's pages, as if each were written once in it; pages that are written all the time would
    be dirty again after any part, so the rounds are then smaller than real ones.
    """
    series = as_series(tl)
    memory_bytes, zeros = series.memory_of(memory_bytes, zero_bytes)
    replay = _Replay(series)
    return _run(
        memory_bytes=memory_bytes,
        zero_bytes=zeros,
        page_size=series.page_size,
        dirtied=replay,
        bandwidth=bandwidth,
        downtime_limit=downtime_limit,
        page_header=page_header,
        max_total_seconds=max_total_seconds,
        ends=replay.ends,
    )


class _Replay:
    """Bytes dirtied in one stretch of time after another. Times are nanoseconds since the start of
    the first epoch, which floats hold exactly for any recording, whenever it was."""

    def __init__(self, series: Series) -> None:
        self.series = series
        starts, ends = series.times()
        self.starts, self.stops = (starts - starts[0]).tolist(), (ends - starts[0]).tolist()
        self.reached = np.maximum.accumulate(ends - starts[0]).tolist()
        self.now = 0.0
        self.each = series.timeline.each()
        self.held: dict[int, Rows] = {}  # read, and not yet over

    def ends(self) -> str:
        last = self.reached[-1]
        if self.now <= last:
            return ""
        return (
            f"the log ends after {show_seconds(self.series.seconds)}, in the middle of a round "
            f"that lasts {show_seconds((self.now - last) / NS)} longer"
        )

    def __call__(self, seconds: float) -> float:
        begin, end = self.now, self.now + seconds * NS
        self.now = end
        for number in [number for number in self.held if self.stops[number] < begin]:
            del self.held[number]
        known = Union(self.series.geometry)
        partly: list[tuple[float, Rows]] = []
        for number, part in self._overlapping(begin, end):
            rows = self._rows(number)
            if part == 1:
                known.add(rows)
            else:
                partly.append((part, rows))
        pages = float(known.count())
        if partly:
            ranges = known.ranges()
            pages += sum(part * self._beyond(ranges, rows) for part, rows in partly)
        return pages * self.series.page_size

    def _rows(self, number: int) -> Rows:
        """The rows of an epoch, which is none before those that the present round began with."""
        while number not in self.held:
            each, rows = next(self.each)
            if self.stops[each] > self.now:  # the next round may ask again
                self.held[each] = rows
            if each == number:
                return rows
        return self.held[number]

    def _beyond(self, known: Addresses, rows: Rows) -> int:
        """How many pages of an epoch are not known."""
        size, base = self.series.page_size, self.series.geometry.iova
        return count(rows, size, base) - shared(rows, of(known), size, base)

    def _overlapping(self, begin: float, end: float) -> Iterator[tuple[int, float]]:
        """The epochs that lie in a stretch of time, each with its part that does. Epochs may
        overlap, and one of no time lies in the stretch that has its moment."""
        for number in range(bisect_left(self.reached, begin), len(self.stops)):
            start, stop = self.starts[number], self.stops[number]
            if start >= end:
                return
            common = min(end, stop) - max(begin, start)
            if common > 0:
                yield number, min(1.0, common / (stop - start))
            elif start == stop and begin <= start:
                yield number, 1.0


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
