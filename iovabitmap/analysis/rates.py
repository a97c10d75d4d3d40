"""Rates and sets of pages: how fast memory becomes dirty, which pages, and how often again.

A number without its interval is not a dirty rate: at a longer interval the same program shows a
smaller one, since a page counts once however often it is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._base import html
from .._base.optional import need
from .._base.text import show_bytes, show_count, show_seconds
from ..timeline import Union
from .history import History, Hits
from .pieces import pieces_of
from .series import ONE, Block, Runs, Series, Source, as_series
from .units import GIB, MIB


@dataclass(frozen=True)
class DirtyRate:
    """Pages that were dirtied within an interval: what was counted, and the rates it gives.

    Within 0 seconds nothing has a rate: those per second are then NaN.

    >>> DirtyRate(pages=25600, page_size=4096, seconds=0.5)
    DirtyRate(200 MiB/s: 25600 pages of 4096 bytes within 500 ms)
    """

    pages: int
    page_size: int
    seconds: float

    @property
    def nbytes(self) -> int:
        """Bytes of distinct pages, the dirty volume of the interval."""
        return self.pages * self.page_size

    @property
    def bytes_per_s(self) -> float:
        return self.nbytes / self.seconds if self.seconds else math.nan

    @property
    def mib_per_s(self) -> float:
        return self.bytes_per_s / MIB

    @property
    def pages_per_s(self) -> float:
        return self.pages / self.seconds if self.seconds else math.nan

    @property
    def _ms(self) -> int:
        return max(1, round(self.seconds * 1000))

    def as_qemu(self) -> int:
        """MiB/s as QEMU's calc-dirty-rate prints it in the modes dirty-bitmap and dirty-ring.

        ``((pages * page_size) >> 20) * 1000 // ms``: of two integer divisions the first comes
        before the time, so less than a whole MiB prints 0.
        """
        return (self.nbytes >> 20) * 1000 // self._ms

    def as_qemu_migration(self) -> int:
        """Pages per second, as QEMU's migration statistics have them: ``pages * 1000 // ms``."""
        return self.pages * 1000 // self._ms

    def __repr__(self) -> str:
        rate = f"{self.mib_per_s:.4g} MiB/s" if self.seconds else "no rate"
        return (
            f"DirtyRate({rate}: {self.pages} pages of {self.page_size} bytes "
            f"within {show_seconds(self.seconds)})"
        )

    @html.never_raising
    def _repr_html_(self) -> str:
        facts = [
            ("rate", f"{self.mib_per_s:.4g} MiB/s" if self.seconds else "none within 0 s"),
            ("dirty", f"{show_count(self.pages, 'page')} of {show_bytes(self.page_size)}"),
            ("within", show_seconds(self.seconds)),
        ]
        return html.piece(self, facts)


def dirty_rate(tl: Source) -> DirtyRate:
    """The rate at the interval of all epochs together: distinct pages over their time.

    Parameters
    ----------
    tl : Timeline, or what `Timeline.of` takes
        A log, a part of one, or rows (bitmap, t_start_ns, t_end_ns).

    Examples
    --------
    >>> import iovabitmap as ib
    >>> bm = ib.IOVABitmap(0, 1 << 20)
    >>> bm.set(0, 256 * 4096)
    >>> dirty_rate([(bm, 0, 1_000_000_000)]).mib_per_s
    1.0
    """
    series = as_series(tl)
    found = Union(series.geometry)
    for rows in series.timeline.blocks():
        found.add(rows)
    return DirtyRate(found.count(), series.page_size, series.seconds)


def rows_of(runs: Runs, series: Series) -> NDArray[np.uint64]:
    """Runs as rows (iova, length), the last one cut at the end of the range."""
    page_size = np.uint64(series.page_size)
    rows = runs * page_size  # of a run up to 2**64 the length wraps: it is the one that is cut
    if len(rows) and int(runs[-1].sum()) == series.npages:
        rows[-1, 1] = series.geometry.length - int(rows[-1, 0])
    rows[:, 0] += np.uint64(series.geometry.iova)
    return rows


def hot_ranges(tl: Source, *, at_least: float = 0.5) -> NDArray[np.uint64]:
    """The pages that are dirty in at least this part of the epochs, as (n, 2) rows (iova, length).

    `at_least` is above 0 and at most 1: 0.5 is half of all epochs.
    """
    series = as_series(tl)
    check_part(at_least)
    pieces = pieces_of(series)
    hits = Hits(pieces)
    for block in pieces.blocks():
        hits.add(block)
    return rows_of(pieces.rows(often(hits, at_least, len(series))), series)


def check_part(at_least: float) -> None:
    """ValueError for what is no part of the epochs."""
    if not 0 < at_least <= 1:
        raise ValueError(f"at_least must be above 0 and at most 1, not {at_least}")


def often(hits: Hits, at_least: float, epochs: int) -> NDArray[np.bool_]:
    """The pieces that were dirty in at least this part of the epochs."""
    return hits.found >= math.ceil(at_least * epochs - 1e-9)


def reuse(tl: Source) -> Any:
    """Pages of each epoch: newly dirty, dirty again, gone, against the epoch before.

    Returns a frame with one row for each epoch and the columns `seconds`, `pages`, `first` (never
    dirty before in these epochs), `new` (not dirty in the epoch before), `again` (dirty in both)
    and `gone` (dirty in the epoch before and not in this one); pages = new + again. It needs
    pandas.
    """
    series = as_series(tl)
    pieces = pieces_of(series)
    history = History(pieces, np.minimum(np.arange(len(series) + 1), 1).astype(np.int32))
    for block in pieces.blocks():
        history.add(block)
    pages, again = history.ends[:-1].sum(axis=1), history.ends[:-1, 0].copy()
    again[0] = 0  # before the first epoch is no epoch
    columns = {
        "seconds": series.seconds_each(),
        "pages": pages,
        "first": history.newly,
        "new": pages - again,
        "again": again,
        "gone": np.append(0, pages[:-1]) - again,
    }
    return need("pandas").DataFrame(columns).rename_axis("epoch")


def amplification(tl: Source) -> dict[int, float]:
    """How much more is dirty when it is tracked in larger blocks, for blocks up to 1 GiB.

    Of pages of P bytes and blocks of k pages it is ``k * (dirty blocks) / (dirty pages)``, between
    1 and k. Blocks are counted from the base, as those of ``bm.rescale``. Epochs are
    added up.

    Returns {block bytes: factor}, from the page size on, doubling; of nothing dirty each is 1.

    Source: for independent pages of density p the factor is ``(1 - (1 - p)**k) / p``.
    """
    series = as_series(tl)
    page_size = series.page_size
    blocks = _Blocks(max(1, (GIB // page_size).bit_length()))
    for block in series.blocks():
        blocks.add(block)
    return {
        page_size << shift: ((count << shift) / blocks.pages if blocks.pages else 1.0)
        for shift, count in enumerate(blocks.counts())
    }


class _Blocks:
    """Counts blocks of 2**shift pages that have a dirty page, for many shifts at once.

    A run from `first` to `last` lies in ``(last >> shift) - (first >> shift) + 1`` blocks, and
    shares its first one with the run before if the two pages agree in all bits from `shift` on.
    """

    def __init__(self, shifts: int) -> None:
        self.pages = 0
        self._runs = 0
        self._borders = [0] * shifts  # that runs cross
        self._agree = np.zeros(shifts + 1, np.int64)  # runs by the shift from which they share
        self._before: tuple[int, np.uint64] | None = None  # epoch and last page

    def add(self, block: Block) -> None:
        first, last = block.first, block.first + (block.pages - ONE)
        self.pages += int(block.pages.sum())
        self._runs += len(first)
        new = np.append(True, block.epoch[1:] != block.epoch[:-1])
        apart = np.empty(len(first), np.uint64)
        apart[1:] = first[1:] ^ last[:-1]
        if self._before is not None and self._before[0] == block.epoch[0]:
            apart[0], new[0] = first[0] ^ self._before[1], False
        self._before = int(block.epoch[-1]), last[-1]

        most = len(self._borders)
        apart[new] = 1 << most
        np.minimum(apart, np.uint64(1 << most), out=apart)  # which floats hold exactly
        # The number of bits, of the exponent of a float: as frexp has it, in less time.
        bits = (apart.astype(np.float64).view(np.int64) >> 52) - 1022
        np.maximum(bits, 0, out=bits)
        self._agree += np.bincount(bits, minlength=most + 2)[: most + 1]
        for shift in range(most):
            wide = np.flatnonzero(first != last)
            if not len(wide):
                break
            first, last = first[wide], last[wide]
            self._borders[shift] += int((last - first).sum())
            first >>= ONE
            last >>= ONE

    def counts(self) -> list[int]:
        """The number of blocks for each shift."""
        shared = np.cumsum(self._agree[:-1]).tolist()
        return [
            self._runs + crossed - same for crossed, same in zip(self._borders, shared, strict=True)
        ]


def expected_amplification(k: int, p: float) -> float:
    """That of independent pages of density p in blocks of k: ``(1 - (1 - p)**k) / p``.

    >>> round(expected_amplification(512, 1e-3), 2)
    400.86
    """
    if not 0 < p <= 1 or k < 1:
        raise ValueError(f"k must be 1 or more and p above 0 and at most 1, not {k} and {p}")
    return -math.expm1(k * math.log1p(-p)) / p if p < 1 else 1.0


def sampling_error(p: float, n: int) -> float:
    """The relative standard error of a dirty fraction p that is found by n sampled pages.

    ``sqrt((1 - p) / (n * p))``, that of a binomial distribution.

    >>> round(sampling_error(0.01, 512), 2)
    0.44
    """
    if not 0 < p <= 1 or n < 1:
        raise ValueError(f"p must be above 0 and at most 1 and n at least 1, not {p} and {n}")
    return math.sqrt((1 - p) / (n * p))
