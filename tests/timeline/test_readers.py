"""Who reads a Timeline by Arrow: the types they get, and what they are told of damage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

import iovabitmap as ib

SECOND = 1_000_000_000
COLUMNS = ["epoch", "t_start_ns", "t_end_ns", "iova", "length"]


def bitmap(pages: str = "0-2,5") -> ib.IOVABitmap:
    return ib.IOVABitmap.from_text(pages, 0x1000, 0x10000, 4096)


TIMED = [(bitmap(), 0, SECOND), (bitmap(""), SECOND, 2 * SECOND)]
ROWS = [
    (0, 0, SECOND, 0x1000, 0x3000),
    (0, 0, SECOND, 0x6000, 0x1000),
    (1, SECOND, 2 * SECOND, 0x1000, 0),
]
UNTIMED = [(epoch, None, None, *row) for epoch, _, _, *row in ROWS]


def test_it_is_not_taken_for_a_list_of_objects():
    """Data frames make one column of what is a Sequence, and do not ask it for Arrow."""
    assert not isinstance(ib.Timeline.of(TIMED), Sequence)


@pytest.mark.parametrize("times", [True, False])
def test_polars(times):
    pl = pytest.importorskip("polars")
    tl = ib.Timeline.of(TIMED if times else [bm for bm, *_ in TIMED])
    for part in (tl, tl[0:0]):
        frame = pl.DataFrame(part)
        assert frame.columns == COLUMNS
        assert frame.dtypes == [pl.Int64] * 3 + [pl.UInt64] * 2
    assert pl.DataFrame(tl).rows() == (ROWS if times else UNTIMED)


@pytest.mark.parametrize("times", [True, False])
def test_duckdb(times):
    duckdb = pytest.importorskip("duckdb")
    tl = ib.Timeline.of(TIMED if times else [bm for bm, *_ in TIMED])
    found = duckdb.connect().register("it", tl).sql("select * from it")
    assert [str(kind) for kind in found.types] == ["BIGINT"] * 3 + ["UBIGINT"] * 2
    assert found.fetchall() == (ROWS if times else UNTIMED)


def test_addresses_are_not_copied():
    tl = ib.Timeline.of(TIMED[:1])
    (block,) = tl.blocks()

    class One:
        def __len__(self):
            return 1

        def rows(self, i, j):
            yield block

        def times(self):
            return np.array([0]), np.array([1])

        def error(self, problem):
            return MemoryError(problem)

    batch = next(iter(pa.RecordBatchReader.from_stream(ib.Timeline(One(), tl.geometry))))
    for name in ("iova", "length"):
        assert batch[name].buffers()[1].address == getattr(block, name).ctypes.data


def test_a_log_that_is_closed_says_so(tmp_path):
    with ib.LogWriter(tmp_path / "a.parquet", TIMED[0][0]) as writer:
        for each in TIMED:
            writer.append(*each)
    log = ib.DirtyLog.open(tmp_path / "a.parquet")
    reader, epoch, part = pa.RecordBatchReader.from_stream(log), log[0], log[1:]
    log.close()
    for ask in (reader.read_all, part.to_arrow, part.to_pandas, part.epochs, epoch.ranges):
        with pytest.raises(ValueError, match="the log is closed"):
            ask()
    assert repr(epoch) == "<Epoch 0>" and repr(part) == "<Timeline 0x1000-0x11000, 1 epochs>"
