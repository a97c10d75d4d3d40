"""Every public operation, each as one call on a `World`: for tests that repeat something with all.

`covers` names what a call uses; `tests/unit/test_operations.py` sees to it that nothing public is
left out. `raises` is what the call ends in where nothing fails. What `changes` the bitmap may be
done in part when it fails; what `harvests` must account for every dirty page then.
"""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import iovabitmap as ib
from iovabitmap import _core
from iovabitmap.sources import WriteTracker

from .world import BASE, PAGE, TRACKED_PAGES, TRACKS, World


class Operation(NamedTuple):
    name: str
    covers: str
    call: Callable[[World], object]
    raises: type[BaseException] | None = None
    changes: bool = False
    harvests: bool = False

    @property
    def tracks(self) -> bool:
        return "WriteTracker" in self.covers

    def world(self, pin="none", **options) -> World:
        return World(pin, tracks=self.tracks, **options)


class NoRange:
    """Is no int, and says so with an exception of its own."""

    def __index__(self):
        raise LookupError("mine")


class SubBitmap(ib.IOVABitmap):
    """Has attributes, which copies take along."""


def _sub(world: World) -> SubBitmap:
    bm = SubBitmap(BASE, 64 * PAGE)
    bm.attribute = [1, 2]
    bm.set(BASE, 1)
    return bm


def _stop_walk(bm, iova, length, opaque):
    return opaque


def _freed(world: World) -> ib.IOVABitmap:
    world.bm.free()
    return world.bm


def _entered(world: World) -> None:
    with world.bm as bm:
        bm.test(BASE)


def _rows_of_epochs(zero: np.ndarray, one: np.ndarray) -> None:
    """Epoch 0 with a run of one page, which is piece 0."""
    first, bins = np.zeros(1, np.uint64), np.zeros(1, np.int32)
    _core._first_bad_row((zero, zero, zero, first, one), 0, PAGE)
    _core._add_hits((first, one), bins.copy())
    _core._add_history(
        (zero, first, one), bins - 1, None, bins, first.copy(), first.copy(), first.copy()
    )
    _core._add_map((zero, first, one), 0, PAGE, first, bins, first.copy(), np.zeros(1))


def _diff(world: World) -> list:
    diff = world.bm.diff(world.other)
    rows = diff.appeared_ranges(), diff.disappeared_ranges(), diff.common_ranges()
    return [diff.appeared, diff.disappeared, diff.common, repr(diff), *rows]


GEOMETRY = [
    "iova",
    "length",
    "end",
    "page_size",
    "pgshift",
    "nbits",
    "nbytes",
    "window_pages",
    "pin",
    "freed",
]

ASKING = [
    Operation("test", "test", lambda w: w.bm.test(BASE)),
    Operation("count", "count", lambda w: w.bm.count()),
    Operation("count of a part", "count", lambda w: w.bm.count(*w.part)),
    Operation("any", "any", lambda w: w.bm.any(*w.part)),
    Operation("all", "all", lambda w: w.bm.all(w.bm.iova, None)),
    Operation("find_dirty", "find_dirty", lambda w: w.bm.find_dirty(w.part[0])),
    Operation("find_clean", "find_clean", lambda w: w.bm.find_clean(BASE)),
    Operation("count_ranges", "count_ranges", lambda w: w.bm.count_ranges()),
    Operation("histogram", "histogram", lambda w: w.bm.histogram(bins=7)),
    Operation("ranges", "ranges", lambda w: w.bm.ranges()),
    Operation("clean ranges", "ranges", lambda w: w.bm.ranges(*w.part, dirty=False)),
    Operation("ranges out", "ranges", lambda w: w.bm.ranges(out=w.out)),
    Operation("iter_ranges", "iter_ranges", lambda w: list(w.bm.iter_ranges(batch=999))),
    Operation("pages", "pages", lambda w: w.bm.pages(*w.part)),
    Operation("to_text", "to_text", lambda w: w.bm.to_text()),
    Operation("_repr_html_", "_repr_html_", lambda w: w.bm._repr_html_()),
    Operation("to_mask", "to_mask", lambda w: w.bm.to_mask()),
    Operation("view", "view", lambda w: w.bm.view().size),
    Operation("view u8", "view", lambda w: ib.IOVABitmap(0, 64 * PAGE).view(np.uint64).size),
    Operation("windows", "windows", lambda w: list(w.bm.windows())),
    Operation("for_each", "for_each", lambda w: w.bm.for_each(_stop_walk)),
    Operation("for_each window", "for_each", lambda w: w.bm.for_each(_stop_walk, by_window=True)),
    Operation("for_each stopped", "for_each", lambda w: w.bm.for_each(_stop_walk, 2**70)),
    Operation("geometry", " ".join(GEOMETRY), lambda w: [getattr(w.bm, g) for g in GEOMETRY]),
    Operation("window", "window", lambda w: (w.bm.window, w.other.window)),
    Operation("stats", "stats", lambda w: len(w.bm.stats)),
    Operation("repr", "__repr__", lambda w: (repr(w.bm), repr(w.other), repr(_sub(w)))),
    Operation("==", "__eq__ __ne__", lambda w: (w.bm == w.other, w.bm != w.bm, w.bm == 1)),
    Operation("order", "__lt__ __le__ __gt__ __ge__", lambda w: w.bm < w.other, TypeError),
    Operation("count_and", "count_and", lambda w: w.bm.count_and(w.other)),
    Operation("count_or", "count_or", lambda w: w.bm.count_or(other=w.other)),
    Operation("count_xor", "count_xor", lambda w: w.bm.count_xor(w.other)),
    Operation("count_sub", "count_sub", lambda w: w.bm.count_sub(w.other)),
    Operation("diff", "diff Diff", _diff),
    Operation("with", "__enter__ __exit__", _entered),
]

MAKING = [
    Operation("IOVABitmap()", "__new__", lambda w: ib.IOVABitmap(BASE, 10**6, window_pages=2)),
    Operation("alloc", "alloc", lambda w: ib.alloc(BASE, 10**6, PAGE, bytearray(50), pin="mlock")),
    Operation("nbytes_for", "nbytes_for", lambda w: ib.nbytes_for(2**60, page_size=1)),
    Operation("&", "__and__ __rand__", lambda w: w.bm & w.other),
    Operation("|", "__or__ __ror__", lambda w: w.bm | w.other),
    Operation("^", "__xor__ __rxor__", lambda w: w.bm ^ w.other),
    Operation("-", "__sub__ __rsub__", lambda w: w.bm - w.other),
    Operation("rescale", "rescale", lambda w: w.bm.rescale(PAGE * 8)),
    Operation("from_text", "from_text", lambda w: ib.IOVABitmap.from_text("0-9,70", BASE, 10**6)),
    Operation("copy", "copy", lambda w: w.bm.copy()),
    Operation("copy.copy", "__copy__", lambda w: (copy.copy(w.bm), copy.copy(_sub(w)))),
    Operation("copy.deepcopy", "__deepcopy__", lambda w: copy.deepcopy([w.bm, _sub(w)])),
    Operation(
        "pickle", "__reduce__ _restore", lambda w: pickle.loads(pickle.dumps([w.bm, _sub(w)]))
    ),
    Operation("_kernels", "_kernels", lambda w: _core._kernels()),
    Operation("_signal_interval", "_signal_interval", lambda w: _core._signal_interval(10**7)),
    Operation("validate", "validate", lambda w: w.bm.validate()),
    Operation("Arrow array", "__arrow_c_array__", lambda w: w.bm.__arrow_c_array__()),
    Operation(
        "changed pages",
        "_changed_pages",
        lambda w: _core._changed_pages(bytes(3 * PAGE), bytearray(3 * PAGE), PAGE, bytearray(3)),
    ),
    Operation(
        "rows of epochs",
        "_first_bad_row _add_hits _add_history _add_map",
        lambda w: _rows_of_epochs(np.zeros(1, np.int64), np.ones(1, np.uint64)),
    ),
    Operation(
        "stamp",
        "_stamp",
        lambda w: _core._stamp(bytearray(64), np.array([8, 0], np.uint64), 7, 0, bytearray(8)),
    ),
]

CHANGING = [
    Operation("set", "set", lambda w: w.bm.set(*w.part), changes=True),
    Operation("set one", "set", lambda w: w.bm.set(BASE + PAGE, 1), changes=True),
    Operation("set, clip", "set", lambda w: w.bm.set(0, w.length, clip=True), changes=True),
    Operation("clear", "clear", lambda w: w.bm.clear(iova=BASE, length=w.length), changes=True),
    Operation("test_and_set", "test_and_set", lambda w: w.bm.test_and_set(*w.part), changes=True),
    Operation("reset", "reset", lambda w: w.bm.reset(), changes=True),
    Operation("set_ranges", "set_ranges", lambda w: w.bm.set_ranges(w.rows), changes=True),
    Operation(
        "set_ranges of a list",
        "set_ranges",
        lambda w: w.bm.set_ranges([(BASE + n * PAGE, 9) for n in range(99, 9, -9)]),
        changes=True,
    ),
    Operation(
        "set_ranges of int32",
        "set_ranges",
        lambda w: w.bm.set_ranges(np.full((9, 2), BASE, np.int32), clip=True),
        changes=True,
    ),
    Operation("clear_ranges", "clear_ranges", lambda w: w.bm.clear_ranges(w.rows), changes=True),
    Operation("set_pages", "set_pages", lambda w: w.bm.set_pages(w.addresses), changes=True),
    Operation("&=", "__iand__", lambda w: operator.iand(w.bm, w.other), changes=True),
    Operation("|=", "__ior__", lambda w: operator.ior(w.bm, w.other), changes=True),
    Operation("^=", "__ixor__", lambda w: operator.ixor(w.bm, w.other), changes=True),
    Operation("-=", "__isub__", lambda w: operator.isub(w.bm, w.other), changes=True),
    Operation("merge", "merge", lambda w: w.bm.merge(w.into | w.into), changes=True),
    Operation("merge of itself", "merge", lambda w: w.bm.merge(w.bm), changes=True),
    Operation("merge of another", "merge", lambda w: w.bm.merge(w.other), changes=True),
    Operation("read_and_clear", "read_and_clear", lambda w: w.bm.read_and_clear(), harvests=True),
    Operation(
        "read_and_clear of a part",
        "read_and_clear",
        lambda w: w.bm.read_and_clear(*w.part),
        harvests=True,
    ),
    Operation(
        "read_and_clear into",
        "read_and_clear",
        lambda w: w.bm.read_and_clear(into=w.into),
        harvests=True,
    ),
    Operation("free", "free __del__", lambda w: w.bm.free()),
]

REFUSED = [
    Operation("set outside", "set IOVARangeError", lambda w: w.bm.set(*w.outside), ValueError),
    Operation("set wrapping", "set", lambda w: w.bm.set(BASE, 2**64 - 1), ValueError),
    Operation("set of a str", "set", lambda w: w.bm.set("a", 1), TypeError),
    Operation("set of too much", "set", lambda w: w.bm.set(2**64, 1), ValueError),
    Operation("set of nothing", "set", lambda w: w.bm.set(), TypeError),
    Operation("set, unknown", "set", lambda w: w.bm.set(BASE, 1, no=1), TypeError),
    Operation("set, its own error", "set", lambda w: w.bm.set(BASE, NoRange()), LookupError),
    Operation("set, freed", "set", lambda w: _freed(w).set(BASE, 1), ValueError),
    Operation("count outside", "count", lambda w: w.bm.count(*w.outside), ValueError),
    Operation("test outside", "test", lambda w: w.bm.test(BASE - 1), ValueError),
    Operation("ranges outside", "ranges", lambda w: w.bm.ranges(0), ValueError),
    Operation("ranges, small out", "ranges", lambda w: w.bm.ranges(out=w.rows[:1]), ValueError),
    Operation("ranges, bad out", "ranges", lambda w: w.bm.ranges(out=w.addresses), ValueError),
    Operation("ranges, no out", "ranges", lambda w: w.bm.ranges(out=b""), BufferError),
    Operation("histogram of 0", "histogram", lambda w: w.bm.histogram(0), ValueError),
    Operation("iter_ranges of 0", "iter_ranges", lambda w: w.bm.iter_ranges(batch=0), ValueError),
    Operation(
        "iter_ranges, freed", "iter_ranges", lambda w: next(_freed(w).iter_ranges()), ValueError
    ),
    Operation("find_dirty of None", "find_dirty", lambda w: w.bm.find_dirty(None), TypeError),
    Operation(
        "set_ranges outside",
        "set_ranges",
        lambda w: w.bm.set_ranges([w.part, w.outside]),
        ValueError,
    ),
    Operation(
        "set_ranges of floats", "set_ranges", lambda w: w.bm.set_ranges(w.rows * 0.5), TypeError
    ),
    Operation(
        "set_ranges of a bad row", "set_ranges", lambda w: w.bm.set_ranges([(1, 2, 3)]), ValueError
    ),
    Operation("set_ranges of 3", "set_ranges", lambda w: w.bm.set_ranges(3), TypeError),
    Operation(
        "set_pages of negative",
        "set_pages",
        lambda w: w.bm.set_pages(-w.addresses.astype(np.int64)),
        ValueError,
    ),
    Operation("merge of a str", "merge", lambda w: w.bm.merge("a"), TypeError),
    Operation("rescale to 3", "rescale", lambda w: w.bm.rescale(3), ValueError),
    Operation("& of another", "__and__", lambda w: w.bm & w.into, ValueError),
    Operation("& of an int", "__and__", lambda w: w.bm & 1, TypeError),
    Operation("|= of another", "__ior__", lambda w: operator.ior(w.bm, w.into), ValueError),
    Operation("diff of another", "diff", lambda w: w.bm.diff(w.into), ValueError),
    Operation("== of freed", "__eq__", lambda w: _freed(w) == w.other, ValueError),
    Operation(
        "read_and_clear into less",
        "read_and_clear",
        lambda w: w.into.read_and_clear(into=w.bm),
        ValueError,
    ),
    Operation("from_text, bad", "from_text", lambda w: w.bm.from_text("1-", 0, 10**6), ValueError),
    Operation("from_text, big", "from_text", lambda w: w.bm.from_text("900", 0, PAGE), ValueError),
    Operation("for_each of None", "for_each", lambda w: w.bm.for_each(None), TypeError),
    Operation("for_each, str", "for_each", lambda w: w.bm.for_each(_stop_walk, "s"), TypeError),
    Operation("view f4", "view", lambda w: w.bm.view("f4"), ValueError),
    Operation("view u8, odd", "view", lambda w: w.bm.view("u8"), ValueError),
    Operation("array()", "__array__ __array_ufunc__", lambda w: np.asarray(w.bm), TypeError),
    Operation("hash", "__hash__", lambda w: hash(w.bm), TypeError),
    Operation("alloc, small", "alloc", lambda w: ib.alloc(0, 2**30, 1, bytearray(9)), ValueError),
    Operation("alloc, no buffer", "alloc", lambda w: ib.alloc(0, 1, 1, None), TypeError),
    Operation("alloc, read-only", "alloc", lambda w: ib.alloc(0, 1, 1, b"a"), BufferError),
    Operation(
        "alloc, strided",
        "alloc",
        lambda w: ib.alloc(0, 1, 1, np.zeros(9, np.uint8)[::2]),
        BufferError,
    ),
    Operation(
        "alloc, bad pin", "alloc", lambda w: ib.alloc(0, 1, 1, bytearray(9), pin=3), TypeError
    ),
    Operation(
        "alloc, no pin", "alloc", lambda w: ib.alloc(0, 1, 1, bytearray(9), pin="x"), ValueError
    ),
    Operation("IOVABitmap of 3", "__new__", lambda w: ib.IOVABitmap(0, 4096, 3), ValueError),
    Operation(
        "unpickling rubbish",
        "_restore",
        lambda w: _core._restore(ib.IOVABitmap, 0, 10**6, PAGE, 1, b"short"),
        ValueError,
    ),
]

TRACKING = [
    Operation(
        "collect", "WriteTracker.collect", lambda w: w.tracker.collect(bm=w.bm), changes=True
    ),
    Operation("start", "WriteTracker.start", lambda w: (w.tracker.stop(), w.tracker.start())),
    Operation("stop", "WriteTracker.stop", lambda w: w.tracker.stop()),
    Operation(
        "WriteTracker()",
        "WriteTracker.__new__ WriteTracker._locate",
        lambda w: WriteTracker(bytearray(TRACKED_PAGES)),
    ),
    Operation("probe", "WriteTracker.probe", lambda w: isinstance(WriteTracker.probe().ok, bool)),
    Operation("layout", "WriteTracker.layout", lambda w: len(w.tracker.layout())),
    Operation("untracked", "WriteTracker.untracked", lambda w: len(w.tracker.untracked)),
    Operation("tracker repr", "WriteTracker.__repr__", lambda w: repr(w.tracker)),
    Operation(
        "tracker attributes",
        " ".join(
            f"WriteTracker.{n}" for n in ("iova", "length", "granularity", "address", "started")
        ),
        lambda w: (
            w.tracker.iova,
            w.tracker.length,
            w.tracker.granularity,
            w.tracker.started,
            w.tracker.address > 0,
        ),
    ),
    Operation(
        "with tracker",
        "WriteTracker.__enter__ WriteTracker.__exit__",
        lambda w: w.tracker.__enter__().__exit__(None, None, None),
    ),
    Operation(
        "two trackers",
        "WriteTracker.start",
        lambda w: WriteTracker(w.tracked).start(),
        OSError,
    ),
    Operation(
        "collect, stopped",
        "WriteTracker.collect",
        lambda w: (w.tracker.stop(), w.tracker.collect(w.bm)),
        RuntimeError,
    ),
    Operation("collect a str", "WriteTracker.collect", lambda w: w.tracker.collect("a"), TypeError),
    Operation("track nothing", "WriteTracker", lambda w: WriteTracker(bytearray()), ValueError),
    Operation(
        "track too far", "WriteTracker", lambda w: WriteTracker(b"ab", iova=2**64 - 1), ValueError
    ),
]

ALL = ASKING + MAKING + CHANGING + REFUSED + (TRACKING if TRACKS else [])
BY_NAME = {each.name: each for each in ALL}
assert len(BY_NAME) == len(ALL)
