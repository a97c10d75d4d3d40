"""Nothing outside the bitmap is touched: an inaccessible page lies right before and right after.

Every operation at every odd offset, in a child process: a touch outside kills the child with a
signal, and the test fails with the name of the operation, the size and the place. That the guards
do kill is checked too.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from support.children import run_child
from support.memory import HOST_PAGE, needs_mprotect
from support.pins import require
from support.under_test import ib

pytestmark = needs_mprotect

RUN = """
from support.guard_child import run
sys.exit(run(*sys.argv[1:]))
"""


@pytest.mark.parametrize("side", ["start", "end"])
@pytest.mark.parametrize("backend", ["none", "populate", "mlock"])
def test_every_operation_at_every_odd_offset(backend, side):
    require(backend)
    run_child(RUN, backend, side).assert_lived("touching memory outside the bitmap")


@pytest.mark.parametrize("where", ["before", "after"])
def test_the_guards_work(where):
    result = run_child(
        """
        import ctypes
        from support.memory import Region
        region = Region(1)
        address = region.address + (-1 if sys.argv[1] == "before" else region.nbytes)
        print("touching", flush=True)
        ctypes.c_ubyte.from_address(address).value
        """,
        where,
    )
    assert result.returncode != 0 and result.stdout == "touching\n"
    with pytest.raises(AssertionError, match="last step was: touching"):
        result.assert_lived("a touch on purpose")


@pytest.mark.parametrize("npages", [1, 2, 5])
def test_a_bitmap_exactly_between_two_inaccessible_pages(region, npages):
    memory = region(npages)
    data = memory.at_start(memory.nbytes)
    bm = ib.alloc(77, memory.nbytes * 8 * 4096, 4096, data, window_pages=2)
    rng = random.Random(npages)
    bits = np.zeros(bm.nbits, bool)
    for _ in range(200):
        low, high = sorted(rng.randrange(bm.nbits) for _ in range(2))
        value = rng.random() < 0.5
        (bm.set if value else bm.clear)(77 + low * 4096, (high - low + 1) * 4096)
        bits[low : high + 1] = value
        assert bm.count() == bits.sum()
    assert (np.unpackbits(bm.view(), bitorder="little") == bits).all()
    assert (bm.to_mask() == bits).all() and (bm.copy() == bm) is True


@pytest.mark.parametrize("gap", [0, 1, 7, 8, 9])
def test_two_bitmaps_that_meet_at_the_guard(region, gap):
    """Both edges at once, with every length up to some words."""
    memory = region(1)
    for nbytes in range(1, 70):
        left = memory.buffer(0, nbytes)
        right = memory.buffer(HOST_PAGE - nbytes, nbytes)
        for data in (left, right):
            bm = ib.alloc(0, nbytes * 8 - min(gap, 7), 1, data)
            bm.set(0, bm.length)
            assert bm.count() == bm.nbits and bm.ranges().tolist() == [[0, bm.length]]
            bm.reset()
            assert not any(data)
