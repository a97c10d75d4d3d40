"""One rule for a last page that the range cuts: numbers of bytes count it whole, rows are cut."""

import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from support.logs import needs

SECOND = 1_000_000_000
PAGE = 4096
PAGES = 10
BASE, LENGTH = 0x5000, PAGES * PAGE - 100  # the last page is 3996 bytes
WHOLE = PAGES * PAGE
LINK = {"bandwidth": 1e9, "downtime_limit": 0.0, "max_total_seconds": 0.0, "page_header": 0}


@pytest.fixture(params=["bitmaps", "log", "killed"])
def source(request, tmp_path):
    """All pages dirty in each of 4 epochs; memory is as long as the range, where it is noted."""
    bm = ib.IOVABitmap(BASE, LENGTH, PAGE)
    bm.set(BASE, LENGTH)
    timed = [(bm, n * SECOND, (n + 1) * SECOND) for n in range(4)]
    if request.param == "bitmaps":
        yield timed
        return
    needs("pyarrow")
    notes = {"memory": {"resident_bytes": LENGTH}, "layout": [[BASE, LENGTH, 0, 7, "all"]]}
    path = tmp_path / "a.parquet"
    log = ib.DirtyLog.create(path, BASE, LENGTH, PAGE, notes=notes)
    for each in timed:
        log.append(*each)
    log.abandon() if request.param == "killed" else log.close()
    with ib.DirtyLog.open(path) as found:
        yield found


def test_numbers_of_bytes_count_the_last_page_whole(source):
    assert an.dirty_rate(source).pages == PAGES and an.dirty_rate(source).nbytes == WHOLE
    found = an.working_set(source, memory_bytes=LENGTH)
    assert (found.union, found.hot, found.plateau) == (WHOLE, WHOLE, WHOLE)
    slow = an.working_set(source, memory_bytes=LENGTH, bandwidth=1.0)
    assert slow.plateau == WHOLE
    curve = an.volume_curve(source, memory_bytes=LENGTH)
    assert curve.nbytes.tolist() == [WHOLE] * 4 and curve.total_bytes == curve.cap == WHOLE
    fitted = an.fit_saturating(curve)
    assert fitted.working_set == WHOLE and fitted.total_bytes == WHOLE
    assert an.amplification(source)[PAGE] == 1
    assert an.amplification(source)[2 * PAGE] == 1
    assert an.amplification(source)[4 * PAGE] == 12 / 10


def test_a_precopy_sends_the_last_page_whole(source):
    for found in (
        an.predict_precopy(an.volume_curve(source, memory_bytes=LENGTH), **LINK),
        an.replay_precopy(source, memory_bytes=LENGTH, **LINK),
    ):
        assert found.rounds[0].nbytes == WHOLE
    held = LINK | {"bandwidth": WHOLE / 1.0}
    found = an.replay_precopy(source, memory_bytes=LENGTH, **held)
    assert found.rounds[0].remaining_bytes == WHOLE


def test_frames_count_pages(source):
    pytest.importorskip("pandas")
    frame = an.reuse(source)
    assert frame["pages"].tolist() == [PAGES] * 4
    assert frame["first"].tolist() == [PAGES, 0, 0, 0] == frame["new"].tolist()
    assert frame["again"].tolist() == [0, PAGES, PAGES, PAGES]


def test_rows_are_cut_to_the_range(source):
    assert an.hot_ranges(source).tolist() == [[BASE, LENGTH]]


def test_logs_say_the_same(source):
    if isinstance(source, list):
        bm = source[0][0]
        assert bm.count() == PAGES and bm.ranges().tolist() == [[BASE, LENGTH]]
        return
    assert an.volume_curve(source).total_bytes == WHOLE  # as noted
    assert source[0].count() == PAGES and source[0].ranges().tolist() == [[BASE, LENGTH]]
    summary = source.summary()
    assert summary.union_count == PAGES and summary.counts.tolist() == [PAGES] * 4
    assert summary.density.max() == 1 == summary.density.min()
    assert [(each.count, each.nbytes) for each in source.by_memory()] == [(PAGES, LENGTH)]
    assert source.union().ranges().tolist() == [[BASE, LENGTH]]


def test_a_fleet_says_the_same(source, tmp_path):
    needs("dask", "fsspec", "pandas")
    from iovabitmap import fleet

    if isinstance(source, list):
        pytest.skip("a fleet is of logs")
    machines = fleet.open(tmp_path)
    assert machines.total_rate().nbytes == WHOLE
    row = machines.working_sets(bandwidth=1.0).iloc[0]
    assert [*row[["union_bytes", "hot_bytes", "plateau_bytes"]]] == [WHOLE] * 3
    assert machines.precopy(**LINK).iloc[0]["total_bytes"] == pytest.approx(WHOLE, rel=1e-3)
