"""The dirty volume D(t): bytes of distinct pages that are written within an interval of length t.

It is what decides whether a pre-copy converges. D(t)/t is the dirty rate at the interval t.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._text import show_bytes, show_seconds
from .pieces import Ints, pieces_of
from .series import NS, Series, Source, as_series

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
        Bytes of distinct pages within each, 0 or more (their mean).
    total : int or float
        Bytes of all memory.
    zero : int or float
        Bytes of it in pages that hold zeros and are never written: a pre-copy sends only a header
        for such a page.
    page_size : int
        Bytes of the pages that were counted.
    spread : array_like, optional
        Standard deviation of each point over the offsets of its interval.

    Examples
    --------
    >>> curve = VolumeCurve([1, 2], [100e6, 150e6], total=4 << 30)
    >>> curve(0.5), curve(4)
    (75000000.0, 250000000.0)
    """

    def __init__(
        self,
        seconds: ArrayLike,
        nbytes: ArrayLike,
        *,
        total: float,
        zero: float = 0,
        page_size: int = 4096,
        spread: ArrayLike | None = None,
    ) -> None:
        self.seconds: Floats = np.array(seconds, np.float64, ndmin=1)
        self.nbytes: Floats = np.array(nbytes, np.float64, ndmin=1)
        self.spread: Floats = (
            np.zeros_like(self.nbytes) if spread is None else np.array(spread, np.float64, ndmin=1)
        )
        self.total, self.zero, self.page_size = total, zero, page_size
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
        if not 0 <= self.zero <= self.total or self.total <= 0:
            raise ValueError(
                f"total must be above 0 and zero at most total, not {self.total} and {self.zero}"
            )
        if self.page_size < 1:
            raise ValueError(f"page_size must be 1 or more, not {self.page_size}")

    def _points(self) -> tuple[Floats, Floats]:
        """The measured points, and the one at t = 0."""
        at, volume = self.seconds, self.nbytes
        start = 0.0
        if len(at) > 1:
            slope = (volume[1] - volume[0]) / (at[1] - at[0])
            start = max(0.0, float(volume[0] - slope * at[0]))
        return np.append(0.0, at), np.append(start, volume)

    @property
    def cap(self) -> float:
        """All memory that is not zero, in bytes: no more can be dirty."""
        return float(self.total - self.zero)

    @property
    def _last_slope(self) -> float:
        at, volume = self._at, self._volume
        return max(0.0, float((volume[-1] - volume[-2]) / (at[-1] - at[-2])))

    def __call__(self, t: Any) -> Any:
        """Bytes of distinct pages that are written within `t` seconds: a float, or an array."""
        times = np.asarray(t, np.float64)
        if (times < 0).any() or np.isnan(times).any():
            raise ValueError(f"an interval must be 0 or more seconds, not {t}")
        inside = np.interp(times, self._at, self._volume)
        beyond = np.maximum(times - self._at[-1], 0)
        more = beyond * self._last_slope if self._last_slope else 0.0
        volume = np.minimum(inside + more, self.cap)
        return volume if np.ndim(t) else float(volume)

    @classmethod
    def constant(cls, rate: float, *, total: float) -> VolumeCurve:
        """``D(t) = rate * t``: `rate` bytes of new pages each second, whatever the interval."""
        return cls([1.0], [float(rate)], total=total)

    @classmethod
    def saturating(cls, rate: float, working_set: float, *, total: float) -> VolumeCurve:
        """``D(t) = min(rate * t, working_set)``: it writes the same pages again and again."""
        if not (rate > 0 and 0 < working_set <= total):
            raise ValueError(
                f"rate must be above 0 and working_set above 0 and at most total={total}, "
                f"not {rate} and {working_set}"
            )
        full = working_set / rate
        return cls([full, 2 * full], [working_set, working_set], total=total)._from_zero()

    def _from_zero(self) -> VolumeCurve:
        """Through the origin, whatever the line of the first two points says."""
        self._volume[0] = 0.0
        return self

    def __repr__(self) -> str:
        return (
            f"<VolumeCurve {len(self.seconds)} points, {show_bytes(self.nbytes[0])} within "
            f"{show_seconds(self.seconds[0])} to {show_bytes(self.nbytes[-1])} within "
            f"{show_seconds(self.seconds[-1])}, total {show_bytes(self.total)}>"
        )

    def _repr_html_(self) -> str:
        from .. import _html

        return _html.curve(self)


def uniform_volume(t: Any, *, total: float, writes_per_s: float, page_size: int = 4096) -> Any:
    """D(t) of writes to pages at random, each as likely as any other, in bytes.

    ``S * (1 - (1 - P/S)**(w * t))`` with S = total, P = page_size, w = writes_per_s.

    >>> round(uniform_volume(1.0, total=1 << 30, writes_per_s=3e6) / 2**20)
    1024
    """
    if not 0 < page_size <= total or writes_per_s < 0:
        raise ValueError(
            f"page_size must be at most total and writes_per_s 0 or more, "
            f"not {page_size}, {total} and {writes_per_s}"
        )
    writes = np.asarray(t, np.float64) * writes_per_s
    miss = math.log1p(-page_size / total) if page_size < total else -math.inf
    with np.errstate(invalid="ignore"):
        volume = np.where(writes == 0, 0.0, -total * np.expm1(writes * miss))
    return volume if np.ndim(t) else float(volume)


def volume_curve(
    log: Source,
    i: int | None = None,
    j: int | None = None,
    *,
    epochs: Iterable[int] | None = None,
    zero: float = 0,
) -> VolumeCurve:
    """D(t) as it was measured: unions of k neighbouring epochs, averaged over all offsets.

    Parameters
    ----------
    log : DirtyLog or iterable of (bitmap, t_start_ns, t_end_ns)
    i, j : int, optional
        The epochs i <= n < j; all without them.
    epochs : iterable of int, optional
        The numbers k of epochs to be measured. By default all up to 16, then ever fewer, to all of
        them: about 64.
    zero : float
        Bytes of memory that is zero, for `VolumeCurve`.

    Returns
    -------
    VolumeCurve
        One point for each k: its mean time and volume, and the standard deviation over the offsets.

    Notes
    -----
    A union of k epochs lacks a page only where it was clean in all of them, so it is known for
    every k and every offset from how long each page stayed clean. That is one pass over the log.
    """
    series = as_series(log, i, j)
    ks = _steps(len(series)) if epochs is None else _checked(epochs, len(series))
    starts = np.array([epoch.t_start_ns for epoch in series], np.int64)
    ends = np.array([epoch.t_end_ns for epoch in series], np.int64)
    gaps = _Gaps.of(series)
    seconds, means, spread = [], [], []
    for k in ks:
        volumes = gaps.unions(k) * float(series.page_size)
        seconds.append(float((ends[k - 1 :] - starts[: len(starts) - k + 1]).mean()) * NS)
        means.append(float(volumes.mean()))
        spread.append(float(volumes.std()))
    return VolumeCurve(
        seconds, means, total=series.length, zero=zero, page_size=series.page_size, spread=spread
    )


def _steps(n: int) -> list[int]:
    """All numbers up to 16, then growing by an eighth or so, and n."""
    spaced = np.unique(np.geomspace(1, n, 64).round().astype(int)).tolist()
    return sorted({*range(1, min(n, 16) + 1), *spaced, n})


def _checked(epochs: Iterable[int], n: int) -> list[int]:
    ks = sorted(set(epochs))
    if not ks or ks[0] < 1 or ks[-1] > n:
        raise ValueError(f"epochs must be numbers from 1 to {n}, not {ks}")
    return ks


class _Gaps:
    """How long pages stayed clean: epochs `end - length` to `end` were clean on `pages` pages."""

    def __init__(self, n: int, touched: int, end: Ints, length: Ints, pages: Floats) -> None:
        self.n, self.touched = n, touched
        self.end, self.length, self.pages = end, length, pages

    @classmethod
    def of(cls, series: Series) -> _Gaps:
        n, pieces = len(series), pieces_of(series)
        last = np.full(len(pieces), -1, np.int64)  # the epoch in which a piece was dirty last
        weight = pieces.pages.astype(np.float64)
        ends, lengths, counts = [], [], []

        def add(end: int, dirty: Ints | slice) -> None:
            gap = end - 1 - last[dirty]
            pages = np.bincount(gap, weight[dirty])
            pages[:1] = 0  # dirty in the epoch before: no gap
            length = np.flatnonzero(pages)
            ends.append(np.full(len(length), end, np.int64))
            lengths.append(length)
            counts.append(pages[length])

        for number in range(n):
            dirty = pieces.dirty(number)
            add(number, dirty)
            last[dirty] = number
        add(n, slice(None))
        return cls(
            n,
            pieces.sum(slice(None)),
            np.concatenate(ends),
            np.concatenate(lengths),
            np.concatenate(counts),
        )

    def unions(self, k: int) -> Floats:
        """Pages of the union of k epochs, for each offset."""
        long = self.length >= k
        end, length, pages = self.end[long], self.length[long], self.pages[long]
        size = self.n - k + 2
        missing: Floats = np.bincount(end - length, pages, size).astype(np.float64)
        missing -= np.bincount(end - k + 1, pages, size)
        found: Floats = self.touched - np.cumsum(missing)[: size - 1]
        return found


def fit_saturating(curve: VolumeCurve) -> VolumeCurve:
    """The curve ``min(rate * t, working_set)`` that is nearest to the points, by least squares.

    For each number of points on the slope, rate and working set have closed forms; the best of all
    is taken. `rate` and `working_set` are attributes of what is returned.
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
    return FittedCurve.of(rate, min(flat, curve.cap), curve)


class FittedCurve(VolumeCurve):
    """A curve of two parameters: `rate` in bytes per second, `working_set` in bytes."""

    rate: float
    working_set: float

    @classmethod
    def of(cls, rate: float, working_set: float, fitted: VolumeCurve) -> FittedCurve:
        made = cls.saturating(rate, working_set, total=fitted.total)
        assert isinstance(made, cls)
        made.rate, made.working_set = rate, working_set
        made.page_size, made.zero = fitted.page_size, fitted.zero
        return made
