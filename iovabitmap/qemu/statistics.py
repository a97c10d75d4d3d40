"""MigrationStatistics: what query-migrate says, with units in the names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..analysis import DirtyRate

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class MigrationStatistics:
    """A migration at one moment. What QEMU does not tell (yet) is None.

    `status` is QEMU's word: "none", "setup", "active", "device", "completed", "failed", "cancelled"
    and others. `dirty_pages_per_s` is what QEMU last worked out: it does so at the end of a round,
    and not more often than once a second, and prints 0 before. `bandwidth_bytes_per_s` is QEMU's
    "mbps". `zero_pages` are pages of zeros, of which only that is sent; `normal_pages` the others.
    """

    status: str
    total_seconds: float | None = None
    setup_seconds: float | None = None
    downtime_seconds: float | None = None
    expected_downtime_seconds: float | None = None
    total_bytes: int | None = None
    transferred_bytes: int | None = None
    remaining_bytes: int | None = None
    precopy_bytes: int | None = None
    downtime_bytes: int | None = None
    normal_pages: int | None = None
    zero_pages: int | None = None
    page_size: int | None = None
    pages_per_s: int | None = None
    dirty_pages_per_s: int | None = None
    dirty_sync_count: int | None = None
    bandwidth_bytes_per_s: float | None = None
    error: str | None = None

    @classmethod
    def from_qmp(cls, found: Mapping[str, Any]) -> MigrationStatistics:
        """What query-migrate returned.

        >>> MigrationStatistics.from_qmp({"status": "active", "total-time": 250}).total_seconds
        0.25
        """
        ram = found.get("ram", {})
        mbps = ram.get("mbps")
        return cls(
            status=found.get("status", "none"),
            total_seconds=_seconds(found.get("total-time")),
            setup_seconds=_seconds(found.get("setup-time")),
            downtime_seconds=_seconds(found.get("downtime")),
            expected_downtime_seconds=_seconds(found.get("expected-downtime")),
            total_bytes=ram.get("total"),
            transferred_bytes=ram.get("transferred"),
            remaining_bytes=ram.get("remaining"),
            precopy_bytes=ram.get("precopy-bytes"),
            downtime_bytes=ram.get("downtime-bytes"),
            normal_pages=ram.get("normal"),
            zero_pages=ram.get("duplicate"),
            page_size=ram.get("page-size"),
            pages_per_s=ram.get("pages-per-second"),
            dirty_pages_per_s=ram.get("dirty-pages-rate"),
            dirty_sync_count=ram.get("dirty-sync-count"),
            bandwidth_bytes_per_s=None if mbps is None else mbps * 1e6 / 8,
            error=found.get("error-desc"),
        )

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen: completed, failed or cancelled."""
        return self.status in ENDED

    def as_dirty_rate(self) -> DirtyRate | None:
        """QEMU's dirty rate as pages within one second; None where it has none yet."""
        if not self.dirty_pages_per_s or not self.page_size:
            return None
        return DirtyRate(self.dirty_pages_per_s, self.page_size, 1.0)


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
