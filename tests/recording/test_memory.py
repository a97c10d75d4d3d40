"""How much memory a recording notes, against what /proc says of the programs that were recorded."""

from __future__ import annotations

import mmap
import os
import re
import sys
import time
from pathlib import Path
from shutil import which

import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from iovabitmap.sources import CommandTracker, GuestRam, ProcessTracker
from iovabitmap.sources._memory import MostMemory
from iovabitmap.timeline import Memory
from support import programs, recordings
from support.command import end_started, start
from support.logs import needs
from support.memory import HOST_PAGE
from support.recordings import FAST, finish

needs("pyarrow", "click", "rich")

pytestmark = recordings.marks
MiB = 1 << 20
LONG_S = 60  # what nothing takes: for a recording that never says it
LINK = {"bandwidth": 1.25e9, "downtime_limit": 0.3}

PYTHON = "import os; kept = bytearray(os.urandom(20 << 20)); print('ready', flush=True); input()"
SQL = """create table t as
with recursive n(i) as (select 1 union all select i + 1 from n where i < 30000)
select i, randomblob(300) as b from n;
select 'ready';
"""
SHELL = "kept=$(head -c 3000000 /dev/zero | tr '\\0' a); echo ready; read line; : $kept"


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    end_started()


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> str:
    if programs.COMPILER is None:
        pytest.skip("no C compiler")
    return str(programs.build(tmp_path_factory.mktemp("program")))


def own_bytes(pid: int) -> int:
    """By smaps: of the private writable mappings, the pages that are no file's."""
    total, counts = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = re.match(r"[0-9a-f]+-[0-9a-f]+ (\S{4}) ", line)
        if head:
            counts = head[1][1] == "w" and head[1][3] == "p"
        elif counts and line.startswith(("Anonymous:", "Swap:")):
            total += int(line.split()[1]) << 10
    return total


def private_bytes(pid: int) -> int:
    """By statm: resident pages that are no file's; also those that are not writable any more."""
    resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * mmap.PAGESIZE


def noted(path: Path) -> Memory | None:
    try:
        with ib.DirtyLog.open(path) as log:
            return log.memory if "memory" in log.notes else None
    except FileNotFoundError:
        return None


def first_pid(path: Path) -> int:
    with ib.DirtyLog.open(path) as log:
        return log.layout[0].pid


def at_rest(name, recorder, program) -> None:
    """Returns when the program has what it will have, and waits."""
    if name == "C":
        writer = programs.Writer(recorder)
        address = writer.map(300 * HOST_PAGE)
        writer.increment(*range(address, address + 200 * HOST_PAGE, HOST_PAGE))
        writer.ask("l", address + 250 * HOST_PAGE)  # the page of zeros, which is not its own
    elif name == "sqlite3":
        recorder.stdin.write(SQL)
        recorder.stdin.flush()
    if name not in ("C", "sleep"):
        assert recorder.stdout.readline() == "ready\n"


@pytest.mark.parametrize("name", ["python", "sqlite3", "sleep", "C", "sh"])
def test_real_programs(name, program, tmp_path):
    """Resident is what smaps and statm say, and the first round of a prediction sends about that:
    not the range of addresses, nor all that is mapped."""
    argv = {
        "python": [sys.executable, "-c", PYTHON],
        "sqlite3": ["sqlite3", ":memory:"],
        "sleep": ["sleep", "1000"],
        "C": [program],
        "sh": ["sh", "-c", SHELL],
    }[name]
    if which(argv[0]) is None:
        pytest.skip(f"no {argv[0]}")
    out = tmp_path / "run.parquet"
    recorder = start("record", *FAST, "-o", out, "--", *argv)
    at_rest(name, recorder, program)
    deadline, expected = time.monotonic() + LONG_S, 0
    while True:
        assert time.monotonic() < deadline, f"noted is {noted(out)}, and not {expected}"
        time.sleep(0.01)
        if noted(out) is None:
            continue
        pid = first_pid(out)
        expected = own_bytes(pid)
        if noted(out).resident_bytes >= 0.98 * expected:
            break
    assert expected == pytest.approx(private_bytes(pid), rel=0.05, abs=512 << 10)
    if name == "sleep":
        os.kill(pid, 15)
    finish(recorder, {"C": "q\n", "sqlite3": ".quit\n"}.get(name, "\n"))
    with ib.DirtyLog.open(out) as log:
        memory = log.memory
        assert memory.zero_bytes is None
        # While it ends a program may take a little more, as Python's does.
        assert 0.98 * expected <= memory.resident_bytes <= 1.1 * expected + MiB
        assert memory.resident_bytes <= memory.mapped_bytes < 1 << 30
        found = an.predict_precopy(an.volume_curve(log), **LINK)
        assert found.rounds[0].nbytes == pytest.approx(memory.resident_bytes, rel=0.01)


def test_a_program_that_ends_before_the_first_scan(program, tmp_path):
    """It is measured before its memory goes; of others counts what was last seen."""
    out = tmp_path / "run.parquet"
    recorder = start("record", "--interval", "1h", "-o", out, "--", program)
    writer = programs.Writer(recorder)
    address = writer.map(500 * HOST_PAGE)
    pages = range(address, address + 500 * HOST_PAGE, HOST_PAGE)
    writer.increment(*pages)
    alone = own_bytes(writer.pid)
    writer.ask("fe", pages[0])  # a child that ends before
    assert finish(recorder, "q\n")[0] == 7
    assert 0.98 * alone <= noted(out).resident_bytes <= 1.5 * alone


def test_one_that_is_killed(program, tmp_path):
    out = tmp_path / "run.parquet"
    recorder = start("record", "--interval", "1h", "-o", out, "--", program)
    writer = programs.Writer(recorder)
    at_start = own_bytes(writer.pid)
    finish(recorder, "k\n")
    assert noted(out).resident_bytes == pytest.approx(at_start, rel=0.5)


def test_shared_memory_counts_if_it_is_tracked(program):
    for shared, times in ((False, 0), (True, 100)):
        with CommandTracker([program], shared=shared, **programs.PIPES) as tracker:
            writer = programs.Writer(tracker.process)
            with ib.IOVABitmap(tracker.iova, tracker.length) as bm:
                tracker.collect(bm)
                before = tracker.memory()
                address = writer.ask("M", 400 * HOST_PAGE)
                writer.increment(*range(address, address + 100 * HOST_PAGE, HOST_PAGE))
                tracker.collect(bm)
            after = tracker.memory()
            assert after.resident_bytes - before.resident_bytes == times * HOST_PAGE
            assert after.mapped_bytes - before.mapped_bytes == 4 * times * HOST_PAGE
            writer.say("q")
            with tracker.process:
                pass


def test_a_guest_is_as_large_as_its_memory(program, tmp_path):
    """Whatever of it was ever used; what was not holds zeros."""
    out = tmp_path / "run.parquet"
    recorder = start("record", *FAST, "--guest-ram", "96M", "--below-4g", "64M", "-o", out, program)
    writer = programs.Writer(recorder)
    address = writer.map(96 * MiB)
    writer.increment(*range(address, address + 30 * HOST_PAGE, HOST_PAGE))
    assert finish(recorder, "q\n")[0] == 7
    assert noted(out) == Memory(96 * MiB, 96 * MiB, 96 * MiB - 30 * HOST_PAGE)
    in_file = GuestRam(MiB, path=tmp_path / "ram")
    assert in_file.memory(Memory(MiB, 0)) == Memory(MiB, MiB, None)


def test_this_process():
    if not ProcessTracker.probe():
        pytest.skip(ProcessTracker.probe().reason)
    tracker = ProcessTracker()
    assert tracker.memory() is None
    with tracker:
        found = tracker.memory()
        assert found.resident_bytes == pytest.approx(own_bytes(os.getpid()), rel=0.05)
    assert tracker.memory().resident_bytes >= found.resident_bytes


class Space:
    def __init__(self, mapped: int, resident: int | None) -> None:
        self.mapped, self.resident = mapped, resident

    def mapped_bytes(self) -> int:
        return self.mapped

    def resident_bytes(self) -> int:
        if self.resident is None:
            raise ProcessLookupError
        return self.resident


def test_most_of_processes_that_come_and_go():
    """What was last seen of each that lives is added up, and the largest sum is kept."""
    most = MostMemory()
    assert most.found is None
    most.measure([Space(10, None)])
    assert most.found is None
    a, b = Space(10, 4), Space(20, 6)
    most.measure([a])
    most.measure([b])
    assert most.found == Memory(30, 10)
    a.resident = 1
    most.measure([a])
    assert most.found == Memory(30, 10)
    b.resident = None  # gone, and nobody said so yet
    most.measure([b])
    most.forget(b)
    most.measure([])
    assert most.found == Memory(30, 10)
    c = Space(50, 12)
    most.measure([c])
    assert most.found == Memory(60, 13)
