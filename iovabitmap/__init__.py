"""Dirty-page bitmaps: one bit for each I/O page that a device or program has written.

The engine is written in C and works in place on the caller's memory; see `IOVABitmap`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._base.lazy import loader

if TYPE_CHECKING:
    from ._base.geometry import Geometry
    from ._core import Diff, IOVABitmap, IOVARangeError, PinError, Stats, Window, alloc, nbytes_for
    from .jupyter import load_ipython_extension as load_ipython_extension
    from .logs import DirtyLog, LogError, LogWriter
    from .recording import record
    from .timeline import Timeline

__all__ = [
    "Diff",
    "DirtyLog",
    "Geometry",
    "IOVABitmap",
    "IOVARangeError",
    "LogError",
    "LogWriter",
    "PinError",
    "Stats",
    "Timeline",
    "Window",
    "alloc",
    "get_include",
    "nbytes_for",
    "record",
]

__version__ = "0.9.0"


def get_include() -> str:
    """Folder of the C headers, for a compiler's -I: `iovabitmap_api.h` says how they are used.

    Examples
    --------
    >>> import os
    >>> sorted(os.listdir(get_include()))
    ['iova_bitmap.h', 'iovabitmap_api.h']
    """
    return str(Path(__file__).parent / "include")


# All is loaded when it is first asked for, even the extension module: pytest imports this package
# for its plugin in every run.
_load = loader(
    globals(),
    dict.fromkeys(__all__, "_core")
    | dict.fromkeys(("DirtyLog", "LogError", "LogWriter"), "logs")
    | {"Geometry": "_base.geometry", "Timeline": "timeline", "record": "recording"}
    | {"load_ipython_extension": "jupyter"},  # which `%load_ext iovabitmap` calls
    modules=["_core"],  # PyCapsule_Import() imports this package alone, then asks for the rest
)


def __getattr__(name: str) -> Any:
    return _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
