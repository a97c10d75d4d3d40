"""iovabitmap record: ends of all kinds, signals and kills, and what cannot be done."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import iovabitmap as ib
from support import programs, recordings
from support.command import Terminal, answer, start
from support.layouts import pages
from support.logs import needs
from support.memory import HOST_PAGE
from support.recordings import COUNTS_SIGNALS, FAST, build_static, finish, of_process

needs("pyarrow", "click", "rich")
from iovabitmap.sources import CommandTracker, Probe  # noqa: E402

pytestmark = recordings.marks


# --- ends -----------------------------------------------------------------------------------------


def test_a_child_that_goes_on(out):
    """The recording ends with the program, and names who goes on without it."""
    script = """
import os, signal
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.write(writing, b"x")  # it is tracked by now
    os.closerange(0, 3)
    signal.pause()
os.read(reading, 1)
print(child)
"""
    recorder = start("record", *FAST, "-o", out, "--", sys.executable, "-c", script)
    status, stdout, said = finish(recorder)
    child = int(stdout)
    os.kill(child, signal.SIGKILL)  # it is still there
    assert status == 0 and f"still running, and not tracked any more: [{child}]" in said
    with ib.DirtyLog.open(out) as log:
        assert log.notes["recording"]["still_running"] == [child]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on(out, number):
    """The program decides what it does with it; what was recorded is kept."""
    argv = ("record", *FAST, "-o", out, "--", sys.executable, "-c", COUNTS_SIGNALS)
    recorder = start(*argv, start_new_session=True)  # without a terminal
    assert recorder.stdout.readline() == "ready\n"
    recorder.send_signal(number)
    assert recorder.stdout.readline() == "got\n"
    assert finish(recorder, "q\n")[0] == 41
    with ib.DirtyLog.open(out) as log:
        assert not log.unfinished and len(log) > 0


def test_ctrl_c_in_a_terminal(out):
    """It reaches the program once: from the terminal, and not from the recorder too. The line of
    progress is there."""
    with Terminal("record", *FAST, "-o", out, "--", sys.executable, "-c", COUNTS_SIGNALS) as screen:
        screen.read_until("ready")
        screen.type("\x03")
        screen.read_until("got")
        screen.type("q\n")
        assert screen.read_to_the_end() == 41, screen.said
    assert "the log is" in screen.said
    assert " epochs, " in screen.said and "\x1b[K" in screen.said


def test_ctrl_c_that_ends_the_program(out):
    """The recording is complete, and the status the program's."""
    argv = ("sh", "-c", "echo ready; exec sleep 1000")
    with Terminal("record", *FAST, "-o", out, "--", *argv) as screen:
        screen.read_until("ready")
        screen.type("\x03")
        assert screen.read_to_the_end() == 128 + signal.SIGINT, screen.said
    assert "the log is" in screen.said
    with ib.DirtyLog.open(out) as log:
        assert not log.unfinished and len(log) > 0


def test_killed_by_a_signal(program, out):
    """128 + n, and the log says what it cannot know."""
    recorder = start("record", *FAST, "--json", "-o", out, "--", program, stderr=subprocess.PIPE)
    pid = int(recorder.stderr.readline())
    found = answer(finish(recorder, "k\n"), 128 + signal.SIGKILL)
    (missing,) = found["untracked"]
    assert missing["pid"] == pid and "not known" in missing["reason"]


def test_kill_9_of_the_recorder(program, out):
    """The log is readable and holds what was collected; the program goes on."""
    recorder = start("record", *FAST, "-o", out, "--", program)
    writer = programs.Writer(recorder)
    address = writer.map(100 * HOST_PAGE)
    writer.increment(*pages(address, 4, 99))
    while not pages(address, 4, 99) <= of_process(out, writer.pid):
        os.sched_yield()
    recorder.kill()
    recorder.wait()
    writer.increment(*pages(address, 50))
    assert writer.ask("l", address + 99 * HOST_PAGE) == 1
    with ib.DirtyLog.open(out) as log:
        assert "not closed" in log.unfinished
        seen = log.union()
    ib.LogWriter.finish(out)
    with ib.DirtyLog.open(out) as log:
        assert not log.unfinished and log.union() == seen
    assert of_process(out, writer.pid) & pages(address, *range(100)) == pages(address, 4, 99)
    recorder.stdin.write("q\n")


# --- what cannot be done --------------------------------------------------------------------------


def test_no_such_command(command, out, tmp_path):
    status, stdout, said = command("record", "-o", out, "--", "no-such-command")
    assert (status, stdout) == (127, "") and "no-such-command: no such command" in said
    (tmp_path / "text").write_text("text")
    status, _, said = command("record", "-o", out, "--", tmp_path / "text")
    assert status == 126 and "may not be executed" in said
    assert not out.exists()


def test_what_is_no_program(command, out, tmp_path):
    """The system says so when it is started: nothing is left."""
    (tmp_path / "text").write_bytes(b"\x00\x01")
    (tmp_path / "text").chmod(0o755)
    status, _, said = command("record", "-o", out, "--", tmp_path / "text")
    assert status == 126 and "Exec format error" in said and not out.exists()


def test_a_static_program(command, out, tmp_path):
    static = build_static(tmp_path)
    status, _, said = command("record", "-o", out, "--", static)
    assert status == 2 and f"{static} cannot be tracked: a static program" in said
    assert not out.exists()


def test_a_setuid_program(command, out, program, tmp_path, monkeypatch):
    setuid = tmp_path / "setuid"
    setuid.write_bytes(Path(program).read_bytes())
    setuid.chmod(0o755 | stat.S_ISUID)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    status, _, said = command("record", "-o", out, "--", setuid)
    assert status == 2 and "cannot be tracked: a setuid program" in said


def test_a_machine_that_cannot(command, out, monkeypatch):
    probe = Probe(False, "no userfaultfd")
    monkeypatch.setattr(CommandTracker, "probe", classmethod(lambda cls: probe))
    status, _, said = command("record", "-o", out, "--", "true")
    assert status == 2 and "programs cannot be tracked here: no userfaultfd" in said


def test_nothing_is_replaced(command, out, tmp_path):
    out.write_text("precious")
    status, _, said = command("record", "-o", out, "--", "touch", tmp_path / "ran")
    assert status == 2 and "exists" in said and out.read_text() == "precious"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("own,status", [(0, 2), (5, 5)])
def test_a_full_disk(command, out, tmp_path, monkeypatch, own, status):
    """The program goes on to its end, which comes after that, and what was recorded is kept."""
    append = ib.LogWriter.append
    os.mkfifo(tmp_path / "full")

    def full(self, *epoch):
        if len(self) == 2:
            (tmp_path / "full").write_text("now")
            raise OSError(28, "No space left on device")
        append(self, *epoch)

    monkeypatch.setattr(ib.LogWriter, "append", full)
    script = f"""
import sys
open(sys.argv[1]).read()
print("to the end", sys.stdin.fileno())
sys.exit({own})
"""
    program = (sys.executable, "-c", script, tmp_path / "full")
    result = command("record", "--interval", "1ms", "-o", out, "--", *program)
    assert result[0] == status and "to the end" in result[1]
    assert "No space left on device" in result[2]
    with ib.DirtyLog.open(out) as log:
        assert len(log) == 2 and "not closed" in log.unfinished
    assert "the log is unfinished" in result[2]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--interval", "0", "true"),
        ("--interval", "soon", "true"),
        ("--below-4g", "1G", "true"),
        ("--rekord", "--", "true"),
    ],
)
def test_asked_for_nonsense(command, arguments):
    status, out, said = command("record", *arguments)
    assert status == 2 and out == "" and "Usage: " in said
