"""What every source promises, with each of them: exact, nothing lost, one life."""

from __future__ import annotations

import errno
import functools
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.sources import (
    CommandTracker,
    LayoutRow,
    Probe,
    ProcessTracker,
    SnapshotDiff,
    SoftDirty,
    WriteTracker,
)
from iovabitmap.sources._source import BaseSource
from support import programs
from support.memory import HOST_PAGE, address_of

NPAGES = 600
ALIGNMENT = 2 << 20  # where a mapping may be divided between two rows of a layout


def aligned(address: int) -> int:
    return -(-address // ALIGNMENT) * ALIGNMENT


class Rig:
    """A source, and NPAGES pages that it watches, among others maybe. `write` changes pages."""

    kind: type

    def __init__(self, tmp_path: Path, build) -> None:
        probe = self.kind.probe()
        if not probe:
            pytest.skip(probe.reason)
        self.build = build
        self.prepare(tmp_path)

    def close(self) -> None:
        self.source.stop()

    @property
    def pid(self) -> int:
        return os.getpid()

    def iova(self) -> int:
        """Where the first of the pages is in the source's range, by its layout."""
        for row in self.source.layout():
            end = self.address + NPAGES * HOST_PAGE
            if (
                row.pid == self.pid
                and row.address <= self.address
                and end <= row.address + row.length
            ):
                return row.iova + self.address - row.address
        raise AssertionError("the pages are in no row of the layout")

    def collected(self) -> list[int]:
        """What one collect says of the pages."""
        self.source.collect(whole := ib.IOVABitmap(self.source.iova, self.source.length))
        iova = self.iova()
        return [
            int(address - iova) // HOST_PAGE
            for address in whole.pages(iova, NPAGES * HOST_PAGE).tolist()
        ]


class InProcess(Rig):
    def prepare(self, tmp_path: Path) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.mapping = mmap.mmap(-1, 4 * ALIGNMENT, flags=flags)
        self.address = aligned(address_of(self.mapping))
        skip = self.address - address_of(self.mapping)
        self.memory = memoryview(self.mapping)[skip : skip + NPAGES * HOST_PAGE]
        self.source = self.make()

    def write(self, pages) -> None:
        rows = np.frombuffer(self.memory, np.uint8).reshape(-1, HOST_PAGE)
        rows[pages, 17] += 1


class Tracker(InProcess):
    kind = WriteTracker

    def make(self):
        return WriteTracker(self.memory, iova=1 << 40)


class Process(InProcess):
    kind = ProcessTracker

    def make(self):
        return ProcessTracker(iova=1 << 40, length=1 << 36)


class Snapshot(InProcess):
    kind = SnapshotDiff

    def make(self):
        return SnapshotDiff(self.memory, iova=1 << 40)


class SnapshotOfFile(Rig):
    """A file that somebody else writes."""

    kind = SnapshotDiff
    address = 0

    def prepare(self, tmp_path: Path) -> None:
        self.path = tmp_path / "memory"
        self.path.write_bytes(bytes(NPAGES * HOST_PAGE))
        self.source = SnapshotDiff(self.path, iova=1 << 40)

    def write(self, pages) -> None:
        with self.path.open("r+b") as file:
            for page in pages:
                file.seek(page * HOST_PAGE + 17)
                value = file.read(1)[0]
                file.seek(page * HOST_PAGE + 17)
                file.write(bytes([(value + 1) % 256]))


class OtherProcess(Rig):
    """The C program, which writes as it is told."""

    def prepare(self, tmp_path: Path) -> None:
        if programs.COMPILER is None:
            pytest.skip("no C compiler")
        self.program = self.build()
        self.run()

    def run(self) -> None:
        self.process = subprocess.Popen([self.program], **programs.PIPES)
        self.adopt(self.process)
        self.source = self.make()

    def adopt(self, process) -> None:
        self.writer = programs.Writer(process)
        self.address = aligned(self.writer.map(4 * ALIGNMENT))

    @property
    def pid(self) -> int:
        return self.writer.pid

    def write(self, pages) -> None:
        self.writer.increment(*(self.address + page * HOST_PAGE for page in pages))

    def close(self) -> None:
        super().close()
        with self.process:
            self.process.stdin.close()
            self.process.wait()


class Dirty(OtherProcess):
    kind = SoftDirty

    def make(self):
        return SoftDirty(self.writer.pid, iova=1 << 40, length=1 << 30)


class SnapshotOfProcess(OtherProcess):
    kind = SnapshotDiff

    @property
    def pid(self) -> int:
        return os.getpid()  # who reads

    def make(self):
        return SnapshotDiff(
            f"/proc/{self.writer.pid}/mem",
            iova=1 << 40,
            offset=self.address,
            length=NPAGES * HOST_PAGE,
        )


class Command(OtherProcess):
    """Its memory is mapped before the first collect, and after the start."""

    kind = CommandTracker

    def run(self) -> None:
        self.source = CommandTracker([self.program], iova=1 << 40, length=1 << 36, **programs.PIPES)
        self.source.start()
        self.process = self.source.process
        self.adopt(self.process)
        self.source.collect(ib.IOVABitmap(0, 1 << 20))  # a look, which marks nothing


class PythonCommand(Command):
    """The same, told to a Python interpreter."""

    SCRIPT = """
import ctypes, mmap, os, sys
print(os.getpid(), flush=True)
for line in sys.stdin:
    numbers = [int(n) for n in line[1:].split()]
    if line[0] == "m":
        memory = mmap.mmap(-1, *numbers, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
    else:
        for address in numbers:
            byte = ctypes.c_ubyte.from_address(address)
            byte.value = (byte.value + 1) % 256
        print(0, flush=True)
"""

    def prepare(self, tmp_path: Path) -> None:
        self.run()

    def run(self) -> None:
        argv = [sys.executable, "-c", self.SCRIPT]
        self.source = CommandTracker(argv, iova=1 << 40, length=1 << 36, **programs.PIPES)
        self.source.start()
        self.process = self.source.process
        self.adopt(self.process)
        self.source.collect(ib.IOVABitmap(0, 1 << 20))


RIGS = [
    Tracker,
    Process,
    Snapshot,
    SnapshotOfFile,
    SnapshotOfProcess,
    Dirty,
    Command,
    PythonCommand,
]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Compiles the C program, once."""
    return functools.cache(lambda: str(programs.build(tmp_path_factory.mktemp("program"))))


@pytest.fixture(params=RIGS, ids=lambda kind: kind.__name__)
def rig(request, tmp_path, build):
    made = request.param(tmp_path, build)
    yield made
    made.close()


# --- what it says of itself -----------------------------------------------------------------------


def test_attributes(rig):
    source = rig.source
    assert isinstance(rig.kind.probe(), Probe)
    assert (source.iova, source.granularity) == (1 << 40, HOST_PAGE)
    assert source.length >= NPAGES * HOST_PAGE
    assert type(source).__name__ in repr(source) and "0x10000000000" in repr(source)


def test_layout(rig):
    source = rig.source
    with source:
        rig.write([0])
        rig.collected()
        rows = source.layout()
        assert all(isinstance(row, LayoutRow) and row.name and row.pid for row in rows)
        assert [row.iova for row in rows] == sorted(row.iova for row in rows)
        for row in rows:
            assert source.iova <= row.iova < row.iova + row.length <= source.iova + source.length
            assert row.length > 0
        assert rig.iova() >= source.iova


# --- exact ----------------------------------------------------------------------------------------


def test_exactly_what_was_written(rig):
    """Pages that were never touched, then pages written before, then both."""
    rng = np.random.default_rng(7)
    with rig.source:
        assert rig.collected() == []
        for count in (100, 300, 1, NPAGES):
            pages = np.sort(rng.choice(NPAGES, count, replace=False)).tolist()
            rig.write(pages)
            assert rig.collected() == pages
            assert rig.collected() == []


def test_any_part_and_page_size(rig):
    """A bitmap of a part takes what it covers; the rest waits."""
    rng = np.random.default_rng(8)
    waiting = np.zeros(NPAGES, bool)
    with rig.source:
        rig.collected()
        iova = rig.iova()
        for _ in range(25):
            pages = np.unique(rng.integers(0, NPAGES, rng.integers(0, 30)))
            rig.write(pages.tolist())
            waiting[pages] = True
            first = int(rng.integers(0, NPAGES))
            count = int(rng.integers(1, NPAGES - first + 1))
            per_bit = int(rng.choice([1, 1, 2, 16, 1024]))
            bm = ib.IOVABitmap(iova + first * HOST_PAGE, count * HOST_PAGE, per_bit * HOST_PAGE)
            expected = np.unique(np.flatnonzero(waiting[first : first + count]) // per_bit)
            assert rig.source.collect(bm) == expected.size
            assert np.flatnonzero(bm.to_mask()).tolist() == expected.tolist()
            waiting[first : first + count] = False
        assert rig.collected() == np.flatnonzero(waiting).tolist()


def test_half_a_page_waits(rig):
    """A bitmap that ends inside a page gets its part of it, and whoever covers it gets it too."""
    with rig.source:
        rig.collected()
        iova = rig.iova()
        rig.write([4, 5, 6])
        part = ib.IOVABitmap(iova + 4 * HOST_PAGE + 100, HOST_PAGE, 1)
        assert rig.source.collect(part) == HOST_PAGE
        assert part.all()
        assert rig.collected() == [4, 5, 6]
        assert rig.collected() == []


def test_it_adds_to_what_is_marked(rig):
    with rig.source:
        rig.collected()
        bm = ib.IOVABitmap(rig.iova(), NPAGES * HOST_PAGE)
        bm.set(rig.iova() + 3 * HOST_PAGE, 2 * HOST_PAGE)
        rig.write([4, 5])
        assert rig.source.collect(bm) == 1
        assert bm.to_text() == "3-5"


def test_a_bitmap_elsewhere_takes_nothing(rig):
    with rig.source:
        rig.collected()
        rig.write([9])
        for iova in (0, 2**64 - (1 << 20)):
            bm = ib.IOVABitmap(iova, 1 << 20)
            assert rig.source.collect(bm) == 0
            assert not bm.any()
        assert rig.collected() == [9]


# --- nothing is lost ------------------------------------------------------------------------------


def test_a_bitmap_that_cannot_be_pinned(rig, faulty_pin):
    with rig.source:
        rig.collected()
        rig.write([2, 77])
        # One that can be read, and then not be written, too: where it is read.
        for good in range(1 if isinstance(rig, Tracker) else 2):
            faulty_pin.load([None] * good + [-errno.ENOMEM] * 5)
            bm = ib.IOVABitmap(rig.iova(), NPAGES * HOST_PAGE, pin=faulty_pin)
            with pytest.raises(ib.PinError):
                rig.source.collect(bm)
        assert rig.collected() == [2, 77]


def test_bitmaps_that_will_not_do(rig):
    with rig.source:
        rig.collected()
        rig.write([3])
        freed = ib.IOVABitmap(rig.source.iova, rig.source.length)
        freed.free()
        with pytest.raises(ValueError, match="freed"):
            rig.source.collect(freed)
        for wrong in (None, bytearray(100), 5):
            with pytest.raises(TypeError):
                rig.source.collect(wrong)
        assert rig.collected() == [3]


# --- one life -------------------------------------------------------------------------------------


def once(rig) -> bool:
    """A command's program is started by the rig."""
    return isinstance(rig.source, CommandTracker)


def test_start_and_stop(rig):
    source = rig.source
    bm = ib.IOVABitmap(source.iova, source.length)
    if not once(rig):
        assert not source.started
        source.stop()
        with pytest.raises(RuntimeError, match="not started"):
            source.collect(bm)
    source.start()
    assert source.started
    rig.write([1])
    source.start()  # does nothing
    rig.write([2])
    assert rig.collected() == [1, 2]
    rig.write([3])
    source.stop()
    source.stop()
    assert not source.started
    with pytest.raises(RuntimeError, match="not started"):
        source.collect(bm)
    assert not bm.any()


def test_start_again(rig):
    source = rig.source
    if once(rig):
        source.stop()
        with pytest.raises(RuntimeError, match="still runs"):
            source.start()
        return
    for _ in range(3):
        with source:
            rig.write([1])
            assert rig.collected() == [1]
            rig.write([2])
        rig.write([3])
    with source:
        assert rig.collected() == []


def test_in_a_forked_child(rig, monkeypatch):
    """What the parent started is not the child's."""
    if isinstance(rig.source, WriteTracker):
        pytest.skip("has tests of its own, with a real fork")
    rig.source.start()
    rig.write([1])
    with monkeypatch.context() as patch:
        patch.setattr(BaseSource, "_generation", 1)
        assert not rig.source.started
        with pytest.raises(ChildProcessError, match="start\\(\\) begins anew"):
            rig.source.collect(ib.IOVABitmap(rig.source.iova, rig.source.length))
    assert rig.collected() == [1]


@pytest.mark.parametrize("kind", [ProcessTracker, CommandTracker, SoftDirty])
@pytest.mark.parametrize("place", [{"iova": 2**64 - 4096}, {"length": 0}, {"iova": -4096}])
def test_places_that_do_not_exist(kind, place):
    arguments = {ProcessTracker: (), CommandTracker: (["true"],), SoftDirty: (1,)}[kind]
    with pytest.raises(ValueError):
        kind(*arguments, **place)
