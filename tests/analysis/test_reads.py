"""How often a question reads a log: each block of rows is decoded once."""

from collections import Counter

import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from iovabitmap.logs.storage import journal as _journal
from iovabitmap.logs.storage import parquet as _parquet
from support.logs import needs

SECOND = 1_000_000_000
GEOMETRY = (0x1000, 1 << 30, 4096)
EPOCHS = 9
ROWS = 100  # of an epoch: with blocks of 250 rows, epochs lie in two blocks
LAYOUT = [[0x1000, 1 << 20, 0, 7, "all"]]


@pytest.fixture(params=["finished", "killed"])
def log(request, tmp_path, monkeypatch):
    """A log, and in `log.reads` how often each of its blocks was decoded."""
    needs("pyarrow")
    for module in (_parquet, _journal):
        monkeypatch.setattr(module, "BLOCK_ROWS", 250)
    regroup = _parquet.regroup
    monkeypatch.setattr(_parquet, "regroup", lambda blocks: regroup(blocks, 250))
    path = tmp_path / "a.parquet"
    notes = {"memory": {"resident_bytes": 1 << 20}, "layout": LAYOUT}
    writing = ib.LogWriter(path, ib.Geometry(*GEOMETRY), notes=notes)
    for number in range(EPOCHS):
        rows = [[0x1000 + (2 * n + number % 2) * 4096, 4096] for n in range(ROWS)]
        writing.append_ranges(rows, number * SECOND, (number + 1) * SECOND)
    writing.close() if request.param == "finished" else writing.abort()

    reads: Counter[int] = Counter()
    columns, block = _parquet.ParquetLog._columns, _journal.Journal._block

    def counted_columns(self, k, names=None):
        if names is None or "iova" in names:
            reads[k] += 1
        return columns(self, k, names)

    def counted_block(self, frame):
        reads[frame.at] += 1
        return block(self, frame)

    with ib.DirtyLog.open(path) as found:
        monkeypatch.setattr(_parquet.ParquetLog, "_columns", counted_columns)
        monkeypatch.setattr(_journal.Journal, "_block", counted_block)
        found.reads = reads
        yield found


LINK = {"bandwidth": 1e6, "downtime_limit": 0.1}
ONE_PASS = {
    "dirty_rate": an.dirty_rate,
    "hot_ranges": an.hot_ranges,
    "working_set": an.working_set,
    "reuse": an.reuse,
    "amplification": an.amplification,
    "volume_curve": an.volume_curve,
    "predict_precopy": lambda log: an.predict_precopy(an.volume_curve(log), **LINK),
    "by_memory": ib.Timeline.by_memory,
    "union": lambda log: log.union(),
    "to_pandas": lambda log: log.to_pandas(),
    "each epoch's ranges": lambda log: [epoch.ranges() for epoch in log],
    "each epoch's pages": lambda log: [epoch.count() for epoch in log],
}


@pytest.mark.parametrize("name", ONE_PASS)
def test_one_pass(log, name):
    if name in ("reuse", "to_pandas"):
        pytest.importorskip("pandas")
    ONE_PASS[name](log)
    assert len(log.reads) == (4 if EPOCHS * ROWS == 900 and log.unfinished == "" else EPOCHS)
    assert set(log.reads.values()) == {1}


def test_a_replay_reads_what_its_rounds_last_and_once(log):
    found = an.replay_precopy(log, **LINK)
    assert len(found.rounds) > 2
    assert 1 <= len(log.reads) <= found.total_seconds + 2
    assert set(log.reads.values()) == {1}


@pytest.mark.parametrize("name", ["summarize", "html", "heatmap"])
def test_two_passes_where_the_map_needs_to_know_what_was_ever_dirty(log, name):
    if name == "heatmap":
        needs("matplotlib")
        import matplotlib as mpl

        mpl.use("agg")
        from iovabitmap import plot

        plot.heatmap(log)
    else:
        log.summary() if name == "summarize" else log._repr_html_()
    assert set(log.reads.values()) <= {2}


def test_a_report_reads_no_more_than_its_summary(log, monkeypatch, capfd):
    needs("click", "rich")
    from iovabitmap.cli._app import run

    assert run(["report", "--json", str(log.path)]) == 0
    assert set(log.reads.values()) == {2}


def test_some_epochs_read_their_blocks_only(log):
    an.dirty_rate(log[4:6])
    assert len(log.reads) == 2 and set(log.reads.values()) == {1}
