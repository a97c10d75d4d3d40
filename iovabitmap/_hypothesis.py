"""Tells hypothesis, which calls this when it is imported, what to draw for types of this package.

Entry point "hypothesis" of the package. Nothing is loaded before something is drawn.
"""

from __future__ import annotations


def register() -> None:
    """Makes `st.from_type(IOVABitmap)` and `st.from_type(Geometry)` work."""
    from hypothesis import strategies as st

    from ._base.geometry import Geometry
    from ._core import IOVABitmap

    def of_bitmaps(_: type) -> st.SearchStrategy[IOVABitmap]:
        from .strategies import bitmaps

        return bitmaps()

    def of_geometries(_: type) -> st.SearchStrategy[Geometry]:
        from .strategies import geometries

        return geometries()

    st.register_type_strategy(IOVABitmap, of_bitmaps)
    st.register_type_strategy(Geometry, of_geometries)
