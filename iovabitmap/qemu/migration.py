"""Migration: starts a live migration, and follows its rounds."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ._errors import MigrationError
from .rounds import MigrationRound, Rounds
from .statistics import ENDED, MigrationStatistics

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import Self

    from .monitor import Events, Monitor

_EVENTS = ("MIGRATION", "MIGRATION_PASS")


class Migration:
    """The live migration of a QEMU, which is the source.

    Events are received from the beginning of `with`, so that `follow` misses no round of what
    `start` begins within. The destination is a QEMU with the same machine and ``-incoming
    unix:PATH``.

    Examples
    --------
    >>> from iovabitmap.qemu import Migration, Monitor
    >>> with Monitor("/run/a.qmp") as monitor, Migration(monitor) as migration:  # doctest: +SKIP
    ...     migration.start("/run/b.migration", bandwidth_bytes_per_s=100e6)
    ...     for each in migration.follow():
    ...         print(each.number, each.nbytes, each.seconds, each.remaining_bytes)
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._stack = contextlib.ExitStack()
        self._events: Events | None = None

    def __enter__(self) -> Self:
        self._events = self._stack.enter_context(self._monitor.listen(*_EVENTS))
        return self

    def __exit__(self, *details: object) -> None:
        self._events = None
        self._stack.close()

    def limit(
        self,
        *,
        bandwidth_bytes_per_s: float | None = None,
        downtime_seconds: float | None = None,
    ) -> None:
        """Sets QEMU's max-bandwidth and downtime-limit, before a migration or within. QemuError."""
        given: dict[str, Any] = {}
        if bandwidth_bytes_per_s is not None:
            given["max-bandwidth"] = round(bandwidth_bytes_per_s)
        if downtime_seconds is not None:
            given["downtime-limit"] = round(downtime_seconds * 1000)
        if given:
            self._monitor.execute("migrate-set-parameters", given)

    def start(
        self,
        path: str | os.PathLike[str],
        *,
        bandwidth_bytes_per_s: float | None = None,
        downtime_seconds: float | None = None,
    ) -> None:
        """Begins to migrate to the Unix socket `path`, on which another QEMU waits.

        Raises QemuError: QEMU refuses, nobody listens there, a migration goes on already.
        """
        self._announce()
        self.limit(bandwidth_bytes_per_s=bandwidth_bytes_per_s, downtime_seconds=downtime_seconds)
        self._monitor.execute("migrate", uri=f"unix:{path}")

    def _announce(self) -> None:
        """Has QEMU send the events of a migration."""
        wanted = [{"capability": "events", "state": True}]
        self._monitor.execute("migrate-set-capabilities", capabilities=wanted)

    def statistics(self) -> MigrationStatistics:
        """Where the migration is now."""
        return MigrationStatistics.from_qmp(self._monitor.execute("query-migrate"))

    def cancel(self) -> None:
        """Ends the migration; the guest runs on here. Does nothing where there is none."""
        self._monitor.execute("migrate_cancel")

    def follow(self, timeout: float = 600.0) -> Iterator[MigrationRound]:
        """Each round when it has ended, until the migration has; the last one is the downtime.

        A migration that someone else started is followed too, from the next round on, where it was
        started with the capability "events".

        Parameters
        ----------
        timeout : float
            Seconds that one round may take.

        Raises
        ------
        MigrationError
            It failed. A migration that is cancelled just has no further rounds.
        RuntimeError
            Not within `with`.
        TimeoutError, ConnectionError
            No round's end in time; QEMU is gone.
        """
        if self._events is None:
            raise RuntimeError("a Migration is followed within `with`")
        rounds = Rounds()
        while True:
            event = self._events.get(timeout)
            number = event["data"].get("pass")
            if number is None and event["data"]["status"] not in ENDED:
                continue
            found = self.statistics()
            if number is not None:
                yield from rounds.passed(number, _seconds_of(event), found)
                continue
            if found.status == "failed":
                raise MigrationError(f"the migration failed: {found.error or 'QEMU says no more'}")
            if found.status == "completed":
                yield from rounds.ended(_seconds_of(event), found)
            return


def _seconds_of(event: dict[str, Any]) -> float:
    stamp = event["timestamp"]
    return float(stamp["seconds"] + stamp["microseconds"] * 1e-6)
