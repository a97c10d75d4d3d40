"""Questions that write many ranges in one call: set_ranges, set_pages, clear_ranges.

Each is asked of memory that others may mark concurrently, which is the default, and with
`exclusive=True`. The first is held against the best loop in C that marks atomically, the second
against one that need not.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import limits, peers
from .patterns import (
    BASE,
    PAGE,
    PGSHIFT,
    area,
    clearing,
    content_of,
    random_ranges,
    size_name,
    slices_of,
)
from .timing import Bar, Candidate, Case, Fact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .context import Context
    from .library import Library

    Words = NDArray[np.uint64]

WINDOWS = 32
LONGEST = 8  # pages of a range; 64 in the cases that say so
ONES = 0xFFFF_FFFF_FFFF_FFFF

PLAIN = Bar("no slower than a plain C loop", ("C",))
TEN = Bar("10x bitarray's loop", ("bitarray",), 10)
# A list of indices does not loop in Python, and a tenth of its time is less than C's loop takes.
TEN_BITS = Bar("10x bitarray's loop of item assignments", ("bitarray loop",), 10)
ATOMIC = Bar("within 1.1 of the best C loop that marks atomically", (limits.ATOMIC,), 1 / 1.1)


def _ours(method: str, array: Words, items: Words, **options: Any) -> Any:
    """For Context.ours: one call with all items. window_pages and pin are the bitmap's, all other
    options are the method's."""
    about = {name: options.pop(name) for name in ("window_pages", "pin") if name in options}

    def make(library: Library) -> Any:
        library.needs(method, *options)
        return partial(getattr(library.bitmap(array, **about), method), items, **options)

    return make


def set_ranges(context: Context) -> Iterator[Case]:
    """200,000 random ranges in one call; the bitmap is cleared before each, outside of the time."""
    array = area(context.middle)
    clear = clearing(array)
    ranges = random_ranges(array.nbytes, context.many, LONGEST)
    where = f"{size_name(array.nbytes)}, {len(ranges):,} random ranges of 1 to {LONGEST} pages"

    def candidates(**options: Any) -> list[Candidate]:
        return [
            *context.ours(_ours("set_ranges", array, ranges, **options), clear, content_of(array)),
            *_plain(context, "set_ranges", array, ranges, clear),
            *_slices(array, ranges, 1, clear),
        ]

    best = limits.atomic(context.native, "set_ranges", array, ranges, clear, context.quick)
    fact = _windows_taken(context, array, ranges)
    yield Case("set_ranges", where, [*candidates(), *best], [ATOMIC], [fact])
    yield Case("set_ranges", f"{where}, exclusive", candidates(exclusive=True), [PLAIN, TEN])
    yield _long_ranges(context)
    yield _populate(context)


def _long_ranges(context: Context) -> Case:
    """Ranges that may cover words as a whole; one window, and more ways to do the same."""
    array = area(context.middle)
    content, clear = content_of(array), clearing(array)
    ranges = random_ranges(array.nbytes, context.many)
    starts, lengths = ((column // np.uint64(PAGE)).copy() for column in ranges.T)
    starts -= np.uint64(BASE // PAGE)
    short = partial(peers.numpy_set_short_ranges, array, starts, lengths)
    delta = partial(peers.numpy_set_ranges_delta, array, starts, lengths)
    make = _ours("set_ranges", array, ranges, window_pages=array.nbytes // 4096 + 1)
    candidates = [
        *context.ours(make, clear, content),
        *_plain(context, "set_ranges", array, ranges, clear),
        Candidate("NumPy: two words each", short, clear, content),
        *([] if context.quick else [Candidate("NumPy: depth of cover", delta, clear, content)]),
        *_slices(array, ranges, 1, clear),
        *limits.atomic(context.native, "set_ranges", array, ranges, clear, context.quick),
    ]
    where = f"{size_name(array.nbytes)}, {len(ranges):,} random ranges of 1 to 64 pages, one window"
    return Case("set_ranges", where, candidates, [ATOMIC, TEN])


def _populate(context: Context) -> Case:
    """The same over 32 windows that cost something to take."""
    nbytes = WINDOWS * 512 * 4096 if not context.scaled else WINDOWS * 4096
    array = area(nbytes)
    options: dict[str, Any] = {"window_pages": nbytes // WINDOWS // 4096}
    ranges = random_ranges(nbytes, context.many)
    where = f"{size_name(nbytes)}, {len(ranges):,} random ranges over {WINDOWS} windows"
    case = Case("set_ranges", f'{where}, pin="populate"', [])
    try:
        bm = context.libraries[0].bitmap(array, pin="populate", **options)
        bm.set_ranges(ranges)
    except (ValueError, OSError, NotImplementedError) as error:
        case.note = f"not measurable here: {error}"
        return case
    touched = len(list(bm.windows()))
    found = f"{bm.stats.pins} pins, {touched} windows"
    case.facts.append(Fact("pins = windows touched, not ranges", found, bm.stats.pins <= touched))
    clear, content = clearing(array), content_of(array)
    none = _ours("set_ranges", array, ranges, **options)
    case.candidates = [
        *context.ours(
            _ours("set_ranges", array, ranges, pin="populate", **options), clear, content
        ),
        *context.ours(none, clear, content, "iovabitmap none")[:1],
    ]
    return case


def _windows_taken(context: Context, array: Words, ranges: Words) -> Fact:
    bm = context.libraries[0].bitmap(array)
    bm.set_ranges(ranges)
    pins, moves = bm.stats.pins, bm.stats.moves
    found = f"{pins} pins, {moves} moves of the present one"
    return Fact('a batch with "none" takes one window', found, pins <= 1 and moves == 0)


def set_pages(context: Context) -> Iterator[Case]:
    """Single addresses in random order, one call."""
    array = area(context.middle)
    content, clear = content_of(array), clearing(array)
    iovas = random_ranges(array.nbytes, context.many)[:, 0].copy()
    bits = ((iovas - np.uint64(BASE)) // np.uint64(PAGE)).tolist()
    where = f"{size_name(array.nbytes)}, {len(iovas):,} random pages"

    def candidates(**options: Any) -> list[Candidate]:
        made = [
            *context.ours(_ours("set_pages", array, iovas, **options), clear, content),
            *_plain(context, "set_pages", array, iovas, clear),
            Candidate(
                "NumPy: bitwise_or.at", partial(peers.numpy_set_pages, array, iovas), clear, content
            ),
        ]
        if peers.bitarray is not None:
            target = peers.as_bitarray(array)
            for name, idiom in peers.BITARRAY_SET_BITS.items():
                made.append(Candidate(name, partial(idiom, target, bits), clear, content))
        return made

    best = limits.atomic(context.native, "set_pages", array, iovas, clear, context.quick)
    yield Case("set_pages", where, [*candidates(), *best], [ATOMIC])
    yield Case("set_pages", f"{where}, exclusive", candidates(exclusive=True), [PLAIN, TEN_BITS])


def clear_ranges(context: Context) -> Iterator[Case]:
    """The reverse: all pages are dirty before each."""
    array = area(context.middle)
    restore = partial(array.fill, ONES)
    ranges = random_ranges(array.nbytes, context.many, LONGEST)
    where = f"{size_name(array.nbytes)}, {len(ranges):,} random ranges of 1 to {LONGEST} pages"

    def candidates(**options: Any) -> list[Candidate]:
        make = _ours("clear_ranges", array, ranges, **options)
        return [
            *context.ours(make, restore, content_of(array)),
            *_plain(context, "clear_ranges", array, ranges, restore),
            *_slices(array, ranges, 0, restore),
        ]

    yield Case("clear_ranges", where, candidates())
    yield Case("clear_ranges", f"{where}, exclusive", candidates(exclusive=True), [PLAIN, TEN])


def _plain(context: Context, loop: str, array: Words, items: Words, before: Any) -> list[Candidate]:
    arguments = (array, items, len(items), BASE, PGSHIFT)
    return context.native.c("loop", loop, *arguments, before=before, answer=content_of(array))


def _slices(array: Words, ranges: Words, value: int, before: Any) -> list[Candidate]:
    if peers.bitarray is None:
        return []
    run = partial(peers.bitarray_set_slices, peers.as_bitarray(array), slices_of(ranges), value)
    return [Candidate("bitarray: slice assignment", run, before, content_of(array))]
