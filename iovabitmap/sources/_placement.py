"""Where mappings of processes lie in one IOVA space."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..timeline import Memory

if TYPE_CHECKING:
    from .maps import Mapping

_CHUNK = 2 << 20


class Piece(NamedTuple):
    """Host addresses [start, end) that lie in one piece from `iova` on."""

    start: int
    end: int
    iova: int


class NoRoomError(Exception):
    """The IOVA space is full."""


class Placement(Protocol):
    """Decides which mappings are tracked, and where they lie in [iova, iova + length)."""

    iova: int
    length: int

    def wants(self, mapping: Mapping) -> bool:
        """Whether it is tracked."""

    def place(self, space: int, mapping: Mapping) -> list[Piece]:
        """Where a mapping of the address space `space` lies: the same for the same addresses.

        Raises NoRoomError.
        """

    def memory(self, found: Memory) -> Memory:
        """How much memory there is, where so much is mapped and resident."""


class Packed:
    """All private writable mappings, side by side, in the order in which they are first seen.

    Memory is placed by 2 MiB of addresses, once and for all: memory that comes back at the same
    addresses of the same process lies where it was. A mapping may lie in several pieces.
    """

    def __init__(self, iova: int, length: int, *, shared: bool = False) -> None:
        if iova % mmap.PAGESIZE:
            raise ValueError(f"iova {iova:#x} is not a multiple of {mmap.PAGESIZE:#x}, a page")
        if length < _CHUNK:
            raise ValueError(f"length must be at least {_CHUNK:#x}, not {length:#x}")
        self.iova = iova
        self.length = length
        self._shared = shared
        self._chunks: dict[tuple[int, int], int] = {}

    def wants(self, mapping: Mapping) -> bool:
        return mapping.writable and (self._shared or not mapping.shared)

    def place(self, space: int, mapping: Mapping) -> list[Piece]:
        if mapping.end - mapping.start > self.length:  # a sanitizer maps terabytes
            raise NoRoomError
        first, last = mapping.start // _CHUNK, (mapping.end - 1) // _CHUNK
        wanted = [(space, chunk) for chunk in range(first, last + 1)]
        new = [key for key in wanted if key not in self._chunks]
        if (len(self._chunks) + len(new)) * _CHUNK > self.length:
            raise NoRoomError
        for key in new:
            self._chunks[key] = self.iova + len(self._chunks) * _CHUNK
        pieces: list[Piece] = []
        for key in wanted:
            start = max(mapping.start, key[1] * _CHUNK)
            end = min(mapping.end, (key[1] + 1) * _CHUNK)
            iova = self._chunks[key] + start % _CHUNK
            if pieces and pieces[-1].iova + (pieces[-1].end - pieces[-1].start) == iova:
                pieces[-1] = pieces[-1]._replace(end=end)
            else:
                pieces.append(Piece(start, end, iova))
        return pieces

    def memory(self, found: Memory) -> Memory:
        return found


class GuestRam:
    """The memory of a guest of QEMU on x86, by guest-physical addresses.

    Parameters
    ----------
    nbytes : int
        Size of the guest's memory in bytes, as QEMU's `-m` says.
    path : str or path, optional
        The file behind it, for `memory-backend-file`; else it is the private anonymous mapping of
        just this size. A relative one is of the working directory of now.
    below_4g : int, optional
        How much of it lies below 4 GiB; the rest begins at 4 GiB. All of it where not given, which
        is right for guests of up to 2 GiB; QEMU's `info mtree` tells for larger ones.

    Examples
    --------
    >>> ram = GuestRam(6 << 30, below_4g=2 << 30)
    >>> hex(ram.length)
    '0x200000000'
    """

    _TOP_OF_LOW_MEMORY = 4 << 30

    def __init__(
        self,
        nbytes: int,
        *,
        path: str | os.PathLike[str] | None = None,
        below_4g: int | None = None,
    ) -> None:
        if nbytes <= 0 or nbytes % mmap.PAGESIZE:
            raise ValueError(f"nbytes must be whole pages of {mmap.PAGESIZE}, not {nbytes}")
        if path is not None and not os.fspath(path):
            raise ValueError("path is empty: it must name the file of the guest's memory")
        self._low = nbytes if below_4g is None else below_4g
        if not 0 < self._low <= min(nbytes, self._TOP_OF_LOW_MEMORY) or self._low % mmap.PAGESIZE:
            raise ValueError(
                f"below_4g must be whole pages, at most {nbytes} and 4 GiB, not {self._low}"
            )
        self.iova = 0
        self.length = nbytes if self._low == nbytes else 4 * (1 << 30) + nbytes - self._low
        self._nbytes = nbytes
        # /proc names files by their true paths; another would track nothing, in silence.
        self._path = None if path is None else os.path.realpath(path)

    def wants(self, mapping: Mapping) -> bool:
        if not mapping.writable or mapping.end - mapping.start != self._nbytes:
            return False
        if self._path is not None:
            return mapping.name.removesuffix(" (deleted)") == self._path
        return not mapping.shared and mapping.inode == 0

    def place(self, space: int, mapping: Mapping) -> list[Piece]:
        del space
        middle = mapping.start + self._low
        pieces = [Piece(mapping.start, middle, 0)]
        if middle < mapping.end:
            pieces.append(Piece(middle, mapping.end, self._TOP_OF_LOW_MEMORY))
        return pieces

    def memory(self, found: Memory) -> Memory:
        """All of the guest's, as a migration sends it. What is not in memory holds zeros, if it is
        in no file."""
        assert found.resident_bytes is not None
        zero = None if self._path else max(0, self._nbytes - found.resident_bytes)
        return Memory(self._nbytes, self._nbytes, zero)
