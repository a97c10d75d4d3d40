"""Recordings made by the command, for tests: what is in their logs, and programs to record."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import iovabitmap as ib
from iovabitmap.sources import CommandTracker

from . import programs
from .memory import HOST_PAGE

_probe = CommandTracker.probe()
marks = [
    pytest.mark.skipif(not _probe, reason=_probe.reason or "works"),
    pytest.mark.skipif(
        "asan" in os.environ.get("LD_PRELOAD", ""), reason="commands would run under ASan too"
    ),
]

# Says that it is ready, and ends with 40 and the number of signals that it got, once it reads "q".
# The signal may come while it still prints "ready", and a print inside a print is an error: the
# handler writes to the descriptor.
COUNTS_SIGNALS = """
import os, signal, sys
got = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: (got.append(number), os.write(1, b"got\\n")))
print("ready", flush=True)
while sys.stdin.readline() not in ("q\\n", ""):
    pass
sys.exit(40 + len(got))
"""
FAST = ("--interval", "20ms")


def recorded(path: Path) -> dict[tuple[int, int], str]:
    """(pid, address) of each page in a log, and what it is part of, by the log's own layout; of
    pid 0 what that does not place."""
    with ib.DirtyLog.open(path) as log:
        layout = log.notes.get("layout", [])
        found = {}
        for iova in log.union().pages().tolist():
            rows = (row for row in layout if row[0] <= iova < row[0] + row[1])
            row = next(rows, (iova, HOST_PAGE, iova, 0, "unknown"))
            found[row[3], row[2] + iova - row[0]] = row[4]
    return found


def of_process(path: Path, pid: int) -> set[int]:
    return {address for owner, address in recorded(path) if owner == pid}


def finish(process: subprocess.Popen, said: str | None = None) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(said)
    return process.returncode, stdout, stderr


def untracked(path: Path) -> list[dict]:
    with ib.DirtyLog.open(path) as log:
        return log.notes.get("recording", {}).get("untracked", [])


def build_static(folder: Path) -> Path:
    try:
        return programs.build(folder, "-static", name="static")
    except subprocess.CalledProcessError:
        pytest.skip("this compiler cannot link a static program")
