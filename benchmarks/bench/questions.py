"""The list of questions, and what they are asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import algebra, marking, reading, systems
from .native import Native
from .patterns import ALL_PATTERNS, LARGE, MIDDLE, RANDOM, SMALL, Pattern
from .timing import Case

BARRED = [pattern for pattern in RANDOM if pattern.density not in {0.0001, 0.05}]
MOST_ROWS_BYTES = 4 << 30  # longer answers would measure how much memory the machine has

QUESTIONS: dict[str, Callable[[Context], Iterator[Case]]] = {
    "set": marking.set_one,
    "set_ranges": marking.set_ranges,
    "set_pages": marking.set_pages,
    "set_full": marking.set_full,
    "count": reading.count,
    "ranges_out": reading.ranges_out,
    "ranges": reading.ranges,
    "pages": reading.pages,
    "histogram": reading.histogram,
    "read_and_clear": marking.read_and_clear,
    "ior": algebra.ior_,
    "count_and": algebra.count_and,
    "diff": algebra.diff,
    "sparse": systems.sparse,
    "collect": systems.collect,
}


@dataclass
class Context:
    """What all questions share: sizes in bytes that lie in L2, in L3 and beyond."""

    native: Native
    quick: bool = False
    small: int = SMALL
    middle: int = MIDDLE
    large: int = LARGE

    @property
    def scaled(self) -> bool:
        """Whether the sizes are not those that the bars are about."""
        return (self.small, self.middle, self.large) != (SMALL, MIDDLE, LARGE)

    @property
    def sizes(self) -> tuple[int, ...]:
        beyond = not self.quick or self.scaled
        return (self.small, self.middle, self.large) if beyond else (self.small, self.middle)

    @property
    def many(self) -> int:
        """Ranges of a batch."""
        return 200_000 if not self.scaled else 2000

    def patterns(self, nbytes: int) -> list[Pattern]:
        return self.random(nbytes) if self.quick else ALL_PATTERNS

    def random(self, nbytes: int) -> list[Pattern]:
        if not self.quick:
            return RANDOM
        return BARRED if nbytes == self.middle else [Pattern(0.01)]

    def rows_fit(self, nbytes: int, pattern: Pattern) -> bool:
        share = pattern.density * (1 - pattern.density) / pattern.run
        return nbytes * 8 * share * 16 <= MOST_ROWS_BYTES
