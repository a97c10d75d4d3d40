"""`fault_plans`: pin objects that deliver less than asked, or fail, as planned."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable
from typing import SupportsIndex

from hypothesis import strategies as st

from ._arguments import bounds

ERRNOS = (errno.EFAULT, errno.ENOMEM, errno.EAGAIN, errno.EIO)
MAX_CALLS = 16


class FaultPlan:
    """A pin object, to be given as `pin=`: the n-th call of `pin` does what `outcomes[n]` says.

    None delivers all pages, a number from 0 on at most so many (0 is an error of the object's), a
    negative one fails with that errno, as the kernel writes it. What comes after the plan delivers
    all. `pinned_pages` are held now, `calls` counts calls of pin. Equal are those with the same
    outcomes, whatever was called since.

    >>> plan = FaultPlan([None, 1, -14])
    >>> plan.pin(0, 8), plan.pin(0, 8), plan
    (8, 1, FaultPlan([None, 1, -14]))
    """

    def __init__(self, outcomes: Iterable[int | None] = ()) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0
        self.held: Counter[tuple[int, int]] = Counter()

    def pin(self, address: int, npages: int) -> int:
        outcome = self.outcomes[self.calls] if self.calls < len(self.outcomes) else None
        self.calls += 1
        if outcome is not None and outcome < 0:
            raise OSError(-outcome, f"planned: {os.strerror(-outcome)}")
        delivered = npages if outcome is None else min(outcome, npages)
        self.held[address, delivered] += 1 if delivered else 0
        return delivered

    def unpin(self, address: int, npages: int) -> None:
        if self.held[address, npages] == 0:
            raise AssertionError(f"unpin({address:#x}, {npages}) was not pinned")
        self.held[address, npages] -= 1

    @property
    def pinned_pages(self) -> int:
        """Host pages that were pinned and not given back."""
        return sum(npages * times for (_, npages), times in self.held.items())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FaultPlan):
            return NotImplemented
        return self.outcomes == other.outcomes

    __hash__ = None  # type: ignore[assignment]  # outcomes can change

    def __repr__(self) -> str:
        return f"FaultPlan({self.outcomes!r})"


@st.composite
def fault_plans(
    draw: st.DrawFn, *, min_size: SupportsIndex = 0, max_size: SupportsIndex = MAX_CALLS
) -> FaultPlan:
    """Plans of `min_size` to `max_size` calls: which pin fails, delivers less, or nothing.

    Shrinks to no fault at all.

    >>> from hypothesis import find
    >>> find(fault_plans(), lambda plan: any(plan.outcomes))
    FaultPlan([1])
    """
    fewest, most = bounds("size", min_size, max_size, 0, 2**64 - 1)
    outcome = st.none() | st.integers(0, 4) | st.sampled_from([-code for code in ERRNOS])
    return FaultPlan(draw(st.lists(outcome, min_size=fewest, max_size=most)))
