"""Questions that only read: count, ranges, pages, histogram."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import limits, peers
from .patterns import BASE, PGSHIFT, Pattern, area, size_name, words
from .timing import Bar, Candidate, Case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .context import Context
    from .library import Library

BINS = 512
OUT = "iovabitmap out"
ROOM = 1 << 16  # rows that `out` has beyond those that it needs; "tight" is without

# At least this many times as fast as the ctz loop, by density.
BARS = {0.001: 3, 0.01: 4, 0.05: 3, 0.5: 2.5}
MASK_TEXT = "0.9 of reading the bitmap, a memset of the mask's size, and as much new memory touched"
OUT_TEXT = "{}x the plain ctz loop in C, or within 1.1 of the best loop found if that is less"
NEW_TEXT = "within 1.15 of ranges(out=) into ready memory and touching as much new memory once"
SLOW_FROM = 0.05  # density from which loops that lose clearly below it are not tried again


def _calls(array: NDArray[np.uint64], method: str, *args: Any, **options: Any) -> Any:
    """For Context.ours: one call of a method of the bitmap over an array."""

    def make(library: Library) -> Any:
        library.needs(method, *options)
        return partial(getattr(library.bitmap(array), method), *args, **options)

    return make


def _barred(context: Context, nbytes: int, pattern: Pattern) -> bool:
    return nbytes == context.middle and pattern.run == 1


def count(context: Context) -> Iterator[Case]:
    """How many pages are dirty."""
    for nbytes in context.sizes:
        for pattern in context.random(nbytes):
            yield _count(context, words(pattern, nbytes), pattern)


def _count(context: Context, array: NDArray[np.uint64], pattern: Pattern) -> Case:
    candidates = [
        *context.ours(_calls(array, "count"), None, int),
        *context.native.c("popcount loop", "count", array, array.size, answer=int),
        *limits.read(context.native, array),
    ]
    bars = [Bar("0.9 of the read bandwidth", (limits.READ,), 0.9)]
    if _barred(context, array.nbytes, pattern):
        bars.append(Bar("15x bitarray", ("bitarray",), 15))
        candidates += [
            Candidate("NumPy: bitwise_count", partial(peers.numpy_count, array), None, int),
            Candidate("NumPy: blocks", partial(peers.numpy_count_blocks, array), None, int),
        ]
        if peers.bitarray is not None:
            candidates.append(
                Candidate("bitarray: count", peers.as_bitarray(array).count, None, int)
            )
        if peers.pyroaring is not None:
            run = partial(len, peers.as_roaring(array))
            candidates.append(Candidate("pyroaring: len", run, None, int))
    where = f"{size_name(array.nbytes)}, {pattern}"
    return Case("count", where, candidates, bars, nbytes=array.nbytes)


def ranges_out(context: Context) -> Iterator[Case]:
    """Into memory that is there, touched before: the decoding alone."""
    for nbytes in context.sizes:
        for pattern in context.patterns(nbytes):
            if context.rows_fit(nbytes, pattern):
                array = words(pattern, nbytes)
                yield _ranges_out(context, array, pattern)


def _ranges_out(context: Context, array: NDArray[np.uint64], pattern: Pattern) -> Case:
    n = context.libraries[0].bitmap(array).count_ranges()
    out = area((n + ROOM) * 16).reshape(-1, 2)

    def filled(found: int) -> NDArray[np.uint64]:
        return out[:found].copy()

    arguments = (array, array.size, BASE, PGSHIFT, out)
    candidates = [
        *context.ours(_calls(array, "ranges", out=out), None, np.copy),
        *context.ours(_calls(array, "ranges", out=out[:n]), None, np.copy, "iovabitmap tight"),
        *context.native.c("ctz of edges", "ranges_by_edges", *arguments, answer=filled),
        *context.native.c("ctz of next bit", "ranges_by_find", *arguments, answer=filled),
        *limits.decode(context.native, *arguments, answer=filled),
        *limits.read(context.native, array),
        *limits.write(context.native, out[: max(n, 1)]),
    ]
    bars = []
    if _barred(context, array.nbytes, pattern):
        if pattern.density in BARS:
            least = BARS[pattern.density]
            text = OUT_TEXT.format(least)
            bars.append(Bar(text, ("C",), least, limit=limits.DECODE, of_limit=1 / 1.1))
        elif pattern.density in {0.0, 1.0}:
            bars.append(Bar("0.8 of the read bandwidth", (limits.READ,), 0.8))
    where = f"{size_name(array.nbytes)}, {pattern}"
    note = f"{n:,} rows"
    return Case("ranges(out=)", where, candidates, bars, nbytes=array.nbytes, note=note)


def ranges(context: Context) -> Iterator[Case]:
    """An array of its own, whose page faults are part of the cost."""
    nbytes = context.middle
    for pattern in context.patterns(nbytes):
        slow = pattern.density < SLOW_FROM or pattern.density == 1
        yield _ranges(context, words(pattern, nbytes), pattern, slow and not context.quick)


def _ranges(context: Context, array: NDArray[np.uint64], pattern: Pattern, slow: bool) -> Case:
    n = context.libraries[0].bitmap(array).count_ranges()
    out = area((n + ROOM) * 16).reshape(-1, 2)
    candidates = [
        *context.ours(_calls(array, "ranges"), None, np.copy),
        *context.ours(_calls(array, "ranges", out=out), None, np.copy, OUT)[:1],
        limits.fresh(n * 16),
    ]
    numpy_idioms = {
        "NumPy: unpack, compare": peers.numpy_ranges_unpack,
        "NumPy: words with edges": peers.numpy_ranges_words,
        "NumPy: words with edges, by blocks": peers.numpy_ranges_blocks,
    }
    for name, idiom in numpy_idioms.items():
        candidates.append(Candidate(name, partial(idiom, array), None, peers.rows))
    if peers.bitarray is not None:
        bits = peers.as_bitarray(array)
        idioms: dict[str, Any] = {"bitarray: edges, search": peers.bitarray_ranges_edges}
        if slow:
            idioms["bitarray: find loop"] = peers.bitarray_ranges_find
            idioms["bitarray: intervals"] = peers.bitarray_ranges_intervals
        for name, idiom in idioms.items():
            candidates.append(Candidate(name, partial(idiom, bits), None, peers.rows))
    if peers.pyroaring is not None:
        run = partial(peers.roaring_ranges, peers.as_roaring(array))
        candidates.append(Candidate("pyroaring: edges", run, None, peers.rows))
    bars = [Bar(NEW_TEXT, (OUT, limits.FRESH), 1 / 1.15)] if n else []
    where = f"{size_name(array.nbytes)}, {pattern}"
    return Case("ranges", where, candidates, bars, nbytes=array.nbytes)


def pages(context: Context) -> Iterator[Case]:
    """The address of each dirty page."""
    nbytes = context.middle
    for pattern in (Pattern(0.001), Pattern(0.01), Pattern(0.05)):
        array = words(pattern, nbytes)
        out = area(context.libraries[0].bitmap(array).count() * 8)

        def filled(found: int, out: NDArray[np.uint64] = out) -> NDArray[np.uint64]:
            return out[:found].copy()

        def iovas(bits: Any) -> NDArray[np.uint64]:
            return np.uint64(BASE) + (bits.astype(np.uint64) << np.uint64(PGSHIFT))

        arguments = (array, array.size, BASE, PGSHIFT, out)
        candidates = [
            *context.ours(_calls(array, "pages"), None, np.copy),
            *context.native.c("ctz loop, memory ready", "pages", *arguments, answer=filled),
            Candidate("NumPy: unpack", partial(peers.bits_of, array), None, iovas),
        ]
        if peers.pyroaring is not None:
            run = partial(peers.roaring_pages, peers.as_roaring(array))
            candidates.append(Candidate("pyroaring: to_array", run, None, iovas))
        yield Case("pages", f"{size_name(nbytes)}, {pattern}", candidates, nbytes=nbytes)


def histogram(context: Context) -> Iterator[Case]:
    """Dirty pages of each of 512 parts: a row of a heatmap."""
    nbytes = context.middle
    pattern = Pattern(0.01)
    array = words(pattern, nbytes)
    bins = min(BINS, array.size)
    counts = np.zeros(bins, np.int64)
    arguments = (array, array.size, bins, counts)
    candidates = [
        *context.ours(_calls(array, "histogram", bins), None, np.copy),
        *context.native.c("loop", "histogram", *arguments, answer=lambda _: counts.copy()),
        Candidate(
            "NumPy: bitwise_count", partial(peers.numpy_histogram, array, bins), None, np.copy
        ),
        *limits.read(context.native, array),
    ]
    where = f"{size_name(nbytes)}, {pattern}, {bins} bins"
    yield Case("histogram", where, candidates, nbytes=nbytes)


def to_mask(context: Context) -> Iterator[Case]:
    """One bool a page: eight times the bitmap, in new memory."""
    for nbytes in (context.small, context.middle):
        array = words(Pattern(0.01), nbytes)
        out = area(nbytes * 8)

        def filled(_: object, out: NDArray[np.uint64] = out) -> NDArray[np.bool_]:
            return out.view(np.bool_).copy()

        candidates = [
            *context.ours(_calls(array, "to_mask"), None, np.copy),
            *context.native.c("loop", "mask", array, array.size, out, answer=filled),
            Candidate("NumPy: unpackbits", partial(peers.numpy_mask, array), None, np.copy),
            *limits.read(context.native, array),
            *limits.write(context.native, out),
            limits.fresh(out.nbytes),
        ]
        bars = [Bar(MASK_TEXT, (limits.READ, limits.WRITE, limits.FRESH), 0.9)]
        yield Case(
            "to_mask", f"{size_name(nbytes)}, {Pattern(0.01)}", candidates, bars, nbytes=9 * nbytes
        )
