"""What was found: each case as it comes, the bars at the end, and all of it as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import iovabitmap._core as core

from . import peers
from .timing import OURS, Bar, Case, Times, fastest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .native import Native

MET, MISSED, UNKNOWN = "met", "not met", "not measurable here"


@dataclass
class Verdict:
    """One bar: `value` of at least `needed`, or what `found` says of it."""

    question: str
    where: str
    text: str
    verdict: str
    found: str
    value: float | None = None
    by_least: float | None = None  # the same by the least times instead of the medians
    needed: float = 1.0

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.question, self.where, self.text)


@dataclass
class Result:
    case: Case
    times: list[Times]
    verdicts: list[Verdict]

    def as_json(self) -> dict[str, Any]:
        return {
            "question": self.case.question,
            "where": self.case.where,
            "nbytes": self.case.nbytes,
            "note": self.case.note,
            "times_ns": [asdict(found) for found in self.times],
            "bars": [asdict(verdict) for verdict in self.verdicts],
        }


def judge(case: Case, times: list[Times]) -> Result:
    """A case's bars, against what was measured."""
    made = Result(case, times, [])
    for fact in case.facts:
        verdict = MET if fact.met else MISSED
        made.verdicts.append(Verdict(case.question, case.where, fact.text, verdict, fact.value))
    for bar in case.bars:
        made.verdicts.append(_verdict(case, times, bar))
    if not case.candidates and case.note:
        made.verdicts.append(Verdict(case.question, case.where, "all", UNKNOWN, case.note))
    return made


def _verdict(case: Case, times: list[Times], bar: Bar) -> Verdict:
    value, by_least = _ratio(times, bar, "median"), _ratio(times, bar, "least")
    if value is None or by_least is None:
        missing = [tool for tool in bar.against if fastest(times, tool) is None]
        found = f"nothing to compare with: {', '.join(missing)}"
        return Verdict(case.question, case.where, bar.text, UNKNOWN, found)
    verdict = MET if value >= bar.at_least else MISSED
    found = f"{value:.3g} of {bar.at_least:.3g} ({by_least:.3g} by the least times)"
    return Verdict(
        case.question, case.where, bar.text, verdict, found, value, by_least, bar.at_least
    )


def _ratio(times: list[Times], bar: Bar, of: str) -> float | None:
    """How many times as fast as what it is held against."""
    ours = fastest(times, OURS, of)
    parts = [fastest(times, tool, of) for tool in bar.against]
    if ours is None or None in parts:
        return None
    return (sum(part for part in parts if part is not None) or bar.at_most_ns) / ours


# --- text ---------------------------------------------------------------------------------------


def duration(ns: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def show(result: Result) -> None:
    """Prints a case: the times, and how many times as long as ours each one took."""
    case = result.case
    note = f"  ({case.note})" if case.note else ""
    print(f"\n{case.question}: {case.where}{note}")
    ours = fastest(result.times, OURS)
    for found in result.times:
        rate = f"{case.nbytes / found.median:7.1f} GB/s" if case.nbytes else ""
        spread = f"{duration(found.quarter)} to {duration(found.three_quarters)}"
        ratio = f"{found.median / ours:8.2f}x" if ours else ""
        print(
            f"  {found.name:36} {duration(found.median):>9} {ratio:>9} {rate:>12}"
            f"   {spread}, n={found.samples}"
        )
    for verdict in result.verdicts:
        print(f"  -> {verdict.text}: {verdict.found}: {verdict.verdict}")


def summary(results: Iterable[Result], variants: dict[str, list[Verdict]]) -> None:
    """Prints all bars, and what the other implementations of the inner loops reach."""
    print("\n--- the bars " + "-" * 86)
    counts = dict.fromkeys((MET, MISSED, UNKNOWN), 0)
    by_variant = {
        name: {verdict.key: verdict for verdict in verdicts} for name, verdicts in variants.items()
    }
    for result in results:
        for verdict in result.verdicts:
            counts[verdict.verdict] += 1
            print(f"{verdict.verdict:8} {verdict.question}: {verdict.text}")
            print(f"{'':9}{verdict.where}: {verdict.found}")
            for name, others in by_variant.items():
                if verdict.key in others and verdict.value is not None:
                    other = others[verdict.key]
                    print(f"{'':9}with {name}: {other.found}: {other.verdict}")
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))


# --- the machine, and JSON ----------------------------------------------------------------------


def _first_line(path: str, key: str = "") -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() or line for line in lines if key in line), "")


def machine(native: Native) -> dict[str, Any]:
    """What a reader must know to judge the numbers; nothing that names the machine."""
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind = _first_line(f"{index}/level"), _first_line(f"{index}/type")
        caches[f"L{level} {kind}"] = _first_line(f"{index}/size")
    chosen, available = core._kernels()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _first_line("/proc/cpuinfo", "model name") or platform.processor(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "caches": caches,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "huge pages": _first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": native.compiler or native.reason,
        "versions": peers.versions(),
        "inner loops": chosen,
        "inner loops available": list(available),
    }


def write_json(
    file: Path, about: dict[str, Any], results: list[Result], variants: dict[str, list[Verdict]]
) -> None:
    content = {
        "machine": about,
        "cases": [result.as_json() for result in results],
        "variants": {
            name: [asdict(verdict) for verdict in verdicts] for name, verdicts in variants.items()
        },
    }
    file.write_text(json.dumps(content, indent=1) + "\n")


def read_verdicts(file: Path) -> list[Verdict]:
    """The bars of another run."""
    cases = json.loads(file.read_text())["cases"]
    return [Verdict(**bar) for case in cases for bar in case["bars"]]
