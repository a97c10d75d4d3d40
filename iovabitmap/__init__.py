"""Dirty-page bitmaps: one bit for each I/O page that a device or program has written.

The engine is written in C and works in place on the caller's memory; see `IOVABitmap`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._base.geometry import Geometry
    from ._core import Diff, IOVABitmap, IOVARangeError, PinError, Stats, Window, alloc, nbytes_for
    from .logs import DirtyLog, LogError
    from .timeline import Timeline

__all__ = [
    "Diff",
    "DirtyLog",
    "Geometry",
    "IOVABitmap",
    "IOVARangeError",
    "LogError",
    "PinError",
    "Stats",
    "Timeline",
    "Window",
    "alloc",
    "get_include",
    "nbytes_for",
]

__version__ = "0.9.0"

# All is loaded when it is first asked for, even the extension module: pytest imports this package
# for its plugin in every run. Names that are not of the engine, and their modules.
_MODULES = {
    "DirtyLog": "logs",
    "Geometry": "_base.geometry",
    "LogError": "logs",
    "Timeline": "timeline",
}


def get_include() -> str:
    """Folder of the C headers, for a compiler's -I: `iovabitmap_api.h` says how they are used.

    Examples
    --------
    >>> import os
    >>> sorted(os.listdir(get_include()))
    ['iova_bitmap.h', 'iovabitmap_api.h']
    """
    from pathlib import Path

    return str(Path(__file__).parent / "include")


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext iovabitmap` calls: afterwards IPython has the cell magic `%%dirty`."""
    from .jupyter import load_ipython_extension

    load_ipython_extension(shell)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "_core":  # PyCapsule_Import() imports this package alone, then asks for the rest
        return import_module("._core", __name__)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_MODULES.get(name, '_core')}", __name__), name)
    globals()[name] = found  # the next time it is an attribute like any other
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
