"""No call changes the count of an object that many share: None, NotImplemented, bools, small ints.

One binary serves every CPython from 3.11 on. Where such an object is immortal its count must stay
what it is: an interpreter that finds it changed too far takes the object for a mortal one. Before
3.12 none is, and the count moves a little by itself.
"""

from __future__ import annotations

import sys

import pytest

import iovabitmap as ib

IMMORTAL = sys.version_info >= (3, 12)
OBJECTS = {
    "None": None,
    "NotImplemented": NotImplemented,
    "True": True,
    "False": False,
    "...": ...,
    "0": 0,
    "1": 1,
    "5": 5,
    "256": 256,
    "the empty tuple": (),
    "the empty str": "",
    "'none'": sys.intern("none"),
    "int": int,
    "ValueError": ValueError,
}


class AlwaysThree:
    def __index__(self) -> int:
        return 3


class Delivers:
    """A pin object, whose results are the binding's to give back."""

    def pin(self, address: int, npages: int) -> int:
        return npages

    def unpin(self, address: int, npages: int) -> None:
        return None


BM = ib.IOVABitmap(0, 1 << 20)
OTHER = ib.IOVABitmap(0, 1 << 20)
PINNED = ib.IOVABitmap(0, 1 << 20, pin=Delivers())
FREED = ib.IOVABitmap(0, 4096)
FREED.free()


def refused(call, *arguments) -> None:
    try:
        call(*arguments)
    except (ValueError, TypeError, OverflowError):
        return
    raise AssertionError(f"{call} took {arguments}")


CALLS = {
    "set": (1_000_000, lambda: BM.set(5, 256)),
    "set of an index": (100_000, lambda: BM.set(AlwaysThree(), length=256)),
    "set outside": (20_000, lambda: refused(BM.set, 1 << 40, 1)),
    "set with a pin object": (50_000, lambda: PINNED.set(0, 1)),
    "a pin object's window": (20_000, PINNED.count),
    "clear": (100_000, lambda: BM.clear(5, 256)),
    "test_and_set": (100_000, lambda: BM.test_and_set(5, 1)),
    "test": (100_000, lambda: BM.test(5)),
    "find_clean, to the end": (100_000, lambda: BM.find_clean(BM.end)),
    "free again": (100_000, FREED.free),
    "freed": (20_000, lambda: refused(FREED.count)),
    "NotImplemented": (100_000, lambda: BM == 5),
    "no operand": (20_000, lambda: refused(lambda: BM & 5)),
    "equal": (100_000, lambda: BM == OTHER),
    "for_each, None": (100_000, lambda: BM.for_each(lambda *_: None)),
    "for_each, True": (100_000, lambda: BM.for_each(lambda *_: True)),
    "for_each, False": (100_000, lambda: BM.for_each(lambda *_: False, None)),
    "for_each, 5": (100_000, lambda: BM.for_each(lambda *_: 5, by_window=True)),
    "attributes": (50_000, lambda: (BM.window, BM.stats, BM.pin, BM.freed, BM.nbits, OTHER.window)),
    "set_ranges": (50_000, lambda: BM.set_ranges([(5, 256), (0, 1)])),
    "set_pages of a generator": (20_000, lambda: BM.set_pages(page for page in (0, 1, 5))),
    "a bad row": (20_000, lambda: refused(BM.set_pages, [0, None])),
    "ranges": (20_000, BM.ranges),
    "iter_ranges": (20_000, lambda: list(BM.iter_ranges())),
    "windows": (20_000, lambda: list(BM.windows())),
    "read_and_clear": (20_000, lambda: OTHER.read_and_clear(into=BM)),
    "copy": (20_000, BM.copy),
    "text": (20_000, lambda: ib.IOVABitmap.from_text(BM.to_text(), 0, 1 << 20)),
    "made and freed": (20_000, lambda: ib.IOVABitmap(0, 5, 1, bytearray(1), pin="none").free()),
    "a bad argument": (20_000, lambda: refused(ib.IOVABitmap, 0, 0)),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_count_drifts(name):
    times, call = CALLS[name]
    call()
    before = {each: sys.getrefcount(shared) for each, shared in OBJECTS.items()}
    for _ in range(times):
        call()
    after = {each: sys.getrefcount(shared) for each, shared in OBJECTS.items()}
    drift = {each: after[each] - count for each, count in before.items() if after[each] != count}
    if not IMMORTAL:
        drift = {each: by for each, by in drift.items() if abs(by) >= times // 2}
    else:
        drift = {each: by for each, by in drift.items() if immortal(each) or abs(by) >= times // 2}
    assert not drift


def immortal(name: str) -> bool:
    """Types are not, and str objects need not be."""
    return name not in ("int", "ValueError", "'none'")
