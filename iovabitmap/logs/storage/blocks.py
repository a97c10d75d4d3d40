"""Blocks of a log's rows: of at most BLOCK_ROWS, which bound what reading and writing hold. A block
is five arrays, the columns of the file.

Reading checks each block against the log's geometry before anyone sees it: a checksum tells damage,
and this tells what was made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..._base.interval_arrays import union
from ..._base.rows import integer_rows
from ..._core import _first_bad_row
from ...timeline.rows import Addresses
from ..errors import LogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..._base.paths import StrPath
    from .meta import Meta

BLOCK_ROWS = 1 << 17

Column: TypeAlias = npt.NDArray[Any]


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


def regroup(blocks: Iterable[Block], rows: int = BLOCK_ROWS) -> Iterator[Block]:
    """The same rows in blocks of exactly `rows`; the last may have fewer."""
    waiting: list[Block] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += len(block.epoch)
        while count >= rows:
            whole = join(waiting)
            yield whole.part(0, rows)
            waiting, count = [whole.part(rows, count)], count - rows
    if count:
        yield join(waiting)


def check(block: Block, meta: Meta, path: StrPath) -> Block:
    """The block, where its rows can be true: else LogError."""
    row = _bad_row(block, meta)
    if row is not None:
        numbers = ", ".join(f"{name} {column[row]}" for name, column in block._asdict().items())
        raise LogError(path, f"a row that no log has: {numbers}")
    return block


def _bad_row(block: Block, meta: Meta) -> int | None:
    """The first row that is outside of the geometry, does not follow the one before it, or has
    other times than its epoch."""
    types = zip(COLUMN_TYPES.values(), block, strict=True)
    columns = tuple(np.ascontiguousarray(column, dtype).data for dtype, column in types)
    row = _first_bad_row(columns, meta.iova, meta.length)
    return row if row < len(block.epoch) else None


def page_runs(ranges: npt.ArrayLike, meta: Meta) -> Addresses:
    """Any ranges (iova, length) inside the geometry, as a bitmap would give them back: whole pages,
    ascending, joined where they touch, the last one cut to the geometry's end. Shape (n, 2).

    Raises
    ------
    TypeError
        For what is not integers.
    ValueError
        For a range that is not inside, with its number counted from 0, and for another shape.
    """
    rows = integer_rows(ranges)
    iova, length = rows.T
    base, total, page = (np.uint64(value) for value in meta.geometry)
    offset = iova - base
    bad = (iova < base) | (offset > total) | (length > total - np.minimum(offset, total))
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"row {row}: {rows[row].tolist()} is not inside the log's range: iova {meta.iova}, "
            f"length {meta.length}"
        )
    offset, length = offset[length != 0], length[length != 0]
    first, last = union(offset // page, (offset + (length - np.uint64(1))) // page)  # page numbers
    size = (last - first) * page + np.minimum(page, total - last * page)
    return np.column_stack((first * page + base, size))
