"""Running a tracked program: signals that come before it, with its end, and to another thread.

Each is a moment that a busy machine meets now and then; here it is made to come.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from support import recordings
from support.children import run_child
from support.command import end_started, heed_signals, start
from support.logs import needs
from support.recordings import COUNTS_SIGNALS

needs("pyarrow", "click", "rich")  # for commands that are started
from iovabitmap.recording import running as running_module  # noqa: E402
from iovabitmap.recording.running import Running  # noqa: E402
from iovabitmap.sources import CommandTracker  # noqa: E402

pytestmark = recordings.marks
LONG_S = 60  # what a signal that is not seen costs


@pytest.fixture(autouse=True)
def heeded():
    """Signals to end reach this process as they do from a terminal, however the tests are run."""
    before = {number: signal.getsignal(number) for number in running_module.PASSED_ON}
    heed_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def cat():
    """A tracker of a program that runs until its standard input is closed."""
    tracker = CommandTracker(["cat"], stdin=subprocess.PIPE)
    yield tracker
    with tracker.process:
        pass


def test_a_signal_before_the_program(cat, monkeypatch):
    """It is passed on, also one of a terminal, which reached nobody but us."""
    start = subprocess.Popen

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return start(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    monkeypatch.setattr(running_module, "reached_by_terminal", lambda pid: True)
    with Running(cat) as running:
        cat.process.stdin.close()
        assert running.exit_status() == 128 + signal.SIGINT


def test_a_signal_that_ended_the_program_already(cat):
    """As Ctrl-C may: we go on to its end, which is not known to us yet. After that we end."""
    with Running(cat) as running:
        cat.process.kill()
        os.waitid(os.P_PID, cat.process.pid, os.WEXITED | os.WNOWAIT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert running.exit_status() == 128 + signal.SIGKILL
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
        assert ended.value.code == 128 + signal.SIGTERM


def test_a_signal_that_interrupts_another_thread(cat, monkeypatch):
    """It is passed on at once, and not when the main thread happens to wake."""
    before = sys.getswitchinterval()
    gate = threading.Semaphore(0)

    def interrupt():
        gate.acquire()
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    sys.setswitchinterval(LONG_S)  # the thread goes on when this one waits, and not before
    try:
        with Running(cat) as running:
            gate.release()
            assert running.life.over(time.monotonic_ns() + LONG_S * 10**9)
            assert running.exit_status() == 128 + signal.SIGTERM
    finally:
        sys.setswitchinterval(before)
        thread.join()


def test_what_a_test_leaves_running_is_ended():
    """With its pipes, so that no other test hears of them."""
    left = start("top", "--pid", os.getpid())
    end_started()
    assert left.returncode == -signal.SIGKILL
    assert all(pipe.closed for pipe in (left.stdin, left.stdout, left.stderr))


def test_what_counts_signals_may_get_one_at_any_time():
    """The program of the tests: here each of its writes is interrupted."""
    run_child(
        """
        import io, os, signal, sys

        class Interrupted(io.RawIOBase):
            def writable(self):
                return True

            def write(self, content):
                count = os.write(1, content)
                signal.raise_signal(signal.SIGTERM)
                return count

        sys.stdin = io.StringIO("q\\n")
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(Interrupted()))
        try:
            exec(sys.argv[1])
        except SystemExit as ended:
            assert ended.code == 41, ended.code
        """,
        COUNTS_SIGNALS,
    ).assert_lived("COUNTS_SIGNALS")
