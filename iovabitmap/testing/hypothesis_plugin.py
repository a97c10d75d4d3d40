"""Tells hypothesis, which calls this when it is imported, what to draw for types of this package.

Entry point "hypothesis" of the package, in every environment that has it. Nothing is loaded before
something is drawn, not even the extension module, which has the type of bitmaps: if that is not
there yet, `iovabitmap.__getattr__` calls `register_bitmaps` when it is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from .. import testing
from .._base.geometry import Geometry

if TYPE_CHECKING:
    from .._core import IOVABitmap


def register() -> None:
    """Makes `st.from_type(Geometry)` work, and `st.from_type(IOVABitmap)` if there is that type."""
    st.register_type_strategy(Geometry, _of_geometries)
    if "iovabitmap._core" in sys.modules:
        register_bitmaps()


def register_bitmaps() -> None:
    """Makes `st.from_type(IOVABitmap)` work."""
    st.register_type_strategy(sys.modules["iovabitmap._core"].IOVABitmap, _of_bitmaps)


def _of_geometries(_: type) -> st.SearchStrategy[Geometry]:
    return testing.strategies.geometries()


def _of_bitmaps(_: type) -> st.SearchStrategy[IOVABitmap]:
    return testing.strategies.bitmaps()
