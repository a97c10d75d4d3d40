"""DirtyRateMeter: the dirty rate of a guest as QEMU itself measures it (calc-dirty-rate)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..analysis import DirtyRate, sampling_error
from ._errors import ModeRefusedError, QemuError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .monitor import Monitor

Mode = Literal["page-sampling", "dirty-ring", "dirty-bitmap"]
MODES: tuple[Mode, ...] = get_args(Mode)

_MIB = 1 << 20
_POLL_SECONDS = 0.02  # QEMU sends no event when it is done
_GRACE_SECONDS = 60.0  # beyond the interval: hashing, and a machine that is busy
_MILLISECONDS_SINCE = (8, 2, 0)


@dataclass(frozen=True)
class QemuDirtyRate:
    """One answer of QEMU: whole MiB/s within an interval.

    `seconds` is the interval asked for. `sample_pages_per_gib` is None but for page sampling,
    `vcpu_mib_per_s` is empty but for the dirty ring, which tells each virtual CPU apart.
    """

    mode: Mode
    mib_per_s: int
    seconds: float
    sample_pages_per_gib: int | None = None
    vcpu_mib_per_s: Mapping[int, int] = field(default_factory=dict)

    @property
    def bytes_per_s(self) -> int:
        return self.mib_per_s * _MIB

    def as_dirty_rate(self, page_size: int = 4096) -> DirtyRate:
        """The fewest whole MiB of pages for which QEMU prints this rate; less than 1 MiB is 0.

        >>> QemuDirtyRate("dirty-bitmap", 100, 2.0).as_dirty_rate()
        DirtyRate(100 MiB/s: 51200 pages of 4096 bytes within 2 s)
        """
        mib = -(-self.mib_per_s * round(self.seconds * 1000) // 1000)
        return DirtyRate(mib * _MIB // page_size, page_size, self.seconds)

    def relative_error(self, memory_bytes: int, page_size: int = 4096) -> float:
        """Relative standard error for a guest with so many bytes: 0 but for page sampling.

        See `analysis.sampling_error`. A rate of 0 with page sampling says nothing: inf.
        """
        if memory_bytes < 1:
            raise ValueError(f"memory_bytes must be 1 or more, not {memory_bytes}")
        if self.sample_pages_per_gib is None:
            return 0.0
        samples = self.sample_pages_per_gib * memory_bytes >> 30
        share = self.as_dirty_rate(page_size).nbytes / memory_bytes
        return float("inf") if share == 0 else sampling_error(min(share, 1.0), samples)


class DirtyRateMeter:
    """Measures a guest's dirty rate with QEMU's calc-dirty-rate.

    Modes: ``page-sampling`` (memory of 128 MiB or more; changed contents, among sampled pages),
    ``dirty-bitmap`` (KVM, no dirty ring; every page written), ``dirty-ring`` (KVM with
    ``dirty-ring-size=N``; the same, again after the ring was emptied).

    Examples
    --------
    >>> from iovabitmap.qemu import DirtyRateMeter, Monitor
    >>> with Monitor("/run/guest.qmp") as monitor:  # doctest: +SKIP
    ...     DirtyRateMeter(monitor).measure(1)
    QemuDirtyRate(mode='page-sampling', mib_per_s=37, seconds=1.0, ...)
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._unit: dict[str, str] = {}  # of the last measurement: QEMU answers in whole seconds

    def start(
        self, seconds: float, mode: Mode = "page-sampling", *, sample_pages_per_gib: int = 512
    ) -> None:
        """Begins a measurement of so many seconds; the guest runs on.

        QEMU takes 1 to 60 s, in whole seconds before 8.2, and 128 to 16384 samples.

        Raises
        ------
        ValueError
            No such mode; seconds that are no whole milliseconds, or not above 0.
        ModeRefusedError
            A mode that reads KVM's log, for a guest without KVM: QEMU 7.2 ends with a segmentation
            fault there, in "dirty-bitmap". QEMU was not asked.
        QemuError
            QEMU refuses: it measures already, no dirty ring, seconds or samples out of its range.
        """
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        arguments = self._interval(seconds) | {"mode": mode}
        if mode == "page-sampling":
            arguments["sample-pages"] = sample_pages_per_gib
        elif not self._monitor.kvm.enabled:
            raise ModeRefusedError(
                f"the mode {mode} needs KVM, and this guest runs without: asking would end QEMU"
            )
        self._monitor.execute("calc-dirty-rate", arguments)
        self._unit = {k: v for k, v in arguments.items() if k == "calc-time-unit"}

    def _interval(self, seconds: float) -> dict[str, Any]:
        ms = round(seconds * 1000)
        if ms <= 0 or abs(ms - seconds * 1000) > 1e-6:
            raise ValueError(f"seconds must be whole milliseconds above 0, not {seconds}")
        if ms % 1000 == 0:
            return {"calc-time": ms // 1000}
        if self._monitor.version < _MILLISECONDS_SINCE:
            raise QemuError(f"QEMU before 8.2 takes whole seconds, not {seconds}")
        return {"calc-time": ms, "calc-time-unit": "millisecond"}

    def result(self) -> QemuDirtyRate | None:
        """What the last measurement found, or None: there was none, or it goes on."""
        found = self._monitor.execute("query-dirty-rate", self._unit)
        return _parsed(found) if found["status"] == "measured" else None

    def measure(
        self,
        seconds: float = 1.0,
        mode: Mode = "page-sampling",
        *,
        sample_pages_per_gib: int = 512,
    ) -> QemuDirtyRate:
        """Starts a measurement and waits for its end: `start` and `result`.

        Raises what `start` does, TimeoutError when QEMU finds no end, ConnectionError when it ends.
        """
        self.start(seconds, mode, sample_pages_per_gib=sample_pages_per_gib)
        deadline = time.monotonic() + seconds + _GRACE_SECONDS
        while (found := self.result()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"QEMU still measures {_GRACE_SECONDS:g} s after the interval")
            time.sleep(_POLL_SECONDS)
        return found


def _parsed(found: Mapping[str, Any]) -> QemuDirtyRate:
    scale = 0.001 if found.get("calc-time-unit") == "millisecond" else 1.0
    mode = found["mode"]
    vcpus = found.get("vcpu-dirty-rate", [])
    return QemuDirtyRate(
        mode=mode,
        mib_per_s=found["dirty-rate"],
        seconds=found["calc-time"] * scale,
        sample_pages_per_gib=found["sample-pages"] if mode == "page-sampling" else None,
        vcpu_mib_per_s={each["id"]: each["dirty-rate"] for each in vcpus},
    )
