"""Questions that write: set of one range, many ranges, all; read_and_clear."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import iovabitmap as ib

from . import limits, peers
from .patterns import (
    BASE,
    PAGE,
    PGSHIFT,
    Pattern,
    area,
    bitmap,
    fill,
    length_of,
    random_ranges,
    size_name,
    words,
)
from .timing import OURS, Bar, Candidate, Case, Fact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .questions import Context

CALLS = 4096
WINDOWS = 32


def _content(array: NDArray[np.uint64]) -> Any:
    """What an operation left in the bitmap, to compare."""
    return lambda _: array.copy()


def _clear(array: NDArray[np.uint64]) -> Any:
    return partial(array.fill, 0)


def _slices(ranges: NDArray[np.uint64]) -> list[tuple[int, int]]:
    starts = (ranges[:, 0] - np.uint64(BASE)) // np.uint64(PAGE)
    stops = starts + ranges[:, 1] // np.uint64(PAGE)
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def set_one(context: Context) -> Iterator[Case]:
    """One range by one call from Python, many times: the cost of a call."""
    nbytes = context.small
    ranges = random_ranges(nbytes, CALLS)
    pairs, slices = [tuple(row) for row in ranges.tolist()], _slices(ranges)
    array = area(nbytes)
    bm = bitmap(array)
    content, clear = _content(array), _clear(array)

    def ours(method: Any) -> None:
        for iova, length in pairs:
            method.set(iova, length)

    def empty(method: Any) -> None:
        for iova, length in pairs:
            method.two(iova, length)

    def loop() -> None:
        for _iova, _length in pairs:
            pass

    candidates = [
        Candidate(OURS, partial(ours, bm), clear, content),
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


def set_ranges(context: Context) -> Iterator[Case]:
    """200,000 random ranges in one call; the bitmap is cleared before each, outside of the time."""
    nbytes = context.middle
    ranges = random_ranges(nbytes, context.many)
    slices = _slices(ranges)
    array = area(nbytes)
    bm = ib.alloc(BASE, length_of(nbytes), PAGE, array, window_pages=nbytes // 4096 + 1)
    content, clear = _content(array), _clear(array)
    arguments = (array, ranges, len(ranges), BASE, PGSHIFT)
    starts, lengths = ((column // np.uint64(PAGE)).copy() for column in ranges.T)
    starts -= np.uint64(BASE // PAGE)
    candidates = [
        Candidate(OURS, partial(bm.set_ranges, ranges), clear, content),
        *context.native.c(
            "bitmap_set loop", "set_ranges", *arguments, before=clear, answer=content
        ),
        Candidate(
            "NumPy: two words each",
            partial(peers.numpy_set_short_ranges, array, starts, lengths),
            clear,
            content,
        ),
    ]
    if not context.quick:
        run = partial(peers.numpy_set_ranges_delta, array, starts, lengths)
        candidates.append(Candidate("NumPy: depth of cover", run, clear, content))
    if peers.bitarray is not None:
        run = partial(peers.bitarray_set_slices, peers.as_bitarray(array), slices)
        candidates.append(Candidate("bitarray: slice assignment", run, clear, content))
    yield Case(
        "set_ranges",
        f"{size_name(nbytes)}, {len(ranges):,} random ranges of 1 to 64 pages, one window",
        candidates,
        [
            Bar("no slower than a plain C loop over bitmap_set", ("C",)),
            Bar("10x bitarray's loop", ("bitarray",), 10),
        ],
    )
    yield _populate(context)


def _populate(context: Context) -> Case:
    """The same over 32 windows that cost something to take."""
    nbytes = WINDOWS * 512 * 4096 if not context.scaled else WINDOWS * 4096
    array = area(nbytes)
    window_pages = nbytes // WINDOWS // 4096
    ranges = random_ranges(nbytes, context.many)
    before, text = _clear(array), "pins = windows touched, not ranges"
    where = f"{size_name(nbytes)}, {len(ranges):,} random ranges over {WINDOWS} windows"
    case = Case("set_ranges", f'{where}, pin="populate"', [])
    try:
        bm = ib.alloc(
            BASE, length_of(nbytes), PAGE, array, window_pages=window_pages, pin="populate"
        )
        bm.set_ranges(ranges)
    except (ValueError, OSError, NotImplementedError) as error:
        case.note = f"not measurable here: {error}"
        return case
    touched = len(list(bm.windows()))
    case.facts.append(
        Fact(text, f"{bm.stats.pins} pins, {touched} windows", bm.stats.pins <= touched)
    )
    plain = bitmap(array)
    content = _content(array)
    case.candidates = [
        Candidate(OURS, partial(bm.set_ranges, ranges), before, content),
        Candidate("iovabitmap none", partial(plain.set_ranges, ranges), before, content),
    ]
    return case


def set_pages(context: Context) -> Iterator[Case]:
    """Single addresses in random order, one call."""
    nbytes = context.middle
    iovas = random_ranges(nbytes, context.many)[:, 0].copy()
    array = area(nbytes)
    bm = bitmap(array)
    content, clear = _content(array), _clear(array)
    arguments = (array, iovas, len(iovas), BASE, PGSHIFT)
    run = partial(peers.numpy_set_pages, array, iovas)
    yield Case(
        "set_pages",
        f"{size_name(nbytes)}, {len(iovas):,} random pages",
        [
            Candidate(OURS, partial(bm.set_pages, iovas), clear, content),
            *context.native.c("loop", "set_pages", *arguments, before=clear, answer=content),
            Candidate("NumPy: bitwise_or.at", run, clear, content),
        ],
    )


def set_full(context: Context) -> Iterator[Case]:
    """The whole range by one call: a memset."""
    for nbytes in context.sizes:
        array = area(nbytes)
        bm = bitmap(array)
        content = _content(array)
        candidates = [
            Candidate(OURS, partial(bm.set, BASE, length_of(nbytes)), None, content),
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


def read_and_clear(context: Context) -> Iterator[Case]:
    """The harvest. The bitmap is written again before each, outside of the time."""
    for nbytes in context.sizes:
        for pattern in context.patterns(nbytes):
            if context.rows_fit(nbytes, pattern):
                yield _harvest(context, nbytes, pattern)


def _harvest(context: Context, nbytes: int, pattern: Pattern) -> Case:
    array = words(pattern, nbytes)
    bm = bitmap(array)
    restore = partial(fill, array, pattern)
    candidates = [
        Candidate(OURS, bm.read_and_clear, restore, np.copy),
        Candidate("iovabitmap ranges", bm.ranges, restore, np.copy),
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
            ("iovabitmap ranges", "C"),
        )
    ]
    where = f"{size_name(nbytes)}, {pattern}"
    return Case("read_and_clear", where, candidates, bars, nbytes=nbytes)
