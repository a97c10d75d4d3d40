"""iovabitmap record: what is in the log, of real commands and programs."""

from __future__ import annotations

import os
import shutil
import signal
import sys

import pytest

import iovabitmap as ib
from support import guest_program, programs, recordings
from support.command import answer, start
from support.layouts import pages
from support.logs import needs
from support.memory import HOST_PAGE
from support.recordings import FAST, build_static, finish, of_process, untracked

needs("pyarrow", "click", "rich")
from iovabitmap.recording.schedule import Schedule  # noqa: E402

pytestmark = recordings.marks
MiB = 1 << 20


# --- what is in the log ---------------------------------------------------------------------------


def test_pages_of_a_program(program, out):
    """What it was told to write and no more, as far as its own memory goes; its status is ours."""
    recorder = start("record", *FAST, "-o", out, "--", program)
    writer = programs.Writer(recorder)
    address = writer.map(4000 * HOST_PAGE)
    chosen = pages(address, 0, 7, 8, 3999)
    writer.increment(*chosen)
    status, _, said = finish(recorder, "q\n")
    assert status == 7
    inside = set(range(address, address + 4000 * HOST_PAGE, HOST_PAGE))
    assert of_process(out, writer.pid) & inside == chosen and not of_process(out, 0)
    assert f"the log is {out}" in said and "not tracked" not in said
    with ib.DirtyLog.open(out) as log:
        assert not log.unfinished and log.command == [program] and log.source == "CommandTracker"
        assert log.notes["recording"]["untracked"] == []
        ends = [epoch.t_end_ns for epoch in log]
        assert [epoch.t_start_ns for epoch in log][1:] == ends[:-1]


def test_last_writes_and_children(program, out):
    """What a child and the program wrote just before their ends is there, each under its pid."""
    recorder = start("record", "--interval", "1h", "-o", out, "--", program)
    writer = programs.Writer(recorder)
    address = writer.map(100 * HOST_PAGE)
    child = writer.ask("fe", *pages(address, 3, 70))
    writer.increment(*pages(address, 5))
    assert finish(recorder, "q\n")[0] == 7
    inside = pages(address, *range(100))
    assert of_process(out, child) & inside == pages(address, 3, 70)
    assert of_process(out, writer.pid) & inside == pages(address, 5)


def test_json(program, out):
    """Standard output is the answer alone; the program's goes to standard error."""
    argv = [sys.executable, "-c", "import sys; print('hello'); sys.exit(3)"]
    result = finish(start("record", *FAST, "--json", "-o", out, *argv))
    found = answer(result, 3)
    assert "hello" in result[2]
    assert (found["log"], found["command"], found["status"]) == (str(out), argv, 3)
    with ib.DirtyLog.open(out) as log:
        assert found["epochs"] == len(log)
        assert found["pages"] == sum(epoch.count() for epoch in log) > 0
        assert found["seconds"] == pytest.approx((log[-1].t_end_ns - log[0].t_start_ns) / 1e9)
        assert found["missed_intervals"] == log.notes["recording"]["missed_intervals"]
    assert found["untracked"] == [] and found["still_running"] == []


def test_a_static_child_is_named(program, out, tmp_path):
    static = build_static(tmp_path)
    script = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    argv = ("record", *FAST, "-o", out, "--", sys.executable, "-c", script, static)
    recorder = start(*argv)
    child = programs.Writer(recorder).pid
    while not untracked(out):  # it is looked for once a second
        os.sched_yield()
    _, _, said = finish(recorder, "q\n")
    reason = "a static program takes no preloaded library"
    assert untracked(out) == [{"pid": child, "what": str(static), "reason": reason}]
    assert f"not tracked: process {child}, {static}: {reason}" in said


def test_a_guests_memory(program, out):
    ram = ("--guest-ram", "96M", "--below-4g", "64M")
    recorder = start("record", *FAST, *ram, "-o", out, program)
    writer = programs.Writer(recorder)
    writer.increment(writer.map(8 * HOST_PAGE))
    address = writer.map(96 * MiB)
    writer.increment(*pages(address, 5), address + 64 * MiB + 9 * HOST_PAGE)
    assert finish(recorder, "q\n")[0] == 7
    with ib.DirtyLog.open(out) as log:
        assert log.union().pages().tolist() == [5 * HOST_PAGE, (4 << 30) + 9 * HOST_PAGE]


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no qemu-system-x86_64")
@pytest.mark.parametrize("in_file", [False, True], ids=["anonymous", "file"])
def test_a_guest_of_qemu(out, tmp_path, in_file):
    """Exactly the pages that it wrote, where the firmware writes nothing."""
    if programs.COMPILER is None:
        pytest.skip("no C compiler")
    ram = tmp_path / "ram" if in_file else None
    argv = guest_program.command(guest_program.build(tmp_path), ram)
    options = ["--guest-ram", guest_program.RAM_NBYTES, *(["--guest-ram-file", ram] if ram else [])]
    recorder = start("record", *FAST, *options, "-o", out, "--", *argv, text=False)
    guest = guest_program.Guest(recorder)
    chosen = {page * HOST_PAGE for byte in (1, 2, 255) for page in guest.write(byte)}
    recorder.send_signal(signal.SIGTERM)
    status, _, said = finish(recorder)
    assert status == 0, said
    first, length = guest_program.FIRST_PAGE * HOST_PAGE, guest_program.SPAN * HOST_PAGE
    with ib.DirtyLog.open(out) as log:
        assert set(log.union().pages(first, length).tolist()) == chosen
        assert log.length == guest_program.RAM_NBYTES and len(log) > 1


def test_python(out, tmp_path, monkeypatch):
    """With this interpreter, a script or what else it takes; the log has the script's name."""
    script = tmp_path / "a script.py"
    script.write_text("import sys; sys.exit(len(sys.argv))")
    argv = ("record", "--json", *FAST, "--python", "--", script, "--json", "x")
    found = answer(finish(start(*argv, cwd=tmp_path)), 3)
    assert found["log"].startswith("a_script-") and (tmp_path / found["log"]).is_file()
    assert found["command"] == [sys.executable, str(script), "--json", "x"]
    argv = ("record", *FAST, "-o", out, "--python", "--", "-m", "this")
    status, stdout, _ = finish(start(*argv))
    assert status == 0 and "Beautiful is better than ugly" in stdout


def test_duration(program, out):
    """The recording ends, and the program goes on; its status is waited for."""
    recorder = start("record", *FAST, "--duration", "90ms", "-o", out, "--", program)
    writer = programs.Writer(recorder)
    assert any(f"the log is {out}" in line for line in recorder.stderr)
    with ib.DirtyLog.open(out) as log:
        assert not log.unfinished and len(log) <= 6
        assert (log[-1].t_end_ns - log[0].t_start_ns) / 1e9 >= 0.09
    assert writer.map(HOST_PAGE) > 0
    assert finish(recorder, "q\n")[0] == 7


# --- moments --------------------------------------------------------------------------------------


def test_a_schedule_keeps_its_rhythm():
    """Looks that are late or long move nothing; what passed meanwhile is counted."""
    schedule = Schedule(1000, 100)
    for now, due, missed in (
        (1100, 1200, 0),
        (1299, 1300, 0),
        (1400, 1500, 1),
        (1999, 2000, 5),
        (1999, 2100, 5),  # before it was due: the program ended
    ):
        schedule.looked(now)
        assert (schedule.due_ns, schedule.missed) == (due, missed)
    with pytest.raises(ValueError, match="longer than 0"):
        Schedule(0, 0)
