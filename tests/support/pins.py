"""Pin objects: one that records, one that injects faults as it is told.

Both keep the account of the pages that they hold. What the engine does wrong with `unpin` is kept
in `errors`, because an exception from `unpin` would only reach `sys.unraisablehook`.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections import Counter, deque

import pytest

from .memory import HOST_PAGE, Region
from .under_test import ib

PAGE_BITS = HOST_PAGE * 8  # bits in a host page
LOCKED_PAGES = 12  # more than any test locks at once, less than the usual limit of 64 KiB


def require(backend: str) -> None:
    """Skips where this platform has no such built-in backend, or not enough of it, and says so."""
    if backend == "mlock" and sys.platform != "win32" and not Region(LOCKED_PAGES).lock():
        pytest.skip(f"this process may not lock {LOCKED_PAGES} pages: see `ulimit -l`")
    try:
        with ib.IOVABitmap(0, 1 << 20, pin=backend) as bm:
            bm.set(0, 1)
    except (OSError, ValueError, NotImplementedError) as error:
        pytest.skip(f"pin={backend!r} does not work here: {error!r}")


def bit_for_each_address(data, pin, *, window_pages=None) -> ib.IOVABitmap:
    """A bitmap from 0 with a page size of 1, so that addresses in tests are easy to read."""
    return ib.alloc(0, len(data) * 8, 1, data, pin=pin, window_pages=window_pages)


def small_bitmap(pin="none", window_pages=None, part=100):
    """100 pages of which six are dirty; `part` bytes are missing from the last."""
    bm = ib.alloc(
        0x1800, 4096 * 100 - part, 4096, bytearray(20), window_pages=window_pages, pin=pin
    )
    for page in (0, 7, 8, 50, 51, 99):
        bm.set(0x1800 + page * 4096, 1)
    return bm


def assert_pin_fails(call, code: int, iova: int, length: int, newly: int | None = None) -> None:
    """The call raises a PinError with these attributes."""
    with pytest.raises(ib.PinError) as caught:
        call()
    error = caught.value
    assert errno.errorcode[error.errno] == errno.errorcode[code]
    assert (error.iova, error.length) == (iova, length)
    assert newly is None or error.newly == newly


class RecordingPin:
    """Delivers every page asked for, and writes down each call.

    `log` has ("pin", address, npages asked, npages delivered) and ("unpin", address, npages).
    """

    def __init__(self) -> None:
        self.log: list[tuple] = []
        self.held: Counter = Counter()
        self.errors: list[str] = []
        self._lock = threading.Lock()  # threads may share a bitmap

    def deliver(self, address: int, npages: int) -> int:
        return npages

    def pin(self, address: int, npages: int) -> int:
        if address % HOST_PAGE or npages < 1:
            self.errors.append(f"pin({address:#x}, {npages})")
        delivered = self.deliver(address, npages)
        with self._lock:
            self.log.append(("pin", address, npages, delivered))
            self.held[address, delivered] += 1
        return delivered

    def unpin(self, address: int, npages: int) -> None:
        with self._lock:
            self.log.append(("unpin", address, npages))
            if self.held[address, npages] < 1:
                self.errors.append(f"unpin({address:#x}, {npages}) was not pinned")
            self.held[address, npages] -= 1

    @property
    def pinned_pages(self) -> int:
        return sum(npages * times for (_, npages), times in self.held.items())

    @property
    def pins(self) -> list[tuple[int, int, int]]:
        """(address, asked, delivered) of each pin that delivered, in order."""
        return [entry[1:] for entry in self.log if entry[0] == "pin"]

    def assert_balanced(self) -> None:
        assert not self.errors, self.errors
        assert self.pinned_pages == 0, f"still pinned: {+self.held}"


class FaultyPin(RecordingPin):
    """Delivers short or fails, in one of two ways.

    `outcomes` is consumed one a call: None delivers in full, a positive number delivers at most so
    many pages, a negative one is an errno to fail with. `bad` holds addresses of pages that can
    never be had: what comes before the first of them is delivered, as a kernel does.
    """

    def __init__(self, outcomes=(), bad=()) -> None:
        super().__init__()
        self.outcomes: deque = deque(outcomes)
        self.bad: set[int] = set(bad)

    def deliver(self, address: int, npages: int) -> int:
        outcome = self.outcomes.popleft() if self.outcomes else None
        if outcome is not None and outcome < 0:
            raise OSError(-outcome, "injected")
        good = npages if outcome is None else min(outcome, npages)
        for page in range(good):
            if address + page * HOST_PAGE in self.bad:
                good = page
                break
        if good == 0:
            raise OSError(errno.EFAULT, "injected: bad page")
        return good

    def load(self, outcomes=(), bad=()) -> None:
        """Forgets what was planned, and plans anew."""
        self.outcomes = deque(outcomes)
        self.bad = set(bad)


class AnsweringPin:
    """Returns what it was made with, whatever that is, or raises it if it is an exception."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.unpinned: list[tuple[int, int]] = []

    def pin(self, address: int, npages: int):
        answer = self.answer(npages) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def unpin(self, address: int, npages: int) -> None:
        self.unpinned.append((address, npages))
