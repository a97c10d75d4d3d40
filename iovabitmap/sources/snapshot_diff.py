"""SnapshotDiff: which pages differ from a copy, for memory that can only be read."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import numpy as np

from .. import _core
from ._layout import LayoutRow
from ._source import BaseSource
from .probe import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from typing_extensions import Buffer

_STEP = 4 << 20  # bytes read at once, a multiple of every sensible page size


class SnapshotDiff(BaseSource):
    """Compares memory with a shadow copy, page by page: for memory that can only be read.

    It needs nothing of the system and works everywhere, with a buffer or with a file, such as a
    guest's memory in a file or /proc/PID/mem.

    **It misses rewrites of equal content**: a page that was written, and holds what it held at the
    last look, is not told. So what it tells is what a copy must take over, and not the rate of
    writes.

    Parameters
    ----------
    memory : buffer, path, or file descriptor
        What is compared. A buffer is held; a file is opened at once and read by pread(2), so that
        one which is truncated later gives an error and no signal.
    iova : int
        Where byte 0 of the memory is; iova + length may be 2**64.
    page_size : int
        Bytes that are compared as one, a power of two: the granularity.
    offset, length : int
        The part of a file; by default all of it, as it is now. For a buffer all of it.

    Notes
    -----
    It takes as much memory again as it watches, and each `collect` reads all of both. `start` reads
    the memory once. Memory that others write while it is compared is seen now or at the
    next collect.

    Raises
    ------
    ValueError
        The memory is empty, page_size is no power of two, or iova + length is beyond 2**64.
    TypeError, BufferError
        Not a buffer, path or descriptor, or not contiguous.
    OSError
        The file cannot be opened.

    Examples
    --------
    >>> import iovabitmap as ib
    >>> from iovabitmap.sources import SnapshotDiff
    >>> memory = bytearray(1 << 20)
    >>> bm = ib.IOVABitmap(0, len(memory))
    >>> with SnapshotDiff(memory) as source:
    ...     memory[0x5000] = 1
    ...     source.collect(bm)
    1
    """

    def __init__(
        self,
        memory: Buffer | str | os.PathLike[str] | int,
        *,
        iova: int = 0,
        page_size: int = mmap.PAGESIZE,
        offset: int = 0,
        length: int | None = None,
    ) -> None:
        if page_size <= 0 or page_size & (page_size - 1):
            raise ValueError(f"page_size must be a power of two, not {page_size}")
        if isinstance(memory, str | os.PathLike | int):
            self._memory: _FileMemory | _BufferMemory = _FileMemory(memory, offset, length)
        elif offset or length is not None:
            raise ValueError("offset and length are for files: slice the buffer")
        else:
            self._memory = _BufferMemory(memory)
        if offset < 0:
            raise ValueError(f"offset must be 0 or more, not {offset}")
        if self._memory.length <= 0:
            raise ValueError("the memory is empty")
        super().__init__(iova, self._memory.length, page_size)
        self._shadow: npt.NDArray[np.uint8] | None = None
        self._changed = np.empty(max(1, _STEP // page_size), np.uint8)

    @classmethod
    def probe(cls) -> Probe:
        """Whether this machine can: yes."""
        return Probe(True, "")

    def _start(self) -> None:
        shadow = np.empty(self.length, np.uint8)
        for at, part in self._memory.parts(_step(self.granularity)):
            shadow[at : at + len(part)] = part
        self._shadow = shadow

    def _stop(self, owner: bool) -> None:
        del owner
        self._shadow = None

    def _find(self, pending: _core.IOVABitmap) -> None:
        assert self._shadow is not None
        page_size = self.granularity
        for at, part in self._memory.parts(_step(page_size)):
            shadow = self._shadow[at : at + len(part)]
            if _core._changed_pages(part.data, shadow.data, page_size, self._changed.data):
                npages = -(-len(part) // page_size)
                pages = np.flatnonzero(self._changed[:npages]).astype(np.uint64)
                first = self.iova + at
                pending.set_pages(np.uint64(first) + pages * np.uint64(page_size))

    def layout(self) -> list[LayoutRow]:
        """Which memory the IOVA space stands for: one row. For a file the address is the offset."""
        return [
            LayoutRow(self.iova, self.length, self._memory.address, os.getpid(), self._memory.name)
        ]


def _step(page_size: int) -> int:
    return max(_STEP, page_size)


class _BufferMemory:
    """A buffer of this process."""

    name = "buffer"

    def __init__(self, buffer: Buffer) -> None:
        self.address, self.length = _core._WriteTracker._locate(buffer)
        self._view = memoryview(buffer).cast("B") if self.length else memoryview(b"")

    def parts(self, step: int) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        whole = np.frombuffer(self._view, np.uint8)
        for at in range(0, self.length, step):
            yield at, whole[at : at + step]


class _FileMemory:
    """A part of a file, read and never mapped."""

    def __init__(self, file: str | os.PathLike[str] | int, offset: int, length: int | None) -> None:
        self.name = f"descriptor {file}" if isinstance(file, int) else os.fsdecode(file)
        self._fd = os.dup(file) if isinstance(file, int) else os.open(file, os.O_RDONLY)
        self.address = offset
        self.length = os.fstat(self._fd).st_size - offset if length is None else length

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    def parts(self, step: int) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        content = np.empty(min(step, self.length), np.uint8)
        for at in range(0, self.length, step):
            part = content[: min(step, self.length - at)]
            self._read(part, self.address + at)
            yield at, part

    def _read(self, part: npt.NDArray[np.uint8], offset: int) -> None:
        view = part.data
        while view:
            got = os.preadv(self._fd, [view], offset)
            if got == 0:
                raise OSError(
                    f"{self.name} ends at byte {offset}, and should have "
                    f"{self.address + self.length} bytes"
                )
            view, offset = view[got:], offset + got
