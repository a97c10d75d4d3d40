"""Long series: the ways to hold little of them give the same answers."""

import random

import numpy as np
import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from iovabitmap import _core
from iovabitmap.analysis import measured, pieces
from iovabitmap.timeline import union
from support.logs import needs

PAGE, SECOND = 4096, 10**9
EPOCHS, NPAGES = 30, 400


@pytest.fixture
def rows():
    """Bitmaps with times, of many rows for their pages."""
    rng = random.Random(5)
    found = []
    for number in range(EPOCHS):
        bm = ib.IOVABitmap(PAGE, NPAGES * PAGE - 7, PAGE)
        bm.set_pages([PAGE * (1 + rng.randrange(NPAGES)) for _ in range(number % 7 * 9)])
        found.append((bm, number * SECOND, (number + 1) * SECOND))
    return found


def answers(rows):
    frame = pytest.importorskip("pandas") and an.reuse(rows)
    curve = an.volume_curve(rows)
    every = an.volume_curve(rows, epochs=range(1, EPOCHS + 1))
    return [
        an.dirty_rate(rows),
        an.hot_ranges(rows, at_least=0.2).tolist(),
        an.working_set(rows),
        frame.to_numpy().tolist(),
        *(np.round(array, 3).tolist() for c in (curve, every) for array in (c.nbytes, c.spread)),
    ]


@pytest.mark.parametrize(
    "ways",
    [
        {"DENSE": 0},
        {"DENSE": 0, "HELD_RUNS": 10},
        {"DENSE": 1e9},
        {"BITS": 0},
        {"BITS": 1e9},
        {"DEFAULT_STEPS": 1, "MOST_COUNTS": 4 * EPOCHS},
    ],
    ids=str,
)
def test_each_way_to_hold_a_series(rows, monkeypatch, ways):
    want = answers(rows)
    for name, value in ways.items():
        module = next(module for module in (pieces, union, measured) if hasattr(module, name))
        monkeypatch.setattr(module, name, value)
    assert answers(rows) == want


def test_a_log_read_ahead_by_a_thread(tmp_path, monkeypatch, rows):
    needs("pyarrow")
    from iovabitmap.logs.storage import parquet

    regroup = parquet.regroup
    monkeypatch.setattr(parquet, "regroup", lambda blocks: regroup(blocks, 20))
    monkeypatch.setattr(parquet, "READ_AHEAD_FROM", 2)
    with ib.LogWriter(tmp_path / "a.parquet", ib.Geometry(PAGE, NPAGES * PAGE - 7, PAGE)) as log:
        for row in rows:
            log.append(*row)
    with ib.DirtyLog.open(tmp_path / "a.parquet") as log:
        assert len(log._file._groups) > 5
        assert answers(log) == answers(rows)
        assert (log.summary().density == ib.Timeline.of(rows).summary().density).all()
        for _ in log.blocks():  # others may ask while a thread reads
            assert log[3].count() == rows[3][0].count()
    with ib.DirtyLog.open(tmp_path / "a.parquet") as log:
        next(log.blocks())  # and not all need be asked for


def column(values, dtype=np.uint64):
    return np.array(values, dtype)


def test_passes_in_c_refuse_arrays_that_do_not_fit():
    one, wide, narrow = column([0]), np.zeros(1, np.int64), np.zeros(1, np.int32)
    history = [narrow, None, narrow, wide, wide, wide]
    for place, wrong in enumerate((narrow[:0], one[:0], narrow[:0], wide[:0], one[:0], one[:0])):
        arrays = [*history[:place], wrong, *history[place + 1 :]]
        with pytest.raises(ValueError, match=r"row 0 is outside|do not fit each other"):
            _core._add_history((wide, one, one + 1), *arrays)
    with pytest.raises(ValueError, match="row 1 is outside"):
        _core._add_hits((column([0, 1]), column([1, 1])), narrow)
    with pytest.raises(ValueError, match="do not fit"):
        _core._add_map((wide, one, one), 0, PAGE, one, narrow, column([0, 0]), np.zeros(1))
    with pytest.raises(ValueError, match="row 0 is outside"):
        _core._add_map((wide, one, one), 0, PAGE, one, narrow, one.copy(), np.zeros(1))
    with pytest.raises(ValueError, match="column 1 has 2 rows, and the first 1"):
        _core._add_hits((one, column([0, 0])), narrow)
    with pytest.raises(TypeError, match="a tuple of 5"):
        _core._first_bad_row((wide,), 0, 1)
    with pytest.raises(ValueError, match="aligned items of 8"):
        _core._first_bad_row((b"123",) * 5, 0, 1)
    for name in ("_add_hits", "_add_history", "_add_map", "_first_bad_row"):
        with pytest.raises(TypeError, match=rf"{name}\(\) takes"):
            getattr(_core, name)(1)
