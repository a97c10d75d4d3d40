"""Running the command: in this process, and as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys


def environment(**more: str) -> dict[str, str]:
    """This process's, in which the same packages are found."""
    return dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p), **more)


def heed_signals() -> None:
    """For a child before it runs a program: signals do what they do in a terminal, also where the
    tests run without one and ignore some."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


_started: list[subprocess.Popen] = []


def start(*arguments, **popen) -> subprocess.Popen:
    """`iovabitmap` with these arguments, as text, with pipes where nothing else is said. To be
    followed by `end_started` when the test is over."""
    argv = [sys.executable, "-m", "iovabitmap", *map(str, arguments)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(
        argv, **{**pipes, "text": True, "env": environment(), "preexec_fn": heed_signals, **popen}
    )
    _started.append(process)
    return process


def end_started() -> None:
    """Ends what was started and closes its pipes: what a test that failed leaves open would be
    reported, as a leak, in whichever test runs when it is collected."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
        with contextlib.suppress(BrokenPipeError), process:
            pass


class Terminal:
    """`iovabitmap` with these arguments in a terminal of its own, with `with`."""

    def __init__(self, *arguments) -> None:
        argv = [sys.executable, "-m", "iovabitmap", *map(str, arguments)]
        self.said = ""
        self.status: int | None = None
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            heed_signals()
            os.execv(sys.executable, argv)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def _read(self) -> bool:
        """Whether there was more to come, which is read."""
        try:
            more = os.read(self._fd, 4096).decode(errors="replace")
        except OSError:  # nobody is at the other end any more
            more = ""
        self.said += more
        return bool(more)

    def read_until(self, text: str) -> None:
        """Fails where it ends before it says this, behind what was read until now."""
        start = len(self.said)
        while text not in self.said[start:]:
            assert self._read(), self.said

    def read_to_the_end(self) -> int:
        """The exit status."""
        while self._read():
            pass
        self.status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self.status

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.status is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)


def answer(result: tuple[int, str, str], status: int = 0) -> dict:
    """The JSON of a result (status, standard output, standard error), which is all it printed."""
    assert result[0] == status, result[2]
    return json.loads(result[1])
