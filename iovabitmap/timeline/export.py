"""A Timeline as data frames, Arrow tables and arrays of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._base.optional import need
from . import rows
from .axis import Axis

if TYPE_CHECKING:
    import pandas
    import pyarrow
    import xarray

    from .readable import Readable

COLUMNS = ("epoch", "t_start_ns", "t_end_ns", "iova", "length")


def _times_of(tl: Readable, epoch: Any) -> tuple[Any, Any]:
    """Starts and ends by epoch; (None, None) if unknown."""
    if not tl.has_times:
        return None, None
    starts, ends = tl.times()
    return starts[epoch], ends[epoch]


def _stored(tl: Readable) -> Iterator[rows.Rows]:
    return rows.with_clean(tl.blocks(), len(tl), tl.iova)


def reader(tl: Readable) -> pyarrow.RecordBatchReader:
    """The rows as record batches, a block each; addresses are not copied."""
    pa = need("pyarrow")
    kinds = [pa.int64()] * 3 + [pa.uint64()] * 2
    schema = pa.schema(
        [
            pa.field(name, kind, name.startswith("t_"))
            for name, kind in zip(COLUMNS, kinds, strict=True)
        ]
    )

    def batches() -> Iterator[Any]:
        for block in _stored(tl):
            starts, ends = _times_of(tl, block.epoch)
            if starts is None:
                starts = ends = pa.nulls(len(block.epoch), pa.int64())
            columns = [block.epoch, starts, ends, block.iova, block.length]
            yield pa.record_batch([pa.array(column) for column in columns], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def to_pandas(tl: Readable) -> pandas.DataFrame:
    pd = need("pandas")
    block = rows.join(_stored(tl))
    starts, ends = _times_of(tl, block.epoch)
    if starts is None:
        starts = ends = pd.array([None] * len(block.epoch), "Int64")
    columns = (block.epoch, starts, ends, block.iova, block.length)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def epochs(tl: Readable) -> pandas.DataFrame:
    pd = need("pandas")
    counts = np.zeros((2, len(tl)), np.int64)  # dirty; dirty again
    before = rows.none()
    for number, block in tl.each():
        counts[:, number] = (
            rows.count(block, tl.page_size, tl.iova),
            rows.shared(before, block, tl.page_size, tl.iova),
        )
        before = block
    dirty, again = counts
    starts, ends = _times_of(tl, slice(None))
    seconds = np.full(len(tl), np.nan) if starts is None else (ends - starts) / 1e9
    nbytes = dirty.astype(object) * tl.page_size  # which may be more than 64 bits hold
    if max(nbytes, default=0) < 2**63:
        nbytes = nbytes.astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(seconds > 0, nbytes.astype(np.float64) / seconds, np.nan)
    unknown = pd.array([None] * len(tl), "Int64")
    return pd.DataFrame(
        {
            "t_start_ns": unknown if starts is None else starts,
            "t_end_ns": unknown if ends is None else ends,
            "seconds": seconds,
            "count": dirty,
            "nbytes": nbytes,
            "bytes_per_s": rate,
            "newly": dirty - again,
            "again": again,
            "gone": np.concatenate(([0], dirty[:-1]))[: len(tl)] - again,
        }
    ).rename_axis("epoch")


def to_xarray(tl: Readable, bins: int) -> xarray.DataArray:
    xr = need("xarray")
    axis = Axis(tl.union_ranges())
    edges = axis.edges(bins) if axis.size else np.zeros(1, np.uint64)
    cover = np.zeros((len(tl), len(edges) - 1))
    for number, block in tl.each():
        cover[number] = axis.cover(block.ranges(), edges) if axis.size else 0
    coordinates: dict[str, Any] = {
        "iova": ("iova", np.array([axis.address(int(at)) for at in edges[:-1]], np.uint64))
    }
    if tl.has_times:
        starts, ends = tl.times()
        coordinates |= {"t_start_ns": ("epoch", starts), "t_end_ns": ("epoch", ends)}
    found: xarray.DataArray = xr.DataArray(
        cover / np.diff(edges).astype(np.float64),
        dims=("epoch", "iova"),
        coords=coordinates,
        name="dirty",
        attrs={"page_size": tl.page_size},
    )
    return found
