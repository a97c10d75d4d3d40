"""The memory behind the addresses: how much, whose, and how much of it was dirty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import rows

if TYPE_CHECKING:
    from .timeline import Timeline


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


def by_memory(tl: Timeline) -> list[Dirtied]:
    """The memory that the layout names and that was ever dirty, in descending order of dirty pages.

    Empty without a layout. Addresses that had two names count for both.
    """
    if not tl.layout:
        return []
    union = rows.of(tl.union_ranges())
    sums: dict[tuple[int, str], tuple[int, int]] = {}
    for iova, length, _, pid, name in tl.layout:
        nbytes, count = sums.get((pid, name), (0, 0))
        area = rows.of(np.array([(iova, length)], np.uint64))
        dirty = rows.count(rows.cut(union, area), tl.page_size, tl.iova)
        sums[pid, name] = nbytes + length, count + dirty
    found = [Dirtied(pid, name, *numbers) for (pid, name), numbers in sums.items() if numbers[1]]
    return sorted(found, key=lambda each: (-each.count, each.pid, each.name))
