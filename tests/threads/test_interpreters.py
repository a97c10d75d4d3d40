"""Sub-interpreters, each with a module of its own, and since Python 3.12 with a lock of its own."""

from __future__ import annotations

import sys

import pytest

from support.children import run_child

# What the test programs share: `make()` gives an interpreter, `run(i, source)` runs code in it.
INTERPRETERS = """\
import os, sys, threading
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
try:
    import _interpreters
except ImportError:
    import _xxsubinterpreters as _interpreters

def make():
    if sys.version_info >= (3, 13):
        return _interpreters.create("isolated")
    return _interpreters.create(isolated=True)

def run(interpreter, source):
    path = f"import sys; sys.path[:0] = {sys.path!r}\\n"
    failed = _interpreters.run_string(interpreter, path + source)
    if failed is not None:
        raise AssertionError(failed.formatted)
"""

needs_them = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="the modules tried are CPython's"
)

USE = """
import gc
import iovabitmap as ib

class Pin:
    held = 0
    def pin(self, address, npages):
        Pin.held += 1
        return npages
    def unpin(self, address, npages):
        Pin.held -= 1

def visit(bm, iova, length, opaque):
    bm.set(iova, length)

with ib.IOVABitmap(0x1000, 1 << 32, pin=Pin()) as bm:
    bm.set(0x1800, 0x1000)
    assert bm.to_text() == "0-1" and bm.count() == 2
    try:
        bm.set(0, 1)
        raise AssertionError("no error")
    except ib.IOVARangeError as error:
        assert (error.iova, error.length) == (0, 1)
    assert bm.for_each(visit, by_window=True) == 0 and bm.all()
    assert tuple(bm.window)[0] == bm.window.iova and len(bm.stats) == 5
    bm.validate()
assert Pin.held == 0
cycle = [ib.IOVABitmap(0, 1 << 40, 1 << 20), ib.IOVABitmap.from_text("0-3", 0, 4096 * 8).copy()]
cycle.append(cycle)
del cycle
gc.collect()
kept = ib.IOVABitmap(0, 1 << 20)  # alive when the interpreter ends
kept.set(0, 4096)
"""


@needs_them
def test_many_one_after_the_other():
    run_child(
        INTERPRETERS
        + f"""
USE = {USE!r}
exec(USE)
for n in range(5):
    print(n, flush=True)
    interpreter = make()
    run(interpreter, USE)
    run(interpreter, USE)
    _interpreters.destroy(interpreter)
exec(USE)
"""
    ).assert_lived("sub-interpreters")


@needs_them
def test_types_are_each_interpreters_own():
    run_child(
        INTERPRETERS
        + """
import iovabitmap as ib
interpreter = make()
read, write = os.pipe()
run(interpreter, f"import iovabitmap as ib, os; os.write({write}, str(id(ib.IOVABitmap)).encode())")
assert int(os.read(read, 100)) != id(ib.IOVABitmap)
_interpreters.destroy(interpreter)
assert ib.IOVABitmap(0, 1 << 20).count() == 0
"""
    ).assert_lived("types of sub-interpreters")


@needs_them
@pytest.mark.skipif(sys.platform == "win32", reason="interpreters share a descriptor to map: POSIX")
def test_at_the_same_time_over_the_same_memory():
    """Each in a thread of its own, from Python 3.12 on without a common lock: of those who mark a
    page one counts it."""
    run_child(
        INTERPRETERS
        + """
import mmap, tempfile
import iovabitmap as ib

NBITS, N = 8 * 8192 + 5, 3
PINS = ["none"]
for name in ("populate", "mlock"):
    try:
        ib.IOVABitmap(0, 1 << 20, pin=name).set(0, 1)
        PINS.append(name)
    except (OSError, NotImplementedError):
        pass  # not on this system
WORK = '''
import mmap, os, random
import iovabitmap as ib
bm = ib.alloc(0, {nbits}, 1, mmap.mmap({file}, {nbytes}), pin={pin!r}, window_pages=1)
rng = random.Random({number})
newly = sum(bm.test_and_set(rng.randrange({nbits}), 1) for _ in range(40_000))
bm.validate()
bm.free()
assert bm.stats.pins == bm.stats.unpins
os.write({write}, f"{{newly}}\\\\n".encode())
'''
nbytes = ib.nbytes_for(NBITS, 1)
with tempfile.TemporaryFile() as file:
    file.truncate(nbytes)
    for pin in PINS:
        read, write = os.pipe()
        bm = ib.alloc(0, NBITS, 1, mmap.mmap(file.fileno(), nbytes))
        interpreters = [make() for _ in range(N)]
        failed = []

        def work(number):
            values = dict(nbits=NBITS, nbytes=nbytes, file=file.fileno(), pin=pin, number=number)
            try:
                run(interpreters[number], WORK.format(write=write, **values))
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(N)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        os.close(write)
        with open(read) as counts:
            newly = [int(line) for line in counts]
        assert len(newly) == N and sum(newly) == bm.count() > NBITS // 4, (newly, bm.count())
        bm.reset()
        for interpreter in interpreters:
            _interpreters.destroy(interpreter)
"""
    ).assert_lived("sub-interpreters at the same time")
