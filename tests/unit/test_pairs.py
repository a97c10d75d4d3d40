"""Operations on two bitmaps whose pins fail, or free one of the two: what the exception says, what
was done before it, and which pages are looked at.
"""

from __future__ import annotations

import errno
import operator

import pytest

from support.memory import HOST_PAGE, Arena
from support.pins import AnsweringPin, bit_for_each_address
from support.under_test import ib

BITS = HOST_PAGE * 8

CHANGING = {
    "merge": lambda a, b: a.merge(b),
    "into": lambda a, b: b.read_and_clear(into=a),
    "&=": operator.iand,
    "|=": operator.ior,
    "^=": operator.ixor,
    "-=": operator.isub,
}
ASKING = {
    "==": operator.eq,
    "diff": lambda a, b: a.diff(b),
    "count_and": lambda a, b: a.count_and(b),
    "count_or": lambda a, b: a.count_or(b),
    "count_xor": lambda a, b: a.count_xor(b),
    "count_sub": lambda a, b: a.count_sub(b),
}
BOTH = CHANGING | ASKING

whose = pytest.mark.parametrize("whose", [0, 1])


def bitmap(pin="none", npages=3, content=0xFF):
    """One of a pair: all dirty, one host page a window."""
    return bit_for_each_address(Arena(npages * HOST_PAGE, content=content).data, pin, window_pages=1)


# --- what the exception says ---------------------------------------------------------------------


@whose
@pytest.mark.parametrize("name", BOTH)
def test_the_cause_is_what_the_pin_object_raised(name, whose):
    error = PermissionError(errno.EACCES, "not today")
    pins = ["none", "none"]
    pins[whose] = AnsweringPin(error)
    with pytest.raises(ib.PinError) as caught:
        BOTH[name](*map(bitmap, pins))
    assert caught.value.__cause__ is error and caught.value.errno == errno.EACCES
    assert (caught.value.iova, caught.value.length, caught.value.newly) == (0, 3 * BITS, 0)
