"""The iovabitmap that is measured: this one, and those of other revisions beside it.

Several are in one process, so that they work on the same memory and take turns within microseconds.
Each has a package, an extension module and types of its own; only one has the name in sys.modules.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .patterns import BASE, PAGE, length_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

PACKAGE = "iovabitmap"


class AbsentError(Exception):
    """A library does not have what a row is about, and the text says what."""


@dataclass(frozen=True)
class Library:
    name: str  # of the revision; empty: the present one
    alloc: Any
    bitmap_type: Any
    tracker: Any
    kernels: tuple[str, tuple[str, ...]]
    file: str

    def bitmap(self, array: NDArray[Any], **options: Any) -> Any:
        """A bitmap over all of an array, from BASE on."""
        return self.alloc(BASE, length_of(array.nbytes), PAGE, array, **options)

    def needs(self, method: str, *keywords: str) -> None:
        """Raises AbsentError if bitmaps have no such method, or it has no such keyword."""
        found = getattr(self.bitmap_type, method, None)
        if found is None:
            raise AbsentError(f"there is no {method}()")
        try:
            known = set(inspect.signature(found).parameters)
        except ValueError:  # it has no text of its signature
            known = set()
        missing = [keyword for keyword in keywords if keyword not in known]
        if missing:
            raise AbsentError(f"{method}() has no {', '.join(missing)}")


def _of(package: Any, name: str) -> Library:
    core = importlib.import_module(f"{PACKAGE}._core")
    sources = importlib.import_module(f"{PACKAGE}.sources")
    return Library(
        name,
        package.alloc,
        package.IOVABitmap,
        sources.WriteTracker,
        core._kernels(),
        core.__file__ or "",
    )


def present() -> Library:
    """The one that `import iovabitmap` finds."""
    return _of(importlib.import_module(PACKAGE), "")


def load(folder: Path, name: str) -> Library:
    """The package in `folder`, which holds iovabitmap/ with its extension module built."""
    with _nameless():
        at = folder / PACKAGE
        spec = importlib.util.spec_from_file_location(
            PACKAGE, at / "__init__.py", submodule_search_locations=[str(at)]
        )
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = package
        spec.loader.exec_module(package)
        return _of(package, name)


@contextmanager
def _nameless() -> Iterator[None]:
    """Without any iovabitmap in sys.modules; afterwards with those that were there before."""

    def take() -> dict[str, Any]:
        ours = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
        return {name: sys.modules.pop(name) for name in ours}

    before = take()
    try:
        yield
    finally:
        take()
        sys.modules.update(before)
