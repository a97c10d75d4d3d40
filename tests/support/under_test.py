"""`ib`: the implementation under test, the engine or the model, by the names of the package.

A module of tests that says `from support.under_test import ib` runs once for each; one that says
`import iovabitmap as ib` is about the engine alone. A single test that only makes sense for the
engine is marked with one of `engine_only`, which is where the reasons are.

The model answers with lists, which the tests see as arrays: so one test reads both.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import iovabitmap
from iovabitmap.model import ModelBitmap, ModelDiff, nbytes_for

VARIABLE = "IOVABITMAP_UNDER_TEST"  # tells child processes
NAMES = ("engine", "model")

engine_only = SimpleNamespace(
    **{
        name: pytest.mark.engine_only(reason)
        for name, reason in {
            "arrays": "NumPy's arrays and when they are loaded: the model gives lists",
            "buffers": "details of Py_buffer: the model holds memory by a memoryview",
            "binding": "the extension module's stubs, and the engine's own memory",
            "pair": "compares the engine with the model",
            "size": "large bitmaps, for which the model is too slow",
            "threads": "the model is not for several threads",
        }.items()
    }
)


def as_rows(rows) -> np.ndarray:
    return np.array(rows, np.uint64).reshape(-1, 2)


class Diff(ModelDiff):
    """With arrays."""

    def _ranges(self, *args):
        return as_rows(super()._ranges(*args))


class IOVABitmap(ModelBitmap):
    """The model, with arrays where the engine has them, and named as the engine is."""

    def ranges(self, iova=None, length=None, *, dirty=True, out=None):
        found = super().ranges(iova, length, dirty=dirty, out=out)
        return as_rows(found) if out is None else found

    def iter_ranges(self, iova=None, length=None, *, dirty=True, batch=65536):
        return map(as_rows, super().iter_ranges(iova, length, dirty=dirty, batch=batch))

    def pages(self, iova=None, length=None):
        return np.array(super().pages(iova, length), np.uint64)

    def read_and_clear(self, iova=None, length=None, *, into=None, exclusive=False):
        try:
            found = super().read_and_clear(iova, length, into=into, exclusive=exclusive)
        except BaseException as error:
            if hasattr(error, "harvested"):
                error.harvested = as_rows(error.harvested)
            raise
        return None if found is None else as_rows(found)

    def histogram(self, bins):
        return np.array(super().histogram(bins), np.int64)

    def to_mask(self):
        return np.array(super().to_mask(), bool)

    def view(self, dtype="u1"):
        return np.frombuffer(super().view(dtype), dtype)

    def diff(self, old):
        return Diff(self, old)


def alloc(iova, length, page_size, data, *, window_pages=None, pin="none"):
    """As `iovabitmap.model.alloc`."""
    if data is None:
        raise TypeError("no buffer")
    return IOVABitmap(iova, length, page_size, data, window_pages=window_pages, pin=pin)


MODEL = SimpleNamespace(
    **{name: getattr(iovabitmap, name) for name in iovabitmap.__all__ if name[0].isupper()}
    | {"Diff": Diff, "IOVABitmap": IOVABitmap, "alloc": alloc, "nbytes_for": nbytes_for}
    | {"__doc__": __doc__}
)


class UnderTest:
    """Has the names of the implementation that was chosen last."""

    def choose(self, name: str) -> None:
        self.name = name
        self.implementation: Any = {"engine": iovabitmap, "model": MODEL}[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.implementation, name)


ib = UnderTest()
ib.choose(os.environ.get(VARIABLE, NAMES[0]))
