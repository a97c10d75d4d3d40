"""What a reader must know of the machine to judge the figures, and whether it was quiet."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import peers

if TYPE_CHECKING:
    from .library import Library
    from .native import Native

MOST_LOAD = 0.5  # at the start, before this process adds to it
MOST_OTHERS = 0.03  # of the time of all CPUs, taken by other processes
MOST_STOLEN = 0.01  # of the same, taken by other virtual machines


def _first_line(path: str, key: str = "") -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() or line for line in lines if key in line), "")


def about(native: Native, library: Library) -> dict[str, Any]:
    """Nothing here names the machine."""
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind = _first_line(f"{index}/level"), _first_line(f"{index}/type")
        caches[f"L{level} {kind}"] = _first_line(f"{index}/size")
    chosen, available = library.kernels
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _first_line("/proc/cpuinfo", "model name") or platform.processor(),
        "cpus": os.cpu_count(),
        "caches": caches,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "huge pages": _first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": native.compiler or native.reason,
        "versions": peers.versions(),
        "inner loops": chosen,
        "inner loops available": list(available),
    }


@dataclass(frozen=True)
class Moment:
    """What the machine and this process, with its children, have done so far: seconds of CPU."""

    load: float | None
    busy: float
    stolen: float
    total: float
    own: float


def parse_stat(line: str, ticks: int) -> tuple[float, float, float]:
    """Busy, stolen and total seconds of the first line of /proc/stat."""
    fields = [int(part) / ticks for part in line.split()[1:9]]
    user, nice, system, idle, iowait, irq, softirq, stolen = fields + [0.0] * (8 - len(fields))
    busy = user + nice + system + irq + softirq
    return busy, stolen, busy + stolen + idle + iowait


def now() -> Moment:
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    try:
        line = Path("/proc/stat").read_text().partition("\n")[0]
        busy, stolen, total = parse_stat(line, os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError):
        busy = stolen = total = 0.0
    return Moment(load, busy, stolen, total, own)


@dataclass
class Quiet:
    """How busy the machine was from one moment to another, beside this process."""

    load_at_start: float | None
    load_at_end: float | None
    others: float  # share of the time of all CPUs
    stolen: float
    warnings: list[str] = field(default_factory=list)


def between(start: Moment, end: Moment) -> Quiet:
    total = end.total - start.total
    others = stolen = 0.0
    if total > 0:
        others = max(0.0, (end.busy - start.busy - (end.own - start.own)) / total)
        stolen = (end.stolen - start.stolen) / total
    found = Quiet(start.load, end.load, round(others, 3), round(stolen, 3))
    if (start.load or 0) > MOST_LOAD:
        found.warnings.append(f"the load was {start.load} before the bench began")
    if others > MOST_OTHERS:
        found.warnings.append(f"other processes took {others:.0%} of the CPUs' time")
    if stolen > MOST_STOLEN:
        found.warnings.append(f"other virtual machines took {stolen:.0%} of the CPUs' time")
    return found


def statement(about: dict[str, Any], quiet: Quiet) -> list[str]:
    """The head of a report."""
    taken = f"others took {quiet.others:.1%} of the CPUs, other machines {quiet.stolen:.1%}"
    lines = [
        f"{about['cpu']}, {about['cpus']} CPUs, {about['kernel']}, {about['time']}",
        f"load {quiet.load_at_start} at the start and {quiet.load_at_end} at the end; {taken}",
    ]
    lines += [f"WARNING: not quiet: {text}" for text in quiet.warnings]
    if quiet.warnings:
        lines.append("WARNING: take no figure from this run, nor a bar that is just met or missed")
    return lines
