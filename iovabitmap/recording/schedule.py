"""Moments at which to look: a fixed rhythm, and what was late in it."""

from __future__ import annotations


class Schedule:
    """Moments at whole multiples of an interval after a start, in nanoseconds of one clock.

    A look that takes long makes no later one later: the moments that pass meanwhile are left out,
    and counted.

    Parameters
    ----------
    start_ns, interval_ns : int
    max_overhead : float
        The part of the time that looks may take, above 0 and at most 1: after one that took long,
        moments are left out too.

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

    def __init__(self, start_ns: int, interval_ns: int, max_overhead: float = 1.0) -> None:
        if interval_ns <= 0:
            raise ValueError(f"an interval must be longer than 0, not {interval_ns} ns")
        if not 0 < max_overhead <= 1:
            raise ValueError(f"max_overhead must be above 0 and at most 1, not {max_overhead}")
        self._interval_ns = interval_ns
        self._rest = 1 / max_overhead - 1  # for each second of looking
        self.start_ns = start_ns
        self.due_ns = start_ns + interval_ns
        self.missed = 0

    def looked(self, now_ns: int, took_ns: int = 0) -> None:
        """The look of the moment that was due is over by now, and took so long."""
        from_ns = now_ns + int(took_ns * self._rest)
        passed = max(0, from_ns - self.due_ns) // self._interval_ns
        self.missed += passed
        self.due_ns += (passed + 1) * self._interval_ns
