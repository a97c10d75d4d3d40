"""Pins that fail at the n-th call, deliver less, raise or lie: all operations, all calls, each way.

What `unit/test_pins.py` looks at rule by rule is held here by all operations: the exception that
belongs to the fault, nothing pinned afterwards, a change done in part or not at all, a harvest that
is put back or handed out, and a repeated call that does its work.
"""

from __future__ import annotations

import pytest

from support.operations import ALL, BY_NAME
from support.reference import Reference, operation_error
from support.world import TRACKS, plain
from support.wrong import FAULTS, WrongPin, calls_of

PINNING = [each.name for each in ALL if calls_of(each) > 0]


def test_most_operations_pin():
    assert len(PINNING) >= 45 and {"set", "==", "copy", "to_text", "diff"} <= set(PINNING)
    assert not TRACKS or "collect" in PINNING


@pytest.mark.parametrize("name", PINNING)
def test_every_call_of_pin_goes_wrong(name, unraisable):
    operation = BY_NAME[name]
    reference = Reference(operation, lambda: operation.world(WrongPin(), window_pages=2))
    calls = calls_of(operation)
    for kind, fault in FAULTS.items():
        for n in range(1, calls + 1):
            for last in (n, 2**40):  # once, or from then on
                pin = WrongPin(fault, n, last)
                world = operation.world(pin, window_pages=2)
                result, error = operation_error(operation, world)
                where = f"{kind} at call {n} of {calls}, until {last}"
                if fault.raises is None:
                    reference.check_success(world, result, error)
                else:
                    assert type(error) is fault.raises, f"{where}: {error!r}"
                    assert not fault.errno or error.errno == fault.errno, where
                    reference.check_failure(world, error)
                pin.last = 0
                reference.check_again(world, error)
                world.close()
    assert unraisable == []


@pytest.mark.parametrize("name", PINNING)
def test_every_call_of_unpin_raises(name, unraisable):
    """The pages count as given back, and the operation is not disturbed."""

    class NoUnpin(WrongPin):
        def unpin(self, address, npages):
            super().unpin(address, npages)
            raise LookupError("unpin")

    operation = BY_NAME[name]
    reference = Reference(operation, lambda: operation.world(WrongPin(), window_pages=2))
    world = operation.world(NoUnpin(), window_pages=2)
    result, error = operation_error(operation, world)
    reference.check_success(world, result, error)
    world.close()
    assert world.bm.stats.unpins == len(unraisable) > 0
    assert set(unraisable) == {(LookupError, "unpin")}
    assert plain(world.bm) == "freed"
