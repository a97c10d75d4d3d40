"""How much of whose memory was dirty."""

from __future__ import annotations

import numpy as np

from . import rows
from .readable import Readable
from .regions import Dirtied


def by_memory(tl: Readable, ever: rows.Addresses | None) -> list[Dirtied]:
    """The memory that the layout names and that was ever dirty, in descending order of dirty pages.

    Empty without a layout. Addresses that had two names count for both.
    """
    if not tl.layout:
        return []
    union = rows.of(tl.union_ranges() if ever is None else ever)
    sums: dict[tuple[int, str], tuple[int, int]] = {}
    for iova, length, _, pid, name in tl.layout:
        nbytes, count = sums.get((pid, name), (0, 0))
        area = rows.of(np.array([(iova, length)] if length else [], np.uint64).reshape(-1, 2))
        dirty = rows.count(rows.cut(union, area), tl.page_size, tl.iova)
        sums[pid, name] = nbytes + length, count + dirty
    found = [Dirtied(pid, name, *numbers) for (pid, name), numbers in sums.items() if numbers[1]]
    return sorted(found, key=lambda each: (-each.count, each.pid, each.name))
