"""Programs that know nothing of ours read a finished log and come to the same totals."""

from __future__ import annotations

import random

import pytest

import iovabitmap as ib
from support.logs import PAGE, make_log, needs, random_epochs, rows_of, times_of

needs("pyarrow")

GEOMETRY = (2**64 - 4096 * PAGE, 4096 * PAGE, PAGE)  # up to the last address there is


@pytest.fixture(scope="module")
def epochs():
    return random_epochs(random.Random(12), GEOMETRY, 60)


@pytest.fixture(scope="module")
def path(tmp_path_factory, epochs):
    path = tmp_path_factory.mktemp("totals") / "run.parquet"
    make_log(path, epochs, GEOMETRY)
    return path


def test_pandas(path, epochs):
    needs("pandas")
    import pandas as pd

    frame = pd.read_parquet(path)
    totals = frame.groupby("epoch")["length"].sum()
    assert totals.tolist() == [len(pages) * PAGE for pages in epochs]
    assert frame["epoch"].nunique() == len(epochs)
    for n in (0, 17, 59):
        rows = frame[(frame["epoch"] == n) & (frame["length"] > 0)]
        assert rows[["iova", "length"]].to_numpy().tolist() == rows_of(epochs[n], GEOMETRY)
        times = frame[frame["epoch"] == n][["t_start_ns", "t_end_ns"]].drop_duplicates()
        assert times.to_numpy().tolist() == [list(times_of(n))]
    with ib.DirtyLog.open(path) as log:
        pd.testing.assert_frame_equal(log.to_pandas(), frame)


def test_to_pandas_of_unfinished_and_empty_logs(tmp_path, epochs):
    needs("pandas")
    make_log(tmp_path / "a", epochs[:5], GEOMETRY, close=False)
    make_log(tmp_path / "b", epochs[:5], GEOMETRY)
    make_log(tmp_path / "c", [], GEOMETRY)
    with ib.DirtyLog.open(tmp_path / "a") as a, ib.DirtyLog.open(tmp_path / "b") as b:
        assert a.to_pandas().equals(b.to_pandas())
        types = b.to_pandas().dtypes
    with ib.DirtyLog.open(tmp_path / "c") as log:
        assert log.to_pandas().empty and (log.to_pandas().dtypes == types).all()


def test_duckdb(path, epochs):
    needs("duckdb")
    import duckdb

    found = duckdb.execute(
        "select epoch, sum(length), count(*) filter (length > 0), min(t_start_ns), max(t_end_ns)"
        f" from '{path}' group by epoch order by epoch"
    ).fetchall()
    assert found == [
        (n, len(pages) * PAGE, len(rows_of(pages, GEOMETRY)), *times_of(n))
        for n, pages in enumerate(epochs)
    ]
    top = duckdb.execute(f"select max(iova::hugeint + length) from '{path}'").fetchone()
    assert top == (2**64,)


def test_the_metadata_can_be_read_without_us(path):
    """As docs/logs.md says: JSON under one key."""
    import json

    import pyarrow.parquet as pq

    about = json.loads(pq.read_metadata(path).metadata[b"iovabitmap"])
    assert (about["iova"], about["length"], about["page_size"]) == GEOMETRY
    assert about["epochs"] == 60 and about["version"] == 1
    assert about["source"] == "test" and about["command"] == ["a", "b c"]
