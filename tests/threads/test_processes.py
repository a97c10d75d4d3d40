"""Several processes over the same memory: none of their marks is lost, and each is found once."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import iovabitmap as ib
from support.children import PREAMBLE

NBITS = 64 * 8192 + 5
NBYTES = ib.nbytes_for(NBITS, 1)
MARKS = 1_000_000  # of each process

CHILD = """\
import mmap, os, sys
import numpy as np
import iovabitmap as ib

number, nchildren, file, nbits, marks = map(int, sys.argv[1:6])
memory = mmap.mmap(file, ib.nbytes_for(nbits, 1))
bm = ib.alloc(0, nbits, 1, memory, window_pages=1 + number)
print("ready", flush=True)
sys.stdin.readline()
generator = np.random.default_rng(number)
newly = 0
"""

COUNT = """\
for _ in range(0, marks, 5000):
    first, length = generator.integers((0, 1), (nbits - 9, 9), (5000, 2)).T.tolist()
    newly += sum(map(bm.test_and_set, first, length))
"""

OWN = """\
mine = generator.permutation(np.arange(number, nbits, nchildren, dtype=np.uint64))
for n, part in enumerate(np.array_split(mine, 300)):
    if n % 3 == 0:
        bm.set_pages(part)
    elif n % 3 == 1:
        bm.set_ranges(np.column_stack((part, np.ones_like(part))))
    else:
        for page in part.tolist():
            bm.set(page, 1)
"""

END = """\
bm.validate()
print(newly, flush=True)
"""


@pytest.fixture
def file(tmp_path):
    """A descriptor of memory that children can map, in memory where the system has that."""
    if sys.platform == "win32":
        pytest.skip("children inherit a descriptor to map: POSIX")
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("iovabitmap")
    else:
        descriptor = os.open(tmp_path / "shared", os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, NBYTES)
    yield descriptor
    os.close(descriptor)


class Children:
    """Processes that map the file, wait for each other, and do the work."""

    def __init__(self, n: int, file: int, work: str) -> None:
        path = os.pathsep.join(p for p in sys.path if p)
        self.running = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", PREAMBLE + textwrap.dedent(CHILD + work + END)]
                + [str(value) for value in (number, n, file, NBITS, MARKS)],
                pass_fds=[file],
                env=dict(os.environ, PYTHONPATH=path),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(n)
        ]
        for child in self.running:
            assert child.stdout.readline() == "ready\n"
        for child in self.running:
            child.stdin.write("go\n")
            child.stdin.close()

    def working(self) -> bool:
        return any(child.poll() is None for child in self.running)

    def finish(self) -> list[int]:
        """What each counted."""
        answers = []
        for child in self.running:
            answers.append(int(child.stdout.read()))
            child.stdout.close()
            assert child.wait() == 0
        return answers


def test_each_mark_of_two_processes_is_harvested_once_by_a_third(file):
    bm = ib.alloc(0, NBITS, 1, mmap.mmap(file, NBYTES))
    children = Children(2, file, COUNT)
    found = harvests = 0
    while children.working():
        found += int(bm.read_and_clear()[:, 1].sum())
        harvests += 1
    newly = children.finish()
    found += int(bm.read_and_clear()[:, 1].sum())
    assert found == sum(newly) > MARKS // 4 and harvests > 1
    assert not bm.any()
    bm.validate()


def test_neighbouring_pages_of_four_processes(file):
    """Each marks every fourth page, so that all of them mark in every byte."""
    bm = ib.alloc(0, NBITS, 1, mmap.mmap(file, NBYTES))
    Children(4, file, OWN).finish()
    assert bm.all()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_anonymous_memory_that_a_forked_child_marks():
    memory = mmap.mmap(-1, NBYTES)
    bm = ib.alloc(0, NBITS, 1, memory)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            bm.set(0, NBITS // 2 + 3)
            bm.validate()
            bm.free()
            status = 0
        finally:
            os._exit(status)
    newly = 0
    for page in range(NBITS // 2 + 3, NBITS):
        newly += bm.test_and_set(page, 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bm.all() and newly == NBITS - NBITS // 2 - 3
    bm.validate()
