"""Ranges that end at 2**64, whose end is 0 in 64 bits: every answer counts all of them."""

import numpy as np
import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from support.logs import needs

SECOND = 1_000_000_000
TOP = 2**64
BASE, PAGE = 5, 1 << 60
LENGTH = TOP - BASE  # 16 pages, of which the last ends 5 bytes early
PAGES = 16
WHOLE = [[BASE, LENGTH]]
NEAR = (TOP - 0x10000, 0x10000, 4096)  # a bitmap of few pages that ends there


def all_dirty(geometry=(BASE, LENGTH, PAGE), epochs=2):
    log = []
    for number in range(epochs):
        bm = ib.IOVABitmap(*geometry)
        bm.set(geometry[0], geometry[1])
        log.append((bm, number * SECOND, (number + 1) * SECOND))
    return log


def parquet(path, rows, geometry=(BASE, LENGTH, PAGE), notes=None):
    with ib.LogWriter(path, ib.Geometry(*geometry), notes=notes) as log:
        for number in range(2):
            log.append_ranges(rows, number * SECOND, (number + 1) * SECOND)
    return ib.DirtyLog.open(path)


def test_hot_ranges_reach_the_last_address():
    assert an.hot_ranges(all_dirty()).tolist() == WHOLE
    assert an.hot_ranges(all_dirty(NEAR)).tolist() == [[NEAR[0], NEAR[1]]]


def test_the_working_set_is_all_of_it():
    found = an.working_set(all_dirty())
    assert (found.union, found.hot) == (PAGES * PAGE, PAGES * PAGE)


def test_rates_curves_and_blocks_count_every_page():
    log = all_dirty()
    assert an.dirty_rate(log).pages == PAGES
    assert an.volume_curve(log).nbytes.tolist() == [PAGES * PAGE] * 2
    assert an.amplification(log) == {PAGE: 1.0}
    assert an.amplification(all_dirty(NEAR))[1 << 20] == 256 / 16


def test_reuse_counts_every_page():
    pytest.importorskip("pandas")
    frame = an.reuse(all_dirty())
    assert frame["pages"].tolist() == [PAGES, PAGES]
    assert frame["again"].tolist() == [0, PAGES]


def test_a_log_of_more_pages_than_a_signed_number_holds(tmp_path):
    needs("pyarrow")
    geometry = (1, TOP - 1, 1)  # pages of one byte
    with parquet(tmp_path / "a.parquet", [(1, 10), (TOP - 10, 10)], geometry) as log:
        assert an.hot_ranges(log).tolist() == [[1, 10], [TOP - 10, 10]]
        assert an.dirty_rate(log).pages == 20
        assert an.amplification(log)[2] == pytest.approx(22 / 20, abs=0.1)


def test_summaries_of_a_log(tmp_path):
    needs("pyarrow")

    row = [BASE, LENGTH, 0, 7, "all of it"]
    with parquet(tmp_path / "a.parquet", WHOLE, notes={"layout": [row]}) as log:
        found = log.summary()
        assert found.union_count == PAGES and found.counts.tolist() == [PAGES, PAGES]
        assert np.allclose(found.density, 1)
        assert [(each.nbytes, each.count) for each in log.by_memory()] == [(LENGTH, PAGES)]
        assert an.hot_ranges(log).tolist() == WHOLE
        assert log.union().count() == PAGES and log[1].ranges().tolist() == WHOLE


def test_pictures_of_a_log(tmp_path):
    needs("pyarrow", "matplotlib", "bokeh")
    import matplotlib as mpl

    mpl.use("agg")
    from iovabitmap import plot

    with parquet(tmp_path / "a.parquet", WHOLE) as log:
        assert plot.heatmap(log).collections[0].get_array().min() == 100
        assert "nothing" not in plot.view(log).html()[:100]
        assert "16 pages" in log._repr_html_()


def test_ranges_under_test():
    from iovabitmap.testing import assert_ranges

    bm = all_dirty(NEAR)[0][0]
    assert_ranges(bm, [(NEAR[0], NEAR[1])])
    with pytest.raises(AssertionError):
        assert_ranges(bm, [(NEAR[0], NEAR[1] - 4096)])
