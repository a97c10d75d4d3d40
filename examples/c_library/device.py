"""An example: a device model in C marks a bitmap that Python owns, and takes what is dirty; ctypes
brings them together.

`python device.py device.so` runs it; device.c says how the library is built.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

import iovabitmap as ib
from iovabitmap import _core

CAPSULE = b"iovabitmap._core._C_API"
VERSION = 1


class Held(ctypes.Structure):
    """struct iovabitmap_held."""

    _fields_ = [("bitmap", ctypes.c_void_p), ("memory", ctypes.c_void_p)]


class Api(ctypes.Structure):
    """The head of struct iovabitmap_api: what Python itself calls. PYFUNCTYPE keeps the GIL."""

    _fields_ = [
        ("version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("acquire", ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(Held))),
        ("release", ctypes.PYFUNCTYPE(None, ctypes.POINTER(Held))),
    ]


def table() -> Api:
    """The library's table, checked."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    api = Api.from_address(pointer(_core._C_API, CAPSULE))
    if api.version != VERSION:
        raise ImportError(f"iovabitmap's C interface is version {api.version}, not {VERSION}")
    return api


@contextlib.contextmanager
def held_by_c(bm: ib.IOVABitmap) -> Iterator[tuple[Api, int]]:
    """The table and the engine's bitmap: what each function of the device begins with."""
    api, held = table(), Held()
    api.acquire(bm, held)
    try:
        yield api, held.bitmap
    finally:
        api.release(held)


def receive(path: str, bm: ib.IOVABitmap, *ring: int) -> int:
    """Calls device_receive() of the library at `path`, without the GIL: 0 or a negative errno."""
    device_receive = ctypes.CDLL(path).device_receive
    device_receive.argtypes = [ctypes.POINTER(Api), ctypes.c_void_p, *[ctypes.c_uint64] * 5]
    with held_by_c(bm) as held:
        return device_receive(*held, *ring)


def send_dirty(path: str, bm: ib.IOVABitmap) -> tuple[int, int]:
    """Calls device_send_dirty(): 0 or a negative errno, and the bytes that were sent."""
    device_send_dirty = ctypes.CDLL(path).device_send_dirty
    sent = ctypes.c_uint64()
    device_send_dirty.argtypes = [ctypes.POINTER(Api), ctypes.c_void_p, ctypes.c_void_p]
    with held_by_c(bm) as held:
        return device_send_dirty(*held, ctypes.addressof(sent)), sent.value


if __name__ == "__main__":
    bm = ib.IOVABitmap(0x10000, 1 << 20, 4096)
    status = receive(sys.argv[1], bm, 0x10000, 4, 0x2000, 1500, 1000)
    print(status, bm.to_text())
    print(*send_dirty(sys.argv[1], bm), bm.any())
