"""read_and_clear: while others mark, and with `exclusive=True`, when nobody does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import limits, peers
from .patterns import Pattern, fill, size_name, words
from .timing import Bar, Candidate, Case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .context import Context
    from .library import Library

EXCLUSIVE = tuple(Pattern(density) for density in (0.001, 0.01, 0.05, 0.5))
RANGES = "iovabitmap ranges"


def read_and_clear(context: Context) -> Iterator[Case]:
    """The harvest. The bitmap is written again before each, outside of the time."""
    for nbytes in context.sizes:
        for pattern in context.patterns(nbytes):
            if context.rows_fit(nbytes, pattern):
                yield _shared(context, nbytes, pattern)
    for pattern in EXCLUSIVE:
        yield _exclusive(context, pattern)


def _shared(context: Context, nbytes: int, pattern: Pattern) -> Case:
    array = words(pattern, nbytes)
    restore = partial(fill, array, pattern)

    def ours(library: Library) -> Any:
        return library.bitmap(array).read_and_clear

    def only_ranges(library: Library) -> Any:
        return library.bitmap(array).ranges

    candidates = [
        *context.ours(ours, restore, np.copy),
        *context.ours(only_ranges, restore, np.copy, RANGES)[:1],
        *context.native.c("exchange", "exchange", array, array.size, before=restore),
    ]
    if nbytes == context.middle and peers.bitarray is not None and pattern.density <= 0.01:
        bits = peers.as_bitarray(array)

        def harvest() -> Any:
            found = peers.bitarray_ranges_edges(bits)
            bits.setall(0)
            return found

        candidates.append(Candidate("bitarray: edges, setall", harvest, restore, peers.rows))
    bars = [
        Bar(
            "at most ranges() and a C loop that exchanges the words that are not zero",
            (RANGES, "C"),
        )
    ]
    where = f"{size_name(nbytes)}, {pattern}"
    return Case("read_and_clear", where, candidates, bars, nbytes=nbytes)


def _exclusive(context: Context, pattern: Pattern) -> Case:
    """The limit does the same in two steps: ranges(), then 0 in the words that are not."""
    array = words(pattern, context.middle)
    restore = partial(fill, array, pattern)

    def left(rows: Any) -> tuple[bytes, int]:
        """The rows, and that nothing stayed behind."""
        return np.ascontiguousarray(rows).tobytes(), int(array.any())

    def ours(library: Library) -> Any:
        library.needs("read_and_clear", "exclusive")
        return partial(library.bitmap(array).read_and_clear, exclusive=True)

    bm = context.libraries[0].bitmap(array)
    candidates = [
        *context.ours(ours, restore, left),
        *limits.ranges_then_clear(context.native, bm.ranges, array, restore, left),
    ]
    bar = Bar(
        "within 1.15 of ranges() and then clearing the words that are not zero",
        (limits.THEN_CLEAR,),
        1 / 1.15,
    )
    where = f"{size_name(array.nbytes)}, {pattern}, exclusive"
    return Case("read_and_clear", where, candidates, [bar], nbytes=array.nbytes)
