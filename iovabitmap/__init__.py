"""Dirty-page bitmaps: one bit for each I/O page that a device or program has written.

The engine is written in C and works in place on the caller's memory; see `IOVABitmap`.
"""

from ._core import Diff, IOVABitmap, IOVARangeError, PinError, Stats, Window, alloc, nbytes_for

__all__ = [
    "Diff",
    "IOVABitmap",
    "IOVARangeError",
    "PinError",
    "Stats",
    "Window",
    "alloc",
    "nbytes_for",
]
