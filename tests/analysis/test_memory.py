"""How much memory there is: told by the log or the caller, and never by the range of addresses."""

import math

import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from support.logs import needs

PAGE = 4096
SECOND = 1_000_000_000
RANGE = (0, 1 << 38, PAGE)  # 256 GiB of addresses
MIB = 1 << 20
LINK = {"bandwidth": 1.25e9, "downtime_limit": 0.3}
PER_PAGE = (PAGE + 8) / PAGE

# 1 MiB in two mappings far apart; the second one had two names in turn.
LAYOUT = [
    [0, 256 << 10, 0x1000, 7, "heap"],
    [1 << 37, 768 << 10, 0x9000, 7, "stack"],
    [1 << 37, 768 << 10, 0x9000, 7, "anonymous"],
]


def sleeper(path, **notes):
    """As `record -- sleep 0.5` leaves it: 18 pages in 256 GiB of addresses."""
    needs("pyarrow")
    with ib.LogWriter(path, ib.Geometry(*RANGE), notes=notes) as log:
        log.append_ranges([[0, 10 * PAGE], [1 << 37, 8 * PAGE]], 0, SECOND // 2)
        log.append_ranges([], SECOND // 2, SECOND)
    return ib.DirtyLog.open(path)


def first_round(found):
    return found.rounds[0].nbytes


def test_the_layout_of_a_recording_says_what_is_sent(tmp_path):
    with sleeper(tmp_path / "a.parquet", layout=LAYOUT) as log:
        curve = an.volume_curve(log)
        assert (curve.total_bytes, curve.zero_bytes) == (MIB, 0)
        found = an.predict_precopy(curve, **LINK)
        assert first_round(found) == pytest.approx(MIB * PER_PAGE)
        assert found.converges and found.total_seconds < 0.01
        assert an.replay_precopy(log, **LINK).rounds == found.rounds


def test_a_note_of_memory_comes_before_the_layout(tmp_path):
    noted = {"resident_bytes": 100 * PAGE, "mapped_bytes": MIB, "zero_bytes": 20 * PAGE}
    with sleeper(tmp_path / "a.parquet", layout=LAYOUT, memory=noted) as log:
        curve = an.volume_curve(log)
        assert (curve.total_bytes, curve.zero_bytes) == (100 * PAGE, 20 * PAGE)
        sent = 80 * (PAGE + 8) + 20 * 8
        assert first_round(an.predict_precopy(curve, **LINK)) == pytest.approx(sent)
        assert first_round(an.replay_precopy(log, **LINK)) == pytest.approx(sent)
    with sleeper(tmp_path / "b.parquet", memory={"mapped_bytes": 50 * PAGE}) as log:
        assert an.volume_curve(log).total_bytes == 50 * PAGE


@pytest.mark.parametrize(
    "notes",
    [
        {},
        {"memory": None, "layout": "a heap"},
        {"memory": {"resident_bytes": 0, "mapped_bytes": True}, "layout": [[1, 2]]},
        {"memory": {"resident_bytes": -5, "mapped_bytes": 2.5}},
        {"memory": [4096]},
    ],
)
def test_what_nobody_said_is_refused(tmp_path, notes):
    with sleeper(tmp_path / "a.parquet", **notes) as log:
        curve = an.volume_curve(log)
        assert curve.total_bytes is None and curve(0.5) > 0  # what was measured is known
        assert "memory unknown" in repr(curve) and "unknown" in curve._repr_html_()
        for ask in (
            lambda: an.predict_precopy(curve, **LINK),
            lambda: an.replay_precopy(log, **LINK),
        ):
            with pytest.raises(ValueError, match=r"give memory_bytes .*range of addresses say"):
                ask()
        pytest.importorskip("pandas")
        with pytest.raises(ValueError, match="give memory_bytes"):
            an.precopy_table(curve, [1e9], [0.3])


def test_arguments_come_before_what_is_noted(tmp_path):
    with sleeper(tmp_path / "a.parquet", memory={"resident_bytes": MIB, "zero_bytes": PAGE}) as log:
        curve = an.volume_curve(log, memory_bytes=64 * PAGE - 1, zero_bytes=4 * PAGE)
        assert (curve.total_bytes, curve.zero_bytes) == (64 * PAGE, 4 * PAGE)  # whole pages
        given = {"memory_bytes": 64 * PAGE, "zero_bytes": 4 * PAGE}
        sent = 60 * (PAGE + 8) + 4 * 8
        for found in (
            an.predict_precopy(curve, **LINK),
            an.predict_precopy(an.volume_curve(log), **LINK, **given),
            an.replay_precopy(log, **LINK, **given),
        ):
            assert first_round(found) == pytest.approx(sent)
        only = an.volume_curve(log, zero_bytes=2 * PAGE)
        assert (only.total_bytes, only.zero_bytes) == (MIB, 2 * PAGE)
        only = an.volume_curve(log, memory_bytes=8 * MIB)
        assert (only.total_bytes, only.zero_bytes) == (8 * MIB, PAGE)


def test_more_memory_than_the_curve_knew_may_become_dirty():
    """Told of more memory, it goes on growing beyond what bounded the curve before."""
    small = an.VolumeCurve([1, 2], [1e6, 2e6], total_bytes=3e6)
    assert small(100) == 3e6
    found = an.predict_precopy(
        small, bandwidth=1e7, downtime_limit=0, memory_bytes=5e8, max_total_seconds=1, page_header=0
    )
    assert found.rounds[0].remaining_bytes == pytest.approx(5e7)


@pytest.mark.parametrize(
    "given", [{"memory_bytes": value} for value in (0, -1, math.inf, math.nan)]
)
def test_memory_that_cannot_be(given):
    bm = ib.IOVABitmap(*RANGE)
    log = [(bm, 0, SECOND)]
    with pytest.raises(ValueError, match="_bytes must be above 0"):
        an.volume_curve(log, **given)
    with pytest.raises(ValueError, match=r"memory_bytes must be above 0 bytes, not "):
        an.replay_precopy(log, **LINK, **given)
    with pytest.raises(ValueError, match="at most memory_bytes, not 8192 of 4096"):
        an.replay_precopy(log, **LINK, memory_bytes=PAGE, zero_bytes=2 * PAGE)


def test_no_more_is_left_than_there_is():
    """Memory that came and went was dirty at more addresses than ever are in use at once."""
    bm = ib.IOVABitmap(0, 100 * PAGE)
    bm.set(0, 100 * PAGE)
    log = [(bm, 0, SECOND)]
    found = an.replay_precopy(
        log, bandwidth=PAGE * 10.0, downtime_limit=0.1, memory_bytes=10 * PAGE, page_header=0
    )
    assert found.rounds[0].remaining_bytes == 10 * PAGE
