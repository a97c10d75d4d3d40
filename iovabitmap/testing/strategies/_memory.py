"""`buffers` and `bitmaps`: memory of every kind at every offset, and bitmaps with content."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from ..._base.geometry import Geometry
from ..._core import IOVABitmap
from ._arguments import GeometryLike, bounds, drawn, geometry_of, integer
from ._geometries import geometries
from ._patterns import dirty_patterns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

HOST_PAGE = mmap.PAGESIZE
MAX_NBYTES = 2 * HOST_PAGE
MOST_NBYTES = 2**40
SHARED = Path("/dev/shm")

Rows: TypeAlias = "Iterable[Iterable[int]] | npt.NDArray[np.uint64]"
Patterns: TypeAlias = st.SearchStrategy[Any] | Callable[[Geometry], st.SearchStrategy[Any]]


def _numpy(nbytes: int) -> Any:
    import numpy as np

    return np.zeros(nbytes, np.uint8)


def _private(nbytes: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, nbytes)
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _shared(nbytes: int) -> mmap.mmap:
    """What shared memory of a name is on Linux, without the name that would outlive it."""
    with tempfile.TemporaryFile(dir=SHARED) as file:
        file.truncate(nbytes)
        return mmap.mmap(file.fileno(), nbytes)


def _memfd(nbytes: int) -> mmap.mmap:
    if sys.platform != "linux":  # pragma: no cover - not among the kinds there
        raise NotImplementedError("memfd needs Linux")
    fd = os.memfd_create("iovabitmap")
    try:
        os.ftruncate(fd, nbytes)
        return mmap.mmap(fd, nbytes)
    finally:
        os.close(fd)


def kinds() -> dict[str, Callable[[int], Any]]:
    """What makes zeroed memory of each kind that there is here, the simplest first."""
    found: dict[str, Callable[[int], Any]] = {
        "bytearray": bytearray,
        "numpy": _numpy,
        "mmap": _private,
    }
    if SHARED.is_dir() and os.access(SHARED, os.W_OK):
        found["shared memory"] = _shared
    if hasattr(os, "memfd_create"):
        found["memfd"] = _memfd
    return found


@st.composite
def buffers(
    draw: st.DrawFn,
    nbytes: SupportsIndex | st.SearchStrategy[int] | None = None,
    *,
    min_offset: SupportsIndex = 0,
    max_offset: SupportsIndex = HOST_PAGE - 1,
) -> Any:
    """Zeroed, writable memory of exactly `nbytes` bytes, a number or a strategy of them.

    Its first byte lies `min_offset` to `max_offset` bytes behind the start of a page of the host's
    memory, at odd offsets too. It is part of a bytearray, a NumPy array, an anonymous private
    mapping, shared memory or a memfd, whichever there are; what is drawn is a NumPy array or a
    memoryview, whose `obj` says of what. All is gone when it is.

    Shrinks to one byte of a bytearray, at the lowest offset.

    >>> len(buffers(13).example())
    13
    """
    low, high = bounds("offset", min_offset, max_offset, 0, HOST_PAGE - 1)
    if nbytes is None:
        nbytes = st.integers(1, 16) | st.integers(1, MAX_NBYTES)
    size = integer("nbytes", drawn(draw, nbytes), 0, MOST_NBYTES)
    makers = kinds()
    kind = draw(st.sampled_from(list(makers)))
    offset = draw(st.just(low) | st.integers(low, high))
    raw = makers[kind](size + 2 * HOST_PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(raw))
    start = (offset - address) % HOST_PAGE
    whole = raw if kind == "numpy" else memoryview(raw)
    return whole[start : start + size]


@st.composite
def bitmaps(
    draw: st.DrawFn,
    geometry: GeometryLike | None = None,
    *,
    patterns: Patterns | None = None,
) -> IOVABitmap:
    """Bitmaps of `geometry`, by default of any that `geometries()` draws, in memory of their own.

    `patterns` says what is dirty: a strategy of rows (iova, length), or a function that makes one
    for a geometry, such as `range_lists`; by default `dirty_patterns`. What is outside is left out.

    Shrinks as geometries and patterns do: to one clean page. The repr of a small one can be pasted.

    >>> from hypothesis import find
    >>> find(bitmaps(), lambda bm: bm.count() == 2)
    IOVABitmap.from_text("0-1", 0x0, 0x2000, 4096)
    """
    where = geometry_of(draw, geometries() if geometry is None else geometry)
    rows = dirty_patterns if patterns is None else patterns
    strategy = rows if isinstance(rows, st.SearchStrategy) else None
    if strategy is None:
        strategy = rows(where) if callable(rows) else None
    if not isinstance(strategy, st.SearchStrategy):
        raise InvalidArgument(f"patterns must be a strategy or make one, not {patterns!r}")
    bm = IOVABitmap(*where)
    bm.set_ranges(draw(strategy), clip=True)
    return bm
