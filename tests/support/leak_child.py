"""Repeats every operation, and watches what the process keeps. A child process does this.

Watched are the interpreter's memory blocks, the bytes that malloc gave, references to objects that
live on (the module's types, None, ...), open descriptors and mappings. What grows in every round by
at least one for every other repetition is a leak, if it still does in longer rounds: the
interpreter has caches that fill slowly.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

import iovabitmap as ib
from iovabitmap import _core
from iovabitmap.sources import WriteTracker

from .long import LONG
from .operations import ALL
from .reference import operation_error
from .wrong import FAULTS, WrongPin, calls_of

REPEATED, ROUNDS = 10, 2  # at first
MORE_REPEATED, MORE_ROUNDS = 200, 3  # where that looks like a leak

# Faults of pins that take different ways through the binding; the others in the long run only.
SOME = ("an errno", "another exception", "no page", "no number")

LIVING = [None, True, False, NotImplemented, np.ndarray, WriteTracker, sys.intern("none")]
LIVING += [getattr(_core, name) for name in dir(_core)]
LIVING += [type(ib.IOVABitmap(0, 1).windows()), type(ib.IOVABitmap(0, 1).iter_ranges())]
LIVING += [_core, ib.PinError, ib.IOVARangeError, MemoryError, ValueError, TypeError, OSError]


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def _malloc_bytes() -> Callable[[], int]:
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # not this C library
        return lambda: 0
    mallinfo.restype = _MallInfo

    def used() -> int:
        info = mallinfo()
        return info.uordblks + info.hblkhd

    return used


malloc_bytes = _malloc_bytes()


def count(folder: str) -> int:
    """Entries of a folder or lines of a file in /proc, where there is one."""
    path = Path("/proc/self", folder)
    try:
        return len(list(path.iterdir()) if path.is_dir() else path.read_bytes().splitlines())
    except OSError:
        return 0


def sample() -> dict[str, int]:
    gc.collect()
    return {
        "memory blocks": sys.getallocatedblocks(),
        "bytes of malloc": malloc_bytes(),
        "references to what lives on": sum(map(sys.getrefcount, LIVING)),
        "descriptors": count("fd"),
        "mappings": count("maps"),
    }


def growth(once: Callable[[], object], repeated: int, rounds: int) -> dict[str, list[int]]:
    """What grew in each round by one or more for every other repetition: by how much. Not for each:
    what the interpreter lets go of meanwhile is counted too."""
    samples = [sample()]
    for _ in range(rounds):
        for _ in range(repeated):
            once()
        samples.append(sample())
    found = {
        name: [after[name] - before[name] for before, after in pairwise(samples)]
        for name in samples[0]
    }
    return {name: each for name, each in found.items() if min(each) >= repeated // 2}


def leaks(once: Callable[[], object]) -> dict[str, list[int]]:
    for _ in range(3):
        once()
    return growth(once, REPEATED, ROUNDS) and growth(once, MORE_REPEATED, MORE_ROUNDS)


def variants(operation) -> dict[str, Callable[[], object]]:
    """One repetition: of the operation as it is, and with each fault of a pin that it can meet."""

    def run(**options):
        world = operation.world(**options)
        operation_error(operation, world)
        world.close()

    found = {"as it is": run}
    if calls_of(operation) > 0:
        for backend in ("mlock", "populate") if LONG else ("mlock",):
            found[backend] = lambda backend=backend: run(pin=backend)
        for kind, fault in FAULTS.items():
            if LONG or kind in SOME:
                found[kind] = lambda fault=fault: run(pin=WrongPin(fault, 2, 2), window_pages=1)
    return found


def main() -> int:
    gc.disable()
    gc.freeze()
    seen = wrong = 0
    for operation in ALL:
        print(operation.name, flush=True)
        for name, once in variants(operation).items():
            seen += 1
            found = leaks(once)
            if found:
                wrong += 1
                print(f"{operation.name}, {name}: {found}", file=sys.stderr)
    print(f"{len(ALL)} operations in {seen} ways, none of which keeps anything")
    return wrong
