"""The dirty volume as it was measured: a curve from the epochs of a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .curves import VolumeCurve
from .history import History
from .pieces import pieces_of
from .series import NS, Series, Source, as_series

DEFAULT_STEPS = 80  # more than `steps` gives
MOST_COUNTS = 1 << 24  # held at once, of epochs and steps


class Point(NamedTuple):
    """Of unions of one number of epochs: their mean time and volume, and its deviation."""

    seconds: float
    nbytes: float
    spread: float


def volume_curve(
    tl: Source,
    *,
    epochs: Iterable[int] | None = None,
    memory_bytes: float | None = None,
    zero_bytes: float | None = None,
) -> VolumeCurve:
    """D(t) as it was measured: unions of k neighbouring epochs, averaged over all offsets.

    Parameters
    ----------
    tl : Timeline, or what `Timeline.of` takes
        A log, a part of one, or rows (bitmap, t_start_ns, t_end_ns).
    epochs : iterable of int, optional
        The numbers k of epochs to be measured. By default all up to 16, then ever fewer, to all of
        them: about 64.
    memory_bytes, zero_bytes : int or float, optional
        Bytes of all memory, and of its pages of zeros: the curve's `total_bytes`, rounded up to
        whole pages, and `zero_bytes`. By default what the log's notes say. The range of addresses
        says nothing of it: if the log does not know either, `total_bytes` is None.

    Returns
    -------
    VolumeCurve
        One point for each k: its mean time and volume, and the standard deviation over the offsets.

    Notes
    -----
    A union of k epochs lacks a page only where it was clean in all of them, so it is known for
    every k and every offset from how long each page stayed clean. That is one pass over the log,
    or more for very many k.
    """
    series = as_series(tl)
    ks = steps(len(series)) if epochs is None else _checked(epochs, len(series))
    at_once = max(DEFAULT_STEPS, MOST_COUNTS // len(series))
    points: list[Point] = []
    for start in range(0, len(ks), at_once):
        some = ks[start : start + at_once]
        pieces = pieces_of(series)
        history = History(pieces, gap_bins(some, len(series)))
        for block in pieces.blocks():
            history.add(block)
        points += points_of(series, some, history)
    return curve_of(series, points, memory_bytes, zero_bytes)


def steps(n: int) -> list[int]:
    """All numbers up to 16, then growing by an eighth or so, and n."""
    spaced = np.unique(np.geomspace(1, n, 64).round().astype(int)).tolist()
    return sorted({*range(1, min(n, 16) + 1), *spaced, n})


def _checked(epochs: Iterable[int], n: int) -> list[int]:
    ks = sorted(set(epochs))
    if not ks or ks[0] < 1 or ks[-1] > n:
        raise ValueError(f"epochs must be numbers from 1 to {n}, not {ks}")
    return ks


def gap_bins(ks: list[int], n: int) -> NDArray[np.int32]:
    """Of each length from 0 to n that a gap may have: how many of the ascending `ks` are no
    longer, so that the gap holds so many epochs."""
    return np.searchsorted(ks, np.arange(n + 1), side="right").astype(np.int32)


def points_of(series: Series, ks: list[int], history: History) -> list[Point]:
    """A point of the curve for each k, of a history with the bins of those; finishes it."""
    history.finish()
    n, touched = len(series), history.touched()
    starts, ends = series.times()
    begins, stops = (_at_least(counts) for counts in (history.begins, history.ends))
    points = []
    for bin_, k in enumerate(ks, 1):
        missing = np.zeros(n - k + 2, np.int64)  # by offset: more than at the one before
        if bin_ < begins.shape[1]:
            missing[: n + 1] += begins[: n - k + 2, bin_]
            missing[1:] -= stops[k:, bin_]
        volumes = (touched - np.cumsum(missing)[:-1]) * float(series.page_size)
        seconds = float((_last_ends(ends, k) - starts[: n - k + 1]).mean()) / NS
        points.append(Point(seconds, float(volumes.mean()), float(volumes.std())))
    return points


def _last_ends(ends: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The last end of each k neighbouring epochs, of which a longer one may reach beyond others."""
    found, size = ends, 1
    while 2 * size <= k:
        found, size = np.maximum(found[:-size], found[size:]), 2 * size
    rest = k - size
    return np.maximum(found[: len(found) - rest], found[rest:])


def _at_least(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of gaps by epoch and bin, each with those of the longer bins."""
    longer = counts[:, ::-1]
    np.cumsum(longer, axis=1, out=longer)
    return counts


def curve_of(
    series: Series, points: list[Point], memory_bytes: float | None, zero_bytes: float | None
) -> VolumeCurve:
    """The curve through what was measured. Of points of one time, since epochs take none, the last
    is the largest volume."""
    total, zeros = series.memory_of(memory_bytes, zero_bytes)
    kept: list[Point] = []
    for point in points:
        if kept and point.seconds <= kept[-1].seconds:
            kept.pop()
        if point.seconds > 0:
            kept.append(point)
    if not kept:
        raise ValueError("the epochs take no time: there is no volume within an interval")
    seconds, means, spread = zip(*kept, strict=True)
    return VolumeCurve(
        seconds,
        means,
        total_bytes=total,
        zero_bytes=zeros,
        page_size=series.page_size,
        spread=spread,
    )
