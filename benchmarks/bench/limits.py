"""What the machine can do at most, as candidates in the same turns as those they bound."""

from __future__ import annotations

import random
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from .native import call
from .patterns import BASE, PAGE, PGSHIFT, content_of, untouched
from .timing import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .native import Native

READ = "limit read"
READ_TWO = "limit read two"
WRITE = "limit memset"
CHANGE = "limit read and write"
EMPTY = "limit empty method"
IOCTLS = "limit ioctls"
FRESH = "limit new memory"
THEN_CLEAR = "limit ranges, then clear"
ATOMIC = "C atomic"
DECODE = "C best"

ATOMIC_LOOPS = ("lock_read", "lock_write", "test_read", "test_write")
DECODERS = ("words", "words_bmi", "wide_cached", "wide_streamed")
AHEAD = (0, 4, 8, 12, 16, 24, 32)  # rows; 0: none is fetched ahead
KEPT = 2  # loops that stay of those that were tried


def read(native: Native, array: NDArray[Any]) -> list[Candidate]:
    """One stream, read from end to end."""
    return native.limit(READ, "read", array, array.nbytes)


def read_two(native: Native, a: NDArray[Any], b: NDArray[Any]) -> list[Candidate]:
    return native.limit(READ_TWO, "read_two", a, b, a.nbytes)


def write(native: Native, array: NDArray[Any]) -> list[Candidate]:
    return native.limit(WRITE, "write_all", array, array.nbytes, widths=False)


def change(native: Native, to: NDArray[Any], other: NDArray[Any]) -> list[Candidate]:
    """Two streams read, one of them written back."""
    return native.limit(CHANGE, "change", to, other, to.nbytes)


def fresh(nbytes: int) -> Candidate:
    """New memory for an answer of nbytes, each page touched: faults, and the kernel's zeros."""

    def run(nbytes: int) -> NDArray[Any]:
        array = untouched(nbytes)
        array[:: PAGE // 8] = 1
        return array

    return Candidate(FRESH, partial(run, max(nbytes, PAGE)))


def ranges_then_clear(
    native: Native, ranges: Callable[[], Any], array: NDArray[Any], before: Any, answer: Any
) -> list[Candidate]:
    """What a harvest of memory that nobody else marks does, as two steps."""
    if native.limits is None:
        return []

    def run(clear: Callable[[], Any]) -> Any:
        found = ranges()
        clear()
        return found

    return [
        Candidate(
            f"{THEN_CLEAR}: {way}",
            partial(run, call(getattr(native.limits, f"clear_{way}"), array, array.size)),
            before,
            answer,
        )
        for way in ("words", "lines", "all")
    ]


def decode(native: Native, *arguments: Any, answer: Any) -> list[Candidate]:
    """The loops of decode.c that this CPU has."""
    if native.decode is None:
        return []
    return [
        native.candidate(
            f"{DECODE}: {name}",
            getattr(native.decode, f"ranges_{name}"),
            *arguments,
            answer=answer,
        )
        for name in DECODERS[: native.decode.decoders()]
    ]


def atomic(
    native: Native,
    function: str,
    array: NDArray[Any],
    items: NDArray[Any],
    before: Callable[[], Any],
    quick: bool,
) -> list[Candidate]:
    """The fastest loops of atomic.c for these items: tried here, measured again with the others.

    The choice is by the least times, which a busy machine changes least.
    """
    if native.atomic is None:
        return []
    arguments = (array, items, len(items), BASE, PGSHIFT)
    tried = {
        (loop, ahead): call(getattr(native.atomic, f"{function}_{loop}"), *arguments, ahead)
        for loop in ATOMIC_LOOPS
        for ahead in AHEAD
    }
    least = dict.fromkeys(tried, float("inf"))
    order, rounds = random.Random(len(items)), 5 if quick else 15
    for _ in range(rounds):
        for key in order.sample(list(tried), len(tried)):
            before()
            start = perf_counter_ns()
            tried[key]()
            least[key] = min(least[key], perf_counter_ns() - start)
    answer = content_of(array)
    return [
        native.candidate(
            f"{ATOMIC}: {loop}, {ahead} ahead",
            getattr(native.atomic, f"{function}_{loop}"),
            *arguments,
            ahead,
            before=before,
            answer=answer,
        )
        for loop, ahead in sorted(tried, key=least.__getitem__)[:KEPT]
    ]
