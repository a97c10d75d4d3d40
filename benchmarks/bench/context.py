"""What all questions are asked about: sizes, patterns, and the libraries that are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .library import AbsentError, Library
from .native import Native
from .patterns import ALL_PATTERNS, LARGE, MIDDLE, RANDOM, SMALL, Pattern
from .timing import OURS, Candidate

BARRED = [pattern for pattern in RANDOM if pattern.density not in {0.0001, 0.05}]
MOST_ROWS_BYTES = 4 << 30  # longer answers would measure how much memory the machine has


@dataclass
class Context:
    """What all questions share: sizes in bytes that lie in L2, in L3 and beyond."""

    native: Native
    libraries: list[Library]  # the present one, then those that it is compared with
    quick: bool = False
    small: int = SMALL
    middle: int = MIDDLE
    large: int = LARGE

    def ours(
        self,
        make: Callable[[Library], Callable[[], Any]],
        before: Callable[[], Any] | None = None,
        answer: Callable[[Any], Any] | None = None,
        name: str = OURS,
    ) -> list[Candidate]:
        """What `make` makes of each library that there is; it may raise AbsentError."""
        found = []
        for library in self.libraries:
            like = name if library.name else ""
            full = f"{name} @{library.name}" if library.name else name
            try:
                run = make(library)
            except (AbsentError, AttributeError) as error:
                if not (library.name or isinstance(error, AbsentError)):
                    raise
                found.append(Candidate(full, lambda: None, like=like, absent=str(error)))
            else:
                found.append(Candidate(full, run, before, answer, like=like))
        return found

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
