"""Moments at which to look: a fixed rhythm, and what was late in it."""

from __future__ import annotations


class Schedule:
    """Moments at whole multiples of an interval after a start, in nanoseconds of one clock.

    A look that takes long makes no later one later: the moments that pass meanwhile are left out,
    and counted.

    Attributes
    ----------
    start_ns, due_ns : int
        When it began, and the next moment.
    missed : int
        Moments that passed with nobody looking.

    Examples
    --------
    >>> schedule = Schedule(0, 100)
    >>> schedule.looked(104), schedule.due_ns, schedule.missed
    (None, 200, 0)
    >>> schedule.looked(450), schedule.due_ns, schedule.missed
    (None, 500, 2)
    """

    def __init__(self, start_ns: int, interval_ns: int) -> None:
        if interval_ns <= 0:
            raise ValueError(f"an interval must be longer than 0, not {interval_ns} ns")
        self._interval_ns = interval_ns
        self.start_ns = start_ns
        self.due_ns = start_ns + interval_ns
        self.missed = 0

    def looked(self, now_ns: int) -> None:
        """The look of the moment that was due is over by now."""
        passed = max(0, now_ns - self.due_ns) // self._interval_ns
        self.missed += passed
        self.due_ns += (passed + 1) * self._interval_ns
