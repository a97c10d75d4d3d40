"""Interrupts long operations, and measures how soon they end. A child process does this.

A timer's signal comes in the middle of each operation; its handler is that of Ctrl-C. Printed is
how long the operation takes when it is left alone, and the time from the signal to the moment at
which the caller has the KeyboardInterrupt.
"""

from __future__ import annotations

import operator
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import iovabitmap as ib
from iovabitmap import _core

from .endless import Endless, sparse

PAGE = 4096
MiB = 1 << 20
SHORT = 0.2  # seconds of work: signals are looked for 20 times a second
TRIES = 8


class Interrupted(KeyboardInterrupt):
    """Raised by the handler, so that no other cause can pass for it."""


def _raise(*_):
    raise Interrupted


class Times(NamedTuple):
    """How long something took, and how much of that this process worked, in seconds."""

    wall: float
    work: float

    @classmethod
    def now(cls) -> Times:
        return cls(time.perf_counter(), time.process_time())

    def since(self, before: Times) -> Times:
        return Times(self.wall - before.wall, self.work - before.work)


def timed(call: Callable[[], object]) -> Times:
    """Of the faster of two runs."""
    found = []
    for _ in range(2):
        begin = Times.now()
        call()
        found.append(Times.now().since(begin))
    return min(found, key=lambda times: times.work)


def interrupt(call: Callable[[], object], delay: float) -> tuple[BaseException | None, Times]:
    """The exception that the handler raised, if the signal came before the end, and the times until
    then."""
    signal.signal(signal.SIGALRM, _raise)
    caught = None
    begin = Times.now()
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupted as error:
        caught = error
    took = Times.now().since(begin)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    return caught, took


def report(name: str, call: Callable[[], object]) -> None:
    """Interrupts the operation in its middle, and prints what came of it. It must have left out a
    part of its work; tried some times, since the machine may be busy when the signal comes."""
    whole = timed(call)
    delay = whole.wall / 3
    for _ in range(TRIES):
        error, took = interrupt(call, delay)
        if error is not None and took.work < 0.9 * whole.work:
            late = (took.wall - delay) * 1e3
            print(
                f"{name:28}{whole.wall * 1e3:9.1f} ms, interrupted after {late:6.1f} ms", flush=True
            )
            return
        delay *= 0.7
    assert whole.work < SHORT, f"{name} takes {whole} and was not interrupted"
    print(f"{name:28}{whole.wall * 1e3:9.1f} ms, too short to be interrupted", flush=True)


def operations(nbytes: int) -> dict[str, Callable[[], object]]:
    """Long operations on a bitmap of `nbytes`, of which 1 in 64 pages is dirty."""
    pattern = np.zeros(1 << 25, np.uint8)
    pattern[::8] = 0x10
    few = np.zeros(1 << 25, np.uint8)
    few[:: 1 << 14] = 0xFF
    dense, empty, rare = Endless(nbytes, pattern), Endless(nbytes, 0), Endless(nbytes, few)
    length = nbytes * 8 * PAGE
    bm, clean, scarce = (ib.alloc(0, length, PAGE, each.bytes) for each in (dense, empty, rare))
    less = ib.alloc(0, length // 8, PAGE, dense.bytes[: nbytes // 8])
    little = ib.alloc(0, length // 64, PAGE, dense.bytes[: nbytes // 64])
    rows = Endless(nbytes)
    rows.piece.view(np.uint64)[:] = 12345 * PAGE
    addresses = rows.bytes[: nbytes // 8].view(np.uint64)
    pairs = addresses.reshape(-1, 2)
    text = ",".join(map(str, range(0, nbytes // 400, 2)))
    nrows = nbytes // 512
    shuffled = np.random.default_rng(1).permutation(nrows).astype(np.uint64)
    shuffled = np.stack([shuffled * PAGE * 8, np.full(nrows, PAGE, np.uint64)], axis=1)
    mlocked = ib.alloc(0, length, PAGE, empty.bytes, pin="populate")
    # In one window, all that lies inside is one step of the engine.
    one_window = ib.alloc(0, length, PAGE, empty.bytes, window_pages=2**40)
    one_window.set(0, 1)
    scattered = sparse(64 * nbytes, 1 << 21)
    holes = ib.alloc(0, scattered.size * 8 * PAGE, PAGE, scattered)
    diff = bm.diff(clean)
    return {
        "set": lambda: clean.set(0, length),
        "set in one window": lambda: one_window.set(0, length),
        "clear": lambda: clean.clear(0, length),
        "test_and_set": lambda: clean.test_and_set(0, length),
        "reset": lambda: clean.reset(),
        "count": lambda: bm.count(),
        "count of scattered pages": lambda: holes.count(),
        "ranges of scattered pages": lambda: holes.ranges(),
        "any": lambda: clean.any(),
        "all": lambda: less.all() or [less.all(), scarce.count()],
        "find_dirty": lambda: clean.find_dirty(0),
        "find_clean": lambda: (clean.set(0, length), clean.find_clean(0)),
        "count_ranges": lambda: bm.count_ranges(),
        "histogram": lambda: bm.histogram(1000),
        "histogram of many bins": lambda: little.histogram(nbytes // 40),
        "ranges": lambda: less.ranges(),
        "clean ranges": lambda: less.ranges(dirty=False),
        "iter_ranges": lambda: [None for _ in scarce.iter_ranges(batch=2**20)],
        "pages": lambda: less.pages(),
        "to_text": lambda: little.to_text(),
        "to_mask": lambda: little.to_mask(),
        "from_text": lambda: ib.IOVABitmap.from_text(text, 0, length),
        "copy": lambda: less.copy(),
        "==": lambda: bm == ib.alloc(0, length, PAGE, dense.bytes),
        "&": lambda: less & less,
        "|=": lambda: operator.ior(clean, scarce),
        "count_xor": lambda: bm.count_xor(clean),
        "diff": lambda: bm.diff(clean),
        "appeared_ranges": lambda: less.diff(less).common_ranges() if diff else None,
        "merge": lambda: clean.merge(scarce),
        "rescale": lambda: less.rescale(PAGE // 2),
        "set_ranges": lambda: clean.set_ranges(pairs),
        "set_ranges, to be sorted": lambda: mlocked.set_ranges(shuffled),
        "clear_ranges": lambda: clean.clear_ranges(pairs),
        "set_pages": lambda: clean.set_pages(addresses),
        "set_pages of int32": lambda: clean.set_pages(rows.bytes[: nbytes // 4].view(np.int32)),
        "set_pages of a list": lambda: clean.set_pages([PAGE] * (nbytes // 200)),
    }


def measure(mib: str, *names: str) -> int:
    for name, call in operations(int(mib) * MiB).items():
        if not names or name in names:
            report(name, call)
    return 0


# --- nothing is lost ------------------------------------------------------------------------------


def private(nbytes: int) -> tuple[np.ndarray, ib.IOVABitmap]:
    """A bitmap over memory of its own, of which every 64th byte has dirty pages."""
    memory = np.zeros(nbytes, np.uint8)
    memory[::64] = 0x3C
    return memory, ib.alloc(0, nbytes * 8 * PAGE, PAGE, memory)


def until_interrupted(call: Callable[[], object], prepare: Callable[[], object]) -> BaseException:
    """Interrupts a call at ever earlier moments, until it ends with a part of its work to do: the
    exception says where. The call looks for signals at each MiB, so that a fast machine has no way
    to the end between two looks."""
    _core._signal_interval(0)
    prepare()
    begin = time.perf_counter()
    call()
    delay = (time.perf_counter() - begin) * 0.7
    for _ in range(200):
        prepare()
        error, took = interrupt(call, delay)
        if hasattr(error, "iova"):
            print(f"interrupted after {(took.wall - delay) * 1e3:.1f} ms", flush=True)
            return error
        delay *= 0.9
    raise AssertionError("never interrupted in the middle")


def place_is_exact(mib: str) -> int:
    """set and clear say where they ended: all before it is done, and nothing behind it."""
    memory, bm = private(int(mib) * MiB)
    everything = bm.length
    for name, prepared, done in (("set", 0, 0xFF), ("clear", 0xFF, 0), ("reset", 0xFF, 0)):
        call = bm.reset if name == "reset" else lambda name=name: getattr(bm, name)(0, everything)
        error = until_interrupted(call, lambda prepared=prepared: memory.fill(prepared))
        assert error.iova + error.length == everything and error.iova % (8 * PAGE) == 0
        byte = error.iova // PAGE // 8
        assert (memory[:byte] == done).all() and (memory[byte:] == prepared).all(), name
        print(f"{name}: interrupted at byte {byte} of {memory.size}", flush=True)
    other = bm.copy()
    memory[:] = 0x3C
    other.view()[:] = 0x0F
    error = until_interrupted(lambda: operator.ixor(bm, other), lambda: memory.fill(0x3C))
    byte = error.iova // PAGE // 8
    assert (memory[:byte] == 0x33).all() and (memory[byte:] == 0x3C).all()
    return 0


def harvest_is_kept(mib: str) -> int:
    """An interrupted harvest marks again what it took, or has it in `into`."""
    memory, bm = private(int(mib) * MiB)
    before = memory.copy()
    error = until_interrupted(bm.read_and_clear, lambda: np.copyto(memory, before))
    assert not hasattr(error, "harvested") and np.array_equal(memory, before)
    print("read_and_clear: all is back", flush=True)
    into = ib.IOVABitmap(0, bm.length)

    def prepare():
        np.copyto(memory, before)
        into.view()[:] = 0

    error = until_interrupted(lambda: bm.read_and_clear(into=into), prepare)
    byte = error.iova // PAGE // 8
    moved = into.view()
    assert 0 < byte < memory.size
    assert np.array_equal(moved[:byte], before[:byte]) and not moved[byte:].any()
    assert np.array_equal(memory[byte:], before[byte:]) and not memory[:byte].any()
    print(f"read_and_clear into: the cut is at byte {byte} of {memory.size}", flush=True)
    assert bm.read_and_clear(into=into) is None and np.array_equal(moved, before)
    return 0
