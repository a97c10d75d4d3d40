"""kill -9 at a random moment: every log opens, and holds all epochs but at most the last.

A child records one log after another, and says after each step what is done; it is killed while it
is in the middle of something. `IOVABITMAP_KILLS` is how often: `make crash` asks for 100.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import iovabitmap as ib
from support.logs import needs, times_of

needs("pyarrow")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")

KILLS = int(os.environ.get("IOVABITMAP_KILLS", "10"))
GEOMETRY = (0x1000, 200_000 * 4096, 4096)

RECORDER = """
import sys
sys.path.insert(0, sys.argv[2])
from logs.test_crash import record
record(sys.argv[1])
"""


def pages_of(log: int, epoch: int) -> np.ndarray:
    """The dirty pages of an epoch: none to 20,000, the same in the child and here."""
    generator = np.random.default_rng((log, epoch))
    return np.unique(generator.integers(0, 200_000, int(generator.choice((0, 5, 300, 20_000)))))


def bitmap_of(log: int, epoch: int) -> ib.IOVABitmap:
    bm = ib.IOVABitmap(*GEOMETRY)
    bm.set_pages((pages_of(log, epoch) * 4096 + 0x1000).astype("u8"))
    return bm


def length_of(log: int) -> int:
    return random.Random(log).randint(1, 9)


def record(folder: str) -> None:
    """What the child does, until it is killed."""
    number = 0
    while True:
        log = ib.LogWriter(Path(folder, f"{number}.parquet"), ib.Geometry(*GEOMETRY))
        for epoch in range(length_of(number)):
            log.append(bitmap_of(number, epoch), *times_of(epoch))
            print(number, epoch, flush=True)
        log.close()
        print(number, "closed", flush=True)
        number += 1


def kill_after(folder: Path, lines: int) -> list[list[str]]:
    """Runs the child and kills it after so many steps; returns the steps it had finished."""
    tests = Path(__file__).resolve().parents[1]
    path = os.pathsep.join(p for p in sys.path if p)
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", RECORDER, str(folder), str(tests)],
        env=dict(os.environ, PYTHONPATH=path),
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        steps = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        steps += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    return [step.split() for step in steps if step.endswith("\n")]


def check_log(path: Path, number: int, recorded: int, closed: bool) -> None:
    with ib.DirtyLog.open(path) as log:
        assert recorded <= len(log) <= min(recorded + 1, length_of(number))
        if closed:
            assert not log.unfinished and len(log) == length_of(number)
        for n, epoch in enumerate(log):
            assert (epoch.t_start_ns, epoch.t_end_ns) == times_of(n)
            assert epoch.bitmap() == bitmap_of(number, n)


@pytest.mark.parametrize("kill", range(KILLS))
def test_killed(kill, tmp_path):
    steps = kill_after(tmp_path, random.Random(kill).randint(1, 40))
    recorded: dict[int, int] = {}
    for number, what in steps:
        recorded.setdefault(int(number), 0)
        recorded[int(number)] += what != "closed"
    closed = {int(number) for number, what in steps if what == "closed"}
    for number, count in recorded.items():
        path = tmp_path / f"{number}.parquet"
        check_log(path, number, count, number in closed)
        ib.LogWriter.finish(path)
        assert path.is_file()
        check_log(path, number, count, number in closed)
    # A log whose creation was cut may be there, and hold nothing yet.
    for path in tmp_path.glob("*.journal"):
        number = int(path.name.partition(".")[0])
        try:
            check_log(tmp_path / f"{number}.parquet", number, 0, False)
        except ib.LogError:  # it does not even say yet what it is of
            assert number not in recorded
