"""The list of questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import algebra, batches, harvest, marking, reading, systems
from .context import Context
from .timing import Case

QUESTIONS: dict[str, Callable[[Context], Iterator[Case]]] = {
    "set": marking.set_one,
    "set_ranges": batches.set_ranges,
    "set_pages": batches.set_pages,
    "clear_ranges": batches.clear_ranges,
    "set_full": marking.set_full,
    "count": reading.count,
    "ranges_out": reading.ranges_out,
    "ranges": reading.ranges,
    "pages": reading.pages,
    "histogram": reading.histogram,
    "to_mask": reading.to_mask,
    "read_and_clear": harvest.read_and_clear,
    "ior": algebra.ior_,
    "count_and": algebra.count_and,
    "diff": algebra.diff,
    "sparse": systems.sparse,
    "collect": systems.collect,
}
