"""Questions that write one range: set by a call each, and set of all."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import limits, peers
from .patterns import (
    BASE,
    PGSHIFT,
    area,
    clearing,
    content_of,
    length_of,
    random_ranges,
    size_name,
    slices_of,
)
from .timing import Bar, Candidate, Case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .context import Context
    from .library import Library

CALLS = 4096


def set_one(context: Context) -> Iterator[Case]:
    """One range by one call from Python, many times: the cost of a call."""
    nbytes = context.small
    ranges = random_ranges(nbytes, CALLS)
    pairs, slices = [tuple(row) for row in ranges.tolist()], slices_of(ranges)
    array = area(nbytes)
    content, clear = content_of(array), clearing(array)

    def ours(library: Library) -> Any:
        bm = library.bitmap(array)

        def run() -> None:
            for iova, length in pairs:
                bm.set(iova, length)

        return run

    def empty(method: Any) -> None:
        for iova, length in pairs:
            method.two(iova, length)

    def loop() -> None:
        for _iova, _length in pairs:
            pass

    candidates = [
        *context.ours(ours, clear, content),
        Candidate("loop", loop),
        # What the marks alone take, without a call for each.
        *context.native.c(
            "bitmap_set loop",
            "set_ranges",
            *(array, ranges, CALLS, BASE, PGSHIFT),
            before=clear,
            answer=content,
        ),
    ]
    if peers.bitarray is not None:
        run = partial(peers.bitarray_set_slices, peers.as_bitarray(array), slices)
        candidates.append(Candidate("bitarray: slice assignment", run, clear, content))
    if peers.pyroaring is not None:
        made: list[Any] = []

        def fresh() -> None:
            made[:] = [peers.pyroaring.BitMap()]

        candidates.append(
            Candidate(
                "pyroaring: add_range",
                lambda: peers.roaring_set_ranges(made[0], slices),
                fresh,
                lambda _: peers.roaring_words(made[0], nbytes),
            )
        )
    if context.native.empty is not None:
        candidates.append(Candidate(limits.EMPTY, partial(empty, context.native.empty)))
    yield Case(
        "set",
        f"{size_name(nbytes)}, {CALLS} random ranges of 1 to 64 pages, a call each",
        candidates,
        [
            Bar("within 1.3x of an empty method that parses two ints", (limits.EMPTY,), 1 / 1.3),
            Bar("faster than bitarray's slice assignment", ("bitarray",)),
        ],
        calls=CALLS,
        baseline="loop",
    )


def set_full(context: Context) -> Iterator[Case]:
    """The whole range by one call: a memset."""
    for nbytes in context.sizes:
        array = area(nbytes)
        content = content_of(array)

        def ours(library: Library, array: NDArray[np.uint64] = array) -> Any:
            return partial(library.bitmap(array).set, BASE, length_of(array.nbytes))

        candidates = [
            *context.ours(ours, None, content),
            *limits.write(context.native, array),
        ]
        if nbytes == context.middle:
            value = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
            candidates.append(Candidate("NumPy: fill", partial(array.fill, value), None, content))
            if peers.bitarray is not None:
                run = partial(peers.as_bitarray(array).setall, 1)
                candidates.append(Candidate("bitarray: setall", run, None, content))
        bars = [Bar("0.9 of memset", (limits.WRITE,), 0.9)]
        yield Case("set_full", size_name(nbytes), candidates, bars, nbytes=nbytes)
