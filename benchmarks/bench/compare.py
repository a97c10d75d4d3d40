"""This revision against another one: old, new and their ratio for each row, and what is only noise.

The old revision is loaded twice, from two copies of one build, and all three take turns. What the
two loads of the same code differ by is noise, and its size is measured so in every row. A row is
slower only if it is so beyond the noise of its own, beyond that of nearly all rows, and beyond what
its samples scatter by; and in a second measurement too, which each row gets that seems slower.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .timing import Case, Times

AGAIN = " again"
QUANTILE = 0.95  # of the rows: the noise band of a run is what this share of them keeps to
LEAST_BAND = 1.02  # what no bench on a machine with an operating system can tell
SLOWER, FASTER, SAME, ABSENT = "slower", "faster", "the same", "not there"


@dataclass
class Round:
    """One measurement of a row. Nanoseconds; ratios are new or again over old."""

    old: float
    new: float
    ratio: float
    again: float  # the same code over itself
    scatter: float  # of the ratio: what three standard errors of its medians make

    @property
    def noise(self) -> float:
        return max(self.again, 1 / self.again, self.scatter)


@dataclass
class Row:
    question: str
    where: str
    name: str
    rounds: list[Round] = field(default_factory=list)
    absent: str = ""
    verdict: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.question, self.where, self.name)

    @property
    def ratio(self) -> float:
        """The one that is nearest to 1 of those measured."""
        return min((found.ratio for found in self.rounds), key=lambda ratio: abs(math.log(ratio)))

    @property
    def noise(self) -> float:
        return max(found.noise for found in self.rounds)

    def seems_slower(self) -> bool:
        return any(found.ratio > max(found.noise, LEAST_BAND) for found in self.rounds)


def scatter(a: Times, b: Times) -> float:
    """A factor: three standard errors of the ratio of two medians, if samples were normal."""
    errors = (
        # Of a median 1.25 sigma / sqrt(n), and the middle half of the samples is 1.35 sigma wide.
        1.25 * (times.three_quarters - times.quarter) / 1.35 / times.median / times.samples**0.5
        for times in (a, b)
    )
    return math.exp(min(3 * math.hypot(*errors), 5.0))


def rows_of(case: Case, times: Iterable[Times], revision: str) -> list[Row]:
    """A row for each of ours that has, or could have, a part in `revision`."""
    found = {entry.name: entry for entry in times}
    rows = []
    for candidate in case.candidates:
        name, at, of = candidate.name.partition(" @")
        if not at or of != revision:
            continue
        row = Row(case.question, case.where, name, absent=candidate.absent)
        new, old, again = (found.get(n) for n in (name, candidate.name, candidate.name + AGAIN))
        if new is None and not row.absent:
            row.absent = "the present one does not have it"
        elif new and old and again:
            row.rounds.append(
                Round(
                    old.median,
                    new.median,
                    new.median / old.median,
                    again.median / old.median,
                    scatter(new, old),
                )
            )
        rows.append(row)
    return rows


def join(rows: list[Row], more: Iterable[Row]) -> None:
    """Adds the rounds of another measurement of the same rows."""
    by_key = {row.key: row for row in rows}
    for row in more:
        by_key[row.key].rounds += row.rounds


def band(rows: Iterable[Row]) -> float:
    """What the same code differs by from itself, in nearly all rows of this run."""
    noises = sorted(
        max(found.again, 1 / found.again) for row in rows for found in row.rounds if found.again
    )
    if not noises:
        return LEAST_BAND
    return max(LEAST_BAND, noises[min(len(noises) - 1, math.ceil(QUANTILE * len(noises)) - 1)])


def judge(rows: list[Row]) -> float:
    """Gives each row its verdict; the noise band."""
    limit = band(rows)
    for row in rows:
        if row.absent:
            row.verdict = ABSENT
            continue
        most = max(limit, row.noise)
        slower = all(found.ratio > most for found in row.rounds)
        faster = all(found.ratio < 1 / most for found in row.rounds)
        row.verdict = SLOWER if slower else FASTER if faster else SAME
    return limit


def show(rows: list[Row], revision: str, limit: float, duration: Any) -> list[str]:
    """The lines of the table, each row's measurements by their median."""
    share = f"{QUANTILE:.0%} of the rows"
    lines = [
        f"old is {revision}; noise: the same code against itself, within {limit:.3f} in {share}",
        f"{'old':>9} {'new':>9} {'new/old':>8} {'old/old':>8}",
    ]
    for row in rows:
        what = f"{row.question}: {row.where}"
        if row.name != "iovabitmap":
            what += f" ({row.name.partition(' ')[2]})"
        if row.absent:
            lines.append(f"{'-':>9} {'-':>9} {'-':>8} {'-':>8}           {what}: {row.absent}")
            continue
        old, new = (median(getattr(r, part) for r in row.rounds) for part in ("old", "new"))
        again = median(found.again for found in row.rounds)
        said = row.verdict if row.verdict != SAME else ""
        lines.append(
            f"{duration(old):>9} {duration(new):>9} {row.ratio:8.3f} {again:8.3f} {said:>8}  {what}"
        )
    counts = dict.fromkeys((SLOWER, FASTER, SAME, ABSENT), 0)
    for row in rows:
        counts[row.verdict] += 1
    lines.append(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    return lines


def as_json(rows: list[Row], revision: str, limit: float) -> dict[str, Any]:
    return {
        "revision": revision,
        "noise band": limit,
        "rows": [
            asdict(row) | ({"ratio": row.ratio, "noise": row.noise} if row.rounds else {})
            for row in rows
        ],
    }
