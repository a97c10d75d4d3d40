"""The memory behind the addresses: how much there is, whose, and how much of it was dirty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .._base.intervals import size, union


class Memory(NamedTuple):
    """How much memory there was, in bytes; None if that is unknown.

    Attributes
    ----------
    mapped_bytes : int or None
        Of address space that was mapped.
    resident_bytes : int or None
        Of it, what was in memory: what a migration would send.
    zero_bytes : int or None
        Of that, pages that held zeros only.
    """

    mapped_bytes: int | None = None
    resident_bytes: int | None = None
    zero_bytes: int | None = None


class Region(NamedTuple):
    """A piece of a Timeline's addresses, and whose it is.

    Attributes
    ----------
    iova, length : int
        Where it is in the Timeline, in bytes.
    address : int
        Where it is in the process.
    pid : int
    name : str
        As in /proc/PID/maps.
    """

    iova: int
    length: int
    address: int
    pid: int
    name: str


@dataclass(frozen=True)
class Dirtied:
    """Memory of one name of one process: its bytes, and its pages that were ever dirty."""

    pid: int
    name: str
    nbytes: int
    count: int


def mapped(layout: Sequence[Region]) -> Memory | None:
    """How much address space a layout names, each address once; None if it is empty."""
    spans = union((row.iova, row.iova + row.length) for row in layout)
    return Memory(mapped_bytes=size(spans)) if spans else None
