"""A case is one question about one bitmap, with all who can answer it; here it is measured.

Everyone's answer is compared before anything is timed. Then all take turns, round after round, each
round in an order of its own, so that neither what the machine does meanwhile nor what the one
before leaves in the caches hits always the same one; and each one's median counts.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import repeat
from statistics import median, quantiles
from typing import Any

import numpy as np

OURS = "iovabitmap"
CLOCKS = {
    "wall": time.perf_counter_ns,
    "cpu": time.thread_time_ns,  # of this thread alone, whatever else the machine does
}
EMPTY = "empty call"
CHEAP_S = 0.005  # a call that takes less is made once before the clock starts, to warm its caches


@dataclass
class Candidate:
    """One way to answer. Its name begins with the tool: "NumPy: edge words".

    `before` restores what `run` changes, outside of the time. `answer` turns what `run` returned
    into what can be compared; None: it answers nothing, as a limit does. `empty` is a call that
    costs what this one costs beside its work: it is measured in the same turns and taken off.
    `like` is the name of the candidate that this one does the same as, in another revision: both
    get the same number of samples. `absent` says why there is nothing to run.
    """

    name: str
    run: Callable[[], Any]
    before: Callable[[], Any] | None = None
    answer: Callable[[Any], Any] | None = None
    empty: Callable[[], Any] | None = None
    like: str = ""
    absent: str = ""


@dataclass(frozen=True)
class Bar:
    """What must hold. The time allowed is that of `against` (of each of these tools
    the fastest, and their sum), divided by `at_least`; or `at_most_ns`.

    `limit` is a tool too: where even that is not fast enough, the time allowed is its own, divided
    by `of_limit`."""

    text: str
    against: tuple[str, ...] = ()
    at_least: float = 1.0
    at_most_ns: float = 0.0
    limit: str = ""
    of_limit: float = 1.0


@dataclass
class Fact:
    """A bar about something else than time, looked at when the case was made."""

    text: str
    value: str
    met: bool


@dataclass
class Case:
    question: str
    where: str  # size and pattern
    candidates: list[Candidate]
    bars: list[Bar] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    nbytes: int = 0  # of bitmap that an answer reads or writes, for GB/s
    calls: int = 1  # that one run() makes
    baseline: str = ""  # the candidate that only loops: taken off all others
    known: Any = None  # the answer, where it is known beforehand
    note: str = ""


@dataclass(frozen=True)
class Effort:
    """How long to measure each candidate, and how often at least and at most.

    What is restored between counts for the length too.
    """

    seconds: float
    sample_s: float
    least: int
    least_slow: int  # of those that take many times as long
    most: int
    clock: str = "wall"


FULL = Effort(seconds=0.25, sample_s=0.002, least=5, least_slow=3, most=61)
QUICK = Effort(seconds=0.04, sample_s=0.001, least=3, least_slow=1, most=15)


def compared(effort: Effort) -> Effort:
    """More turns, since of two that take the same time a few hundredths must be seen."""
    return replace(effort, seconds=2 * effort.seconds, least=15, least_slow=5, most=81)


@dataclass
class Times:
    """Nanoseconds of one call."""

    name: str
    median: float
    least: float
    quarter: float
    three_quarters: float
    samples: int


class WrongAnswerError(Exception):
    """Someone's answer differs: nothing is timed."""


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b))
    return bool(a == b)


def _timed(candidate: Candidate, number: int, clock: Callable[[], int]) -> tuple[float, Any]:
    """Seconds of `number` calls, and what the last one returned, which is freed outside of them."""
    run = candidate.run
    result = None
    if number == 1:
        start = clock()
        result = run()
        end = clock()
    else:
        start = clock()
        for _ in repeat(None, number):
            run()
        end = clock()
    return (end - start) / 1e9, result


def verify(case: Case) -> None:
    """Compares all answers with the known one, or else with the first one's."""
    first = None if case.known is None else ("what is known", case.known)
    for candidate in case.candidates:
        if candidate.answer is None or candidate.absent:
            continue
        if candidate.before is not None:
            candidate.before()
        answer = candidate.answer(candidate.run())
        if first is None:
            first = (candidate.name, answer)
        elif not same(first[1], answer):
            text = f"{case.question}, {case.where}: {candidate.name} and {first[0]} differ"
            raise WrongAnswerError(text)


class _Turns:
    """One candidate while it is measured."""

    def __init__(self, candidate: Candidate, effort: Effort) -> None:
        self.candidate = candidate
        self.clock = CLOCKS[effort.clock]
        self.number = 1
        self.spent = 0.0
        self.samples: list[float] = []
        once = self.sample()
        self.cheap = once < CHEAP_S * 1e9
        if self.cheap:
            if candidate.before is None:
                once = min(once, self.sample())
                self.number = max(1, round(effort.sample_s * 1e9 / max(once, 20.0)))
            self.samples.clear()

    def sample(self) -> float:
        """Nanoseconds of a call."""
        candidate = self.candidate
        begin = time.perf_counter()
        if candidate.before is not None:
            candidate.before()
        elif self.samples and self.cheap:
            candidate.run()
        seconds, _ = _timed(candidate, self.number, self.clock)
        self.spent += time.perf_counter() - begin
        found = seconds * 1e9 / self.number
        self.samples.append(found)
        return found

    def done(self, effort: Effort) -> bool:
        slow = self.spent > 8 * effort.seconds
        least = effort.least_slow if slow else effort.least
        return len(self.samples) >= least and self.spent >= effort.seconds

    def times(self, calls: int, off: float) -> Times:
        samples = [max(sample / calls - off, 0.1) for sample in self.samples]
        q1, _, q3 = quantiles(samples * 2, n=4, method="inclusive")  # one alone has none
        return Times(self.candidate.name, median(samples), min(samples), q1, q3, len(samples))


def measure(case: Case, effort: Effort) -> list[Times]:
    """Verifies the case, then times all of its candidates in turns."""
    verify(case)
    order = random.Random(len(case.candidates))
    here = [candidate for candidate in case.candidates if not candidate.absent]
    gc.collect()
    gc.disable()
    try:
        turns = [_Turns(candidate, effort) for candidate in [*here, *_empties(here)]]
        groups = _groups(turns)
        for _ in range(effort.most):
            active = [
                turn
                for group in groups
                if not all(turn.done(effort) for turn in group)
                for turn in group
            ]
            if not active:
                break
            order.shuffle(active)
            for turn in active:
                turn.sample()
    finally:
        gc.enable()
    found = {turn.candidate.name: turn for turn in turns}
    off = {
        name: found[name].times(1, 0.0).median for name in (case.baseline, EMPTY) if name in found
    }
    return [
        found[candidate.name].times(
            case.calls, off.get(EMPTY if candidate.empty else case.baseline, 0.0) / case.calls
        )
        for candidate in here
        if candidate.name != case.baseline
    ]


def _groups(turns: list[_Turns]) -> list[list[_Turns]]:
    """Those that do the same together: as many calls a sample, and done when all are."""
    groups: dict[str, list[_Turns]] = {}
    for turn in turns:
        groups.setdefault(turn.candidate.like or turn.candidate.name, []).append(turn)
    for group in groups.values():
        number = max(turn.number for turn in group)
        for turn in group:
            turn.number = number
    return list(groups.values())


def _empties(candidates: list[Candidate]) -> list[Candidate]:
    """The call to be taken off those that name one: there is one kind of them."""
    calls = (candidate.empty for candidate in candidates)
    return [Candidate(EMPTY, empty) for empty in calls if empty is not None][:1]


def fastest(times: Iterable[Times], tool: str, of: str = "median") -> float | None:
    """The least time of those whose name begins with `tool`, None without any."""
    fits = (found for found in times if found.name == tool or found.name.startswith(tool + ":"))
    return min((getattr(found, of) for found in fits), default=None)
