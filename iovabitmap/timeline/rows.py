"""The dirty rows of many epochs as columns, and what is done with them a block at a time.

Rows that end at the top of the address space end at 2**64, which no uint64 holds: so what is
compared here is the last address of a row, not the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Addresses: TypeAlias = npt.NDArray[np.uint64]
Times: TypeAlias = tuple[Ints, Ints]

ONE = np.uint64(1)


class Rows(NamedTuple):
    """Dirty runs: arrays of one length, ascending by epoch and then by address. In one epoch they
    neither overlap nor touch, and none is empty. An epoch without a row is clean."""

    epoch: Ints
    iova: Addresses
    length: Addresses

    def part(self, start: int, stop: int) -> Rows:
        """Rows start <= n < stop, without a copy."""
        return Rows(self.epoch[start:stop], self.iova[start:stop], self.length[start:stop])

    def ranges(self) -> Addresses:
        """(iova, length), shape (n, 2)."""
        return np.column_stack((self.iova, self.length))

    def last(self) -> Addresses:
        """The last address of each row."""
        return self.iova + (self.length - ONE)


class Store(Protocol):
    """What a Timeline reads: all epochs that there are, wherever they are kept."""

    def __len__(self) -> int:
        """Number of epochs."""

    def rows(self, i: int, j: int) -> Iterator[Rows]:
        """The dirty rows of epochs i <= n < j, in blocks of a bounded size."""

    def times(self) -> Times | None:
        """Start and end of each epoch in nanoseconds; None if they are unknown."""

    def error(self, problem: str) -> Exception:
        """What to raise if a bitmap of all addresses needs more memory than there is."""


def of(ranges: Addresses, epoch: int = 0) -> Rows:
    """Rows (iova, length) of shape (n, 2) as those of one epoch."""
    iova, length = np.ascontiguousarray(ranges.T)
    return Rows(np.full(len(ranges), epoch, np.int64), iova, length)


def none() -> Rows:
    """No rows."""
    return of(np.empty((0, 2), np.uint64))


def with_clean(blocks: Iterable[Rows], count: int, base: int) -> Iterator[Rows]:
    """The rows of `count` epochs as a log's file has them: each clean epoch is a row of length 0 at
    the base."""
    at = 0  # the first epoch that may not have come yet
    for block in blocks:
        after = int(block.epoch[-1]) + 1
        missing = np.setdiff1d(np.arange(at, after), block.epoch)
        place = np.searchsorted(block.epoch, missing)
        at = after
        if len(missing):
            yield Rows(
                np.insert(block.epoch, place, missing),
                np.insert(block.iova, place, np.uint64(base)),
                np.insert(block.length, place, 0),
            )
        else:
            yield block
    if at < count:
        iova = np.full(count - at, base, np.uint64)
        yield Rows(np.arange(at, count), iova, np.zeros_like(iova))


def join(blocks: Iterable[Rows]) -> Rows:
    """One block of many."""
    parts = list(blocks)
    if len(parts) == 1:
        return parts[0]
    return Rows(*map(np.concatenate, zip(*(parts or [none()]), strict=True)))


def by_epoch(blocks: Iterable[Rows], i: int, j: int) -> Iterator[tuple[int, Rows]]:
    """Each epoch i <= n < j with all of its rows, clean ones too; holds one epoch and one block."""
    waiting: list[Rows] = []
    at = i
    for block in blocks:
        for start, stop in pairwise([*begins(block).tolist(), len(block.epoch)]):
            epoch = int(block.epoch[start])
            while at < epoch:
                yield at, join(waiting)
                waiting, at = [], at + 1
            waiting.append(block.part(start, stop))
    while at < j:
        yield at, join(waiting)
        waiting, at = [], at + 1


def cut(rows: Rows, areas: Rows) -> Rows:
    """The parts of rows that lie in `areas`, whose epochs do not matter."""
    first, last = rows.iova, rows.last()
    area_last = areas.last()
    low = np.searchsorted(area_last, first)
    counts = np.maximum(np.searchsorted(areas.iova, last, side="right") - low, 0)
    which = np.repeat(np.arange(len(first)), counts)
    area = np.arange(len(which)) + np.repeat(low - (np.cumsum(counts) - counts), counts)
    begin = np.maximum(first[which], areas.iova[area])
    end = np.minimum(last[which], area_last[area])
    return Rows(rows.epoch[which], begin, end - begin + ONE)


def joined(rows: Rows) -> Rows:
    """What is in any of the rows: ascending, as one if they touch."""
    if not len(rows.iova):
        return rows
    order = np.argsort(rows.iova, kind="stable")
    first = rows.iova[order]
    last = np.maximum.accumulate(rows.last()[order])
    # The difference wraps only if the row does not begin beyond the others, where it is not asked.
    apart = (first[1:] > last[:-1]) & (first[1:] - last[:-1] > ONE)
    begins = np.flatnonzero(np.append(True, apart))
    ends = np.append(begins[1:], len(first)) - 1
    return of(np.column_stack((first[begins], last[ends] - first[begins] + ONE)))


def begins(block: Rows) -> Ints:
    """The number of the first row of each epoch of a block that is not empty."""
    return np.append(0, np.flatnonzero(block.epoch[1:] != block.epoch[:-1]) + 1)


def shared(a: Rows, b: Rows, page_size: int, base: int) -> int:
    """How many pages are in both, each of one epoch."""
    return count(cut(a, b), page_size, base) if len(a.iova) and len(b.iova) else 0


def count(rows: Rows, page_size: int, base: int) -> int:
    """How many pages the rows hold, in all: also a page that the end of the range cuts."""
    return int(counts(rows, page_size, base).sum())


def counts(rows: Rows, page_size: int, base: int) -> Addresses:
    """How many pages each row holds."""
    first, last = page_numbers(rows, page_size, base)
    found: Addresses = last - first
    found += ONE
    return found


def page_numbers(rows: Rows, page_size: int, base: int) -> tuple[Addresses, Addresses]:
    """The first and the last page of each row, counted from the base."""
    shift = np.uint64(page_size.bit_length() - 1)
    first: Addresses = rows.iova - np.uint64(base)
    last: Addresses = first + rows.length
    last -= ONE
    first >>= shift
    last >>= shift
    return first, last
