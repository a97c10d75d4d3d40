"""What a bitmap stands for, as a value of its own: base, length and page size."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Geometry(NamedTuple):
    """A range of IOVA and its page size, all in bytes: the first arguments of `IOVABitmap`.

    >>> Geometry(0x1000, 0x10000, 4096)
    Geometry(iova=0x1000, length=0x10000, page_size=4096)
    >>> Geometry(0x1000, 0x10000, 4096).npages
    16
    """

    iova: int
    length: int
    page_size: int

    @property
    def end(self) -> int:
        """First address behind the range; may be 2**64."""
        return self.iova + self.length

    @property
    def npages(self) -> int:
        """Pages in the range; the last may be a part of one."""
        return (self.length - 1) // self.page_size + 1

    @property
    def nbytes(self) -> int:
        """Bytes of bitmap that the range needs."""
        return (self.npages + 7) // 8

    def __repr__(self) -> str:
        return f"Geometry(iova={self.iova:#x}, length={self.length:#x}, page_size={self.page_size})"


class HasGeometry(Protocol):
    """A `Geometry`, or a bitmap, a log: what has its three numbers."""

    @property
    def iova(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def page_size(self) -> int: ...


def geometry_of(thing: HasGeometry) -> Geometry:
    """The three numbers of a bitmap, or a log, as a value."""
    return Geometry(thing.iova, thing.length, thing.page_size)
