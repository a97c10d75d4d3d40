"""What the machine can do at most, as candidates in the same turns as those they bound."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .patterns import PAGE, untouched
from .timing import Candidate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .native import Native

READ = "limit read"
READ_TWO = "limit read two"
WRITE = "limit memset"
CHANGE = "limit read and write"
EMPTY = "limit empty method"
IOCTLS = "limit ioctls"
FRESH = "limit new memory"


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
