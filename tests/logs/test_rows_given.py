"""Rows that callers give: whatever holds integers is read as integers, never by way of floats."""

import numpy as np
import pytest

import iovabitmap as ib
from support.logs import needs

TOP = 2**64
GEOMETRY = (0, TOP - 1, 4096)
LAST = [[0xFFFF_FFFF_FFFF_F000, 4095]]
U64 = np.uint64

# Rows of the last page, and of the page at 4096: every one is a mix that NumPy makes floats of.
MIXED = {
    "ints above 2**63": [(0xFFFF_FFFF_FFFF_F000, 4095)],
    "uint64 and int": [(U64(0xFFFF_FFFF_FFFF_F000), 4095)],
    "int and uint64": [(0xFFFF_FFFF_FFFF_F000, U64(4095))],
    "one row of each": [(U64(0xFFFF_FFFF_FFFF_F000), U64(1)), (0xFFFF_FFFF_FFFF_F000, 2)],
    "negative's type": [(U64(0xFFFF_FFFF_FFFF_F000), np.int64(4095))],
    "lists": [[0xFFFF_FFFF_FFFF_F000, 4095]],
    "objects": np.array([[0xFFFF_FFFF_FFFF_F000, U64(4095)]], object),
    "a generator": (row for row in [(0xFFFF_FFFF_FFFF_F000, 4095)]),
}


@pytest.mark.parametrize("name", MIXED)
def test_append_ranges_takes_any_integers(tmp_path, name):
    needs("pyarrow")
    rows = [tuple(row) for row in MIXED[name]] if name == "a generator" else MIXED[name]
    given = iter(rows) if name == "a generator" else rows
    MIXED[name] = rows
    with ib.LogWriter(tmp_path / "a.parquet", ib.Geometry(*GEOMETRY)) as log:
        log.append_ranges(given, 0, 1)
    with ib.DirtyLog.open(tmp_path / "a.parquet") as log:
        assert log[0].ranges().tolist() == LAST


@pytest.mark.parametrize("values", [[], np.empty((0, 2)), np.empty(0), ()])
def test_no_rows_are_a_clean_epoch(tmp_path, values):
    needs("pyarrow")
    with ib.LogWriter(tmp_path / "a.parquet", ib.Geometry(*GEOMETRY)) as log:
        log.append_ranges(values, 0, 1)
    with ib.DirtyLog.open(tmp_path / "a.parquet") as log:
        assert log[0].ranges().tolist() == []


@pytest.mark.parametrize(
    "values, error, message",
    [
        ([(0.5, 1)], TypeError, "row 0 of ranges must be integers, not 0.5"),
        (np.array([[0.0, 1.0]]), TypeError, "not float64"),
        ([(0, 1), (True, 1)], TypeError, "row 1 of ranges must be integers, not True"),
        (np.array([[True, False]]), TypeError, "not bool"),
        ([(0, 1), (-1, 1)], ValueError, "row 1 of ranges must be 0 to 2.*not -1"),
        (np.array([[0, 1], [-1, 1]]), ValueError, r"row 1 of ranges is negative: \[-1, 1\]"),
        ([(0, TOP)], ValueError, f"not {TOP}"),
        ([(1, 2, 3)], ValueError, r"row 0 of ranges must be a pair \(iova, length\)"),
        ([7], ValueError, "row 0 of ranges must be a pair"),
        (np.array([1, 2, 3]), ValueError, r"shape \(n, 2\), not \(3,\)"),
        ([(0, 1), (TOP - 4096, 4096)], ValueError, "row 1: .* is not inside the log's range"),
    ],
)
def test_what_is_no_row_is_named(tmp_path, values, error, message):
    needs("pyarrow")
    with ib.LogWriter(tmp_path / "a.parquet", ib.Geometry(*GEOMETRY)) as log:
        with pytest.raises(error, match=message):
            log.append_ranges(values, 0, 1)
        assert len(log) == 0


BITMAP = (TOP - 0x10000, 0xFFFF, 4096)


@pytest.mark.parametrize("name", [name for name in MIXED if name != "a generator"])
def test_bitmaps_and_the_kit_take_the_same_rows(name):
    from iovabitmap.model import ModelBitmap
    from iovabitmap.testing import assert_ranges

    for kind in (ib.IOVABitmap, ModelBitmap):
        bm = kind(*BITMAP)
        bm.set_ranges(MIXED[name])
        assert_ranges(bm, LAST)
        assert_ranges(MIXED[name], LAST if len(MIXED[name]) == 1 else MIXED[name])
        bm.clear_ranges(MIXED[name])
        assert bm.count() == 0
        bm.set_pages([U64(LAST[0][0]), LAST[0][0]])
        assert_ranges(bm, LAST)


def test_importers_take_the_top_of_addresses(tmp_path):
    needs("pyarrow")
    from iovabitmap.logs.importers import import_log

    (tmp_path / "a.json").write_text(
        '{"data": [{"gpa": 18446744073709547520, "length": 4096}, {"gpa": 4096, "length": 1}]}'
    )
    import_log("cloud-hypervisor", [tmp_path / "a.json"], tmp_path / "a.parquet", iova=4096)
    with ib.DirtyLog.open(tmp_path / "a.parquet") as log:
        assert log[0].ranges().tolist() == [[4096, 4096], [TOP - 4096, 4096]]


def test_regions_of_a_memory_file_may_be_of_numpy(tmp_path):
    needs("pyarrow")
    from iovabitmap.logs.importers import import_log

    (tmp_path / "a.bin").write_bytes(b"x" * 8192)
    regions = [(U64(TOP - 8192), 8192)]
    out = tmp_path / "a.parquet"
    import_log("firecracker", [tmp_path / "a.bin"], out, iova=4096, regions=regions)
    with ib.DirtyLog.open(out) as log:
        assert log[0].ranges().tolist() == [[TOP - 8192, 8192]]
