"""Pictures: what is drawn, not how it looks. The data of the axes are compared with what the bitmap
and the log answer themselves."""

from __future__ import annotations

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap import analysis

pytest.importorskip("matplotlib").use("Agg")
from matplotlib import pyplot  # noqa: E402  # after the choice of a display

from iovabitmap import plot  # noqa: E402

SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture
def log(tmp_path):
    """Four epochs of a second over 2**42 bytes: a run, one page far away, nothing, both."""
    bm = ib.IOVABitmap(0x1000, 1 << 42, 1 << 20)
    path = tmp_path / "run.parquet"
    with ib.LogWriter(path, bm) as made:
        for epoch, ranges in enumerate(
            [[(0x1000, 64 << 20)], [(1 << 41, 1)], [], [(0x1000, 64 << 20), (1 << 41, 1)]]
        ):
            bm.reset()
            bm.set_ranges(np.array(ranges, np.uint64).reshape(-1, 2))
            made.append(bm, epoch * SECOND, (epoch + 1) * SECOND)
    with ib.DirtyLog.open(path) as opened:
        yield opened


def cells(ax) -> np.ndarray:
    """The map's values, in percent; 0 where it is white."""
    return np.ma.filled(ax.collections[0].get_array(), 0)


def test_a_heatmap_shows_every_dirty_epoch_and_address(log):
    ax = plot.heatmap(log, rows=32)
    shown = cells(ax)
    assert (shown > 0).any(axis=0).tolist() == [True, True, False, True]
    lonely = (shown[:, 1] > 0) & (shown[:, 0] == 0)
    assert lonely.sum() == 1 and (shown[lonely, 3] > 0).all()
    assert ax.get_xlabel() == "time (s)" and ax.get_ylabel().startswith("address")
    assert "white: none" in ax.figure.axes[-1].get_ylabel()


def test_a_rate_is_pages_over_seconds(log):
    ax = plot.rate(log)
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == [log[n].count() for n in range(4)]  # a page is a MiB, an epoch a second
    assert ax.get_ylabel() == "dirty rate (MiB/s)"


def test_without_times_it_is_by_epoch(tmp_path):
    bm = ib.IOVABitmap(0, 1 << 20)
    bm.set(0, 1)
    with ib.LogWriter(tmp_path / "x", ib.Geometry(0, 1 << 20, 4096)) as log:
        log.append(bm, 0, 0)
        log.append(bm, 0, 0)
    with ib.DirtyLog.open(tmp_path / "x") as log:
        assert plot.heatmap(log).get_xlabel() == "epoch"
        assert plot.rate(log).get_ylabel() == "dirty (MiB in an epoch)"


def test_a_log_in_which_nothing_is_dirty(tmp_path):
    with ib.LogWriter(tmp_path / "x", ib.Geometry(0, 1 << 20, 4096)) as log:
        log.append(ib.IOVABitmap(0, 1 << 20), 0, SECOND)
    with ib.DirtyLog.open(tmp_path / "x") as log:
        with pytest.raises(ValueError, match="no page is ever dirty"):
            plot.heatmap(log)
        assert [bar.get_height() for bar in plot.rate(log).patches] == [0]


def test_a_log_without_epochs(tmp_path):
    ib.LogWriter(tmp_path / "x", ib.Geometry(0, 1 << 20, 4096)).close()
    with ib.DirtyLog.open(tmp_path / "x") as log:
        assert not plot.rate(log).patches
        with pytest.raises(ValueError, match="nothing to draw"):
            plot.heatmap(log)


@pytest.mark.parametrize("page", [0, 12_345_678, 2**30 - 1])
def test_one_page_of_a_billion_is_seen_in_a_bitmap(page):
    bm = ib.IOVABitmap(0x8000_0000, 2**42, 4096)
    bm.set(bm.iova + page * 4096, 1)
    ax = plot.bitmap(bm)
    shown = cells(ax)
    assert shown.size == 64 * 128 and (shown > 0).sum() == 1
    assert np.flatnonzero(shown)[0] == page // (2**30 // shown.size)
    assert "1 of 1,073,741,824" in ax.get_title()
    assert ax.get_yticklabels()[0].get_text() == "0x80000000"


@pytest.mark.parametrize("nbits", [1, 2, 127, 129, 8193])
def test_small_bitmaps_lose_no_page(nbits):
    bm = ib.IOVABitmap(5, nbits, 1)
    bm.set(5, nbits)
    assert (cells(plot.bitmap(bm)) == 100).sum() == min(nbits, cells(plot.bitmap(bm)).size)


def test_a_volume_curve_and_what_is_sent():
    curve = analysis.VolumeCurve([1, 2, 4], [1 << 30, 2 << 30, 3 << 30], total_bytes=8 << 30)
    ax = plot.volume_curve(curve, bandwidth=1 << 30)
    drawn, _, sent = (line.get_xydata() for line in ax.get_lines()[:3])
    assert np.allclose(drawn[:, 1] * (1 << 30), curve(drawn[:, 0]))
    assert np.allclose(sent[:, 1], sent[:, 0])
    assert ax.get_ylabel() == "distinct dirty memory (GiB)"
    assert "sent at 8.59 Gbit/s" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_rounds_of_a_precopy():
    curve = analysis.VolumeCurve.constant(100e6, total_bytes=1 << 30)
    found = analysis.predict_precopy(curve, bandwidth=400e6, downtime_limit=0.1)
    ax = plot.precopy(found)
    assert len(ax.patches) == len(found.rounds)
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(found.total_seconds)
    assert f"converges in {len(found.rounds)} rounds" in ax.get_title()
    endless = analysis.predict_precopy(
        analysis.VolumeCurve.constant(1e9, total_bytes=1 << 30), bandwidth=1e8, downtime_limit=0.1
    )
    assert "does not converge" in plot.precopy(endless).get_title()


def test_axes_of_yours_are_used_and_returned(log):
    figure, axes = pyplot.subplots(2)
    assert plot.heatmap(log, axes[0]) is axes[0] and plot.rate(log, ax=axes[1]) is axes[1]
    assert axes[0].figure is figure and len(pyplot.get_fignums()) == 1


@pytest.mark.parametrize("size", [(9, 5), (3, 2)])
def test_no_cell_is_too_small_to_be_seen(size):
    """As pixels: one cell of a map that has more cells than the picture has pixels."""
    for column in range(3, 1000, 83):
        density = np.zeros((256, 1000))
        density[column % 256, column] = 1e-4
        figure, ax = pyplot.subplots(figsize=size)
        plot.density_map(ax, np.arange(1001), np.arange(257), density, "%")
        assert 0 < cells(ax).max() <= 1e-2
        ax.set_axis_off()
        ax.figure.axes[-1].remove()  # the scale, which has all colours
        figure.canvas.draw()
        assert (np.asarray(figure.canvas.buffer_rgba())[..., :3] < 200).any(), column
        pyplot.close(figure)


def test_a_curve_is_measured_from_a_log(log):
    drawn = plot.volume_curve(log).get_lines()[0].get_xydata()
    curve = analysis.volume_curve(log)
    assert np.allclose(drawn[:, 1] * (1 << 20), curve(drawn[:, 0]))
    assert plot.volume_curve(log).get_ylabel() == "distinct dirty memory (MiB)"


def test_pictures_of_whatever_becomes_a_timeline(log):
    """A part of a log, and bitmaps without times: these are drawn by the number of the epoch."""
    part = log[1:3]
    assert plot.heatmap(part).get_xlabel() == "time (s)"
    with part[0].bitmap() as a, part[1].bitmap() as b:
        assert plot.rate([a, b]).get_xlabel() == "epoch"
        heights = [bar.get_height() for bar in plot.rate([a, b]).patches]
        assert heights == [epoch.count() for epoch in part]  # a page is a MiB
