"""The dirty volume D(t): bytes of distinct pages that are written within an interval of length t.

It is what decides whether a pre-copy converges. D(t)/t is the dirty rate at the interval t.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._base import html
from .._base.text import show_bytes, show_seconds

Floats = NDArray[np.float64]


class VolumeCurve:
    """D(t) through measured points, piecewise linear.

    Left of the first point it is the line through the first two, down to its value at t = 0; where
    that would be negative it is 0, joined to the first point. Right of the last it goes on with the
    last slope, up to all memory that is not zero, and then is flat.

    Parameters
    ----------
    seconds : array_like
        Intervals, above 0 and ascending.
    nbytes : array_like
        Bytes of distinct pages within each, 0 or more (their mean). A page counts whole.
    total_bytes : int, float or None
        Bytes of all memory; None if that is not known: then nothing bounds the curve, and
        `predict_precopy` must be told.
    zero_bytes : int or float
        Bytes of it in pages that hold zeros and are never written: a pre-copy sends only a header
        for such a page.
    page_size : int
        Bytes of the pages that were counted.
    spread : array_like, optional
        Standard deviation of each point over the offsets of its interval.

    Notes
    -----
    Parameters are attributes by the same names, of which the same curve can be made again.

    Examples
    --------
    >>> curve = VolumeCurve([1, 2], [100e6, 150e6], total_bytes=4 << 30)
    >>> curve(0.5), curve(4)
    (75000000.0, 250000000.0)
    """

    def __init__(
        self,
        seconds: ArrayLike,
        nbytes: ArrayLike,
        *,
        total_bytes: float | None,
        zero_bytes: float = 0,
        page_size: int = 4096,
        spread: ArrayLike | None = None,
    ) -> None:
        self.seconds: Floats = np.array(seconds, np.float64, ndmin=1)
        self.nbytes: Floats = np.array(nbytes, np.float64, ndmin=1)
        self.spread: Floats = (
            np.zeros_like(self.nbytes) if spread is None else np.array(spread, np.float64, ndmin=1)
        )
        self.total_bytes, self.zero_bytes, self.page_size = total_bytes, zero_bytes, page_size
        if self.seconds.ndim != 1 or not (
            self.seconds.shape == self.nbytes.shape == self.spread.shape
        ):
            raise ValueError(
                f"seconds, nbytes and spread must be of one length, not {self.seconds.shape}, "
                f"{self.nbytes.shape} and {self.spread.shape}"
            )
        self._check()
        self._at, self._volume = self._points()

    def _check(self) -> None:
        if len(self.seconds) == 0:
            raise ValueError("a curve needs at least one point")
        finite = np.isfinite(self.seconds) & np.isfinite(self.nbytes)
        good = finite & (self.nbytes >= 0) & (np.diff(self.seconds, prepend=0.0) > 0)
        if not good.all():
            bad = int(np.argmin(good))
            raise ValueError(
                f"point {bad} is ({self.seconds[bad]} s, {self.nbytes[bad]} bytes): times must be "
                "above 0 and ascend, volumes 0 or more"
            )
        check_memory(self.total_bytes, self.zero_bytes, "total_bytes")
        if self.page_size < 1:
            raise ValueError(f"page_size must be 1 or more, not {self.page_size}")

    def _points(self) -> tuple[Floats, Floats]:
        """The measured points, and the one at t = 0."""
        at, volume = self.seconds, self.nbytes
        start = 0.0
        if len(at) > 1:
            slope = (volume[1] - volume[0]) / (at[1] - at[0])
            start = float(volume[0] - slope * at[0])
            if start < 1e-12 * volume[0]:  # negative, or what rounding left of a line through 0
                start = 0.0
        return np.append(0.0, at), np.append(start, volume)

    @property
    def cap(self) -> float:
        """All memory that is not zero, in bytes: no more can be dirty. Infinite if unknown."""
        return math.inf if self.total_bytes is None else float(self.total_bytes - self.zero_bytes)

    @property
    def _last_slope(self) -> float:
        at, volume = self._at, self._volume
        return max(0.0, float((volume[-1] - volume[-2]) / (at[-1] - at[-2])))

    def __call__(self, t: Any) -> Any:
        """Bytes of distinct pages that are written within `t` seconds: a float, or an array."""
        times = np.asarray(t, np.float64)
        if (times < 0).any() or np.isnan(times).any():
            raise ValueError(f"an interval must be 0 or more seconds, not {t}")
        volume = np.minimum(self._unbounded(times), self.cap)
        return volume if np.ndim(t) else float(volume)

    def _unbounded(self, times: Floats) -> Floats:
        inside = np.interp(times, self._at, self._volume)
        beyond = np.maximum(times - self._at[-1], 0)
        found: Floats = inside + (beyond * self._last_slope if self._last_slope else 0.0)
        return found

    def settles(self, bandwidth: float) -> float:
        """The largest volume V, at most all memory that is not zero, of which as much is dirty
        again when it has been sent: ``D(V / bandwidth) >= V``.

        Rounds that begin with all memory come to it, as D never falls. Infinite if the memory is
        not known and rounds from however much would grow.
        """
        cap = self.cap
        sent = self._at * bandwidth
        sent = sent[sent < cap]
        if math.isfinite(cap):
            sent = np.append(sent, cap)
        excess = self._unbounded(sent / bandwidth) - sent * (1 - 1e-12)
        if math.isinf(cap):  # the endless last piece
            growth = self._last_slope / bandwidth - 1
            if growth > 0 or (growth == 0 and excess[-1] >= 0):
                return math.inf
            if excess[-1] >= 0:
                return float(sent[-1] - excess[-1] / growth)
        last = int(np.flatnonzero(excess >= 0)[-1])  # there is one: D(0) is 0 or more
        if last == len(sent) - 1:
            return float(sent[-1])
        fall = excess[last] / (excess[last] - excess[last + 1])
        return float(sent[last] + fall * (sent[last + 1] - sent[last]))

    @staticmethod
    def constant(
        rate: float, *, total_bytes: float | None, zero_bytes: float = 0, page_size: int = 4096
    ) -> ConstantCurve:
        """``D(t) = rate * t``: `rate` bytes of new pages each second, whatever the interval."""
        return ConstantCurve(
            rate, total_bytes=total_bytes, zero_bytes=zero_bytes, page_size=page_size
        )

    @staticmethod
    def saturating(
        rate: float,
        working_set: float,
        *,
        total_bytes: float | None,
        zero_bytes: float = 0,
        page_size: int = 4096,
    ) -> SaturatingCurve:
        """``D(t) = min(rate * t, working_set)``: it writes the same pages again and again."""
        return SaturatingCurve(
            rate, working_set, total_bytes=total_bytes, zero_bytes=zero_bytes, page_size=page_size
        )

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {len(self.seconds)} points, {show_bytes(self.nbytes[0])} "
            f"within {show_seconds(self.seconds[0])} to {show_bytes(self.nbytes[-1])} within "
            f"{show_seconds(self.seconds[-1])}, memory {self._memory_text()}>"
        )

    @html.never_raising
    def _repr_html_(self) -> str:
        last, across = float(self.seconds[-1]), html.CELLS_ACROSS
        points = [float(self(last * (n + 1) / across)) for n in range(across)]
        facts = [
            (f"within {show_seconds(float(at))}", show_bytes(float(volume)))
            for at, volume in {
                n: (self.seconds[n], self.nbytes[n]) for n in (0, len(self.seconds) - 1)
            }.values()
        ]
        label = f"distinct dirty memory within 0 to {show_seconds(last)}"
        facts.append(("memory", self._memory_text()))
        return html.piece(self, facts, html.bars(points, label))

    def _memory_text(self) -> str:
        return "unknown" if self.total_bytes is None else show_bytes(self.total_bytes)


class ConstantCurve(VolumeCurve):
    """``D(t) = rate * t``. `rate` is in bytes per second; the rest is as of `VolumeCurve`."""

    def __init__(
        self,
        rate: float,
        *,
        total_bytes: float | None,
        zero_bytes: float = 0,
        page_size: int = 4096,
    ) -> None:
        if not 0 <= rate < math.inf:
            raise ValueError(f"rate must be 0 or more bytes per second, not {rate}")
        self.rate = float(rate)
        super().__init__(
            [1.0], [rate], total_bytes=total_bytes, zero_bytes=zero_bytes, page_size=page_size
        )


class SaturatingCurve(VolumeCurve):
    """``D(t) = min(rate * t, working_set)``. `rate` is in bytes per second, `working_set` in bytes;
    the rest is as of `VolumeCurve`."""

    def __init__(
        self,
        rate: float,
        working_set: float,
        *,
        total_bytes: float | None,
        zero_bytes: float = 0,
        page_size: int = 4096,
    ) -> None:
        most = math.inf if total_bytes is None else total_bytes
        if not (0 < rate < math.inf and 0 < working_set <= most and working_set < math.inf):
            raise ValueError(
                f"rate must be above 0 and working_set above 0 and at most total_bytes="
                f"{total_bytes}, not {rate} and {working_set}"
            )
        self.rate, self.working_set = float(rate), float(working_set)
        full = self.working_set / self.rate
        super().__init__(
            [full / 2, full, 2 * full],
            [self.working_set / 2, self.working_set, self.working_set],
            total_bytes=total_bytes,
            zero_bytes=zero_bytes,
            page_size=page_size,
        )


def check_memory(memory_bytes: float | None, zero_bytes: float, name: str) -> None:
    """ValueError if there cannot be so much memory, or so much of it zeros. None: not known."""
    if memory_bytes is not None and not 0 < memory_bytes < math.inf:
        raise ValueError(f"{name} must be above 0 bytes, not {memory_bytes}")
    if not 0 <= zero_bytes < math.inf or (memory_bytes is not None and zero_bytes > memory_bytes):
        raise ValueError(
            f"zero_bytes must be 0 or more and at most {name}, not {zero_bytes} of {memory_bytes}"
        )


def uniform_volume(
    t: Any, *, total_bytes: float, writes_per_s: float, page_size: int = 4096
) -> Any:
    """D(t) of writes to pages at random, each as likely as any other, in bytes.

    ``S * (1 - (1 - P/S)**(w * t))`` with S = total_bytes, P = page_size, w = writes_per_s.

    >>> round(uniform_volume(1.0, total_bytes=1 << 30, writes_per_s=3e6) / 2**20)
    1024
    """
    if not 0 < page_size <= total_bytes or writes_per_s < 0:
        raise ValueError(
            f"page_size must be at most total_bytes and writes_per_s 0 or more, "
            f"not {page_size}, {total_bytes} and {writes_per_s}"
        )
    writes = np.asarray(t, np.float64) * writes_per_s
    miss = math.log1p(-page_size / total_bytes) if page_size < total_bytes else -math.inf
    with np.errstate(invalid="ignore"):
        volume = np.where(writes == 0, 0.0, -total_bytes * np.expm1(writes * miss))
    return volume if np.ndim(t) else float(volume)


def fit_saturating(curve: VolumeCurve) -> SaturatingCurve:
    """The curve ``min(rate * t, working_set)`` that is nearest to the points, by least squares.

    For each number of points on the slope, rate and working set have closed forms; the best of all
    is taken.
    """
    t, volume = curve.seconds, curve.nbytes
    best = (math.inf, 0.0, 0.0)
    for rising in range(1, len(t) + 1):
        rate = float((t[:rising] * volume[:rising]).sum() / (t[:rising] ** 2).sum())
        flat = float(volume[rising:].mean()) if rising < len(t) else min(rate * t[-1], curve.cap)
        error = float(((np.minimum(rate * t, flat) - volume) ** 2).sum())
        best = min(best, (error, rate, flat))
    _, rate, flat = best
    if rate <= 0 or flat <= 0:
        raise ValueError("nothing is dirty: there is no rate to fit")
    return SaturatingCurve(
        rate,
        min(flat, curve.cap),
        total_bytes=curve.total_bytes,
        zero_bytes=curve.zero_bytes,
        page_size=curve.page_size,
    )
