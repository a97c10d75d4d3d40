"""QEMU's figures beside ours and beside the truth: a real one, whose guest writes known pages.

Measuring takes seconds by its nature, so `make qemu-tests` runs these, and prints the figures.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.analysis import DirtyRate, VolumeCurve, dirty_rate, predict_precopy
from iovabitmap.qemu import DirtyRateMeter, Migration, ModeRefusedError, Monitor
from iovabitmap.sources import CommandTracker, GuestRam, SnapshotDiff
from support import guest_program, programs
from support.memory import HOST_PAGE
from support.qemu_pair import (
    NBYTES,
    TRUTH,
    WORKING_SET,
    Writing,
    command,
    connected,
    numbers,
    pages,
    running,
)

pytest.importorskip("qemu.qmp")
pytestmark = [
    pytest.mark.skipif(
        "IOVABITMAP_QEMU" not in os.environ, reason="takes a while: make qemu-tests"
    ),
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None, reason="not installed: qemu-system-x86_64"
    ),
    pytest.mark.skipif(programs.COMPILER is None, reason="no C compiler"),
]

MOST_SAMPLES = 16384


@pytest.fixture
def image(tmp_path):
    return guest_program.build(tmp_path)


@pytest.fixture
def tracked(image, tmp_path):
    """A guest that has booted, and its pages taken: (guest, tracker, RAM's file, Monitor)."""
    path = tmp_path / "a.ram"
    ram = GuestRam(NBYTES, path=str(path))
    argv = command(image, tmp_path, "a")
    pipes = {**programs.PIPES, "text": False}
    probe = CommandTracker.probe()
    if not probe:
        pytest.skip(probe.reason)
    with CommandTracker(argv, placement=ram, **pipes) as tracker, tracker.process as process:
        try:
            guest = guest_program.Guest(process)
            pages(tracker)
            with Monitor(tmp_path / "a.qmp") as monitor:
                yield guest, tracker, path, monitor
        finally:
            process.kill()


def test_three_figures(tracked, capsys):
    """QEMU samples, we see each page: ours is the truth, QEMU's within its sampling error."""
    guest, tracker, path, monitor = tracked
    second = SnapshotDiff(path)
    second.start()
    with Writing(guest) as writing:
        qemu = DirtyRateMeter(monitor).measure(1, sample_pages_per_gib=MOST_SAMPLES)
        writing.stop()
    ours = pages(tracker)
    assert ours == TRUTH
    assert pages(second) == TRUTH
    truth = DirtyRate(len(TRUTH), HOST_PAGE, 1.0)
    error = qemu.relative_error(NBYTES)
    with capsys.disabled():
        print(
            f"\n  dirty rate at 1 s, MiB/s: truth {truth.mib_per_s:.2f}, "
            f"ours {DirtyRate(len(ours), HOST_PAGE, 1.0).mib_per_s:.2f}, "
            f"QEMU {qemu.mib_per_s} (standard error {error:.1%})"
        )
    assert 0 < error < 0.06
    assert abs(qemu.mib_per_s - truth.mib_per_s) <= 5 * error * truth.mib_per_s + 1


def test_modes_that_would_end_the_guest(tracked):
    """QEMU 7.2 dies of "dirty-bitmap" without KVM: it was not asked, and the guest runs on."""
    guest, tracker, _, monitor = tracked
    for mode in ("dirty-bitmap", "dirty-ring"):
        with pytest.raises(ModeRefusedError):
            DirtyRateMeter(monitor).measure(1, mode)
    assert monitor.execute("query-status")["status"] == "running"
    guest.write(1)
    assert pages(tracker) == guest_program.pages_of(1)


def test_a_log_has_exactly_what_the_guest_wrote(tracked, tmp_path, capsys):
    guest, tracker, _, _ = tracked
    expected = []
    path = tmp_path / "guest.parquet"
    notes = {"source": "CommandTracker", "granularity": tracker.granularity}
    with ib.LogWriter(path, ib.Geometry(0, NBYTES, HOST_PAGE), **notes) as log:
        for byte in (*range(0, 250, 10), None):
            start = time.monotonic_ns()
            expected.append(guest.write(byte) if byte is not None else [])
            with ib.IOVABitmap(0, NBYTES) as bm:
                tracker.collect(bm)
                log.append(bm, start, time.monotonic_ns())
    with ib.DirtyLog.open(path) as log:
        assert [numbers(epoch.bitmap()) for epoch in log] == expected
        every = sorted(set().union(*expected))
        assert numbers(log[0 : len(log)].union()) == every
        assert dirty_rate(log).pages == len(every)
    with capsys.disabled():
        print(f"\n  a log of {len(expected)} epochs: {len(every)} pages, all of them the guest's")


# --- the manual's page ----------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "qemu.md"
needs_page = pytest.mark.skipif(not PAGE.exists(), reason="no manual: an installed package")


def functions_of_the_page() -> dict:
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, names)
    return names


@needs_page
def test_the_page_asks_qemu(tracked, tmp_path, capsys):
    guest, _, _, monitor = tracked
    monitor.close()  # one connection at a time
    with Writing(guest) as writing:
        functions_of_the_page()["ask_qemu"](tmp_path / "a.qmp", NBYTES)
        writing.stop()
    printed, error, *_ = capsys.readouterr().out.split()
    assert int(printed) > 0
    assert 0 < float(error) < 1


@needs_page
def test_the_page_follows_a_migration(pair, tmp_path, capsys):
    _, _, socket, a, b = pair
    a.close()
    downtime = functions_of_the_page()["follow"](tmp_path / "a.qmp", socket)
    assert 0 <= downtime < 60
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0][0] == "0" and rows[-1][3] == "0"
    assert b.execute("query-status")["status"] == "running"


# --- migration ------------------------------------------------------------------------------------


@pytest.fixture
def pair(image, tmp_path):
    """(the source's guest, destination, the socket on which it waits, both Monitors)."""
    socket = tmp_path / "m"
    with (
        running(command(image, tmp_path, "a")) as source,
        running(command(image, tmp_path, "b", "-incoming", "defer")) as destination,
    ):
        guest = guest_program.Guest(source)
        with (
            connected(source, tmp_path / "a.qmp") as a,
            connected(destination, tmp_path / "b.qmp") as b,
        ):
            b.execute("migrate-incoming", uri=f"unix:{socket}")
            yield guest, destination, socket, a, b


SLOW, FAST, DOWNTIME = 10e6, 2e9, 0.1
FULL_ROUNDS = 3


def test_a_migration_is_followed(pair, tmp_path, capsys):
    """Each round leaves the working set; it ends when the bandwidth allows. Memory is the same."""
    guest, destination, socket, a, b = pair
    rounds, full = [], []
    for byte in WORKING_SET:
        guest.write(byte)
    with Writing(guest) as writing, Migration(a) as migration:
        migration.start(socket, bandwidth_bytes_per_s=SLOW, downtime_seconds=DOWNTIME)
        times = 0
        for each in migration.follow():
            rounds.append(each)
            # One may have been written in part, or after the round's end.
            if writing.times >= times + 3:
                full.append(each)
            times = writing.times
            if len(full) == FULL_ROUNDS:  # it would go on for ever
                writing.stop()
                migration.limit(bandwidth_bytes_per_s=FAST)
        statistics = migration.statistics()
    with capsys.disabled():
        print(f"\n  working set {len(TRUTH) * HOST_PAGE} bytes; rounds of the migration:")
        for each in rounds:
            print(
                f"  {each.number:3} {each.nbytes:10} bytes in {each.seconds:6.3f} s, "
                f"{each.remaining_bytes:10} remain, {each.statistics.dirty_pages_per_s} pages/s"
                + (", stopped" if each.last else "")
            )
    check_rounds(rounds, full[:FULL_ROUNDS], statistics)
    check_destination(guest, destination, tmp_path, b)


def check_rounds(rounds, full, statistics):
    """None has more than the working set; those in which all of it was written have all of it, but
    for what is sent before QEMU answers: up to a tenth of a second's bytes."""
    written = len(TRUTH) * HOST_PAGE
    for each in rounds:
        assert each.remaining_bytes <= written
        assert each.as_dirty_rate().pages <= len(TRUTH)
    for each in full:
        assert each.remaining_bytes > 0.75 * written
        assert each.statistics.status == "active"
    assert len(full) == FULL_ROUNDS
    assert [each.last for each in rounds] == [False] * (len(rounds) - 1) + [True]
    assert statistics.status == "completed"
    assert sum(each.nbytes for each in rounds) <= statistics.transferred_bytes
    assert sum(each.passes for each in rounds) == statistics.dirty_sync_count
    # As the analysis says of such a working set.
    curve = VolumeCurve.saturating(written, written, total_bytes=NBYTES)
    for bandwidth, converges in ((SLOW, False), (FAST, True)):
        found = predict_precopy(
            curve, bandwidth=bandwidth, downtime_limit=DOWNTIME, max_total_seconds=60
        )
        assert found.converges is converges


def check_destination(guest, destination, tmp_path, monitor):
    """It has the same memory, and its guest goes on where the other one stopped."""
    assert monitor.execute("query-status")["status"] == "running"
    one, other = (np.memmap(tmp_path / f"{name}.ram", np.uint8, "r") for name in "ab")
    assert np.array_equal(one, other)
    second = SnapshotDiff(tmp_path / "b.ram")
    second.start()
    guest.process = destination
    guest.write(7)
    assert pages(second) == guest_program.pages_of(7)
