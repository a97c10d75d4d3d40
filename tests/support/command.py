"""Running the command: in this process, and as a process of its own."""

from __future__ import annotations

import json
import os
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


def start(*arguments, **popen) -> subprocess.Popen:
    """`iovabitmap` with these arguments, as text, with pipes where nothing else is said."""
    argv = [sys.executable, "-m", "iovabitmap", *map(str, arguments)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(
        argv, **{**pipes, "text": True, "env": environment(), "preexec_fn": heed_signals, **popen}
    )


def answer(result: tuple[int, str, str], status: int = 0) -> dict:
    """The JSON of a result (status, standard output, standard error), which is all it printed."""
    assert result[0] == status, result[2]
    return json.loads(result[1])
