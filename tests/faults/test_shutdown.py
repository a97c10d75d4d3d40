"""The interpreter shuts down while bitmaps, trackers, iterators and views are alive.

In module globals, in cycles, in daemon threads that are in the middle of an operation, in `atexit`
functions. It must end as it would without them: by its own exit code, and with nothing on stderr.
"""

from __future__ import annotations

from textwrap import dedent

import pytest

from support.children import run_child
from support.pins import require
from support.tracked import needs_tracker

SETUP = """
import atexit, gc, mmap, signal, sys, threading
import numpy as np
import iovabitmap as ib

HOST, PAGE = mmap.PAGESIZE, 4096

class Pin:
    held = 0
    def pin(self, address, npages):
        self.held += npages
        return npages
    def unpin(self, address, npages):
        self.held -= npages

def bitmap(pin, pages=2):
    made = ib.alloc(0, pages * HOST * 8 * PAGE, PAGE, mmap.mmap(-1, pages * HOST), pin=pin)
    made.set(0, PAGE)
    return made

def everything(pin):
    bm = bitmap(pin)
    rows = bm.iter_ranges(batch=1)
    next(rows)
    return [bm, rows, bm.windows(), bm.diff(bm.copy()), bm.view(), bm.ranges(), bm & bm]
"""

SCENES = {
    "globals": "alive = everything(pin)",
    "a cycle": """
        alive = everything(pin)
        alive.append(alive)
        gc.disable()
        """,
    "a cycle through the pin": """
        class Knows(Pin):
            all = ()
            def unpin(self, address, npages):
                assert all(each is not None for each in self.all)
        pin = Knows() if isinstance(pin, Pin) else pin
        alive = everything(pin)
        if isinstance(pin, Pin):
            pin.all = alive
        del alive
        """,
    "other modules": """
        import types
        sys.modules["late"] = late = types.ModuleType("late")
        late.alive = everything(pin)
        sys.alive = everything(pin)
        """,
    "atexit": """
        alive = everything(pin)
        @atexit.register
        def at_exit():
            alive[0].set(3 * PAGE, 1)
            assert alive[0].count() == 2
            for bm in (alive[0], alive[-1]):
                bm.free()
        """,
    "a callback that exits": """
        alive = everything(pin)
        alive[0].for_each(lambda *_: sys.exit(0), by_window=True)
        """,
    "a finalizer": """
        class Last:
            def __del__(self):
                self.bm.set(2 * PAGE, 1)
                self.bm.free()
        last = Last()
        last.bm = bitmap(pin)
        """,
    "thread-local": """
        local = threading.local()
        local.alive = everything(pin)
        """,
    "a pinned callback": """
        alive = bitmap(pin)
        alive.for_each(lambda bm, *_: None, alive, by_window=True)
        """,
}


def ends_well(source: str, *arguments: str) -> None:
    result = run_child(SETUP + source, *arguments)
    result.assert_lived("shutting down")
    assert result.stderr == "", result.stderr


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("pin", ["none", "populate", "mlock", "object"])
def test_live_objects(scene, pin):
    require("none" if pin == "object" else pin)
    ends_well(
        "pin = Pin() if sys.argv[1] == 'object' else sys.argv[1]\n" + dedent(SCENES[scene]), pin
    )


@pytest.mark.parametrize("operation", ["count()", "ranges()", "reset()", "copy()", "pages()"])
def test_a_daemon_thread_in_the_middle_of_an_operation(operation):
    """It asks for signals, and so for the interpreter, while that is going away."""
    ends_well(
        f"""
memory = np.zeros(1 << 26, np.uint8)
memory[::64] = 1
bm = ib.alloc(0, memory.size * 8 * PAGE, PAGE, memory)
begun = threading.Event()

def work():
    while True:
        begun.set()
        bm.{operation}

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
begun.wait()
"""
    )


def test_a_daemon_thread_with_a_pin_object():
    ends_well(
        """
bm = ib.alloc(0, 64 * HOST * 8 * PAGE, PAGE, mmap.mmap(-1, 64 * HOST), pin=Pin(), window_pages=1)
begun = threading.Event()

def work():
    while True:
        bm.count()
        begun.set()

threading.Thread(target=work, daemon=True).start()
begun.wait()
"""
    )


@needs_tracker
@pytest.mark.parametrize("how", ["started", "in a cycle", "with a daemon thread", "in atexit"])
def test_trackers(how):
    ends_well(
        """
from iovabitmap.sources import WriteTracker
memory = mmap.mmap(-1, 64 * HOST, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
tracker = WriteTracker(memory)
tracker.start()
memory[0] = 1
bm = ib.IOVABitmap(0, len(memory))
if sys.argv[1] == "in a cycle":
    alive = [tracker, bm]
    alive.append(alive)
elif sys.argv[1] == "with a daemon thread":
    begun = threading.Event()
    def work():
        while True:
            memory[HOST] = 1
            tracker.collect(bm)
            begun.set()
    threading.Thread(target=work, daemon=True).start()
    begun.wait()
elif sys.argv[1] == "in atexit":
    @atexit.register
    def at_exit():
        assert tracker.collect(bm) == 1
""",
        how,
    )
