"""The object's life: free, `with`, the collector, weak references, and repr."""

from __future__ import annotations

import array
import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

from support.children import run_child
from support.expected import TOP
from support.memory import needs_mprotect
from support.pins import RecordingPin, small_bitmap
from support.under_test import engine_only, ib

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
    "==": lambda bm: bm == small_bitmap(),
    "== turned around": lambda bm: small_bitmap() == bm,
    "with": lambda bm: bm.__enter__(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_after_free_operations_raise(name):
    bm = small_bitmap()
    bm.free()
    with pytest.raises(ValueError):
        REFUSED[name](bm)


def test_after_free_what_can_still_be_read():
    pin = RecordingPin()
    bm = small_bitmap(pin, window_pages=3)
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
    with small_bitmap(pin) as bm:
        assert isinstance(bm, ib.IOVABitmap) and not bm.freed
        bm.set(bm.iova, bm.length)
    assert bm.freed
    pin.assert_balanced()
    with pytest.raises(LookupError, match="mine"), small_bitmap(pin) as bm:
        raise LookupError("mine")
    assert bm.freed
    pin.assert_balanced()
    with small_bitmap() as bm:
        bm.free()
    with small_bitmap() as bm, bm:
        pass
    assert bm.freed


def test_freeing_while_the_arguments_are_read():
    """An argument's own code may free the bitmap. In a child: it must be an error, and no crash."""
    run_child(
        """
        import numpy as np
        import iovabitmap as ib

        class Frees:
            def __init__(self, bm):
                self.bm = bm

            def __index__(self):
                self.bm.free()
                return 1

            def __bool__(self):
                self.bm.free()
                return True

            @property
            def dtype(self):
                self.bm.free()
                return np.dtype(sys.argv[1])

        CALLS = {
            "set": lambda bm: bm.set(Frees(bm), 1),
            "set to": lambda bm: bm.set(0, Frees(bm)),
            "set clipped": lambda bm: bm.set(0, 1, clip=Frees(bm)),
            "clear": lambda bm: bm.clear(0, Frees(bm)),
            "clear clipped": lambda bm: bm.clear(0, 1, clip=Frees(bm)),
            "test": lambda bm: bm.test(Frees(bm)),
            "test_and_set": lambda bm: bm.test_and_set(0, Frees(bm)),
            "count": lambda bm: bm.count(Frees(bm)),
            "ranges": lambda bm: bm.ranges(0, Frees(bm)),
            "for_each": lambda bm: bm.for_each(lambda *_: None, by_window=Frees(bm)),
            "view": lambda bm: bm.view(Frees(bm)),
        }
        if not hasattr(ib, "__path__"):
            del CALLS["view"]  # the model knows two names, not what numpy.dtype makes of others
        for name, call in CALLS.items():
            print(name, flush=True)
            bm = ib.IOVABitmap(0, 4096 * 64)
            try:
                call(bm)
            except (ValueError, TypeError):
                pass
            assert bm.freed
        """,
        "u8",
    ).assert_lived("freeing while the arguments are read")


# --- the collector -----------------------------------------------------------------------------


def test_the_collector_frees():
    pin = RecordingPin()
    bm = small_bitmap(pin)
    assert pin.pinned_pages > 0
    gone = weakref.ref(bm)
    del bm
    gc.collect()
    assert gone() is None
    pin.assert_balanced()


def test_a_cycle_through_the_pin_object(unraisable):
    """`unpin` is called while the pin object, which is older, still has its attributes."""

    class Knows(RecordingPin):
        """Keeps the bitmap that it pins for."""

    pin = Knows()
    log = pin.log
    pin.bm = small_bitmap(pin)
    gone = weakref.ref(pin.bm)
    del pin
    gc.collect()
    assert gone() is None and unraisable == []
    assert [entry[0] for entry in log] == ["pin", "unpin"]


@pytest.mark.parametrize("base", ["bytearray", "array", "ndarray"])
def test_a_cycle_through_the_memory(base):
    """A class derived from memory that is no container gives up its attributes only."""
    parent = {"bytearray": bytearray, "array": array.array, "ndarray": np.ndarray}[base]

    class Owner(parent):
        pass

    arguments = {"bytearray": (20,), "array": ("B", bytes(20)), "ndarray": (20, "u1")}[base]
    data = Owner(*arguments)
    data.bm = ib.alloc(0, 100, 1, data)
    data.bm.set(0, 100)
    gone, freed = weakref.ref(data.bm), weakref.ref(data)
    gc.collect()
    assert gone() is not None
    del data
    gc.collect()
    assert gone() is None and freed() is None


@engine_only.buffers
def test_a_cycle_through_memory_that_lets_go_of_it():
    """A memoryview or a ctypes array would be cleared while it is held: such a cycle stays until
    the bitmap is freed. In a child: it must not crash."""
    run_child(
        """
        import ctypes, gc, weakref
        import iovabitmap as ib

        class Owner(ctypes.Array):
            _type_, _length_ = ctypes.c_uint8, 20

        class Bitmap(ib.IOVABitmap):
            pass

        def through_a_ctypes_array():
            data = Owner()
            data.bm = ib.alloc(0, 100, 1, data)
            return data.bm

        def through_a_memoryview():
            class Memory(bytearray):
                pass

            memory = Memory(20)
            memory.bm = ib.alloc(0, 100, 1, memoryview(memory))
            return memory.bm

        for make in (through_a_ctypes_array, through_a_memoryview):
            gone = weakref.ref(make())
            gc.collect()
            assert gone() is not None, make
            gone().set(0, 100)
            gone().free()
            gc.collect()
            assert gone() is None, make

        def beside_the_memory():
            bm = Bitmap(0, 100, 1, memoryview(bytearray(20)))
            bm.itself = [bm]
            return bm

        gone = weakref.ref(beside_the_memory())
        gc.collect()
        assert gone() is None
        """
    ).assert_lived("a cycle through memory")


def test_weak_references():
    bm = small_bitmap()
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
