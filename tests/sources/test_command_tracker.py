"""CommandTracker, with a program all of whose writes are known: memory that comes, goes and grows,
threads, children, exec, and ends of every kind."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap._base.interval_arrays import rows_of
from iovabitmap.sources import CommandTracker, GuestRam
from iovabitmap.sources._address_space import AddressSpace
from support import programs
from support.layouts import pages, written
from support.memory import HOST_PAGE
from support.tracked import open_descriptors

_probe = CommandTracker.probe()
pytestmark = [
    pytest.mark.skipif(not _probe, reason=_probe.reason or "works"),
    pytest.mark.skipif(programs.COMPILER is None, reason="no C compiler"),
]

MiB = 1 << 20


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> str:
    return str(programs.build(tmp_path_factory.mktemp("program")))


class Tracked:
    """The program, tracked, and what of its writes was not its own doing."""

    def __init__(self, argv, **options) -> None:
        self.source = CommandTracker(argv, **programs.PIPES, **options)
        self.source.start()
        self.process = self.source.process
        self.writer = programs.Writer(self.process)
        self.own = {page * HOST_PAGE for page in self.writer.own()}
        self.writer.increment(self.writer.map(HOST_PAGE))  # the C library does things only once
        self.written()

    def written(self, pid: int | None = None) -> set[int]:
        """Addresses of the pages written since the last time, but for its own and its stack's."""
        return {
            address
            for (owner, address), name in written(self.source).items()
            if owner == (pid or self.writer.pid)
            if address not in self.own and not name.startswith("[stack]")
        }

    def close(self) -> None:
        self.source.stop()
        with self.process:
            if self.process.poll() is None:
                self.process.stdin.close()
            self.process.wait()


@pytest.fixture
def tracked(program):
    made = Tracked([program])
    yield made
    made.close()


# --- memory that comes, goes and grows ------------------------------------------------------------


def test_all_of_a_program_page_by_page(tracked):
    """Nothing but what it was told to write: in all its memory, round after round."""
    rng = np.random.default_rng(1)
    address = tracked.writer.map(4000 * HOST_PAGE)
    assert tracked.written() == set()
    for count in (1, 500, 3000):
        chosen = rng.choice(4000, count, replace=False).tolist()
        tracked.writer.increment(*pages(address, *chosen))
        assert tracked.written() == pages(address, *chosen)
        assert tracked.written() == set()


def test_a_mapping_is_new(tracked):
    """What was written to it before it was first seen is told; what was only read is not."""
    writer = tracked.writer
    first = writer.map(10 * HOST_PAGE)
    writer.increment(*pages(first, 3, 4))
    writer.ask("l", first + 7 * HOST_PAGE)
    assert tracked.written() == pages(first, 3, 4)
    writer.ask("l", first + 8 * HOST_PAGE)
    assert tracked.written() == set()
    writer.increment(*pages(first, 4, 7, 8, 9))
    assert tracked.written() == pages(first, 4, 7, 8, 9)


def test_mappings_come_and_go(tracked):
    writer = tracked.writer
    address = writer.map(8 * HOST_PAGE)
    writer.increment(*pages(address, 1, 2))
    assert tracked.written() == pages(address, 1, 2)
    writer.increment(*pages(address, 5))
    writer.ask("u", address, 8 * HOST_PAGE)
    assert tracked.written() == set()
    again = writer.map(8 * HOST_PAGE)
    writer.increment(*pages(again, 0))
    assert tracked.written() == pages(again, 0)


def test_replaced_at_the_same_place(tracked):
    """/proc/PID/maps reads the same, and yet it is other memory."""
    writer = tracked.writer
    address = writer.map(8 * HOST_PAGE)
    writer.increment(*pages(address, 1, 2))
    assert tracked.written() == pages(address, 1, 2)
    for round_ in range(3):
        assert writer.ask("r", address, 8 * HOST_PAGE) == address
        writer.increment(*pages(address, 3 + round_))
        assert tracked.written() == pages(address, 3 + round_)
        writer.increment(*pages(address, 3 + round_, 7))
        assert tracked.written() == pages(address, 3 + round_, 7)


def test_replaced_while_it_is_looked_at(tracked, monkeypatch):
    """Between two questions to the kernel: the next look finds what was written."""
    writer = tracked.writer
    address = writer.map(8 * HOST_PAGE)
    writer.increment(*pages(address, 1, 2))
    assert tracked.written() == pages(address, 1, 2)
    writer.ask("r", address, 8 * HOST_PAGE)
    writer.increment(*pages(address, 3))
    with monkeypatch.context() as patch:
        patch.setattr(AddressSpace, "_bare", lambda self, start, end: rows_of([]))
        tracked.written()
    writer.increment(*pages(address, 4))
    assert tracked.written() & pages(address, *range(8)) == pages(address, 3, 4)
    writer.increment(*pages(address, 3, 7))
    assert tracked.written() == pages(address, 3, 7)


def test_moved_and_grown(tracked):
    """Content that moved is at addresses where it was not: all of it counts as written."""
    writer = tracked.writer
    address = writer.map(4 * HOST_PAGE)
    writer.increment(*pages(address, 1, 2))
    assert tracked.written() == pages(address, 1, 2)
    moved = writer.ask("v", address, 4 * HOST_PAGE, 64 * MiB)
    writer.increment(*pages(moved, 100))
    seen = tracked.written()
    assert pages(moved, 100) <= seen
    if moved != address:
        assert seen == pages(moved, 1, 2, 100)
    writer.increment(*pages(moved, 2, 5000))
    assert tracked.written() == pages(moved, 2, 5000)


def test_the_heap_grows(tracked):
    """Only the pages that were written, not all by which it grew."""

    def heap() -> set[int]:
        return {at for (_, at), name in written(tracked.source).items() if name == "[heap]"}

    for _ in range(5):
        old = tracked.writer.ask("b", 300 * HOST_PAGE) // HOST_PAGE * HOST_PAGE
        tracked.writer.increment(*(pages(old, 1, 57, 299)))
        assert heap() == pages(old, 1, 57, 299)
        assert heap() == set()


def test_the_stack_grows(tracked):
    def stack() -> int:
        found = written(tracked.source)
        return sum(name.startswith("[stack]") for name in found.values())

    few = stack()
    tracked.writer.ask("s", 100)
    assert 100 <= stack() <= 104 + few
    tracked.writer.ask("s", 10)
    assert 10 <= stack() <= 14 + few


def test_memory_that_was_given_back(tracked):
    """It reads as zeros now: its content changed."""
    writer = tracked.writer
    address = writer.map(8 * HOST_PAGE)
    writer.increment(*pages(address, 1, 2, 3))
    assert tracked.written() == pages(address, 1, 2, 3)
    writer.ask("d", address + 2 * HOST_PAGE, 2 * HOST_PAGE)
    seen = tracked.written()
    assert pages(address, 2, 3) <= seen and pages(address, 1).isdisjoint(seen)


def test_stack_of_a_thread(tracked):
    page = tracked.writer.map(HOST_PAGE)
    pointer = tracked.writer.ask("t", page)
    seen = tracked.written()
    assert pointer // HOST_PAGE * HOST_PAGE in seen
    rows = [row for row in tracked.source.layout() if row.name.startswith("[stack:")]
    assert any(row.address <= pointer < row.address + row.length for row in rows)


@pytest.mark.parametrize("shared", [False, True])
def test_shared_memory(program, shared):
    tracked = Tracked([program], shared=shared)
    try:
        address = tracked.writer.ask("M", 16 * HOST_PAGE)
        tracked.writer.increment(*pages(address, 3, 4))
        assert tracked.written() == (pages(address, 3, 4) if shared else set())
        tracked.writer.increment(*pages(address, 4, 15))
        assert tracked.written() == (pages(address, 4, 15) if shared else set())
    finally:
        tracked.close()


def test_no_room(program):
    """What does not fit is not tracked, and said to be so."""
    tracked = Tracked([program], length=64 * MiB)
    try:
        assert tracked.source.untracked == []
        large = tracked.writer.map(256 * MiB)
        tracked.writer.increment(large)
        assert tracked.written() == set()
        (missing,) = tracked.source.untracked
        assert missing.pid == tracked.writer.pid
        assert f"{large:#x}" in missing.what and "no room" in missing.reason
        assert tracked.written() == set()
        assert len(tracked.source.untracked) == 1
        small = tracked.writer.map(8 * HOST_PAGE)
        tracked.writer.increment(small)
        assert tracked.written() == {small}
    finally:
        tracked.close()


def test_only_a_guests_memory(program):
    """Placed by guest-physical addresses, with a hole below 4 GiB."""
    ram = GuestRam(96 * MiB, below_4g=64 * MiB)
    tracked = CommandTracker([program], placement=ram, **programs.PIPES)
    with tracked, tracked.process as process:
        writer = programs.Writer(process)
        other = writer.map(8 * HOST_PAGE)
        address = writer.map(96 * MiB)
        written(tracked)
        writer.increment(other, *pages(address, 5), address + 64 * MiB + 9 * HOST_PAGE)
        with ib.IOVABitmap(0, tracked.length) as bm:
            assert tracked.collect(bm) == 2
            assert bm.pages().tolist() == [5 * HOST_PAGE, (4 << 30) + 9 * HOST_PAGE]
        low, high = tracked.layout()
        assert low[:4] == (0, 64 * MiB, address, writer.pid)
        assert high[:4] == (4 << 30, 32 * MiB, address + 64 * MiB, writer.pid)
        process.stdin.close()


# --- children and exec ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "_exit"])
def test_a_child_until_its_end(tracked, how):
    """Each has its own pages, the child's up to its last, and what it inherited was not written."""
    address = tracked.writer.map(100 * HOST_PAGE)
    tracked.writer.increment(*pages(address, *range(50)))
    tracked.written()
    tracked.writer.say("f" + how[0], *pages(address, 3, 70))
    child = tracked.writer.hear()
    seen = written(tracked.source)
    mine = {at for (pid, at), _ in seen.items() if pid == child}
    assert pages(address, 3, 70) <= mine
    assert mine & pages(address, *range(100)) == pages(address, 3, 70)
    parents = {at for (pid, at), _ in seen.items() if pid == tracked.writer.pid}
    assert parents.isdisjoint(pages(address, *range(100)))
    assert tracked.source.untracked == []


def test_a_child_that_lives(tracked):
    address = tracked.writer.map(100 * HOST_PAGE)
    tracked.writer.say("fw", *pages(address, 4))
    child = tracked.writer.hear()
    assert pages(address, 4) <= tracked.written(child)
    assert tracked.written(child) == set()
    assert {row.pid for row in tracked.source.layout()} == {child, tracked.writer.pid}
    assert tracked.source.untracked == []
    tracked.process.stdin.write("x")
    tracked.process.stdin.flush()
    assert tracked.writer.hear() == child


def test_a_child_that_is_killed(tracked):
    """What it wrote last cannot be known, and that is said."""
    tracked.writer.say("fk")
    child = tracked.writer.hear()
    tracked.written()
    assert [(each.pid, "not known" in each.reason) for each in tracked.source.untracked] == [
        (child, True)
    ]


def test_exec(tracked):
    """Another program in the same process: its memory is new, and tracked from its start."""
    tracked.writer.map(100 * HOST_PAGE)
    tracked.written()
    tracked.writer.say("x")
    assert tracked.writer.hear() == tracked.writer.pid
    address = tracked.writer.map(10 * HOST_PAGE)
    tracked.writer.increment(*pages(address, 6))
    found = {at for (_, at) in written(tracked.source)}
    assert found & pages(address, *range(10)) == pages(address, 6)
    assert tracked.source.untracked == []


def test_a_static_child_is_named(program, tmp_path):
    """A program that takes no library, started by one that does."""
    try:
        static = programs.build(tmp_path, "-static", name="static")
    except subprocess.CalledProcessError:
        pytest.skip("this compiler cannot link a static program")
    script = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    argv = [sys.executable, "-c", script, str(static)]
    with CommandTracker(argv, **programs.PIPES) as tracker, tracker.process as process:
        writer = programs.Writer(process)
        (missing,) = tracker.untracked
        assert missing == (writer.pid, str(static), "a static program takes no preloaded library")
        process.stdin.close()


def test_a_static_program(tmp_path):
    try:
        static = str(programs.build(tmp_path, "-static", name="static"))
    except subprocess.CalledProcessError:
        pytest.skip("this compiler cannot link a static program")
    with CommandTracker([static], **programs.PIPES) as tracker, tracker.process as process:
        assert [each.pid for each in tracker.untracked] == [process.pid]
        assert tracker.collect(ib.IOVABitmap(tracker.iova, tracker.length)) == 0
        process.stdin.close()


# --- ends -----------------------------------------------------------------------------------------


def test_exit_status_and_last_writes(program):
    """What it wrote before its end is collected after it."""
    tracker = CommandTracker([program], **programs.PIPES)
    assert tracker.returncode is None
    with tracker, tracker.process as process:
        writer = programs.Writer(process)
        address = writer.map(8 * HOST_PAGE)
        writer.increment(*pages(address, 5))
        writer.say("q")
        assert tracker.wait() == tracker.returncode == 7
        seen = {at for (_, at) in written(tracker)}
        assert seen & pages(address, *range(8)) == pages(address, 5)
        assert tracker.untracked == []


def test_killed(tracked):
    tracked.writer.say("k")
    assert tracked.source.wait() == -9
    tracked.written()
    (missing,) = tracked.source.untracked
    assert missing.pid == tracked.writer.pid and "not known" in missing.reason


def test_no_such_program():
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        CommandTracker(["/nonexistent/program"]).start()
    with pytest.raises(ValueError, match="argv is empty"):
        CommandTracker([])
    with pytest.raises(RuntimeError, match="not started"):
        CommandTracker(["true"]).wait()
    assert open_descriptors() <= before


def test_the_program_goes_on_after_stop(tracked):
    address = tracked.writer.map(8 * HOST_PAGE)
    tracked.writer.increment(address)
    before = open_descriptors()
    tracked.source.stop()
    assert open_descriptors() < before
    tracked.writer.increment(address)
    tracked.writer.say("fe", address)  # a child finds nobody, and goes on
    assert tracked.writer.hear() > 0
    assert tracked.writer.ask("l", address) == 2
    tracked.writer.say("q")
    assert tracked.source.wait() == 7


def test_descriptors_are_given_back(program):
    before = open_descriptors()
    for _ in range(3):
        tracked = Tracked([program])
        tracked.writer.say("fe")
        tracked.writer.hear()
        tracked.close()
    assert open_descriptors() == before


def test_the_program_gets_no_descriptor(tracked):
    """Nothing of ours is left in it: three pipes, and that is all."""
    assert len(list(Path(f"/proc/{tracked.writer.pid}/fd").iterdir())) == 3


def test_strangers_are_not_answered(program):
    """Who does not know the token is not heard, and the descriptors that it sent are closed."""
    before = open_descriptors()
    tracked = Tracked([program])
    name = tracked.source._reception._name
    for message in (b"", b"x", struct.pack("=Ii64s", 1, 0, b"wrong"), b"x" * 72):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.connect(f"\0{name}")
            socket.send_fds(stranger, [message], [0, 0, 0])
            stranger.recv(1)
    assert {row.pid for row in tracked.source.layout()} == {tracked.writer.pid}
    assert tracked.source.untracked == []
    tracked.close()
    assert open_descriptors() == before


def test_a_program_with_its_own_library(program):
    """LD_PRELOAD of the caller is kept, before ours."""
    environment = dict(programs.environment(), LD_PRELOAD="libm.so.6")
    argv = [sys.executable, "-c", "import os; print(os.environ['LD_PRELOAD'])"]
    with CommandTracker(argv, stdout=subprocess.PIPE, text=True, env=environment) as tracker:
        out, _ = tracker.process.communicate()
    theirs, _, ours = out.strip().partition(":")
    assert "_preload" in ours and theirs == "libm.so.6"


def test_the_old_environment_is_not_changed(program):
    before = dict(os.environ)
    Tracked([program]).close()
    assert dict(os.environ) == before
