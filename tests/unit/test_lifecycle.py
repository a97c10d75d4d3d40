"""The object's life: free, `with`, the collector, copies, equality and repr."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import iovabitmap as ib
from support.children import run_child
from support.memory import HOST_PAGE, Arena, address_of, needs_mprotect
from support.model import TOP
from support.pins import RecordingPin

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
COPIES = {
    "copy": lambda bm: bm.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    **{
        f"pickle {n}": lambda bm, n=n: pickle.loads(pickle.dumps(bm, protocol=n)) for n in PROTOCOLS
    },
}
each_copy = pytest.mark.parametrize("how", COPIES)


def sample(pin="none", window_pages=None, part=100):
    bm = ib.alloc(
        0x1800, 4096 * 100 - part, 4096, bytearray(20), window_pages=window_pages, pin=pin
    )
    for page in (0, 7, 8, 50, 51, 99):
        bm.set(0x1800 + page * 4096, 1)
    return bm


# --- free --------------------------------------------------------------------------------------

REFUSED = {
    "set": lambda bm: bm.set(bm.iova, 1),
    "set nothing": lambda bm: bm.set(bm.iova, 0),
    "set outside": lambda bm: bm.set(0, 1),
    "clear": lambda bm: bm.clear(bm.iova, 1),
    "test": lambda bm: bm.test(bm.iova),
    "test_and_set": lambda bm: bm.test_and_set(bm.iova, 1),
    "count": lambda bm: bm.count(),
    "ranges": lambda bm: bm.ranges(),
    "for_each": lambda bm: bm.for_each(lambda *_: None),
    "for_each by window": lambda bm: bm.for_each(lambda *_: None, by_window=True),
    "windows": lambda bm: list(bm.windows()),
    "reset": lambda bm: bm.reset(),
    "copy": lambda bm: bm.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "window": lambda bm: bm.window,
    "view": lambda bm: bm.view(),
    "to_mask": lambda bm: bm.to_mask(),
    "==": lambda bm: bm == sample(),
    "== turned around": lambda bm: sample() == bm,
    "with": lambda bm: bm.__enter__(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_after_free_operations_raise(name):
    bm = sample()
    bm.free()
    with pytest.raises(ValueError):
        REFUSED[name](bm)


def test_after_free_what_can_still_be_read():
    pin = RecordingPin()
    bm = sample(pin, window_pages=3)
    names = ("iova", "length", "end", "page_size", "pgshift", "nbits", "nbytes", "window_pages")
    before = [getattr(bm, name) for name in names]
    assert bm.freed is False
    assert bm.free() is None
    assert bm.freed is True and bm.pin is pin
    assert [getattr(bm, name) for name in names] == before
    assert tuple(bm.stats) == (1, 1, 0, 1, 1)
    assert "\n" not in repr(bm) and "freed" in repr(bm)
    assert bm.free() is None and bm.free() is None
    assert not bm.__exit__(None, None, None)
    pin.assert_balanced()


def test_free_leaves_the_memory_as_it_is():
    data = bytearray(b"\xa5" * 20)
    bm = ib.alloc(0, 100, 1, data)
    bm.set(0, 8)
    bm.free()
    assert data == b"\xff" + b"\xa5" * 19


def test_with():
    pin = RecordingPin()
    with sample(pin) as bm:
        assert isinstance(bm, ib.IOVABitmap) and not bm.freed
        bm.set(bm.iova, bm.length)
    assert bm.freed
    pin.assert_balanced()
    with pytest.raises(LookupError, match="mine"), sample(pin) as bm:
        raise LookupError("mine")
    assert bm.freed
    pin.assert_balanced()
    with sample() as bm:
        bm.free()
    with sample() as bm, bm:
        pass
    assert bm.freed


# --- the collector -----------------------------------------------------------------------------


def test_the_collector_frees():
    pin = RecordingPin()
    bm = sample(pin)
    assert pin.pinned_pages > 0
    gone = weakref.ref(bm)
    del bm
    gc.collect()
    assert gone() is None
    pin.assert_balanced()


def test_a_cycle_through_the_pin_object():
    log = []

    class Knows:
        def pin(self, address, npages):
            log.append(npages)
            return npages

        def unpin(self, address, npages):
            log.append(-npages)

    pin = Knows()
    pin.bm = sample(pin)
    gone = weakref.ref(pin.bm)
    del pin
    gc.collect()
    assert gone() is None and sum(log) == 0 and len(log) >= 2


def test_a_cycle_through_the_buffer():
    """It may have to be broken by hand, as `Py_buffer` cannot be traversed: it must not crash."""

    class Owner(bytearray):
        pass

    data = Owner(20)
    data.bm = ib.alloc(0, 100, 1, data)
    gone = weakref.ref(data.bm)
    view = memoryview(bytearray(20))
    holder = [view, ib.alloc(0, 100, 1, view)]
    holder.append(holder)
    del view, holder
    gc.collect()
    data.bm.free()
    del data
    gc.collect()
    assert gone() is None


def test_weak_references():
    bm = sample()
    called = []
    reference = weakref.ref(bm, called.append)
    assert reference() is bm
    assert weakref.proxy(bm).nbits == 100
    registry = weakref.WeakValueDictionary(bitmap=bm)
    bm.free()
    assert reference() is bm
    del bm
    gc.collect()
    assert reference() is None and called == [reference] and not registry


# --- copies ------------------------------------------------------------------------------------


@each_copy
def test_copies_have_geometry_and_content_in_memory_of_their_own(how):
    pin = RecordingPin()
    bm = sample(pin, window_pages=3)
    twin = COPIES[how](bm)
    assert type(twin) is ib.IOVABitmap and twin is not bm and twin == bm
    for name in ("iova", "length", "end", "page_size", "nbits", "nbytes", "window_pages"):
        assert getattr(twin, name) == getattr(bm, name)
    assert twin.pin == "none" and twin.window is None and not twin.freed
    assert tuple(twin.stats)[2] == 0 and twin.stats.moves == 0
    assert (twin.ranges() == bm.ranges()).all()
    assert address_of(twin.view()) != address_of(bm.view())
    before = bm.ranges()
    twin.reset()
    assert (bm.ranges() == before).all() and twin.count() == 0 and twin != bm
    bm.free()
    twin.set(twin.iova, twin.length)
    assert twin.count() == 100
    pin.assert_balanced()


@each_copy
@pytest.mark.parametrize("content", [0x00, 0xFF])
def test_copies_of_odd_geometries(how, content):
    for iova, length, page_size in (
        (TOP - 1, 1, 1),
        (0, TOP - 1, 2**63),
        (TOP - 4096 * 13, 4096 * 13, 4096),
        (77, 4096 * 9 + 1, 4096),
    ):
        nbytes = ib.nbytes_for(length, page_size)
        bm = ib.alloc(iova, length, page_size, bytearray([content] * (nbytes + 3)))
        twin = COPIES[how](bm)
        assert twin == bm and twin.count() == bm.count() and twin.end == iova + length
        assert twin.view().size == nbytes


def test_a_pickle_that_is_damaged_is_refused_or_harmless():
    """Whatever a forged state says, the memory is never overrun."""
    reduced = sample().__reduce_ex__(2)
    make, arguments = reduced[0], reduced[1]
    for n in range(len(arguments)):
        for value in (None, -1, 0, 2**64, 2**63, b"", b"\xff" * 3, "x"):
            changed = [*arguments[:n], value, *arguments[n + 1 :]]
            try:
                bm = make(*changed)
            except (TypeError, ValueError, BufferError, MemoryError, OverflowError):
                continue
            if isinstance(bm, ib.IOVABitmap) and bm.nbytes < 1 << 20:
                bm.count()


# --- equality ----------------------------------------------------------------------------------


def test_equality_is_of_geometry_and_content():
    bm = sample()
    assert bm == bm and bm == sample() and (bm != sample()) is False
    assert bm == sample(RecordingPin(), window_pages=1), "not of how it is pinned"
    other = sample()
    other.set(other.iova + 4096 * 3, 1)
    assert bm != other and not bm == other  # noqa: SIM201
    full = {
        (0x1800, 4096 * 100, 4096),
        (0x1801, 4096 * 100, 4096),
        (0x1800, 4096 * 100 - 1, 4096),
        (0x1800, 4096 * 100, 8192),
        (0x1800, 4096 * 100, 2048),
    }
    bitmaps = [ib.IOVABitmap(*geometry) for geometry in full]
    for n, one in enumerate(bitmaps):
        for m, two in enumerate(bitmaps):
            assert (one == two) is (n == m)


@pytest.mark.parametrize("nbits", range(1, 18))
def test_bits_that_stand_for_no_page_do_not_count(nbits):
    one = ib.alloc(0, nbits, 1, bytearray(4))
    two = ib.alloc(0, nbits, 1, bytearray(b"\xff" * 4))
    assert one != two
    two.reset()
    assert one == two
    one.set(nbits - 1, 1)
    assert one != two
    two.set(nbits - 1, 1)
    assert one == two and one.copy() == two.copy()


def test_a_difference_anywhere_is_seen():
    nbits = 8 * (HOST_PAGE + 100) - 3
    one = ib.alloc(0, nbits, 1, Arena(HOST_PAGE + 100, 4081 % HOST_PAGE).data, window_pages=1)
    two = ib.alloc(0, nbits, 1, Arena(HOST_PAGE + 100, 3).data, window_pages=1)
    for bit in [*range(0, nbits, 997), nbits - 1]:
        one.set(bit, 1)
        assert one != two
        two.set(bit, 1)
        assert one == two


def test_other_types_are_just_not_equal():
    bm = sample()
    for other in (None, 5, "x", b"", object(), bm.to_mask, [bm]):
        assert (bm == other) is False and (bm != other) is True

    array = np.zeros(bm.nbits, bool)
    assert (bm == array) is False and (array == bm) is False

    class Anything:
        __hash__ = None

        def __eq__(self, other):
            return True

    assert bm == Anything()
    with pytest.raises(TypeError):
        bm < sample()  # noqa: B015


def test_bitmaps_are_not_hashable():
    with pytest.raises(TypeError):
        hash(sample())
    with pytest.raises(TypeError):
        {sample()}


# --- repr --------------------------------------------------------------------------------------


def test_repr_is_one_bounded_line():
    for geometry in ((0, 1, 1), (TOP - 1, 1, 2**63), (1, TOP - 1, 2**50), (0x1800, 10**9, 1)):
        bm = ib.IOVABitmap(*geometry)
        for page in range(0, min(bm.nbits, 1000), 2):
            bm.set(bm.iova + page * bm.page_size, 1)
        for text in (repr(bm), str(bm), f"{bm}"):
            assert 10 < len(text) < 400 and "\n" not in text and text.isprintable()
            assert "IOVABitmap" in text
        bm.free()
        assert 10 < len(repr(bm)) < 400


def test_repr_shows_the_geometry():
    bm = ib.IOVABitmap(0xABC000, 1 << 40, 1 << 16)
    assert "0xabc000" in repr(bm).lower()


@needs_mprotect
def test_repr_never_walks_a_large_bitmap():
    """Large memory that may not be touched at all: in a child, since a walk would kill it."""
    run_child(
        """
        from support.memory import Region
        import iovabitmap as ib
        memory = Region(64)
        bm = ib.alloc(0, memory.nbytes * 8 * 4096, 4096, memory.at_start(memory.nbytes))
        memory.protect(0, 64, Region.NO_ACCESS)
        print("repr", flush=True)
        assert len(repr(bm)) < 400
        bm.free()
        """
    ).assert_lived("repr of a large bitmap")


@needs_mprotect
def test_nothing_else_touches_memory_without_need():
    """alloc, geometry, windows, empty ranges, whole walks and free leave the memory alone."""
    run_child(
        """
        from support.memory import Region
        import iovabitmap as ib
        memory = Region(3)
        data = memory.at_start(memory.nbytes)
        memory.protect(0, 3, Region.NO_ACCESS)
        print("alloc", flush=True)
        bm = ib.alloc(0x1000, memory.nbytes * 8, 1, data, window_pages=1)
        assert bm.nbytes == memory.nbytes and bm.window is None
        print("windows", flush=True)
        assert len(list(bm.windows())) == 3
        print("empty ranges", flush=True)
        bm.set(0x1000, 0)
        bm.clear(0, 0)
        assert bm.count(5, 0) == bm.test_and_set(0x1000, 0) == len(bm.ranges(0x1000, 0)) == 0
        print("outside", flush=True)
        bm.set(0, 0x1000, clip=True)
        for name in ("set", "clear", "count", "ranges", "test_and_set"):
            try:
                getattr(bm, name)(0, 1)
            except ib.IOVARangeError:
                pass
        print("for_each", flush=True)
        assert bm.for_each(lambda *_: None) == 0
        assert bm.for_each(lambda *_: None, by_window=True) == 0
        print("view and free", flush=True)
        view = bm.view()
        bm.free()
        """
    ).assert_lived("touching memory without need")
