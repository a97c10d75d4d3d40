"""SoftDirty: its probe does not believe the kernel, and mappings that come, go and grow."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from iovabitmap.sources import Probe, SoftDirty, soft_dirty
from support import programs
from support.layouts import pages, written
from support.memory import HOST_PAGE

_probe = SoftDirty.probe()
needs_bits = [
    pytest.mark.skipif(not _probe, reason=_probe.reason or "works"),
    pytest.mark.skipif(programs.COMPILER is None, reason="no C compiler"),
]
BIT = np.uint64(1 << 55)


@pytest.mark.parametrize("entry, seen", [(0, "[]"), (BIT, r"\[0, 1, 2, 3\]")])
def test_the_probe_is_a_round_trip(monkeypatch, entry, seen):
    """A kernel that takes each call, and whose pages all read as clean, or all as dirty."""

    def pread(fd: int, nbytes: int, offset: int) -> bytes:
        return np.full(nbytes // 8, entry, np.uint64).tobytes()

    monkeypatch.setattr(soft_dirty.os, "pread", pread)
    probe = SoftDirty.probe()
    assert not probe
    assert f"pages {seen}".replace("\\", "") in probe.reason and "[1]" in probe.reason


def test_the_probe_never_raises(monkeypatch):
    def pread(fd: int, nbytes: int, offset: int) -> bytes:
        raise PermissionError(1, "forbidden")

    monkeypatch.setattr(soft_dirty.os, "pread", pread)
    assert SoftDirty.probe() == Probe(False, "forbidden")


def test_a_process_that_is_not_there():
    with pytest.raises(OSError):
        SoftDirty(2**22 + 1).start()


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> str:
    return str(programs.build(tmp_path_factory.mktemp("program")))


@pytest.fixture
def writer(program):
    with subprocess.Popen([program], **programs.PIPES) as process:
        yield programs.Writer(process)
        process.stdin.close()


def seen(source: SoftDirty, address: int, nbytes: int) -> set[int]:
    return {at for (_, at) in written(source) if address <= at < address + nbytes}


class TestWithTheBits:
    pytestmark = needs_bits

    def test_a_new_mapping(self, writer):
        """It is soft-dirty as a whole; written are the pages that are there."""
        with SoftDirty(writer.pid) as source:
            address = writer.map(64 * HOST_PAGE)
            writer.increment(*pages(address, 3, 4))
            assert seen(source, address, 64 * HOST_PAGE) == pages(address, 3, 4)
            assert seen(source, address, 64 * HOST_PAGE) == set()
            writer.increment(*pages(address, 4, 60))
            assert seen(source, address, 64 * HOST_PAGE) == pages(address, 4, 60)

    def test_replaced_at_the_same_place(self, writer):
        address = writer.map(8 * HOST_PAGE)
        writer.increment(*pages(address, 1, 2))
        with SoftDirty(writer.pid) as source:
            assert seen(source, address, 8 * HOST_PAGE) == set()
            assert writer.ask("r", address, 8 * HOST_PAGE) == address
            writer.increment(*pages(address, 5))
            assert 5 in {(at - address) // HOST_PAGE for at in seen(source, address, 8 * HOST_PAGE)}

    def test_it_goes_on_afterwards(self, writer):
        """Frozen only for the look; and one that somebody stopped stays so."""
        address = writer.map(8 * HOST_PAGE)
        with SoftDirty(writer.pid) as source:
            writer.increment(address)
            os.kill(writer.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, writer.pid, os.WSTOPPED)
            assert seen(source, address, 8 * HOST_PAGE) == {address}
            state = Path(f"/proc/{writer.pid}/stat").read_text().rpartition(")")[2].split()[0]
            assert state == "T"
            os.kill(writer.pid, signal.SIGCONT)
            writer.increment(address)
            assert seen(source, address, 8 * HOST_PAGE) == {address}

    def test_no_room(self, writer):
        with SoftDirty(writer.pid, length=64 << 20) as source:
            large = writer.map(256 << 20)
            writer.increment(large)
            assert seen(source, large, 256 << 20) == set()
            assert [row.address for row in source.untracked] == [large]
