"""All that a pin object can do wrong, at the call that a test chooses."""

from __future__ import annotations

import errno
from typing import NamedTuple

import iovabitmap as ib

from .operations import Operation
from .reference import operation_error


class Fault(NamedTuple):
    """What pin() does, and what the caller sees; None: nothing, it works with less."""

    answer: object
    raises: type[BaseException] | None
    errno: int = 0


FAULTS = {
    "an errno": Fault(OSError(errno.EIO, "mine"), ib.PinError, errno.EIO),
    "an OSError of no errno": Fault(OSError("mine"), ib.PinError, errno.EIO),
    "another exception": Fault(LookupError("mine"), LookupError),
    "MemoryError": Fault(MemoryError(), MemoryError),
    "one page": Fault(1, None),
    "no page": Fault(0, ib.PinError, errno.EFAULT),
    "a page too many": Fault("more", ib.PinError, errno.EFAULT),
    "a negative number": Fault(-1, ib.PinError, errno.EFAULT),
    "a huge number": Fault(2**70, ib.PinError, errno.EFAULT),
    "no number": Fault(None, TypeError),
    "a float": Fault(1.0, TypeError),
}


class WrongPin:
    """Answers calls from `first` to `last` with a fault, and keeps the account of the others."""

    def __init__(self, fault=FAULTS["one page"], first=0, last=0):
        self.fault, self.first, self.last = fault, first, last
        self.calls = 0
        self.held: list[tuple[int, int]] = []

    def pin(self, address, npages):
        self.calls += 1
        if not self.first <= self.calls <= self.last:
            self.held.append((address, npages))
            return npages
        answer = self.fault.answer
        if isinstance(answer, BaseException):
            raise type(answer)(*answer.args)  # one of its own, with a traceback of its own
        if self.fault.raises is None:
            self.held.append((address, answer))
        return npages + 1 if answer == "more" else answer

    def unpin(self, address, npages):
        self.held.remove((address, npages))

    def assert_balanced(self):
        assert not self.held, self.held


def calls_of(operation: Operation) -> int:
    """How often an operation pins."""
    world = operation.world(WrongPin(), window_pages=2)
    operation_error(operation, world)
    calls = world.bm.pin.calls
    world.close()
    return calls
