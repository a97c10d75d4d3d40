"""Answers about nothing: zero seconds, zero pages, zero epochs. They can be shown, each of them."""

import math

import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from iovabitmap.qemu import MigrationRound, MigrationStatistics, QemuDirtyRate
from support.logs import needs

SECOND = 1_000_000_000


def shown(thing):
    text = repr(thing)
    assert text
    html = getattr(thing, "_repr_html_", None)
    if html is not None:
        assert html() and "<code>" not in html()  # which is what is shown where it fails
    return text


@pytest.mark.parametrize("pages", [0, 5])
def test_a_rate_within_no_time(pages):
    rate = an.DirtyRate(pages, 4096, 0.0)
    assert all(map(math.isnan, (rate.bytes_per_s, rate.mib_per_s, rate.pages_per_s)))
    assert f"no rate: {pages} pages of 4096 bytes within 0 s" in shown(rate)
    assert rate.as_qemu() == 0 and rate.as_qemu_migration() == pages * 1000


def test_what_qemu_says_of_no_time():
    assert "no rate: 0 pages" in shown(QemuDirtyRate("dirty-bitmap", 100, 0.0).as_dirty_rate())
    with pytest.raises(ValueError, match="memory_bytes must be 1 or more, not 0"):
        QemuDirtyRate("page-sampling", 100, 1.0, 512).relative_error(0)
    ended = MigrationRound(3, 1, 4096, 0.0, 4096, False, MigrationStatistics("active"))
    assert math.isnan(ended.bytes_per_s)
    assert "no rate: 1 pages" in shown(ended.as_dirty_rate()) and shown(ended)


def clean(epochs=1):
    bm = ib.IOVABitmap(0, 1 << 20)
    return [(bm, n * SECOND, (n + 1) * SECOND) for n in range(epochs)]


def test_nothing_dirty_has_an_answer():
    log = clean(3)
    for found in (an.dirty_rate(log), an.working_set(log), an.volume_curve(log)):
        assert "0 bytes" in shown(found) or "0 MiB/s" in shown(found)
    assert an.hot_ranges(log).tolist() == []
    assert set(an.amplification(log).values()) == {1.0}
    for ask in (
        lambda **how: an.predict_precopy(an.volume_curve(log), **how),
        lambda **how: an.replay_precopy(log, **how),
    ):
        found = ask(bandwidth=1e6, downtime_limit=0.0, memory_bytes=1 << 20)
        assert found.converges and len(found.rounds) == 2 and shown(found)


def test_a_prediction_of_nothing_but_zeros():
    curve = an.VolumeCurve.constant(0, total_bytes=4096, zero_bytes=4096)
    found = an.predict_precopy(curve, bandwidth=1.0, downtime_limit=0.0, page_header=0)
    assert found.total_seconds == found.total_bytes == 0 and shown(found) and shown(curve)
    assert an.plateau(curve, bandwidth=1.0) == 0


@pytest.mark.parametrize("epochs", [0, 1])
def test_logs_without_epochs_time_or_pages(tmp_path, capfd, epochs):
    needs("pyarrow", "matplotlib", "click", "rich")
    import matplotlib as mpl

    mpl.use("agg")
    from iovabitmap import plot
    from iovabitmap.cli._app import run

    path = tmp_path / "a.parquet"
    with ib.LogWriter(path, ib.Geometry(0, 1 << 20, 4096)) as log:
        for _ in range(epochs):
            log.append_ranges([], 7, 7)
    with ib.DirtyLog.open(path) as log:
        assert shown(log) and len(log.summary().counts) == epochs
        assert plot.rate(log) is not None
        with pytest.raises(ValueError, match="nothing to draw"):
            plot.heatmap(log)
        for epoch in log:
            assert shown(epoch)
    assert run(["report", str(path)]) == run(["report", "--json", str(path)]) == 0
    assert f"{epochs}, {epochs} of them clean" in capfd.readouterr().out


def test_a_fleet_of_nothing(tmp_path):
    needs("dask", "fsspec", "pandas", "pyarrow")
    from iovabitmap import fleet

    machines = fleet.open(tmp_path)
    assert shown(machines) and shown(machines.total_rate())
    with ib.LogWriter(tmp_path / "a.parquet", ib.Geometry(0, 1 << 20, 4096)) as log:
        log.append_ranges([], 7, 7)
    found = fleet.open(tmp_path).total_rate()
    assert (found.logs, found.missing) == (0, ("a.parquet",)) and shown(found)
