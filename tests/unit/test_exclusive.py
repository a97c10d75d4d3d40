"""`exclusive=True`: plain stores may be used; results, errors and pins are those without it."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from support.memory import HOST_PAGE, Arena
from support.pins import FaultyPin
from support.under_test import ib

NBITS = 3 * HOST_PAGE * 8
ROWS = [(5, 3), (2 * HOST_PAGE * 8 - 3, 9), (70, 64), (NBITS - 1, 1), (64, 200), (9, 0)]
PAGES = [3, 3, 0, NBITS - 1, HOST_PAGE * 8, 64, 63]

CALLS = {
    "set": lambda bm, other, **o: bm.set(3, NBITS - 9, **o),
    "set a page": lambda bm, other, **o: bm.set(7, 1, **o),
    "set, clipped": lambda bm, other, **o: bm.set(9, 2 * NBITS, clip=True, **o),
    "set outside": lambda bm, other, **o: bm.set(9, NBITS, **o),
    "clear": lambda bm, other, **o: bm.clear(3, NBITS - 9, **o),
    "set_ranges": lambda bm, other, **o: bm.set_ranges(ROWS, **o),
    "set_ranges of an array": lambda bm, other, **o: bm.set_ranges(np.array(ROWS, "u8"), **o),
    "set_ranges, clipped": lambda bm, other, **o: bm.set_ranges([(1, NBITS)], clip=True, **o),
    "a bad row": lambda bm, other, **o: bm.set_ranges([*ROWS, (1, NBITS)], **o),
    "clear_ranges": lambda bm, other, **o: bm.clear_ranges(ROWS, **o),
    "set_pages": lambda bm, other, **o: bm.set_pages(PAGES, **o),
    "a bad page": lambda bm, other, **o: bm.set_pages([*PAGES, NBITS], **o),
    "read_and_clear": lambda bm, other, **o: bm.read_and_clear(3, NBITS - 9, **o),
    "into another": lambda bm, other, **o: bm.read_and_clear(into=other, **o),
    "merge": lambda bm, other, **o: bm.merge(other, **o),
    "merge of itself": lambda bm, other, **o: bm.merge(bm, **o),
}
OUTCOMES = [[], [1], [None, -errno.EIO], [-errno.EFAULT], [0]]


def outcome(call, outcomes, **options):
    """All that can be seen of a call, with pins of which some go wrong."""
    arena, pin = Arena(NBITS // 8, content=0x3C), FaultyPin(outcomes)
    bm = ib.alloc(0, NBITS, 1, arena.data, pin=pin, window_pages=1)
    other = ib.IOVABitmap.from_text(f"0,63-70,{NBITS - 1}", 0, NBITS, 1)
    try:
        result = call(bm, other, **options)
        seen = np.asarray(result).tolist() if result is not None else None
    except (ib.PinError, ib.IOVARangeError) as error:
        seen = [type(error), *(getattr(error, name, None) for name in ("iova", "length", "newly"))]
    arena.assert_guards()
    return seen, bytes(arena.data), other.to_text(), tuple(bm.stats), len(pin.outcomes)


@pytest.mark.parametrize("outcomes", OUTCOMES, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_nothing_else_differs(name, outcomes):
    call = CALLS[name]
    shared = outcome(call, outcomes)
    assert outcome(call, outcomes, exclusive=True) == shared
    assert outcome(call, outcomes, exclusive=False) == shared


def test_its_truth_is_asked_for():
    class Refuses:
        def __bool__(self):
            raise LookupError("mine")

    bm = ib.IOVABitmap(0, 64, 1)
    for call in (
        lambda: bm.set(0, 1, exclusive=Refuses()),
        lambda: bm.clear(0, 1, exclusive=Refuses()),
        lambda: bm.set_ranges([(0, 1)], exclusive=Refuses()),
        lambda: bm.clear_ranges([(0, 1)], exclusive=Refuses()),
        lambda: bm.set_pages([0], exclusive=Refuses()),
        lambda: bm.read_and_clear(exclusive=Refuses()),
        lambda: bm.merge(ib.IOVABitmap(0, 1), exclusive=Refuses()),
    ):
        with pytest.raises(LookupError, match="mine"):
            call()
    assert not bm.any()


@pytest.mark.parametrize("name", ["test_and_set", "reset", "rescale"])
def test_others_do_not_take_it(name):
    with pytest.raises(TypeError):
        getattr(ib.IOVABitmap(0, 64, 1), name)(exclusive=True)
