"""Tells hypothesis, which calls this when it is imported, what to draw for types of this package.

Entry point "hypothesis" of the package: it runs in every project of an environment that has
iovabitmap, so it does not load the engine, and what is wrong with the engine is no concern of
theirs.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from .. import testing
from .._base.geometry import Geometry

if TYPE_CHECKING:
    from .._core import IOVABitmap

_PACKAGE, _ENGINE = __name__.partition(".")[0], "_core"


class _Awaiting(ModuleType):
    """The package until the engine is loaded, which is when the import system sets its attribute:
    hypothesis takes types, and not their names."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == _ENGINE:
            object.__setattr__(self, "__class__", ModuleType)
            _register_bitmaps(value)


def register() -> None:
    """Makes `st.from_type(IOVABitmap)` and `st.from_type(Geometry)` work."""
    st.register_type_strategy(Geometry, _of_geometries)
    engine = sys.modules.get(f"{_PACKAGE}.{_ENGINE}")
    if engine is not None:
        _register_bitmaps(engine)
    else:
        sys.modules[_PACKAGE].__class__ = _Awaiting


def _register_bitmaps(engine: object) -> None:
    st.register_type_strategy(engine.IOVABitmap, _of_bitmaps)  # type: ignore[attr-defined]


def _of_bitmaps(_: type) -> st.SearchStrategy[IOVABitmap]:
    return testing.strategies.bitmaps()


def _of_geometries(_: type) -> st.SearchStrategy[Geometry]:
    return testing.strategies.geometries()
