"""Tells hypothesis, which calls this when it is imported, what to draw for types of this package.

Entry point "hypothesis" of the package: it runs in every project of an environment that has
iovabitmap, so it loads nothing of it, and what is wrong with the engine is no concern of theirs.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypothesis import strategies as st

    from ._core import IOVABitmap
    from ._geometry import Geometry

_PACKAGE, _ENGINE = __name__.partition(".")[0], "_core"


class _Awaiting(ModuleType):
    """The package until the engine is loaded, which is when the import system sets its attribute:
    hypothesis takes types, and not their names."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == _ENGINE:
            object.__setattr__(self, "__class__", ModuleType)
            _register_bitmap()


def register() -> None:
    """Makes `st.from_type(IOVABitmap)` and `st.from_type(Geometry)` work."""
    from hypothesis import strategies as st

    from ._geometry import Geometry

    st.register_type_strategy(Geometry, _of_geometries)
    if f"{_PACKAGE}.{_ENGINE}" in sys.modules:
        _register_bitmap()
    else:
        sys.modules[_PACKAGE].__class__ = _Awaiting


def _register_bitmap() -> None:
    from hypothesis import strategies as st

    from ._core import IOVABitmap

    st.register_type_strategy(IOVABitmap, _of_bitmaps)


def _of_bitmaps(_: type) -> st.SearchStrategy[IOVABitmap]:
    from .strategies import bitmaps

    return bitmaps()


def _of_geometries(_: type) -> st.SearchStrategy[Geometry]:
    from .strategies import geometries

    return geometries()
