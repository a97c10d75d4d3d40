"""Times are whole nanoseconds: seconds, which are floats, are refused wherever they are given."""

import numpy as np
import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from iovabitmap._base.times import nanoseconds
from support.logs import needs

GEOMETRY = (0, 1 << 20, 4096)

GIVEN = {
    "seconds": (1.5, r"not 1\.5 \(1\.5 s are 1500000000 ns\)"),
    "whole seconds": (2.0, r"not 2\.0 \(2\.0 s are 2000000000 ns\)"),
    "of NumPy": (np.float64(1.5), r"1\.5.* s are 1500000000 ns"),
    "text": ("5", "not '5'"),
    "nothing": (None, "not None"),
    "not a number": (float("nan"), "not nan$"),
    "endless": (float("inf"), "not inf$"),
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("argument", ["t_start_ns", "t_end_ns"])
def test_a_log_takes_no_seconds(tmp_path, name, argument):
    needs("pyarrow")
    value, message = GIVEN[name]
    times = {"t_start_ns": 0, "t_end_ns": 10**9} | {argument: value}
    message = f"{argument} must be a whole number of nanoseconds, .*{message}"
    with ib.LogWriter(tmp_path / "a.parquet", ib.Geometry(*GEOMETRY)) as log:
        with pytest.raises(TypeError, match=message):
            log.append(ib.IOVABitmap(*GEOMETRY), **times)
        with pytest.raises(TypeError, match=message):
            log.append_ranges([[0, 1]], **times)
        assert len(log) == 0


@pytest.mark.parametrize("name", GIVEN)
def test_an_analysis_takes_no_seconds(name):
    value, message = GIVEN[name]
    bm = ib.IOVABitmap(*GEOMETRY)
    for times in ((value, 10**10), (-(10**10), value)):
        with pytest.raises(TypeError, match=f"nanoseconds, .*{message}"):
            an.dirty_rate([(bm, *times)])


def test_an_import_takes_no_seconds(tmp_path):
    needs("pyarrow")
    from iovabitmap.logs.importers import import_log

    (tmp_path / "a.bin").write_bytes(bytes(8))
    with pytest.raises(TypeError, match=r"interval_ns must be .* not 0\.1 \(0\.1 s are 100000000"):
        import_log("raw", [tmp_path / "a.bin"], tmp_path / "a.parquet", iova=0, interval_ns=0.1)
    assert not (tmp_path / "a.parquet").exists()


def test_integers_of_any_type_are_nanoseconds():
    assert nanoseconds("t", np.int64(-5)) == -5 and nanoseconds("t", 10**30) == 10**30


def test_times_out_of_range_are_named(tmp_path):
    needs("pyarrow")
    with ib.LogWriter(tmp_path / "a.parquet", ib.Geometry(*GEOMETRY)) as log:
        for start, end in ((5, 4), (0, 2**63), (-(2**63) - 1, 0)):
            with pytest.raises(ValueError, match=f"from {start} to {end} ns: .*to {2**63 - 1}"):
                log.append_ranges([], start, end)
