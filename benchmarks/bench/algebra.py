"""Questions about two bitmaps: |=, count_and, diff, merge."""

from __future__ import annotations

from functools import partial
from operator import ior
from typing import TYPE_CHECKING, Any

import numpy as np

from . import limits, peers
from .patterns import Pattern, size_name, words
from .timing import Bar, Candidate, Case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .context import Context
    from .library import Library

ONE, OTHER = Pattern(0.01), Pattern(0.05, 16)
TEXT = "0.8 of the bandwidth that the operation needs"
DIFF_TEXT = "0.9 of the bandwidth that the operation needs"


def _pairs(context: Context) -> Iterator[tuple[Any, Any, str]]:
    for nbytes in context.sizes:
        yield words(ONE, nbytes), words(OTHER, nbytes), f"{size_name(nbytes)}, {ONE} and {OTHER}"


def _both(what: Any, a: Any, b: Any) -> Any:
    """For Context.ours: a function of two bitmaps, or the name of a method of the first."""

    def make(library: Library) -> Any:
        first, second = library.bitmap(a), library.bitmap(b)
        if isinstance(what, str):
            return partial(getattr(first, what), second)
        return partial(what, first, second)

    return make


def ior_(context: Context) -> Iterator[Case]:
    """The marks of another bitmap too: two streams read, one written."""
    for a, b, where in _pairs(context):

        def content(_: object, a: Any = a) -> Any:
            return a.copy()

        candidates = [
            *context.ours(_both(ior, a, b), None, content),
            *context.native.c("loop", "or_into", a, b, a.size, answer=content),
            *limits.change(context.native, a, b),
        ]
        if a.nbytes == context.middle:
            run = partial(np.bitwise_or, a, b, out=a)
            candidates.append(Candidate("NumPy: bitwise_or", run, None, content))
            if peers.bitarray is not None:
                run = partial(ior, peers.as_bitarray(a), peers.as_bitarray(b))
                candidates.append(Candidate("bitarray: |=", run, None, content))
            if peers.pyroaring is not None:
                run = partial(ior, peers.as_roaring(a), peers.as_roaring(b))
                packed = partial(peers.roaring_words, nbytes=a.nbytes)
                candidates.append(Candidate("pyroaring: |=", run, None, packed))
        bars = [Bar(TEXT, (limits.CHANGE,), 0.8)]
        yield Case("|=", where, candidates, bars, nbytes=3 * a.nbytes)


def count_and(context: Context) -> Iterator[Case]:
    """Pages dirty in both: two streams read."""
    for a, b, where in _pairs(context):
        candidates = [
            *context.ours(_both("count_and", a, b), None, int),
            *context.native.c("popcount loop", "count_and", a, b, a.size, answer=int),
            *limits.read_two(context.native, a, b),
        ]
        if a.nbytes == context.middle:
            run = partial(peers.numpy_count_and_blocks, a, b)
            candidates.append(Candidate("NumPy: blocks", run, None, int))
            if peers.bitarray is not None:
                run = partial(
                    peers.bitarray.util.count_and, peers.as_bitarray(a), peers.as_bitarray(b)
                )
                candidates.append(Candidate("bitarray: count_and", run, None, int))
            if peers.pyroaring is not None:
                run = partial(peers.as_roaring(a).intersection_cardinality, peers.as_roaring(b))
                candidates.append(Candidate("pyroaring: intersection_cardinality", run, None, int))
        bars = [Bar(TEXT, (limits.READ_TWO,), 0.8)]
        yield Case("count_and", where, candidates, bars, nbytes=2 * a.nbytes)


def diff(context: Context) -> Iterator[Case]:
    """Pages that appeared, disappeared, and stayed: two streams read, three counts."""
    for new, old, where in _pairs(context):
        counts = np.zeros(3, np.uint64)

        def counted(_: object, counts: Any = counts) -> tuple[int, ...]:
            return tuple(counts.tolist())

        def ours(found: Any) -> tuple[int, int, int]:
            return (found.appeared, found.disappeared, found.common)

        candidates = [
            *context.ours(_both("diff", new, old), None, ours),
            *context.native.c("loop", "diff", new, old, new.size, counts, answer=counted),
            *limits.read_two(context.native, new, old),
        ]
        if new.nbytes == context.middle:
            run = partial(peers.numpy_diff, new, old)
            candidates.append(Candidate("NumPy: blocks", run, None, tuple))
            if peers.bitarray is not None:
                run = partial(peers.bitarray_diff, peers.as_bitarray(new), peers.as_bitarray(old))
                candidates.append(Candidate("bitarray: three counts", run, None, tuple))
            if peers.pyroaring is not None:
                run = partial(peers.roaring_diff, peers.as_roaring(new), peers.as_roaring(old))
                candidates.append(Candidate("pyroaring: cardinalities", run, None, tuple))
        bars = [Bar(DIFF_TEXT, (limits.READ_TWO,), 0.9)]
        yield Case("diff", where, candidates, bars, nbytes=2 * new.nbytes)
