"""The parts that sources are made of: sets of addresses, places, and what /proc says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovabitmap._base import interval_arrays
from iovabitmap.sources import GuestRam, _placement, _processes, maps

MiB = 1 << 20
SPACE = 40

spans = st.lists(
    st.tuples(st.integers(0, SPACE), st.integers(0, SPACE))
    .map(sorted)
    .filter(lambda s: s[0] < s[1]),
    max_size=6,
)


def members(rows) -> set[int]:
    return {at for start, end in np.asarray(rows).tolist() for at in range(start, end)}


@given(spans, spans)
def test_sets_of_addresses(a, b):
    """Against Python's sets; rows stay ascending and disjoint."""
    rows, others = interval_arrays.rows_of(a), interval_arrays.rows_of(b)
    assert members(rows) == {at for start, end in a for at in range(start, end)}
    assert (rows[1:, 0] > rows[:-1, 1]).all()
    both, index = interval_arrays.intersect(rows, others)
    assert members(both) == members(rows) & members(others)
    for (start, end), which in zip(both.tolist(), index.tolist(), strict=True):
        assert others[which, 0] <= start < end <= others[which, 1]
    assert members(interval_arrays.subtract(rows, others)) == members(rows) - members(others)


def test_sets_of_addresses_at_the_top():
    rows = interval_arrays.rows_of([(2**64 - 4096, 2**64 - 1)])
    assert interval_arrays.subtract(rows, rows).tolist() == []
    assert interval_arrays.subtract(rows, interval_arrays.rows_of([])).tolist() == rows.tolist()


MAPS = """\
5577c13c0000-5577c1402000 rw-p 00000000 00:00 0                          [heap]
7f1c3bcb1000-7f1c3bcb8000 rw-s 00001000 00:1b 167                        /tmp/a file (deleted)
7f1c3bcb8000-7f1c3bcb9000 r-xp 00000000 fe:01 12
7f1c40000000-7f1c40200000 rw-p 00000000 00:0f 31728                      /anon_hugepage (deleted)
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""


def test_maps():
    heap, file, code, huge, last = maps.parse(MAPS)
    assert heap == (0x5577C13C0000, 0x5577C1402000, "rw-p", 0, 0, "[heap]")
    assert (file.offset, file.inode, file.name) == (0x1000, 167, "/tmp/a file (deleted)")
    assert [m.writable for m in (heap, file, code, huge, last)] == [True, True, False, True, False]
    assert [m.shared for m in (heap, file, code, huge, last)] == [False, True, False, False, False]
    assert [m.is_hugetlb([]) for m in (heap, file, code, huge)] == [False, False, False, True]
    assert file.is_hugetlb(["/tmp"]) and not file.is_hugetlb(["/tm", "/tmp/a"])
    assert code.name == ""
    assert maps.parse("") == []


def test_maps_of_this_process():
    with Path("/proc/self/maps").open("rb") as file:
        assert len(maps.parse(maps.read(file.fileno()).decode())) > 20
    assert any(mapping.name == "[stack]" for mapping in maps.of_process("self"))


def mapping(start: int, end: int, perms: str = "rw-p", inode: int = 0, name: str = ""):
    return maps.Mapping(start, end, perms, 0, inode, name)


def test_packed():
    packed = _placement.Packed(1 << 40, 10 * MiB)
    first = packed.place(0, mapping(101 * MiB, 105 * MiB))
    assert first == [(101 * MiB, 105 * MiB, (1 << 40) + MiB)]
    assert packed.place(0, mapping(104 * MiB, 105 * MiB)) == [
        (104 * MiB, 105 * MiB, (1 << 40) + 4 * MiB)
    ]
    other = packed.place(1, mapping(101 * MiB, 102 * MiB))  # of another process
    assert other == [(101 * MiB, 102 * MiB, (1 << 40) + 7 * MiB)]
    grown = packed.place(0, mapping(99 * MiB, 105 * MiB))  # in two pieces
    assert grown == [
        (99 * MiB, 100 * MiB, (1 << 40) + 9 * MiB),
        (100 * MiB, 105 * MiB, 1 << 40),
    ]
    with pytest.raises(_placement.NoRoomError):
        packed.place(0, mapping(0, MiB))
    assert packed.place(0, mapping(101 * MiB, 105 * MiB)) == first


def test_packed_wants():
    kinds = [mapping(0, 1, perms) for perms in ("rw-p", "r--p", "rw-s", "-w-p")]
    packed, shared = _placement.Packed(0, 2 * MiB), _placement.Packed(0, 2 * MiB, shared=True)
    assert [packed.wants(each) for each in kinds] == [True, False, False, True]
    assert [shared.wants(each) for each in kinds] == [True, False, True, True]


@pytest.mark.parametrize("iova, length", [(100, 4 * MiB), (0, MiB)])
def test_packed_refuses(iova, length):
    with pytest.raises(ValueError):
        _placement.Packed(iova, length)


def test_guest_ram():
    ram = GuestRam(6 << 30, below_4g=3 << 30)
    assert (ram.iova, ram.length) == (0, 7 << 30)
    guest = mapping(1 << 40, (1 << 40) + (6 << 30))
    assert ram.wants(guest)
    assert ram.place(0, guest) == [
        (1 << 40, (1 << 40) + (3 << 30), 0),
        ((1 << 40) + (3 << 30), (1 << 40) + (6 << 30), 4 << 30),
    ]
    assert not ram.wants(guest._replace(end=guest.end + 4096))
    assert not ram.wants(guest._replace(perms="r--p"))
    assert not ram.wants(guest._replace(perms="rw-s"))
    assert not ram.wants(guest._replace(inode=5))
    named = GuestRam(6 << 30, path="/tmp/ram", below_4g=3 << 30)
    assert not named.wants(guest)
    assert named.wants(guest._replace(perms="rw-s", name="/tmp/ram", inode=5))
    assert named.wants(guest._replace(perms="rw-s", name="/tmp/ram (deleted)", inode=5))


@pytest.mark.parametrize(
    "arguments",
    [
        {"nbytes": 0},
        {"nbytes": 5000},
        {"nbytes": -4096},
        {"nbytes": 8192, "below_4g": 0},
        {"nbytes": 8192, "below_4g": 100},
        {"nbytes": 8192, "below_4g": 12288},
        {"nbytes": 6 << 30},
    ],
)
def test_guest_ram_refuses(arguments):
    with pytest.raises(ValueError):
        GuestRam(**arguments)


def test_descendants():
    script = "import subprocess, sys; subprocess.run(['cat'])"
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True);" + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        assert process.pid in _processes.descendants(os.getpid())
        while not _processes.descendants(process.pid):  # it starts its child just now
            os.sched_yield()
        (child,) = _processes.descendants(process.pid)
        assert child in _processes.descendants(os.getpid())
        process.stdin.close()
    assert _processes.descendants(process.pid) == []
    assert _processes.command_of(process.pid) == "?"
    assert _processes.why_not_preloaded(process.pid) == ""


def test_programs_that_take_no_library():
    assert _processes.why_not_preloaded(os.getpid()) == ""
    assert sys.executable.rpartition("/")[2] in _processes.command_of(os.getpid())
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no static program at hand (busybox)")
    with subprocess.Popen([busybox, "cat"], stdin=subprocess.PIPE) as process:
        assert "static" in _processes.why_not_preloaded(process.pid)
        process.stdin.close()
