"""The rounds of a migration, from its events and what its statistics were at each of them.

QEMU sends MIGRATION_PASS when it has read which pages are dirty: pass 1 before the first copy, and
each further one at the end of a round. The last one comes when the guest is stopped, and QEMU
answers no question before all is sent: that moment's statistics are found from its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..analysis import DirtyRate, Round
from .statistics import MigrationStatistics


@dataclass(frozen=True)
class MigrationRound:
    """One round: what was sent in it, and what was dirty at its end.

    Attributes
    ----------
    number : int
        0 is the first copy, as in `analysis.Prediction`.
    passes : int
        1; more where rounds ended faster than QEMU was asked, and are one here.
    nbytes : int
        Bytes sent, with headers. What was sent until QEMU answered counts to the round before.
    seconds : float
        By the times of QEMU's events; the downtime for the last round.
    remaining_bytes : int
        Memory that was dirty at the round's end (less what was sent until QEMU answered), 0 for the
        last round.
    last : bool
        The guest was stopped in it.
    statistics : MigrationStatistics
        What QEMU said at the round's end.
    """

    number: int
    passes: int
    nbytes: int
    seconds: float
    remaining_bytes: int
    last: bool
    statistics: MigrationStatistics

    @property
    def bytes_per_s(self) -> float:
        """What was sent, over the time that it took; NaN if it took none."""
        return self.nbytes / self.seconds if self.seconds else math.nan

    def as_round(self) -> Round:
        """The round as the analysis has those that it predicts."""
        return Round(float(self.nbytes), self.seconds, float(self.remaining_bytes))

    def as_dirty_rate(self) -> DirtyRate:
        """Pages that were dirty at the round's end, within its time: a point of a volume curve."""
        page_size = self.statistics.page_size or 4096
        return DirtyRate(self.remaining_bytes // page_size, page_size, self.seconds)


@dataclass(frozen=True)
class _Mark:
    """The beginning of a round: the number of its pass, when, and how much had been sent."""

    number: int
    at_s: float
    transferred: int


class Rounds:
    """Makes rounds of passes: `passed` for each event, `ended` once."""

    def __init__(self) -> None:
        self._begin: _Mark | None = None
        self._unseen: _Mark | None = None  # a pass whose own statistics came too late

    def passed(self, number: int, at_s: float, found: MigrationStatistics) -> list[MigrationRound]:
        """The round that ended by this pass; none where it is the first that is seen, or where QEMU
        has gone on meanwhile."""
        mark = _Mark(number, at_s, found.transferred_bytes or 0)
        if self._begin is None:
            self._begin = mark
            return []
        if found.dirty_sync_count != number or found.status not in ("setup", "active"):
            self._unseen = mark
            return []
        return [self._close(mark, found)]

    def _close(self, mark: _Mark, found: MigrationStatistics) -> MigrationRound:
        begin, self._begin, self._unseen = self._begin, mark, None
        assert begin is not None
        return MigrationRound(
            number=begin.number - 1,
            passes=mark.number - begin.number,
            nbytes=mark.transferred - begin.transferred,
            seconds=mark.at_s - begin.at_s,
            remaining_bytes=found.remaining_bytes or 0,
            last=False,
            statistics=found,
        )

    def ended(self, at_s: float, found: MigrationStatistics) -> list[MigrationRound]:
        """The rounds that were not told, when the migration completed: the last is the downtime."""
        done: list[MigrationRound] = []
        if self._begin is None:
            return done
        transferred = found.transferred_bytes or 0
        if self._unseen is not None and found.downtime_bytes is not None:
            stopped = replace(self._unseen, transferred=transferred - found.downtime_bytes)
            left = replace(found, remaining_bytes=found.downtime_bytes)
            done.append(self._close(stopped, left))
        begin = self._begin
        downtime = found.downtime_seconds
        last = MigrationRound(
            number=begin.number - 1,
            passes=1,
            nbytes=transferred - begin.transferred,
            seconds=at_s - begin.at_s if downtime is None else downtime,
            remaining_bytes=0,
            last=True,
            statistics=found,
        )
        return [*done, last]
