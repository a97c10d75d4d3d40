"""The owner of a bitmap's memory lets go of it, in every order of all who hold it.

As long as a bitmap that is not freed, or a view, holds the memory, its owner cannot take it away:
closing is refused, and losing the last name of it changes nothing. Whoever goes last, no step reads
or writes memory that is gone. In a child process, where such a step would show as a crash.
"""

from __future__ import annotations

import sys

import pytest

from support.children import run_child

OWNERS = {
    "bytearray": ("bytearray(N)", "owner.append(1)"),
    "array": ("array.array('B', bytes(N))", "owner.append(1)"),
    "memoryview": ("memoryview(bytearray(N))", "owner.release()"),
    "numpy": ("np.zeros(N, np.uint8)", "owner.resize(2 * N)"),
    "numpy base": ("np.zeros(2 * N, np.uint8)[N:]", "None"),
    "mmap": ("mmap.mmap(-1, N)", "owner.close()"),
    "file mapping": ("mapped(N)", "owner.close()"),
    "shared memory": ("Shared(N)", "owner.close()"),
    "ctypes": ("(ctypes.c_ubyte * N)()", "None"),
}


@pytest.mark.parametrize("kind", OWNERS)
@pytest.mark.parametrize("pin", ["none", "populate"])
def test_every_order(kind, pin):
    if pin == "populate" and not sys.platform.startswith("linux"):
        pytest.skip("Linux has this backend")
    make, close = OWNERS[kind]
    result = run_child(
        f"""
        import array, ctypes, gc, itertools, mmap, tempfile, weakref
        from multiprocessing import shared_memory
        import numpy as np
        import iovabitmap as ib

        N, PAGE = 8192, 4096

        def mapped(size):
            with tempfile.TemporaryFile() as file:
                file.truncate(size)
                return mmap.mmap(file.fileno(), size)

        class Shared:
            def __init__(self, size):
                self.memory = shared_memory.SharedMemory(create=True, size=size)
                self.memory.unlink()

            def close(self):
                self.memory.close()

        STEPS = ("close", "drop owner", "free", "drop bitmap", "drop view", "drop others")
        refused = 0
        for order in itertools.permutations(STEPS):
            owner = {make}
            data = owner.memory.buf if isinstance(owner, Shared) else owner
            bm = ib.alloc(0, N * 8 * PAGE, PAGE, data, pin=sys.argv[1], window_pages=1)
            del data
            bm.set(5 * PAGE, PAGE)
            view = bm.view()
            others = [bm.iter_ranges(), bm.windows(), bm.diff(bm)]
            held = True
            for step in order:
                if step == "close" and owner is not None:
                    try:
                        {close}
                    except (BufferError, ValueError):
                        refused += 1
                    else:
                        assert "{kind}" in ("numpy base", "ctypes", "numpy") or not held, order
                elif step == "drop owner":
                    owner = None
                elif step == "free" and bm is not None:
                    bm.free()
                elif step == "drop bitmap":
                    bm = None
                elif step == "drop view":
                    view = None
                elif step == "drop others":
                    others = None
                bm_holds = (bm is not None and not bm.freed) or (
                    others is not None and order.index("free") > order.index(step)
                )
                held = bm_holds or view is not None
                if view is not None:
                    view[1] += 1
                    assert view[0] == 0x20
                if bm is not None and not bm.freed:
                    bm.set(999 * PAGE, 1)
                    assert bm.test(5 * PAGE)
        print(refused)
        """,
        pin,
    )
    result.assert_lived(f"{kind} in every order")
    if kind not in ("numpy", "numpy base", "ctypes"):
        assert int(result.stdout) > 200


def test_weak_references_of_owners():
    """The memory's owner lives exactly as long as somebody holds the memory."""
    run_child(
        """
        import gc, weakref
        import numpy as np
        import iovabitmap as ib

        class Owner(np.ndarray):
            pass

        def make():
            owner = np.zeros(64, np.uint8).view(Owner)
            return weakref.ref(owner), ib.alloc(0, 512, 1, owner)

        gone, bm = make()
        gc.collect()
        assert gone() is not None
        view = bm.view()
        bm.free()
        gc.collect()
        assert gone() is not None and view.size == 64
        del view
        gc.collect()
        assert gone() is None

        gone, bm = make()
        diff, rows = bm.diff(bm), bm.iter_ranges()
        del bm
        gc.collect()
        assert gone() is not None
        assert list(rows) == [] and diff.common == 0
        del diff, rows
        gc.collect()
        assert gone() is None
        """
    ).assert_lived("weak references")


def test_cycles_through_everything():
    """Bitmaps in cycles with pin objects, owners, views, iterators and differences."""
    run_child(
        """
        import gc, weakref
        import numpy as np
        import iovabitmap as ib

        class Pin:
            held = 0
            def pin(self, address, npages):
                Pin.held += npages
                return npages
            def unpin(self, address, npages):
                Pin.held -= npages
                self.circle[0].stats

        class Bitmap(ib.IOVABitmap):
            pass

        gone = []
        for kind in range(200):
            pin = Pin()
            bm = Bitmap(0, 8 * 4096 * 4096, data=np.zeros(4096, np.uint8), pin=pin)
            bm.set(0, 1)
            parts = [bm.iter_ranges(), bm.windows(), bm.diff(bm), bm.view()]
            pin.circle = bm.circle = [bm, pin, *parts]
            bm.circle.append(bm.circle)
            gone += [weakref.ref(bm), weakref.ref(pin)]
            if kind % 3 == 0:
                bm.free()
            del bm, pin, parts
            if kind % 7 == 0:
                gc.collect()
        gc.collect()
        gc.collect()
        assert all(each() is None for each in gone) and Pin.held == 0
        """
    ).assert_lived("cycles")
