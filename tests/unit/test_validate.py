"""validate(): silent in every state that operations leave, and where it must not be, not."""

from __future__ import annotations

import contextlib
import sys

import pytest

from support.children import run_child
from support.expected import TOP
from support.memory import HOST_PAGE
from support.pins import FaultyPin, RecordingPin, require, small_bitmap
from support.under_test import engine_only, ib

GEOMETRIES = [
    (0, 1, 1),
    (0x1800, 4096 * 100 - 100, 4096),
    (TOP - 8 * HOST_PAGE * 5, 8 * HOST_PAGE * 5, 1),
    (1, TOP - 1, 2**46),
    (0, TOP - 1, 2**63),
]


@pytest.mark.parametrize("backend", ["none", "populate", "mlock", "object"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_sound_in_every_state(geometry, backend):
    if backend != "object":
        require(backend)
    pin = RecordingPin() if backend == "object" else backend
    bm = ib.IOVABitmap(*geometry, pin=pin, window_pages=1)
    assert bm.validate() is None
    for iova in (bm.iova, bm.end - 1, bm.iova + bm.length // 2):
        bm.set(iova, 1)
        assert bm.window is not None and bm.validate() is None
        bm.clear(iova, 1)
        bm.validate()
    for call in (bm.count, bm.ranges, bm.reset, bm.copy, bm.to_text, bm.read_and_clear):
        call()
        bm.validate()
    seen = []
    assert bm.for_each(lambda bm, *_: seen.append(bm.validate()), by_window=True) == 0
    assert seen == [None] * len(list(bm.windows()))


def test_after_free():
    bm = small_bitmap()
    bm.free()
    with pytest.raises(ValueError, match="freed"):
        bm.validate()


def test_after_and_within_pins_that_fail():
    class Validating(FaultyPin):
        def deliver(self, address, npages):
            self.bm.validate()
            return super().deliver(address, npages)

        def unpin(self, address, npages):
            super().unpin(address, npages)
            if not self.bm.freed:
                self.bm.validate()

    pin = Validating()
    pin.bm = bm = ib.IOVABitmap(0, 3 * HOST_PAGE * 8, 1, pin=pin, window_pages=1)
    for outcomes in ([], [-5], [None, -5], [-12], [1, 1, -5]):
        pin.load(outcomes)
        for call in (
            lambda: bm.set(100, bm.length - 200),
            bm.count,
            lambda: bm.for_each(lambda *_: None, by_window=True),
            bm.read_and_clear,
        ):
            with contextlib.suppress(ib.PinError):
                call()
            bm.validate()
    bm.free()
    pin.assert_balanced()
    assert not pin.errors


@engine_only.binding
@pytest.mark.skipif(sys.platform == "win32", reason="reads foreign addresses by a POSIX libc")
def test_it_can_fail():
    """In a child: writes into the engine's own memory, which is found by how it must begin."""
    run_child(
        """
        import ctypes, os, struct
        import iovabitmap as ib

        base = 0x5EED_0000_1234_5000
        bm = ib.IOVABitmap(base, 1 << 30)
        bm.set(base + 4096, 1)
        bm.validate()
        start = struct.pack("=QQQ", base, 1 << 30, base + (1 << 30) - 1)
        pipe, libc = os.pipe(), ctypes.CDLL(None)

        def content(address):
            # Read by the kernel, which refuses where a look of our own would kill.
            written = libc.write(pipe[1], ctypes.c_void_p(address), len(start))
            return os.read(pipe[0], written) if written > 0 else None

        npointers = type(bm).__basicsize__ // ctypes.sizeof(ctypes.c_void_p)
        fields = (ctypes.c_void_p * npointers).from_address(id(bm))
        (engine,) = {field for field in fields if field and content(field) == start}
        for offset, name in ((0, "geometry"), (16, "geometry: last")):
            byte = ctypes.c_ubyte.from_address(engine + offset)
            byte.value ^= 1
            try:
                bm.validate()
            except AssertionError as error:
                assert name in str(error), error
            else:
                raise SystemExit("nothing was seen")
            byte.value ^= 1
        bm.validate()
        """
    ).assert_lived("a broken bitmap")
