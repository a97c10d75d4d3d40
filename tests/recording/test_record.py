"""record(): with every kind of source, with `with` and `run`, and how one may end."""

from __future__ import annotations

import mmap
import subprocess
import sys
import threading

import pytest

import iovabitmap as ib
from iovabitmap.recording import Recording, Schedule
from iovabitmap.sources import (
    CommandTracker,
    LayoutRow,
    Probe,
    ProcessTracker,
    SnapshotDiff,
    Source,
    WriteTracker,
)
from support.logs import needs
from support.memory import HOST_PAGE

needs("pyarrow")

NBYTES = 64 * HOST_PAGE
LONG_S = 60


class Scripted:
    """A source that says what it was told to: for each collect pages, or an exception."""

    iova, length, granularity = 0x10000, NBYTES, HOST_PAGE
    untracked: list = []  # noqa: RUF012

    def __init__(self, *script) -> None:
        self.script = list(script)
        self.life: list[str] = []
        self.asked = threading.Semaphore(0)

    def start(self) -> None:
        self.life.append("start")

    def stop(self) -> None:
        self.life.append("stop")

    def collect(self, bm, /) -> int:
        self.asked.release()
        pages = self.script.pop(0) if self.script else []
        if isinstance(pages, BaseException):
            raise pages
        bm.set_pages([self.iova + page * HOST_PAGE for page in pages])
        return len(pages)

    def layout(self) -> list[LayoutRow]:
        return [LayoutRow(self.iova, self.length, 0x5000, 1, "scripted")]

    @classmethod
    def probe(cls) -> Probe:
        return Probe(True, "")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.parquet"


def names(path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def pages_in(log) -> list[list[int]]:
    return [
        [(iova - log.iova) // HOST_PAGE for iova in each.bitmap().pages().tolist()] for each in log
    ]


def test_a_source_of_ones_own(path):
    source = Scripted([1, 2], [], [63], [5])
    assert isinstance(source, Source)
    seen = []

    def on_epoch(recording):
        seen.append((recording.recorder.tally.epochs, recording.recorder.bitmap.count()))
        if len(seen) == 4:
            recording.end()

    recording = ib.record(source, path, interval=0.001, on_epoch=on_epoch)
    assert source.life == [] and "not begun" in repr(recording) and not names(path)
    assert recording.run() is recording
    assert source.life == ["start", "stop"] and "5 epochs" in repr(recording)
    assert seen == [(1, 2), (2, 0), (3, 1), (4, 1), (5, 0)]
    assert names(path) == ["run.parquet"]
    with ib.DirtyLog.open(path) as log:
        assert pages_in(log) == [[1, 2], [], [63], [5], []]
        assert log.source == "Scripted" and log.command is None
        assert log.layout[0].name == "scripted" and log.notes["interval_ns"] == 1_000_000
        assert log.memory.mapped_bytes == NBYTES  # what its layout names
        ends = [epoch.t_end_ns for epoch in log]
        assert [epoch.t_start_ns for epoch in log][1:] == ends[:-1]
        assert "missed_intervals" in log.notes["recording"]


def test_duration(path):
    recording = ib.record(Scripted(), path, interval=0.004, duration=0.01).run()
    tally = recording.recorder.tally
    assert tally.seconds >= 0.01 and 1 <= tally.epochs <= 4
    with ib.DirtyLog.open(path) as log:
        assert len(log) == tally.epochs and not log.unfinished


@pytest.mark.parametrize("kind", [WriteTracker, SnapshotDiff])
def test_a_block_that_writes_a_buffer(kind, path):
    if not kind.probe():
        pytest.skip(kind.probe().reason)
    memory = mmap.mmap(-1, NBYTES)
    with ib.record(kind(memory, iova=1 << 40), path, interval=3600):
        memory[5 * HOST_PAGE] = memory[9 * HOST_PAGE] = 1
    with ib.DirtyLog.open(path) as log:
        assert len(log) == 1 and pages_in(log) == [[5, 9]]
        assert log.iova == 1 << 40 and log.layout[0].name == "buffer"


def test_a_block_of_this_process(path):
    if not ProcessTracker.probe():
        pytest.skip(ProcessTracker.probe().reason)
    source = ProcessTracker()
    with ib.record(source, path, interval=3600):
        memory = mmap.mmap(-1, NBYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory[3 * HOST_PAGE] = 1
    with ib.DirtyLog.open(path) as log:
        assert len(log) == 1 and log[0].count() >= 1
        assert log.layout and log.memory.resident_bytes > 1 << 20


@pytest.mark.skipif(not CommandTracker.probe(), reason=CommandTracker.probe().reason or "works")
def test_a_program_to_its_end(path):
    argv = [sys.executable, "-c", "import os; x = b'1' * (8 << 20); os._exit(0)"]
    recording = ib.record(CommandTracker(argv), path).run()
    assert recording.source.wait(LONG_S) == 0 and recording.recorder.still_running == []
    with ib.DirtyLog.open(path) as log:
        assert log.command == argv and log.union().count() * HOST_PAGE > 8 << 20
        assert 8 << 20 < log.memory.resident_bytes < 64 << 20


@pytest.mark.skipif(not CommandTracker.probe(), reason=CommandTracker.probe().reason or "works")
def test_a_block_that_talks_to_a_program(path):
    source = CommandTracker(["cat"], stdin=subprocess.PIPE)
    with ib.record(source, path, interval=3600) as recording:
        source.process.stdin.write(b"hello")
    assert recording.recorder.still_running == [source.process.pid]
    source.process.stdin.close()
    assert source.wait(LONG_S) == 0


# --- what goes wrong ------------------------------------------------------------------------------


def test_an_exception_in_the_block_leaves_an_unfinished_log(path):
    source = Scripted([1], [2])

    def record():
        with ib.record(source, path, interval=3600):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record()
    assert names(path) == ["run.parquet.journal"] and source.life == ["start", "stop"]
    with ib.DirtyLog.open(path) as log:
        assert "not closed" in log.unfinished and pages_in(log) == [[1]]
        assert log.layout


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt()])
def test_a_recording_that_fails_keeps_what_it_has(path, error):
    source = Scripted([1], [2, 3], error)
    with pytest.raises(type(error)):
        ib.record(source, path, interval=0.001).run()
    assert names(path) == ["run.parquet.journal"] and source.life == ["start", "stop"]
    with ib.DirtyLog.open(path) as log:
        assert pages_in(log) == [[1], [2, 3]]


def test_a_thread_that_fails_is_told_at_the_end_of_the_block(path):
    source = Scripted([1], OSError(28, "full"))

    def record():
        with ib.record(source, path, interval=0.001):
            for _ in range(2):
                assert source.asked.acquire(timeout=LONG_S)

    with pytest.raises(OSError, match="full"):
        record()
    with ib.DirtyLog.open(path) as log:
        assert pages_in(log) == [[1]] and "not closed" in log.unfinished


def test_what_on_epoch_raises_ends_the_recording(path):
    def on_epoch(recording):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ib.record(Scripted([1]), path, interval=0.001, on_epoch=on_epoch).run()
    with ib.DirtyLog.open(path) as log:
        assert pages_in(log) == [[1]]


def test_a_source_that_does_not_start_leaves_nothing(path):
    source = CommandTracker([str(path.parent / "no such program")])
    with pytest.raises(FileNotFoundError):
        ib.record(source, path).run()
    assert not names(path)


def test_nothing_is_replaced_nor_started(path):
    path.write_text("precious")
    source = Scripted()
    for begin in (Recording.run, Recording.__enter__):
        with pytest.raises(FileExistsError):
            begin(ib.record(source, path))
    assert source.life == [] and names(path) == ["run.parquet"]
    assert path.read_text() == "precious"


def test_a_recording_is_made_once(path):
    recording = ib.record(Scripted(), path, duration=0.001)
    with pytest.raises(RuntimeError, match="not begun"):
        _ = recording.recorder
    recording.run()
    for again in (recording.run, recording.__enter__, recording.begin):
        with pytest.raises(RuntimeError, match="begun already"):
            again()
    with ib.record(Scripted(), path.with_name("b.parquet")) as recording:
        for again in (recording.run, recording.__enter__, recording.begin):
            with pytest.raises(RuntimeError, match="begun already"):
                again()


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"interval": 0}, "interval must be at least 0.001 seconds, not 0"),
        ({"interval": 0.0009}, "interval must be at least 0.001 seconds, not 0.0009"),
        ({"interval": float("nan")}, "interval must be at least 0.001 seconds.*, not nan"),
        ({"interval": 1e300}, "interval must be .*, not 1e\\+300"),
        ({"duration": -1}, "duration must be at least 1e-09 seconds, not -1"),
        ({"max_overhead": 0}, "max_overhead must be above 0 and at most 1, not 0"),
        ({"max_overhead": 1.5}, "max_overhead must be above 0 and at most 1, not 1.5"),
    ],
)
def test_arguments_out_of_their_limits(path, wrong, message):
    with pytest.raises(ValueError, match=message):
        ib.record(Scripted(), path, **wrong)


def test_what_is_not_a_source(path):
    with pytest.raises(TypeError, match="source must be a Source, which 'ls' is not: no start"):
        ib.record("ls", path)


def test_long_looks_make_longer_epochs():
    """At most a tenth of the time: after 50 ns of looking, 450 ns of rest."""
    schedule = Schedule(0, 100, 0.1)
    schedule.looked(150, 50)
    assert (schedule.due_ns, schedule.missed) == (700, 5)
    schedule.looked(705, 5)
    assert (schedule.due_ns, schedule.missed) == (800, 5)
