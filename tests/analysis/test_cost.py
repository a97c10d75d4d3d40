"""What an analysis costs follows what was dirty, and never the range of addresses."""

import tracemalloc

import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from support.logs import measures_memory, needs

SECOND = 1_000_000_000
PAGE = 4096
MOST = 4 << 20  # bytes; a bit for each page of 256 GiB is 8 MiB

RANGES = {
    "256 GiB": (0x10000, 256 << 30, PAGE),
    "2**63 bytes": (1 << 62, 1 << 63, PAGE),
    "2**63 pages": (0, 1 << 63, 1),
}


@pytest.fixture(params=RANGES)
def log(request, tmp_path):
    """18 pages, all over the range, in 7 epochs."""
    needs("pyarrow")
    iova, length, page = RANGES[request.param]
    places = [iova + n * (length // 18 // page) * page for n in range(18)]
    layout = [[places[n], page, places[n], 7, f"part {n % 5}"] for n in range(18)]
    with ib.LogWriter(
        tmp_path / "a.parquet", ib.Geometry(iova, length, page), notes={"layout": layout}
    ) as writing:
        for number in range(7):
            rows = [(place, page) for n, place in enumerate(places) if (n + number) % 3]
            writing.append_ranges(rows, number * SECOND, (number + 1) * SECOND)
    with ib.DirtyLog.open(tmp_path / "a.parquet") as found:
        found[0].ranges()  # what reading itself needs is loaded, and held
        yield found


LINK = {"bandwidth": 1e6, "downtime_limit": 0.001, "max_total_seconds": 1.0}

ASKED = {
    "dirty_rate": an.dirty_rate,
    "hot_ranges": an.hot_ranges,
    "working_set": an.working_set,
    "amplification": an.amplification,
    "volume_curve": an.volume_curve,
    "replay_precopy": lambda log: an.replay_precopy(log, **LINK),
    "predict_precopy": lambda log: an.predict_precopy(an.volume_curve(log), **LINK),
    "fit_saturating": lambda log: an.fit_saturating(an.volume_curve(log)),
    "reuse": an.reuse,
    "summary": ib.Timeline.summary,
    "by_memory": ib.Timeline.by_memory,
    "to_pandas": lambda log: log.to_pandas(),
    "pages": lambda log: [epoch.count() for epoch in log],
    "html": lambda log: log._repr_html_(),
}


@measures_memory
@pytest.mark.parametrize("name", ASKED)
def test_a_question_about_few_pages_takes_little_memory(log, name):
    if name in ("reuse", "to_pandas"):
        pytest.importorskip("pandas")
    ASKED[name](log)  # what it imports is not its cost
    tracemalloc.start()
    try:
        answer = ASKED[name](log)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
    assert "<code>" not in str(answer)


@measures_memory
def test_pictures_of_few_pages_take_little_memory(log):
    needs("matplotlib", "bokeh")
    import matplotlib as mpl

    mpl.use("agg")
    from iovabitmap import plot
    from iovabitmap.plot.view import Rows

    plot.heatmap(log, rows=8, columns=8), plot.rate(log), plot.volume_curve(log)
    tracemalloc.start()
    try:
        plot.heatmap(log, rows=8, columns=8)
        plot.rate(log)
        plot.volume_curve(log)
        Rows.of(log, 100)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


def test_the_answers_about_few_pages(log):
    page = log.page_size
    assert an.dirty_rate(log).pages == 18
    assert len(an.hot_ranges(log)) == 18
    found = an.working_set(log)
    assert (found.union, found.hot) == (18 * page, 18 * page)
    assert an.volume_curve(log).nbytes.tolist()[-1] == 18 * page
    assert log.summary().union_count == 18
    assert sum(each.count for each in log.by_memory()) == 18
    assert set(an.amplification(log)) >= {page}


@measures_memory
def test_a_fleet_of_logs_of_few_pages(log):
    needs("dask", "fsspec", "pandas")
    from iovabitmap import fleet

    machines = fleet.open(log.path.parent)
    asks = (machines.rates, machines.working_sets, lambda: machines.would_not_converge(**LINK))
    for ask in asks:
        ask()
        tracemalloc.start()
        try:
            frame = ask()
            assert tracemalloc.get_traced_memory()[1] < MOST
        finally:
            tracemalloc.stop()
        assert set(frame["error"]) <= {""}


@measures_memory
def test_a_run_of_terabytes_is_one_piece(tmp_path):
    """Cost follows rows, and not the pages in them either."""
    needs("pyarrow", "pandas")
    with ib.LogWriter(tmp_path / "a.parquet", ib.Geometry(0, 1 << 63, PAGE)) as log:
        for number in range(4):
            rows = [(number << 40, 1 << 45), (1 << 62, PAGE << number)]
            log.append_ranges(rows, number * SECOND, (number + 1) * SECOND)
    with ib.DirtyLog.open(tmp_path / "a.parquet") as log:
        tracemalloc.start()
        try:
            assert an.dirty_rate(log).pages == ((3 << 40) + (1 << 45) >> 12) + 8
            reused = an.reuse(log)
            more = 1 << 28  # pages of the terabyte that each epoch goes on
            assert reused["first"].tolist() == [(1 << 33) + 1, more + 1, more + 2, more + 4]
            an.working_set(log), an.amplification(log), log.summary()
            assert tracemalloc.get_traced_memory()[1] < MOST
        finally:
            tracemalloc.stop()
