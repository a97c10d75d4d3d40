"""Rows of many epochs in memory: blocks of five arrays, which are the columns of a log's file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .._core import IOVABitmap

Column = npt.NDArray[Any]
Addresses = npt.NDArray[np.uint64]


class Block(NamedTuple):
    """Rows in the order of epochs, and in each epoch of addresses. Arrays of one length."""

    epoch: Column  # int64, as the times are
    t_start_ns: Column
    t_end_ns: Column
    iova: Column  # uint64
    length: Column

    def part(self, start: int, stop: int) -> Block:
        """Rows start <= n < stop, without a copy."""
        return Block(*(column[start:stop] for column in self))

    def epochs(self, i: int, j: int) -> Block:
        """The rows of epochs i <= n < j."""
        start, stop = np.searchsorted(self.epoch, (i, j))
        return self.part(int(start), int(stop))

    def rows(self) -> Addresses:
        """(iova, length) of the dirty runs, shape (n, 2): without what stands for a clean epoch."""
        dirty = self.length != 0
        return np.column_stack((self.iova[dirty], self.length[dirty]))


COLUMN_TYPES = dict.fromkeys(("epoch", "t_start_ns", "t_end_ns"), "int64") | dict.fromkeys(
    ("iova", "length"), "uint64"
)


def of_epoch(epoch: int, t_start_ns: int, t_end_ns: int, iova: Addresses, n: Addresses) -> Block:
    """A block of rows of one epoch; `n` are the lengths."""
    times = [np.full(len(iova), value, np.int64) for value in (epoch, t_start_ns, t_end_ns)]
    return Block._make((*times, iova, n))


def join(blocks: list[Block]) -> Block:
    """One block of many, which there is at least one of."""
    if len(blocks) == 1:
        return blocks[0]
    return Block(*(np.concatenate(column) for column in zip(*blocks, strict=True)))


class Epochs(Protocol):
    """What can be read a block at a time: a `DirtyLog`."""

    def __len__(self) -> int: ...

    @property
    def page_size(self) -> int: ...

    @property
    def _nrows(self) -> int | None:
        """How many rows there are, if that is known without reading them."""

    def union(self, i: int | None = None, j: int | None = None) -> IOVABitmap: ...

    def _blocks(self, i: int, j: int) -> Iterator[Block]:
        """The rows of epochs i <= n < j."""
