"""Exporters of buffers whose fields are what a test says: left out, or wrong.

A type with the C slot `bf_getbuffer`, made through ctypes, since `__buffer__` in Python came with
3.12 and hands out memoryviews, which are whole.
"""

from __future__ import annotations

import ctypes
from typing import Any

Sizes = ctypes.POINTER(ctypes.c_ssize_t)


class Fields(ctypes.Structure):
    """Py_buffer."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", Sizes),
        ("strides", Sizes),
        ("suboffsets", Sizes),
        ("internal", ctypes.c_void_p),
    ]


class _Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]


class _Spec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    ]


BF_GETBUFFER = 1
DEFAULT, BASETYPE = 1 << 18, 1 << 10


@ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(Fields), ctypes.c_int)
def _getbuffer(exporter: Any, view: Any, flags: int) -> int:
    del flags  # it exports what it has, whatever was asked for
    for name, value in exporter.fields.items():
        setattr(view.contents, name, value)
    view.contents.obj = id(exporter)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(exporter))
    return 0


_slots = (_Slot * 2)(_Slot(BF_GETBUFFER, ctypes.cast(_getbuffer, ctypes.c_void_p)), _Slot(0, None))
_spec = _Spec(b"exporters._Exporter", 0, 0, DEFAULT | BASETYPE, _slots)
_from_spec = ctypes.pythonapi.PyType_FromSpec
_from_spec.argtypes, _from_spec.restype = [ctypes.POINTER(_Spec)], ctypes.py_object
_Exporter: Any = _from_spec(ctypes.byref(_spec))


def sizes(numbers: list[int] | None) -> Any:
    return None if numbers is None else (ctypes.c_ssize_t * max(1, len(numbers)))(*numbers)


class Exporter(_Exporter):  # type: ignore[misc]
    """Exports `memory`, bytes, as one-dimensional bytes; keywords change fields of that."""

    def __init__(self, memory: bytes | bytearray = b"", **fields: Any) -> None:
        self.memory = (ctypes.c_char * (len(memory) + 8)).from_buffer_copy(memory + bytes(8))
        self.lists = {
            name: sizes(fields.pop(name, None)) for name in ("shape", "strides", "suboffsets")
        }
        self.fields: dict[str, Any] = {
            "buf": ctypes.addressof(self.memory),
            "len": len(memory),
            "itemsize": 1,
            "readonly": 0,
            "ndim": 1,
            "format": b"B",
            "internal": None,
        }
        self.fields |= self.lists | fields
