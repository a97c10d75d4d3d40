"""The dirty volume as it was measured: a curve from the epochs of a log."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .curves import Floats, VolumeCurve
from .pieces import Ints, pieces_of
from .series import NS, Series, Source, as_series


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
    every k and every offset from how long each page stayed clean. That is one pass over the log.
    """
    series = as_series(tl)
    total, zeros = series.memory_of(memory_bytes, zero_bytes)
    ks = _steps(len(series)) if epochs is None else _checked(epochs, len(series))
    starts, ends = series.times()
    gaps = _Gaps.of(series)
    seconds: list[float] = []
    means: list[float] = []
    spread: list[float] = []
    for k in ks:
        volumes = gaps.unions(k) * float(series.page_size)
        at = float((_last_ends(ends, k) - starts[: len(starts) - k + 1]).mean()) / NS
        if seconds and at <= seconds[-1]:  # no longer, since epochs take no time: the larger one
            del seconds[-1], means[-1], spread[-1]
        if at <= 0:
            continue
        seconds.append(at)
        means.append(float(volumes.mean()))
        spread.append(float(volumes.std()))
    if not seconds:
        raise ValueError("the epochs take no time: there is no volume within an interval")
    return VolumeCurve(
        seconds,
        means,
        total_bytes=total,
        zero_bytes=zeros,
        page_size=series.page_size,
        spread=spread,
    )


def _last_ends(ends: Ints, k: int) -> Ints:
    """The last end of each k neighbouring epochs, of which a longer one may reach beyond others."""
    found, size = ends, 1
    while 2 * size <= k:
        found, size = np.maximum(found[:-size], found[size:]), 2 * size
    rest = k - size
    return np.maximum(found[: len(found) - rest], found[rest:])


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
